"""Make src/fastnn/data/digits, the part of MNIST that comes with fastnn.

    python tools/make_digits_subset.py    # finds MNIST as fastnn.datasets.load_mnist() does

5,000 images of MNIST's training set and 1,000 of its test set, in random order, with the shares of
the ten classes kept. The same seed gives the same images in the same order, and the same files if
zlib compresses alike.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from fastnn import datasets

SEED = 20240229
FOLDER = Path(__file__).parents[1] / "src" / "fastnn" / "data" / "digits"


def stratified(y: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of n rows, every class with its share in y to within one row, in random order."""
    exact = np.bincount(y, minlength=10) * n / len(y)
    counts = exact.astype(int)
    largest_remainders = np.argsort(counts - exact, kind="stable")
    counts[largest_remainders[: n - counts.sum()]] += 1
    chosen = [
        rng.choice(np.flatnonzero(y == label), count, replace=False)
        for label, count in enumerate(counts)
    ]
    return rng.permutation(np.concatenate(chosen))


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 0x08, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
    data = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data, compresslevel=9, mtime=0))
    print(f"{path.name}: {array.shape}, {path.stat().st_size} bytes")


def main() -> None:
    X_train, y_train, X_test, y_test = datasets.load_mnist()
    rng = np.random.default_rng(SEED)
    train = stratified(y_train, 5000, rng)
    test = stratified(y_test, 1000, rng)
    arrays = (
        X_train[train].reshape(-1, 28, 28),
        y_train[train],
        X_test[test].reshape(-1, 28, 28),
        y_test[test],
    )
    FOLDER.mkdir(parents=True, exist_ok=True)
    for file_name, array in zip(datasets.FILES, arrays, strict=True):
        write_idx(FOLDER / f"{file_name}.gz", array)


if __name__ == "__main__":
    main()
