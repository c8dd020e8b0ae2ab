"""Model files: one safetensors container with the weights as tensors and the architecture beside.

Tensors: layer1.weight (D_1, D_0), layer1.bias (D_1,), layer2.weight, ...
Metadata: one entry, "fastnn-mlp", a JSON record with format_version, architecture, training and
written_by. (One entry, because safetensors writes several in no fixed order, and the same model is
to give the same file.)

A checkpoint is the same with a record and tensors more, "run" and "run.*": see `checkpoints`.
"""

from __future__ import annotations

import glob
import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .network import Network

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .mlp import MLP

FORMAT = "fastnn-mlp"
MODEL_VERSION = 1
CHECKPOINT_VERSION = 2  # a model and a run
RUN = "run."
SAFETENSORS_DTYPES = {"float32": "F32", "float64": "F64"}
RUN_DTYPES = ("F32", "F64", "I32", "I64", "U8", "BOOL")  # of what callbacks keep, too

# A header takes about 100 bytes for each tensor: this is room for tens of thousands of layers.
MAX_HEADER_BYTES = 8 * 2**20


class ModelFileError(ValueError):
    """The file is not a model that this version of fastnn can read; the message says why."""


@dataclass(frozen=True)
class Content:
    """What a file holds: a model and, if it is a checkpoint, the run that was training it."""

    network: Network
    flat: NDArray[Any]  # the parameters
    seed: int
    epochs_trained: int
    run: dict[str, Any] | None = None  # JSON
    tensors: dict[str, NDArray[Any]] = field(default_factory=dict)  # of the run


def save(net: MLP, path: str | os.PathLike[str]) -> None:
    """Write the model to `path`, whole or not at all. Raises OSError."""
    write(path, Content(net.network, net._flat, net.seed, net.epochs_trained))


def load(path: str | os.PathLike[str], backend: str = "auto", n_threads: int | None = None) -> MLP:
    """Read a model that `MLP.save` wrote; backend and n_threads as for `MLP`.

    The file may also be a checkpoint of a training: the model has the weights of its last step.

    Raises FileNotFoundError if there is no such file, and ModelFileError if it is truncated, not a
    fastnn model, of a newer format, or contradicts itself.
    """
    from .mlp import MLP

    content = read(path, with_run=False)
    return MLP._restore(
        content.network, content.flat, content.seed, content.epochs_trained, backend, n_threads
    )


def write(path: str | os.PathLike[str], content: Content) -> None:
    """Write `content` to `path`, whole or not at all. Raises OSError."""
    from safetensors.numpy import save as to_bytes

    from . import __version__

    network = content.network
    record = {
        "format_version": MODEL_VERSION if content.run is None else CHECKPOINT_VERSION,
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
    tensors = {RUN + name: np.ascontiguousarray(array) for name, array in content.tensors.items()}
    for k, (W, b) in enumerate(zip(*network.views(content.flat), strict=True), 1):
        tensors[f"layer{k}.weight"] = W
        tensors[f"layer{k}.bias"] = b
    write_atomically(Path(os.path.realpath(path)), to_bytes(tensors, {FORMAT: json.dumps(record)}))


def read(path: str | os.PathLike[str], with_run: bool = True) -> Content:
    """Read what `write` wrote, checked as `load` says; without the run's tensors if not wanted."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    header = _read_header(path)
    record = _record(path, header.pop("__metadata__", None))
    network = _network(path, record)
    seed, epochs_trained = _training(path, record)
    of_run = _check_tensors(path, header, network, "run" in record)
    try:
        with safe_open(path, framework="numpy") as tensors:  # checks sizes before any is allocated
            flat = np.empty(network.n_parameters, dtype=network.dtype)
            for k, (W, b) in enumerate(zip(*network.views(flat), strict=True), 1):
                W[...] = tensors.get_tensor(f"layer{k}.weight")
                b[...] = tensors.get_tensor(f"layer{k}.bias")
            names = of_run if with_run else ()
            arrays = {name.removeprefix(RUN): tensors.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise ModelFileError(f"{path} is damaged: {error}") from None
    if not np.isfinite(flat).all():
        raise ModelFileError(f"{path} is damaged: its weights contain NaN or infinity")
    return Content(network, flat, seed, epochs_trained, record.get("run"), arrays)


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside `path` and rename: a reader, or a crash, finds the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")  # see remove_leftovers
    try:
        with open(temporary, "xb") as file:
            file.write(content)
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


def _read_header(path: Path) -> dict[str, Any]:
    """The container's JSON header, after checking that the file is as long as it says."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < 8:
            raise ModelFileError(f"{path} is not a model file: it has only {size} bytes")
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= MAX_HEADER_BYTES:
            raise ModelFileError(f"{path} is not a model file: no safetensors header")
        text = file.read(length)
    if text and not text.startswith(b"{"):
        raise ModelFileError(f"{path} is not a model file: no safetensors header")
    if len(text) < length:
        raise ModelFileError(f"{path} is truncated: it ends inside its header")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        raise ModelFileError(f"{path} is not a model file: its header is not JSON") from None
    if not isinstance(header, dict):
        raise ModelFileError(f"{path} is not a model file: its header is not an object")
    needed = 8 + length + _data_bytes(path, header)
    if size != needed:
        what = "is truncated" if size < needed else "has trailing bytes"
        raise ModelFileError(f"{path} {what}: {size} bytes instead of {needed}")
    return header


def _data_bytes(path: Path, header: dict[str, Any]) -> int:
    try:
        ends = [
            tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"
        ]
        return max((int(end) for end in ends), default=0)
    except (TypeError, KeyError, IndexError, ValueError, OverflowError):
        raise ModelFileError(f"{path} is damaged: its header describes no tensors") from None


def _record(path: Path, metadata: Any) -> dict[str, Any]:
    """fastnn's own entry of the metadata, in a format that this version reads."""
    if not isinstance(metadata, dict) or FORMAT not in metadata:
        raise ModelFileError(
            f"{path} is a safetensors file that fastnn did not write: "
            f"its metadata have no {FORMAT!r}"
        )
    try:
        record = json.loads(metadata[FORMAT])
    except (TypeError, ValueError, RecursionError):
        record = None
    version = record.get("format_version") if isinstance(record, dict) else None
    if not isinstance(record, dict) or type(version) is not int or version < 1:
        raise ModelFileError(f"{path} is damaged: its {FORMAT!r} entry has no format_version")
    if version > CHECKPOINT_VERSION:
        raise ModelFileError(
            f"{path} has format version {version}, this fastnn reads up to {CHECKPOINT_VERSION}; "
            "update fastnn"
        )
    return record


def _network(path: Path, record: dict[str, Any]) -> Network:
    try:
        architecture = record["architecture"]
        return Network(
            architecture["layer_sizes"],
            architecture["activations"],
            architecture["output"],
            architecture["dtype"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path} is damaged: its architecture: {error}") from None


def _training(path: Path, record: dict[str, Any]) -> tuple[int, int]:
    """(seed, epochs_trained)"""
    try:
        values = record["training"]["seed"], record["training"]["epochs_trained"]
    except (KeyError, TypeError) as error:
        raise ModelFileError(f"{path} is damaged: its training record: {error}") from None
    for value in values:
        if type(value) is not int or not 0 <= value < 2**64:
            raise ModelFileError(f"{path} is damaged: its training record has {value!r}")
    return values


def _check_tensors(
    path: Path, header: dict[str, Any], network: Network, has_run: bool
) -> list[str]:
    """The tensors must be those of the architecture: no more, no fewer, these shapes and dtype.

    Beside them a checkpoint has those of the run, whose names are returned.
    """
    of_run = [name for name in header if has_run and name.startswith(RUN)]
    for name in of_run:
        if header[name].get("dtype") not in RUN_DTYPES:
            raise ModelFileError(f"{path} is damaged: {name} is {header[name].get('dtype')}")
    shapes: dict[str, list[int]] = {}
    for k, (n_out, n_in) in enumerate(network.shapes, 1):
        shapes[f"layer{k}.weight"] = [n_out, n_in]
        shapes[f"layer{k}.bias"] = [n_out]
    missing = sorted(shapes.keys() - header.keys())
    unknown = sorted(header.keys() - shapes.keys() - set(of_run))
    if missing or unknown:
        raise ModelFileError(
            f"{path} does not fit its architecture: "
            + "; ".join(
                f"{what} {', '.join(names[:3])}"
                for what, names in (("missing", missing), ("unknown", unknown))
                if names
            )
        )
    dtype = SAFETENSORS_DTYPES[network.dtype.name]
    for name, shape in shapes.items():
        found = header[name].get("shape"), header[name].get("dtype")
        if found != (shape, dtype):
            raise ModelFileError(
                f"{path} does not fit its architecture: {name} is {found[1]} {found[0]}, "
                f"not {dtype} {shape}"
            )
    return of_run
