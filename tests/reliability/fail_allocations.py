"""Lets every allocation of one operation fail in turn; failing_allocations.c must be preloaded.

python fail_allocations.py OPERATION THREADS STRIDE

An operation is tried on one model again and again, each time with another allocation failing, every
STRIDE-th one. Each time it must raise MemoryError, or do without that memory; then do the same
again, to the bits of a run in which nothing failed. Prints how many tries there were, how many of
them raised MemoryError, and how many said it in other words.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.sparse

import fastnn

LAYERS = (20, 70, 3)
RNG = np.random.default_rng(0)
X = RNG.random((200, 20), dtype=np.float32)
Y = RNG.integers(0, 3, 200)
SPARSE = scipy.sparse.csr_matrix(np.where(X > 0.7, X, 0))
MANY, MANY_Y = np.tile(X, (20, 1)), np.tile(Y, 20)  # a batch that is taken in parts
PATH = Path(tempfile.mkdtemp()) / "model"
os.fsync = lambda file: None  # only memory counts here, not the disk

# How CPython and NumPy say it where they do not raise MemoryError.
IN_OTHER_WORDS = (
    "returned NULL without setting an exception",
    "error return without exception set",
    "NULL object passed to Py_BuildValue",
    "can't allocate",  # a lock
    "doesn't define __format__",
    "[digital envelope routines]",  # OpenSSL, by hashlib
    "not PosixPath",
)

Operation = Callable[[fastnn.MLP], bytes]


def parameters(net: fastnn.MLP) -> bytes:
    return b"".join(a.tobytes() for a in (*net.weights, *net.biases))


def fitted(data: object, y: np.ndarray, **options: object) -> Operation:
    def fit(net: fastnn.MLP) -> bytes:
        history = net.fit(data, y, shuffle=False, **options)
        return parameters(net) + np.array(history["loss"]).tobytes()

    return fit


def saved(net: fastnn.MLP) -> bytes:
    net.save(PATH)
    return parameters(fastnn.load(PATH))


def one_batch(net: fastnn.MLP) -> bytes:
    net.train_on_batch(X, Y)
    return parameters(net)


def gradients(net: fastnn.MLP) -> bytes:
    loss, dW, db = net.loss_and_gradients(X, Y)
    return repr(loss).encode() + b"".join(a.tobytes() for a in (*dW, *db))


OPERATIONS: dict[str, Operation] = {
    "fit": fitted(X, Y, epochs=2, batch_size=64, clip_norm=1.0),
    "fit-with-validation": fitted(X, Y, epochs=1, validation=(X, Y), l2=1e-3),
    "fit-in-parts": fitted(MANY, MANY_Y, epochs=1, batch_size=None, optimizer="sgd"),
    "fit-sparse": fitted(SPARSE, Y, epochs=1, batch_size=64),
    "train-on-batch": one_batch,
    "gradients": gradients,
    "predict": lambda net: net.predict_proba(X).tobytes(),
    "predict-one": lambda net: net.predict_proba(X[:1]).tobytes(),
    "predict-sparse": lambda net: net.predict_proba(SPARSE).tobytes(),
    "evaluate": lambda net: repr(net.evaluate(X, Y)).encode(),
    "construct": lambda net: parameters(fastnn.MLP(LAYERS, seed=2)),
    "save-and-load": saved,
}


def main(name: str, n_threads: int, stride: int) -> None:
    library = ctypes.CDLL(None)
    library.end_counting.restype = ctypes.c_long
    begin, end = library.begin_counting, library.end_counting
    operation = OPERATIONS[name]
    net = fastnn.MLP(LAYERS, seed=1, n_threads=n_threads)
    weights, biases = [W.copy() for W in net.weights], [b.copy() for b in net.biases]
    numbers = [ctypes.c_long(n) for n in range(100_000)]

    def counted(n: int) -> bytes | type[Exception]:
        """The operation's result, or MemoryError, or SystemError for other words."""
        net.weights, net.biases = weights, biases
        try:
            begin(numbers[n])
            result = operation(net)
            end()
        except Exception as error:
            end()  # the allocation that was to fail has failed
            if isinstance(error, MemoryError):
                return MemoryError
            if not any(words in str(error) for words in IN_OTHER_WORDS):
                raise
            return SystemError
        return result

    gc.disable()
    expected = counted(0)
    counted(0)  # once more: what is made only once is there now
    n_allocations = end()
    outcomes: Counter[object] = Counter()
    for n in range(1, n_allocations + 1, stride):
        outcome = counted(n)
        assert outcome in (MemoryError, SystemError, expected), f"{name}: other bits after {n}"
        assert counted(0) == expected, f"{name}: not usable after allocation {n} has failed"
        outcomes[outcome] += 1
    print(outcomes.total(), outcomes[MemoryError], outcomes[SystemError])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
