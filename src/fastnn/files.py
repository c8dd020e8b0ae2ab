"""Model files: a safetensors container with the weights as tensors and the architecture beside.

Tensors: layer1.weight (D_1, D_0), layer1.bias (D_1,), layer2.weight, ...
Metadata: "fastnn-mlp", a JSON record with format_version, architecture, training and written_by,
and the checksum of the file. A checkpoint has a record and tensors more, "run" and "run.*": see
`checkpoints`. docs/format.md has every rule; `container` is the layer below.

Format versions: 1 (models) and 2 (checkpoints) were written before 0.1.0 and have no checksum; 3 is
either, with one.
"""

from __future__ import annotations

import glob
import json
import os
import re
import secrets
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from . import container
from .container import Header, Tensor
from .container import ModelFileError as ModelFileError
from .network import DTYPES, Network, activation_name, known
from .turns import PARAMETERS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .mlp import MLP
    from .model import Model

FORMAT = "fastnn-mlp"
FORMAT_VERSION = 3
WITH_CHECKSUM = 3  # from this version on
RECORD = frozenset(("format_version", "architecture", "training", "written_by"))
NETWORK_ARGUMENTS = ("layer_sizes", "activations", "output", "dtype")
ARCHITECTURE = frozenset(NETWORK_ARGUMENTS)
TRAINING = frozenset(("seed", "epochs_trained"))
RUN = "run."
RUN_TENSOR = re.compile(
    r"run\.(optimizer\.[0-9]{1,9}|history\..+|callback[0-9]{1,9}\..+)", re.DOTALL
)
MESSAGE_LENGTH = 500  # of what an error says; names in a hostile file may be long


@dataclass(frozen=True)
class Content:
    """What a file holds: a model and, if it is a checkpoint, the run that was training it."""

    network: Network
    flat: NDArray[Any]  # the parameters
    seed: int
    epochs_trained: int
    run: dict[str, Any] | None = None  # JSON
    tensors: dict[str, NDArray[Any]] = field(default_factory=dict)  # of the run


def save(net: Model, path: str | os.PathLike[str]) -> None:
    """Write the model to `path`, whole or not at all. Raises OSError."""
    with PARAMETERS:  # another thread may be giving it new weights
        content = Content(net.network, net._flat.copy(), net.seed, net.epochs_trained)
    write(path, content)


def load(path: str | os.PathLike[str], backend: str = "auto", n_threads: int | None = None) -> MLP:
    """Read a model that `MLP.save` wrote; backend and n_threads as for `MLP`.

    The file may also be a checkpoint of a training: the model has the weights of its last step.

    Raises FileNotFoundError if there is no such file, and ModelFileError if it is truncated or
    damaged, not a fastnn model, of a newer format, or contradicts itself. Safe for files from
    anywhere: nothing in them is executed or unpickled, and no more memory is taken than their size
    calls for.
    """
    from .mlp import MLP

    content = read(path, with_run=False)
    return MLP._restore(
        content.network, content.flat, content.seed, content.epochs_trained, backend, n_threads
    )


def write(path: str | os.PathLike[str], content: Content) -> None:
    """Write `content` to `path`, whole or not at all. Raises OSError.

    And TypeError or ValueError for what the format cannot hold.
    """
    from . import __version__

    network = content.network
    record = {
        "format_version": FORMAT_VERSION,
        "architecture": {
            "layer_sizes": network.layer_sizes,
            "activations": network.activations,
            "output": network.output,
            "dtype": network.dtype.name,
        },
        "training": {"seed": content.seed, "epochs_trained": content.epochs_trained},
        "written_by": f"fastnn {__version__}",
    }
    if content.run is not None:
        record["run"] = content.run
    arrays = _by_name(network, content.flat)
    arrays |= {RUN + name: array for name, array in content.tensors.items()}
    parts = container.pack({FORMAT: json.dumps(record)}, arrays)
    write_atomically(Path(os.path.realpath(path)), parts)


def read(path: str | os.PathLike[str], with_run: bool = True) -> Content:
    """Read what `write` wrote, checked as `load` says; without the run's tensors if not wanted."""
    path = Path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # to open a named pipe may take forever
            raise ModelFileError("is not a regular file")
        with open(path, "rb") as file:
            return _content(file, with_run)
    except ModelFileError as error:
        raise ModelFileError(f"{path} {str(error)[:MESSAGE_LENGTH]}") from None


def write_atomically(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Write beside `path` and rename: a reader, or a crash, finds the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")  # see remove_leftovers
    try:
        with open(temporary, "xb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # the rename itself lasts only once the folder is on disk
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_leftovers(path: Path) -> None:
    """Delete what writers of `path` that were killed have left beside it."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 12}.tmp"):
        leftover.unlink(missing_ok=True)


def _content(file: BinaryIO, with_run: bool) -> Content:
    header = container.read_header(file)
    record = _record(header)
    network = _network(record["architecture"])
    seed, epochs_trained = _training(record["training"])
    of_run = _check_tensors(header.tensors, network, "run" in record)
    flat = np.empty(network.n_parameters, dtype=network.dtype.newbyteorder("<"))
    arrays = {
        name: np.empty(header.tensors[name].shape, header.tensors[name].dtype)
        for name in (of_run if with_run else ())
    }
    container.read_arrays(file, header, _by_name(network, flat) | arrays)
    if not np.isfinite(flat).all():
        raise ModelFileError("is damaged: its weights contain NaN or infinity")
    return Content(
        network,
        flat.astype(network.dtype, copy=False),
        seed,
        epochs_trained,
        record.get("run"),
        {name.removeprefix(RUN): array for name, array in arrays.items()},
    )


def _by_name(network: Network, flat: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """The tensors of a model, views into `flat`."""
    tensors = {}
    for k, (W, b) in enumerate(zip(*network.views(flat), strict=True), 1):
        tensors[f"layer{k}.weight"] = W
        tensors[f"layer{k}.bias"] = b
    return tensors


def _record(header: Header) -> dict[str, Any]:
    """fastnn's own entry of the metadata, of a format that this version reads."""
    if FORMAT not in header.metadata:
        raise ModelFileError(
            "is a safetensors file that fastnn did not write: its metadata have no 'fastnn-mlp'"
        )
    record = container.parse_object(header.metadata[FORMAT], "is damaged: its record")
    version = record.get("format_version")
    if type(version) is not int or version < 1:
        raise ModelFileError("is damaged: its record has no format_version")
    if version > FORMAT_VERSION:
        raise ModelFileError(
            f"has format version {version}, this fastnn reads up to {FORMAT_VERSION}; update fastnn"
        )
    if header.metadata.keys() != {FORMAT} or header.has_checksum != (version >= WITH_CHECKSUM):
        raise ModelFileError("is damaged: its metadata are not those of its format version")
    has_run = "run" in record if version >= WITH_CHECKSUM else version == 2
    _check_names(record, RECORD | {"run"} if has_run else RECORD, "its record")
    if not isinstance(record["written_by"], str):
        raise ModelFileError("is damaged: its record does not say what has written it")
    return record


def _check_names(value: Any, names: frozenset[str], what: str) -> None:
    if not isinstance(value, dict):
        raise ModelFileError(f"is damaged: {what} is not a JSON object")
    if value.keys() != names:
        missing, unknown = sorted(names - value.keys()), sorted(value.keys() - names)
        raise ModelFileError(f"is damaged: {what} lacks {missing}, has unknown {unknown}")


def _network(architecture: Any) -> Network:
    _check_names(architecture, ARCHITECTURE, "its architecture")
    sizes, activations, output, dtype = (architecture[name] for name in NETWORK_ARGUMENTS)
    if not (isinstance(sizes, list) and all(map(container.is_count, sizes))):
        raise ModelFileError(f"is damaged: its architecture: layer_sizes are {sizes!r}")
    if not isinstance(activations, list):
        raise ModelFileError(f"is damaged: its architecture: activations are {activations!r}")
    for name in activations:
        try:
            activation_name(name)
        except (
            TypeError,
            ValueError,
        ) as error:  # TypeError: it has other parameters
            raise ModelFileError(
                f"needs what is not in this process: its architecture: {error}"
            ) from None
    try:
        return Network(sizes, activations, output, known(dtype, DTYPES, "dtype"))
    except ValueError as error:
        raise ModelFileError(f"is damaged: its architecture: {error}") from None


def _training(training: Any) -> tuple[int, int]:
    """(seed, epochs_trained)"""
    _check_names(training, TRAINING, "its training record")
    seed, epochs_trained = training["seed"], training["epochs_trained"]
    for value in (seed, epochs_trained):
        if type(value) is not int or not 0 <= value < 2**64:
            raise ModelFileError(f"is damaged: its training record has {value!r}")
    return seed, epochs_trained


def _check_tensors(tensors: dict[str, Tensor], network: Network, has_run: bool) -> list[str]:
    """The tensors must be those of the architecture: no more, no fewer, these shapes and dtype.

    Beside them a checkpoint has those of the run, whose names are returned.
    """
    of_run = [name for name in tensors if has_run and RUN_TENSOR.fullmatch(name)]
    known_names = set(of_run)
    dtype = network.dtype.newbyteorder("<")
    for k, (n_out, n_in) in enumerate(network.shapes, 1):
        for name, shape in ((f"layer{k}.weight", (n_out, n_in)), (f"layer{k}.bias", (n_out,))):
            found = tensors.get(name)
            if found is None:  # before the names of more layers than there are tensors are made
                raise ModelFileError(f"does not fit its architecture: missing {name}")
            if (found.shape, found.dtype) != (shape, dtype):
                raise ModelFileError(
                    f"does not fit its architecture: {name} is {found.dtype} {found.shape}, "
                    f"not {dtype} {shape}"
                )
            known_names.add(name)
    unknown = sorted(tensors.keys() - known_names)
    if unknown:
        raise ModelFileError(f"does not fit its architecture: unknown {', '.join(unknown)}")
    return of_run
