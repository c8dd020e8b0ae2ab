"""The reader of IDX files: every type and shape, plain and gzip, and hostile files."""

from __future__ import annotations

import gzip
import struct
import tracemalloc

import numpy as np
import pytest

from fastnn import datasets

pytestmark = pytest.mark.usefixtures("inflater")

IDX_CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D,
             "float64": 0x0E}  # fmt: skip


def idx_bytes(array):
    array = np.asarray(array)
    header = bytes([0, 0, IDX_CODES[array.dtype.name], array.ndim])
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return header + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("dtype", IDX_CODES)
@pytest.mark.parametrize("shape", [(0,), (5,), (3, 4), (2, 0, 3), (2, 3, 4, 5)])
def test_read_idx_gives_back_what_was_written(tmp_path, dtype, shape, suffix):
    expected = (np.arange(np.prod(shape)).reshape(shape) - 1 + 0.5).astype(dtype)
    path = tmp_path / f"file{suffix}"
    path.write_bytes(gzip.compress(idx_bytes(expected)) if suffix else idx_bytes(expected))
    array = datasets.read_idx(path)
    assert array.dtype == expected.dtype
    assert array.dtype.isnative
    np.testing.assert_array_equal(array, expected, strict=True)


def test_read_idx_accepts_gzip_files_of_several_members(tmp_path):
    expected = np.arange(200_000, dtype=np.int32)
    data = idx_bytes(expected)
    parts = [data[:3], data[3:1000], b"", data[1000:]]
    path = tmp_path / "members.gz"
    path.write_bytes(b"".join(gzip.compress(part) for part in parts))
    np.testing.assert_array_equal(datasets.read_idx(path), expected)


IMAGES = idx_bytes(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))

HOSTILE = {
    "empty": (b"", "truncated"),
    "three bytes": (b"\0\0\x08", "truncated"),
    "text": (b"X,y\n1,2\n", "not an IDX file"),
    "first bytes not zero": (b"\1\0" + IMAGES[2:], "not an IDX file"),
    "unknown type": (b"\0\0\x0a" + IMAGES[3:], "not an IDX file"),
    "no dimensions": (b"\0\0\x08\0" + b"\7", "0 dimensions"),
    "255 dimensions": (b"\0\0\x08\xff" + bytes(1020), "255 dimensions"),
    "sizes cut off": (IMAGES[:10], "truncated"),
    "one byte missing": (IMAGES[:-1], "truncated"),
    "only the header": (IMAGES[:16], "truncated"),
    "one byte more": (IMAGES + b"\0", "trailing"),
    "claims 2^96 bytes": (b"\0\0\x08\3" + b"\xff" * 12 + b"data", "truncated"),
    "claims 1 TB": (b"\0\0\x0e\1" + struct.pack(">I", 1 << 31) + b"data", "truncated"),
}


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("case", HOSTILE)
def test_read_idx_refuses_hostile_files(tmp_path, case, compress):
    data, message = HOSTILE[case]
    path = tmp_path / "hostile"
    path.write_bytes(gzip.compress(data) if compress else data)
    with pytest.raises(ValueError, match=message) as error:
        datasets.read_idx(path)
    assert str(path) in str(error.value)


GZIPPED = gzip.compress(IMAGES)
NOISE = np.random.default_rng(0).integers(0, 256, 200_000, dtype=np.uint8)
GZIPPED_NOISE = gzip.compress(idx_bytes(NOISE))

HOSTILE_GZIP = {
    "only the magic": (GZIPPED[:2], "truncated"),
    "cut in the data": (GZIPPED[:-12], "truncated"),
    "cut in the checksum": (GZIPPED[:-1], "truncated"),
    "cut in the middle": (GZIPPED_NOISE[:100_000], "truncated"),
    "wrong checksum": (GZIPPED[:-8] + b"\0\0\0\0" + GZIPPED[-4:], "damaged"),
    "trailing garbage": (GZIPPED + b"garbage", "damaged"),
    "trailing member": (GZIPPED + gzip.compress(b"more"), "trailing"),
    "not deflate": (b"\x1f\x8b\x08" + b"\xff" * 100, "damaged"),
    "bomb": (gzip.compress(IMAGES + bytes(50_000_000)), "trailing"),
}


@pytest.mark.parametrize("case", HOSTILE_GZIP)
def test_read_idx_refuses_hostile_gzip(tmp_path, case):
    data, message = HOSTILE_GZIP[case]
    path = tmp_path / "hostile.gz"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        datasets.read_idx(path)


def test_read_idx_holds_no_second_copy(tmp_path):
    path = tmp_path / "zeros.gz"
    path.write_bytes(gzip.compress(idx_bytes(np.zeros(20_000_000, np.int16)), compresslevel=1))
    tracemalloc.start()
    try:
        array = datasets.read_idx(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert array.nbytes == 40_000_000
    assert peak < array.nbytes + 4_000_000
