"""Writes tests/data/models/NAME-{model,checkpoint}.fastnn of three epochs, and NAME.sha256.

python tests/data/make_model_files.py NAME

NAME.sha256 is a hash of the weights. Every released version leaves its files there, and no later
one changes them:
tests/reliability/test_file_versions.py reads them all. A NAME that is there already is refused.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np

import fastnn
from fastnn.callbacks import EMA, SWA, Checkpoint, EarlyStopping

FOLDER = Path(__file__).with_name("models")
# Sines rather than random numbers, whose streams NumPy may change.
X = np.sin(np.arange(160.0)).reshape(40, 4).astype(np.float32)
Y = np.arange(40) % 3
ARGUMENTS = {"batch_size": 7, "learning_rate": 0.02, "validation": 0.25}


def network(backend="cython"):
    """For files the compiled backend, whose bits are the same everywhere."""
    return fastnn.MLP((4, 6, 3), activation="tanh", seed=5, backend=backend)


def followers():
    return [EarlyStopping("loss"), EMA(0.9, use_at_end=False), SWA(2, use_at_end=False)]


def main(name):
    model, checkpoint = (FOLDER / f"{name}-{kind}.fastnn" for kind in ("model", "checkpoint"))
    if model.exists() or checkpoint.exists():
        raise SystemExit(f"{name} is there already")
    net = network()
    net.fit(X, Y, epochs=3, **ARGUMENTS, callbacks=[Checkpoint(checkpoint), *followers()])
    net.save(model)
    (FOLDER / f"{name}.sha256").write_text(digest(net) + "\n")


def digest(net):
    """SHA-256 of the weights and biases, layer by layer."""
    sha = hashlib.sha256()
    for array in [array for pair in zip(net.weights, net.biases, strict=True) for array in pair]:
        sha.update(array.tobytes())
    return sha.hexdigest()


if __name__ == "__main__":
    main(*sys.argv[1:])
