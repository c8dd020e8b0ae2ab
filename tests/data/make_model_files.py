"""Writes tests/data/models/NAME-{model,checkpoint}.fastnn, a model and a run of three epochs.

python tests/data/make_model_files.py NAME

Every released version leaves its files there, of its NAME, and no later one changes them:
test_files_of_all_versions.py reads them all. A NAME that is there already is refused.
"""

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


def network():
    """The compiled backend, whose bits are the same everywhere."""
    return fastnn.MLP((4, 6, 3), activation="tanh", seed=5, backend="cython")


def followers():
    return [EarlyStopping("loss"), EMA(0.9, use_at_end=False), SWA(2, use_at_end=False)]


def main(name):
    model, checkpoint = (FOLDER / f"{name}-{kind}.fastnn" for kind in ("model", "checkpoint"))
    if model.exists() or checkpoint.exists():
        raise SystemExit(f"{name} is there already")
    net = network()
    net.fit(X, Y, epochs=3, **ARGUMENTS, callbacks=[Checkpoint(checkpoint), *followers()])
    net.save(model)


if __name__ == "__main__":
    main(*sys.argv[1:])
