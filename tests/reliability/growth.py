"""By how much grows what a process holds: growth.py BACKEND.

Prints JSON: of several rounds of many operations, for each thing that is held, the least growth.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import sys
from collections.abc import Callable

import numpy as np

import fastnn

RNG = np.random.default_rng(0)
ROUNDS = 8  # What is lost is lost in every round; what only fills a cache is not.
X = RNG.random((300, 20), dtype=np.float32)
Y = RNG.integers(0, 3, 300)
WITH_NAN = np.where(X > 0.99, np.nan, X)


MALLINFO = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"


class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in MALLINFO.split()]


def held() -> dict[str, int]:
    """What this process holds now."""
    gc.collect()
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = Mallinfo
    info = libc.mallinfo2()
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    return {
        "malloc": info.uordblks + info.hblkhd,
        "objects": sys.getallocatedblocks(),
        "resident": pages * os.sysconf("SC_PAGESIZE"),
        "threads": len(os.listdir("/proc/self/task")),
        "files": len(os.listdir("/proc/self/fd")),
    }


def wrong(net: fastnn.MLP, i: int) -> None:
    """One of several errors; it must come."""
    attempts: list[Callable[[], object]] = [
        lambda: net.predict(X[:, :5]),
        lambda: net.predict(WITH_NAN),
        lambda: net.predict_proba(WITH_NAN[:1] * np.nan),
        lambda: net.fit(WITH_NAN, Y, epochs=1),
        lambda: net.fit(X, Y + 7, epochs=1),
        lambda: net.fit(X, Y, epochs=1, learning_rate=1e30, optimizer="sgd"),
        lambda: net.train_on_batch(WITH_NAN, Y),
        lambda: fastnn.load("/nowhere/model"),
        lambda: fastnn.load(__file__),
    ]
    with contextlib.suppress(ValueError, TypeError, OSError, fastnn.DivergenceError):
        attempts[i % len(attempts)]()
        raise AssertionError(f"attempt {i % len(attempts)} was no error")


def growth_over(n: int, operation: Callable[[int], object]) -> dict[str, int]:
    before = held()
    for i in range(n):
        operation(i)
    after = held()
    return {key: after[key] - before[key] for key in before}


def main(backend: str) -> None:
    net = fastnn.MLP((20, 70, 3), seed=1, backend=backend, n_threads=2)
    tries: dict[str, tuple[int, Callable[[int], object]]] = {
        "predicts": (2000, lambda i: net.predict(X[: 1 + i % 300])),
        "fits": (200, lambda i: net.fit(X, Y, epochs=1, validation=0.2)),
        "errors": (500, lambda i: wrong(net, i)),
    }
    growth = {}
    for name, (n, operation) in tries.items():
        rounds = [growth_over(n, operation) for _ in range(ROUNDS)]
        least = {key: min(r[key] for r in rounds) for key in rounds[0]}
        growth[name] = {"n": n, "rounds": ROUNDS, **least}
    print(json.dumps(growth))


if __name__ == "__main__":
    main(sys.argv[1])
