"""The racers of bench.race: scripts that train 784-256-10 on MNIST to a wanted test accuracy.

    python -m bench.racers.jax --seed 0 --threads 2 --target 0.98

Adam with learning rate 1e-3, batches of 128 in a new random order in every epoch, relu, softmax and
cross-entropy, float32, pixels / 255. The script evaluates all test images after every epoch, stops
at the first epoch that reaches the target, and prints one line of JSON. Each is written as someone
who knows that library well would write it for speed. To add a racer, add a script and its title to
bench/race.py.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

N_HIDDEN = 256
BATCH_SIZE = 128
LEARNING_RATE = 1e-3
MOST_EPOCHS = 60
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Race:
    """What a racer is told, and its split times."""

    def __init__(self, seed: int, n_threads: int | None, target: float, most_epochs: int) -> None:
        self.seed, self.n_threads = seed, n_threads
        self.target, self.most_epochs = target, most_epochs
        self.splits: dict[str, float] = {}
        self.epochs, self.accuracy = 0, 0.0
        self._before = time.perf_counter()

    def split(self, name: str) -> None:
        """Ends the part of the race called `name`."""
        now = time.perf_counter()
        self.splits[name], self._before = now - self._before, now

    def is_over(self, accuracy: float) -> bool:
        """To be asked after every epoch."""
        self.epochs += 1
        self.accuracy = float(accuracy)
        return self.accuracy >= self.target or self.epochs >= self.most_epochs


def run(racer: Callable[[Race], None]) -> None:
    """The main program of a racer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="default: the library's own choice")
    parser.add_argument("--target", type=float, default=0.98, help="test accuracy")
    parser.add_argument("--epochs", type=int, default=MOST_EPOCHS, help="at most so many")
    args = parser.parse_args()
    if args.threads is not None:
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(args.threads)))
    race = Race(args.seed, args.threads, args.target, args.epochs)
    racer(race)
    race.split("training")
    result = {"epochs": race.epochs, "accuracy": race.accuracy, "splits": race.splits}
    print(json.dumps(result | {"peak_bytes": peak_bytes()}), flush=True)


def peak_bytes() -> int:
    """The most memory that this process has had resident."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in status if line.startswith("VmHWM"))) * 1024


def read_mnist(scaled: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """X_train, y_train, X_test, y_test, for everybody's use: y int64 (n,), X (n, 784).

    X is float32 in 0 ... 1 if `scaled`, else the uint8 pixels. Inflated as fastnn does it, by isal
    where it is installed; in one call with the size known beforehand, two files at a time, since
    both libraries let go of the GIL.
    """
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    try:
        from isal import isal_zlib as zlib
    except ImportError:
        import zlib

    folder = Path(os.environ.get("FASTNN_DATA", "")).expanduser() / "mnist"

    def read(name: str, n: int, row: int, header: int) -> np.ndarray:
        data = (folder / f"{name}-ubyte.gz").read_bytes()
        content = zlib.decompress(data, wbits=31, bufsize=header + n * row)
        values = np.frombuffer(content, np.uint8, offset=header).reshape(n, row)
        if row == 1:
            return values[:, 0].astype(np.int64)
        if not scaled:
            return values
        X = values.astype(np.float32)
        X *= np.float32(1 / 255)
        return X

    files = (
        ("train-images-idx3", 60_000, 784, 16),
        ("train-labels-idx1", 60_000, 1, 8),
        ("t10k-images-idx3", 10_000, 784, 16),
        ("t10k-labels-idx1", 10_000, 1, 8),
    )
    with ThreadPoolExecutor(2) as pool:
        X, y, X_test, y_test = pool.map(lambda file: read(*file), files)
    return X, y, X_test, y_test
