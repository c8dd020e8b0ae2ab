"""Data that do not lie in memory as one array: streams of chunks.

A stream is what `MLP.fit` takes in place of X and y: a function of the number of epochs trained
before that returns an iterator over chunks (X, y) or (X, y, sample_weight); or an iterable of
chunks that can be gone through again for each epoch, such as a list. `Blocks` and `Shards` are such
functions. If it has an attribute n_samples, schedules and displays know the length of an epoch.
A chunk is loaded by a thread of its own while the one before is trained on.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import checks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .samples import Samples

    Array = NDArray[Any]

Chunk = tuple[Any, ...]
Stream = Callable[[int], Iterable[Chunk]] | Iterable[Chunk]


class Blocks:
    """Arrays larger than memory, block by block in random order.

    X, y, sample_weight  arrays of equal length that are read by slices of consecutive rows:
                         np.memmap, np.load(..., mmap_mode="r"), HDF5 or zarr data sets
    block_rows           consecutive rows that stay together, and are read together
    n_blocks             blocks that make up a chunk
    seed                 of the order of the blocks, another one in each epoch

    fit shuffles the rows of a chunk, so that a batch mixes rows of n_blocks places. Rows that
    belong together in the file (sorted by class, say) call for more and smaller blocks. Memory: up
    to three chunks at once (trained on, ready, being read) of block_rows * n_blocks rows.

    Raises ValueError for unequal lengths, no rows or sizes below 1.
    """

    def __init__(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        block_rows: int = 4096,
        n_blocks: int = 16,
        seed: int = 0,
    ) -> None:
        self.arrays = (X, y) if sample_weight is None else (X, y, sample_weight)
        self.block_rows = checks.check_count(block_rows, "block_rows")
        self.n_blocks = checks.check_count(n_blocks, "n_blocks")
        self.seed = checks.check_count(seed, "seed", at_least=0, below=2**64)
        self.n_samples = len(X)
        lengths = [len(array) for array in self.arrays]
        if self.n_samples == 0 or len(set(lengths)) > 1:
            raise ValueError(f"X, y and sample_weight must be of one length above 0, got {lengths}")

    def __call__(self, epoch: int) -> Iterator[Chunk]:
        starts = np.arange(0, self.n_samples, self.block_rows)
        starts = np.random.Generator(np.random.Philox(key=[self.seed, epoch])).permutation(starts)
        for first in range(0, len(starts), self.n_blocks):
            chosen = np.sort(starts[first : first + self.n_blocks])
            yield tuple(self._read(array, chosen) for array in self.arrays)

    def _read(self, array: Any, starts: Array) -> Array:
        return np.concatenate([array[start : start + self.block_rows] for start in starts])


class Shards:
    """Files of samples, each a chunk, in a random order that is another one in each epoch.

    paths  a folder, whose .npz files are taken in the order of their names, or the files
    names  of the arrays in a file: X, y and, if there is a third, sample_weight
    seed   of the order of the files; None keeps it

    Files are read with `allow_pickle=False`. Raises FileNotFoundError where there are none, and
    ValueError, when it comes to it, for a file that lacks an array.
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        names: Sequence[str] = ("X", "y"),
        seed: int | None = 0,
    ) -> None:
        if isinstance(paths, str | os.PathLike):
            self.paths = sorted(Path(paths).glob("*.npz"))
            if not self.paths:
                raise FileNotFoundError(f"there is no .npz file in {os.fspath(paths)!r}")
        else:
            self.paths = [Path(path) for path in paths]
            for path in self.paths:
                if not path.is_file():
                    raise FileNotFoundError(f"there is no file {os.fspath(path)!r}")
        if len(names) not in (2, 3):
            raise ValueError(f"names must be those of X, y and maybe sample_weight, got {names!r}")
        self.names = tuple(names)
        self.seed = None if seed is None else checks.check_count(seed, "seed", 0, 2**64)

    def __call__(self, epoch: int) -> Iterator[Chunk]:
        order = np.arange(len(self.paths))
        if self.seed is not None:
            order = np.random.Generator(np.random.Philox(key=[self.seed, epoch])).permutation(order)
        for i in order:
            yield self._read(self.paths[i])

    def _read(self, path: Path) -> Chunk:
        with np.load(path, allow_pickle=False) as arrays:
            missing = [name for name in self.names if name not in arrays]
            if missing:
                raise ValueError(f"{path} has no array {missing[0]!r}, only {list(arrays)}")
            return tuple(arrays[name] for name in self.names)


@dataclass
class StreamedSamples:
    """A stream as training takes it; what `samples.Samples` is for arrays.

    check  makes Samples of (X, y) or (X, y, sample_weight)
    """

    stream: Stream
    check: Callable[[Any], Samples]

    @property
    def n_samples(self) -> int:
        """In an epoch, as the stream's attribute of that name says; 0 where it has none."""
        return checks.check_count(getattr(self.stream, "n_samples", 0), "n_samples", at_least=0)

    def parts(self, epoch: int) -> Iterator[Samples]:
        """The chunks of one epoch. Raises ValueError where there is none."""
        chunks = self.stream(epoch) if callable(self.stream) else self.stream
        iterator, number = iter(chunks), -1
        with Loader(iterator) as loaded:
            for number, chunk in enumerate(loaded):
                yield self._checked(chunk, number)
        if number < 0:
            advice = ": give a function of the epoch's number that returns a new iterator"
            used_up = iterator is chunks and not callable(self.stream)
            raise ValueError(f"the stream has no chunk{advice if used_up else ''}")

    def _checked(self, chunk: Any, number: int) -> Samples:
        if not isinstance(chunk, tuple | list) or len(chunk) not in (2, 3):
            raise TypeError(
                "a stream yields tuples (X, y) or (X, y, sample_weight), "
                f"chunk {number} is {type(chunk).__name__}"
            )
        try:
            return self.check(chunk)
        except (TypeError, ValueError) as error:
            raise type(error)(f"chunk {number} of the stream: {error}") from None


class Loader:
    """Goes through an iterator in a thread of its own, one item ahead. Use as a context manager.

    What the iterator raises is raised where its item would have come. After leaving early, the
    thread ends, and closes the iterator, when it has the item it is at.
    """

    END = object()
    SECONDS_TO_END = 0.1  # waited for on leaving: no longer, for Ctrl-C is to be prompt

    def __init__(self, items: Iterator[Chunk]) -> None:
        self._items = items
        self._queue: queue.Queue[Any] = queue.Queue(maxsize=1)
        self._closed = threading.Event()
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._load, name="fastnn loader", daemon=True)

    def __enter__(self) -> Iterator[Chunk]:
        self._thread.start()
        return self._loaded()

    def __exit__(self, *exception: object) -> None:
        if os.getpid() != self._process:
            return
        self._closed.set()
        with contextlib.suppress(queue.Empty):
            self._queue.get_nowait()  # makes room, should the thread wait for it
        self._thread.join(self.SECONDS_TO_END)

    def _loaded(self) -> Iterator[Chunk]:
        while True:
            if os.getpid() != self._process:
                raise RuntimeError(
                    "an epoch on a stream cannot go on in the child of a fork: the thread that "
                    "loads its chunks stays with the parent"
                )
            item, error = self._queue.get()
            if error is not None:
                raise error
            if item is self.END:
                return
            yield item

    def _load(self) -> None:
        try:
            with contextlib.closing(self._generator()) as items:
                for item in items:
                    self._queue.put((item, None))
                    if self._closed.is_set():
                        return
            self._queue.put((self.END, None))
        except BaseException as error:
            self._queue.put((None, error))

    def _generator(self) -> Generator[Chunk, None, None]:
        yield from self._items  # closing it closes the iterator, if that can be closed
