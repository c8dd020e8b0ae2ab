"""The safetensors container with a checksum: texts and named arrays in one file.

    8 bytes       length of the header, little-endian
    header        JSON {"__metadata__": {name: text}, name: {"dtype", "shape", "data_offsets"}, ...}
    data          the arrays, little-endian, C-contiguous, nothing between them or after them

docs/format.md has every rule. What is read may be damaged or hostile, so: one descriptor and no
memory map (the file may be replaced or shrink meanwhile), sizes are products of Python's integers
that must fit the file before memory is taken, and nothing in the file is executed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
CODES = {dtype: code for code, dtype in DTYPES.items()}

# A header takes about 100 bytes for each tensor: this is room for tens of thousands of layers.
MAX_HEADER_BYTES = 8 * 2**20
MAX_RANK = 16
LARGEST = 2**62  # of a size or an offset

METADATA, CHECKSUM = "__metadata__", "sha256"
# A header with a checksum begins so, then come its digits: the place is fixed, so that they can be
# left out of what is hashed.
BEGIN = b'{"__metadata__":{"sha256":"'
DIGITS = 64
CHUNK_BYTES = 2**20


class ModelFileError(ValueError):
    """The file is not a model that this version of fastnn can read; the message says why."""


@dataclass(frozen=True)
class Tensor:
    """Where an array is: bytes begin ... end - 1 of the data."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """What a file says that it holds, checked against its size. The tensors are in their order."""

    text: bytes
    metadata: dict[str, str]  # without the checksum
    tensors: dict[str, Tensor]
    has_checksum: bool


# ---- writing ----


def pack(metadata: Mapping[str, str], arrays: Mapping[str, Array]) -> list[bytes | memoryview]:
    """The parts of a file in their order. The arrays are not copied.

    Raises TypeError for a dtype that is not in DTYPES, ValueError for a header over the limit.
    """
    header: dict[str, Any] = {METADATA: {CHECKSUM: "0" * DIGITS} | dict(metadata)}
    data, begin = [], 0
    # Wide dtypes first: then every array is aligned to its own width.
    for name, array in sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize):
        dtype = array.dtype.newbyteorder("<")
        if dtype not in CODES:
            raise TypeError(f"{name} is {array.dtype}; a file keeps {', '.join(map(str, CODES))}")
        data.append(_bytes_of(np.asarray(array, dtype, order="C")))
        end = begin + array.nbytes
        shape = list(array.shape)
        header[name] = {"dtype": CODES[dtype], "shape": shape, "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER_BYTES:
        raise ValueError(f"the header takes {len(text):,} bytes, more than {MAX_HEADER_BYTES:,}")
    length, rest = _length_of(text), text[len(BEGIN) + DIGITS :]
    checksum = _sha256([length, BEGIN, rest, *data]).hexdigest()
    return [length, BEGIN, checksum.encode(), rest, *data]


def _length_of(text: bytes) -> bytes:
    return len(text).to_bytes(8, "little")


def _bytes_of(array: Array) -> memoryview:
    """Of a C-contiguous array, of any shape."""
    return array.reshape(-1).view(np.uint8).data


def _sha256(parts: Iterable[bytes | memoryview]) -> hashlib._Hash:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest


# ---- reading ----


def read_header(file: BinaryIO) -> Header:
    """The header of a file that was just opened. Raises ModelFileError."""
    size = os.fstat(file.fileno()).st_size
    if size < 8:
        raise ModelFileError(f"is not a model file: it has only {size} bytes")
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= MAX_HEADER_BYTES:
        raise ModelFileError("is not a model file: no safetensors header")
    text = file.read(length)
    if text and not text.startswith(b"{"):
        raise ModelFileError("is not a model file: no safetensors header")
    if len(text) < length:
        raise ModelFileError("is truncated: it ends inside its header")
    header = parse_object(text, "is not a model file: its header")
    metadata = header.pop(METADATA, {})
    if not _is_text(metadata):
        raise ModelFileError("is damaged: its metadata are not text")
    tensors = _in_order({name: _tensor(name, value) for name, value in header.items()})
    needed = 8 + length + max((tensor.end for tensor in tensors.values()), default=0)
    if size != needed:
        what = "is truncated" if size < needed else "has trailing bytes"
        raise ModelFileError(f"{what}: {size} bytes instead of {needed}")
    has_checksum = text.startswith(BEGIN) and metadata.pop(CHECKSUM, None) is not None
    return Header(text, metadata, tensors, has_checksum)


def read_arrays(file: BinaryIO, header: Header, into: Mapping[str, Array]) -> None:
    """Fill these arrays, C-contiguous ones of the header's dtypes and shapes, and pass the others.

    The file is where `read_header` left it. Raises ModelFileError if it ends too soon or late, or
    does not have its checksum; the arrays are not to be used then.
    """
    text, place = header.text, len(BEGIN)
    digest = _sha256([_length_of(text), text[:place], text[place + DIGITS :]])
    for name, tensor in header.tensors.items():
        view = _bytes_of(into[name]) if name in into else None
        for start in range(0, tensor.end - tensor.begin, CHUNK_BYTES):
            n = min(CHUNK_BYTES, tensor.end - tensor.begin - start)
            chunk = memoryview(bytearray(n)) if view is None else view[start : start + n]
            if file.readinto(chunk) != n:  # type: ignore[attr-defined]
                raise ModelFileError("is truncated: it changed while it was read")
            digest.update(chunk)
        if tensor.dtype == bool and view is not None and np.max(view, initial=0) > 1:
            raise ModelFileError(f"is damaged: {name!r} has booleans that are not 0 or 1")
    if file.read(1):
        raise ModelFileError("has trailing bytes: it changed while it was read")
    if header.has_checksum and digest.hexdigest().encode() != text[place : place + DIGITS]:
        raise ModelFileError("is damaged: its checksum is another")


def parse_object(text: str | bytes, what: str) -> dict[str, Any]:
    """A JSON object in UTF-8 in which no name occurs twice; `what` is it, for the error."""
    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        value = json.loads(text, object_pairs_hook=_with_names_once)
    except (ValueError, RecursionError):
        raise ModelFileError(f"{what} is not JSON, or has a name twice") from None
    if not isinstance(value, dict):
        raise ModelFileError(f"{what} is not a JSON object")
    return value


def _with_names_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a name occurs twice")
    return value


def _is_text(metadata: Any) -> bool:
    return isinstance(metadata, dict) and all(isinstance(text, str) for text in metadata.values())


def is_count(value: Any) -> bool:
    """An integer in 0 ... LARGEST - 1; no boolean."""
    return type(value) is int and 0 <= value < LARGEST


def _tensor(name: str, entry: Any) -> Tensor:
    """One entry of the header, if its offsets are as far apart as its shape and dtype say."""
    if isinstance(entry, dict) and entry.keys() == {"dtype", "shape", "data_offsets"}:
        code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        dtype = DTYPES.get(code) if isinstance(code, str) else None
        if dtype is None:
            raise ModelFileError(f"is damaged: {name!r} is of dtype {code!r}")
        if _are_counts(shape) and len(shape) <= MAX_RANK and _are_counts(offsets):
            n_bytes = math.prod(shape) * dtype.itemsize
            if len(offsets) == 2 and offsets[1] - offsets[0] == n_bytes:
                return Tensor(dtype, tuple(shape), *offsets)
    raise ModelFileError(f"is damaged: its header does not describe a tensor {name!r}")


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(map(is_count, values))


def _in_order(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """By place, if each begins where the one before it ends."""
    by_place = sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end))
    end = 0
    for name, tensor in by_place:
        if tensor.begin != end:
            raise ModelFileError(f"is damaged: {name!r} overlaps another tensor, or leaves a gap")
        end = tensor.end
    return dict(by_place)
