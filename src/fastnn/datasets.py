"""Real images of digits and of clothes, as arrays that `MLP.fit` takes as they are.

Every loader returns ``X_train, y_train, X_test, y_test``: X uint8 of shape (n, 784), one row of
grey values 0 ... 255 per image of 28 x 28; y int64 of shape (n,), the class 0 ... 9 of each row.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

try:
    from isal import isal_zlib as zlib  # inflates in half the time
except ImportError:
    import zlib  # type: ignore[no-redef]

__all__ = ["load_digits_subset", "load_fashion_mnist", "load_mnist", "read_idx"]

Arrays = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)

# Of the decompressed content, in the order of FILES: mirrors compress the same bytes differently.
SHA256 = {
    "mnist": (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    "fashion-mnist": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}

MIRRORS = {
    "mnist": (
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
    ),
    "fashion-mnist": (
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
}

# Debian's package dataset-fashion-mnist installs its files below this folder.
SYSTEM_FOLDER = Path("/usr/share/datasets")
BUNDLED_FOLDER = Path(__file__).parent / "data" / "digits"

TIMEOUT_SECONDS = 10.0
DOWNLOAD_LIMIT = 64 << 20  # bytes; the largest file has 26 MB

_CHUNK = 1 << 16  # bytes read at a time
_BLOCK = 1 << 20  # bytes decompressed at most at a time
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_MEMBER = _GZIP_MAGIC + b"\x08"  # deflated; RFC 1952, which also has the flags that follow
_GZIP_FLAGS = 0x1F
_MAX_DEFLATE_RATIO = 1032  # the format cannot compress better than this
_MAX_DIMENSIONS = 32  # what every NumPy that fastnn supports can hold
_IDX_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def load_digits_subset() -> Arrays:
    """6,000 images of MNIST that come with fastnn: 5,000 to train on, 1,000 to test with.

    They keep the full set's shares of the ten classes and its division into training and test.
    """
    paths = _find(BUNDLED_FOLDER)
    if paths is None:
        raise FileNotFoundError(f"the digits that come with fastnn are missing in {BUNDLED_FOLDER}")
    return _read_four(paths)


def load_mnist(*, download: bool = True) -> Arrays:
    """MNIST's handwritten digits: 60,000 training and 10,000 test images.

    Looked for in ``$FASTNN_DATA/mnist``, the user's cache, and ``/usr/share/datasets/mnist``; if
    they are in none of them they are downloaded into the cache (11 MB) unless `download` is False.
    Raises FileNotFoundError saying where it looked, ValueError for a damaged or foreign file.
    """
    return _load("mnist", download)


def load_fashion_mnist(*, download: bool = True) -> Arrays:
    """Fashion-MNIST's articles of clothing: 60,000 training and 10,000 test images.

    Looked for in ``$FASTNN_DATA/fashion-mnist``, the user's cache, and the folder of Debian's
    package ``dataset-fashion-mnist``; if they are in none of them they are downloaded into the
    cache (31 MB) unless `download` is False.
    Raises FileNotFoundError saying where it looked, ValueError for a damaged or foreign file.
    """
    return _load("fashion-mnist", download)


def read_idx(path: str | os.PathLike[str]) -> NDArray[Any]:
    """The array in an IDX file, plain or gzip-compressed, in native byte order.

    Inflated by isal where it is installed (`fastnn-cpu[gzip]`), else by zlib.

    Raises ValueError naming the file if its magic number, type, sizes or length are wrong.
    """
    with open(os.fspath(path), "rb") as file:  # an integer is no path, though open takes one
        try:
            return _read_idx(file)
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from None


class _Reader(Protocol):
    def readinto(self, view: memoryview, /) -> int | None: ...


class _GzipReader:
    """Decompresses straight into the caller's memory; faster than gzip.GzipFile by an eighth."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._inflate = zlib.decompressobj(wbits=31)
        self._waiting, self._in_header = b"", True

    def readinto(self, view: memoryview, /) -> int:
        """Fill the start of `view`; the number of bytes written, 0 only at the end of the file."""
        while True:
            data = self._waiting or self._file.read(_CHUNK)
            if self._inflate.eof:
                if not data:
                    return 0
                self._inflate = zlib.decompressobj(wbits=31)  # the next member of the file
                self._in_header = True
            if self._in_header:
                _check_member(data)
                self._in_header = False
            try:
                block = self._inflate.decompress(data, min(len(view), _BLOCK))
            except zlib.error as error:  # type: ignore[misc]
                raise ValueError(f"damaged gzip data ({error})") from None
            self._waiting = self._inflate.unconsumed_tail or self._inflate.unused_data
            if block:
                view[: len(block)] = block
                return len(block)
            if not data and not self._inflate.eof:
                raise ValueError("truncated: the gzip data ends too early")


def _check_member(data: bytes) -> None:
    """Refuse what begins no member: isal would wait for the rest of its header."""
    start, flags = data[: len(_GZIP_MEMBER)], data[len(_GZIP_MEMBER) : len(_GZIP_MEMBER) + 1]
    if not _GZIP_MEMBER.startswith(start) or (flags and flags[0] > _GZIP_FLAGS):
        raise ValueError("damaged gzip data (no header of a member)")


def _read_idx(file: BinaryIO) -> NDArray[Any]:
    file_size = os.fstat(file.fileno()).st_size
    compressed = file.read(2) == _GZIP_MAGIC
    file.seek(0)
    reader: _Reader = _GzipReader(file) if compressed else file  # type: ignore[assignment]
    magic = _read_bytes(reader, 4)
    if magic[:2] != b"\0\0" or magic[2] not in _IDX_DTYPES:
        raise ValueError(f"not an IDX file: it starts with the bytes {magic.hex(' ')}")
    n_dimensions = magic[3]
    if not 1 <= n_dimensions <= _MAX_DIMENSIONS:
        raise ValueError(f"{n_dimensions} dimensions, expected 1 to {_MAX_DIMENSIONS}")
    shape = tuple(np.frombuffer(_read_bytes(reader, 4 * n_dimensions), dtype=">u4").tolist())
    dtype = np.dtype(_IDX_DTYPES[magic[2]])
    n_bytes = math.prod(shape) * dtype.itemsize
    # Before allocating: a header may claim any size.
    possible = file_size * (_MAX_DEFLATE_RATIO if compressed else 1)
    if n_bytes > possible:
        raise ValueError(f"truncated: shape {shape} needs {n_bytes} bytes, the file is too short")
    array = np.empty(shape, dtype)
    _fill(reader, array.reshape(-1).view(np.uint8).data)
    if reader.readinto(memoryview(bytearray(1))):
        raise ValueError(f"trailing bytes after the {n_bytes} bytes of its shape {shape}")
    if not dtype.isnative:
        array = array.byteswap(inplace=True).view(dtype.newbyteorder("="))
    return array


def _read_bytes(reader: _Reader, n: int) -> bytes:
    buffer = bytearray(n)
    _fill(reader, memoryview(buffer))
    return bytes(buffer)


def _fill(reader: _Reader, view: memoryview) -> None:
    done = 0
    while done < len(view):
        n = reader.readinto(view[done:])
        if not n:
            raise ValueError(f"truncated: {len(view) - done} bytes are missing at the end")
        done += n


def _read_four(paths: list[Path]) -> Arrays:
    return *_read_pair(*paths[:2]), *_read_pair(*paths[2:])


def _read_large(paths: list[Path]) -> Arrays:
    """As `_read_four`, two files at a time: zlib lets go of the GIL."""
    # Here: the import takes ten milliseconds, more than a small set's test images.
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        test = pool.submit(_read_pair, *paths[2:])
        train = _read_pair(*paths[:2])
        return *train, *test.result()


def _read_pair(images: Path, labels: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    X, y = _read_images(images), _read_labels(labels)
    if len(X) != len(y):
        raise ValueError(f"{labels}: {len(y)} labels for {len(X)} images")
    return X, y


def _read_images(path: Path) -> NDArray[np.uint8]:
    images = read_idx(path)
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (28, 28):
        raise ValueError(
            f"{path}: {images.dtype} array of shape {images.shape}, expected uint8 (n, 28, 28)"
        )
    return images.reshape(len(images), 784)


def _read_labels(path: Path) -> NDArray[np.int64]:
    labels = read_idx(path)
    if labels.dtype != np.uint8 or labels.ndim != 1:
        raise ValueError(
            f"{path}: {labels.dtype} array of shape {labels.shape}, expected uint8 (n,)"
        )
    if labels.size and labels.max() > 9:
        raise ValueError(f"{path}: label {labels.max()}, expected 0 to 9")
    return labels.astype(np.int64)


def _load(name: str, download: bool) -> Arrays:
    looked = []
    for folder in _places(name):
        paths = _find(folder)
        if paths is not None:
            return _read_large(paths)
        looked.append(str(folder))
    folder = _cache_folder() / name
    failures = _download_missing(name, folder) if download else []
    paths = _find(folder) if download else None
    if paths is not None:
        return _read_large(paths)
    tried = "".join(f"; {failure}" for failure in failures)
    raise FileNotFoundError(
        f"{name} is in none of {', '.join(looked)}{tried}. To provide it by hand, put "
        f"{', '.join(FILES)} (each plain or as .gz) into a folder {name}/ and set FASTNN_DATA to "
        f"the folder that holds {name}/."
    )


def _places(name: str) -> Iterator[Path]:
    if os.environ.get("FASTNN_DATA"):
        yield Path(os.environ["FASTNN_DATA"]).expanduser() / name
    yield _cache_folder() / name
    yield SYSTEM_FOLDER / name


def _cache_folder() -> Path:
    if os.path.isabs(os.environ.get("XDG_CACHE_HOME", "")):
        return Path(os.environ["XDG_CACHE_HOME"]) / "fastnn"
    home = Path(os.path.expanduser("~"))
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local")) / "fastnn" / "Cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "fastnn"
    return home / ".cache" / "fastnn"


def _find(folder: Path) -> list[Path] | None:
    """The four files in the order of FILES, or None if the folder lacks one of them."""
    paths = []
    for file_name in FILES:
        path = _present(folder, file_name)
        if path is None:
            return None
        paths.append(path)
    return paths


def _present(folder: Path, file_name: str) -> Path | None:
    for path in (folder / file_name, folder / f"{file_name}.gz"):
        if path.is_file():
            return path
    return None


def _download_missing(name: str, folder: Path) -> list[str]:
    """Fetch what `folder` lacks; what went wrong with the first file that no mirror could give."""
    for file_name, sha256 in zip(FILES, SHA256[name], strict=True):
        if _present(folder, file_name) is not None:
            continue
        failures = []
        for mirror in MIRRORS[name]:
            url = f"{mirror}{file_name}.gz"
            try:
                _download(url, folder / f"{file_name}.gz", sha256)
                break
            except (OSError, ValueError) as error:
                failures.append(f"{url} failed: {error}")
        else:
            return failures
    return []


def _download(url: str, path: Path, sha256: str) -> None:
    """Put the file at `url` to `path`: complete and with the right content, or not at all."""
    import tempfile  # here: these imports take longer than `import fastnn`
    from http.client import HTTPException
    from urllib.request import urlopen

    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "w+b") as file:
            try:
                with urlopen(url, timeout=TIMEOUT_SECONDS) as response:
                    while chunk := response.read(_CHUNK):
                        file.write(chunk)
                        if file.tell() > DOWNLOAD_LIMIT:
                            raise ValueError(f"more than {DOWNLOAD_LIMIT} bytes")
            except HTTPException as error:
                raise OSError(f"{type(error).__name__}: {error}") from None
            file.seek(0)
            if _sha256_of_content(file) != sha256:
                raise ValueError("the content's SHA-256 is not the expected one")
            os.fsync(file.fileno())
        os.chmod(part, 0o644)  # mkstemp's files are readable by their owner only
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise


def _sha256_of_content(file: BinaryIO) -> str:
    import hashlib

    digest = hashlib.sha256()
    reader = _GzipReader(file)
    view = memoryview(bytearray(_CHUNK))
    while n := reader.readinto(view):
        digest.update(view[:n])
    return digest.hexdigest()
