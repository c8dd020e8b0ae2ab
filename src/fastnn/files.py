"""Model files: one safetensors container with the weights as tensors and the architecture beside.

Tensors: layer1.weight (D_1, D_0), layer1.bias (D_1,), layer2.weight, ...
Metadata: one entry, "fastnn-mlp", a JSON record with format_version, architecture, training and
written_by. (One entry, because safetensors writes several in no fixed order, and the same model is
to give the same file.)
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .network import Network

if TYPE_CHECKING:
    from .mlp import MLP

FORMAT = "fastnn-mlp"
FORMAT_VERSION = 1
SAFETENSORS_DTYPES = {"float32": "F32", "float64": "F64"}

# A header takes about 100 bytes for each tensor: this is room for tens of thousands of layers.
MAX_HEADER_BYTES = 8 * 2**20


class ModelFileError(ValueError):
    """The file is not a model that this version of fastnn can read; the message says why."""


def save(net: MLP, path: str | os.PathLike[str]) -> None:
    """Write the model to `path`, whole or not at all. Raises OSError."""
    from safetensors.numpy import save as to_bytes

    from . import __version__

    network = net.network
    record = {
        "format_version": FORMAT_VERSION,
        "architecture": {
            "layer_sizes": network.layer_sizes,
            "activations": network.activations,
            "output": network.output,
            "dtype": network.dtype.name,
        },
        "training": {"seed": net.seed, "epochs_trained": net.epochs_trained},
        "written_by": f"fastnn {__version__}",
    }
    tensors = {}
    for k, (W, b) in enumerate(zip(net.weights, net.biases, strict=True), 1):
        tensors[f"layer{k}.weight"] = W
        tensors[f"layer{k}.bias"] = b
    _write_atomically(Path(os.path.realpath(path)), to_bytes(tensors, {FORMAT: json.dumps(record)}))


def load(path: str | os.PathLike[str], backend: str = "auto", n_threads: int | None = None) -> MLP:
    """Read a model that `MLP.save` wrote; backend and n_threads as for `MLP`.

    Raises FileNotFoundError if there is no such file, and ModelFileError if it is truncated, not a
    fastnn model, of a newer format, or contradicts itself.
    """
    from safetensors import SafetensorError, safe_open

    from .mlp import MLP

    path = Path(path)
    header = _read_header(path)
    record = _record(path, header.pop("__metadata__", None))
    network = _network(path, record)
    seed, epochs_trained = _training(path, record)
    _check_tensors(path, header, network)
    flat = np.empty(network.n_parameters, dtype=network.dtype)
    W, b = network.views(flat)
    try:
        with safe_open(path, framework="numpy") as tensors:
            for k in range(network.n_layers):
                W[k][...] = tensors.get_tensor(f"layer{k + 1}.weight")
                b[k][...] = tensors.get_tensor(f"layer{k + 1}.bias")
    except SafetensorError as error:
        raise ModelFileError(f"{path} is damaged: {error}") from None
    if not np.isfinite(flat).all():
        raise ModelFileError(f"{path} is damaged: its weights contain NaN or infinity")
    return MLP._restore(network, flat, seed, epochs_trained, backend, n_threads)


def _write_atomically(path: Path, content: bytes) -> None:
    """Write beside `path` and rename: a reader, or a crash, finds the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
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
    if version > FORMAT_VERSION:
        raise ModelFileError(
            f"{path} has format version {version}, this fastnn reads up to {FORMAT_VERSION}; "
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


def _check_tensors(path: Path, header: dict[str, Any], network: Network) -> None:
    """The tensors must be those of the architecture: no more, no fewer, these shapes and dtype."""
    shapes: dict[str, list[int]] = {}
    for k, (n_out, n_in) in enumerate(network.shapes, 1):
        shapes[f"layer{k}.weight"] = [n_out, n_in]
        shapes[f"layer{k}.bias"] = [n_out]
    missing, unknown = sorted(shapes.keys() - header.keys()), sorted(header.keys() - shapes.keys())
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
