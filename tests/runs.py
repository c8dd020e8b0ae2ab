"""A small run with checkpoints, for tests of resuming."""

from conftest import blobs

import fastnn
from fastnn.callbacks import EMA, SWA, Checkpoint, EarlyStopping

X, Y = blobs(100)
SETTINGS = {"epochs": 3, "batch_size": 23, "learning_rate": 0.02, "validation": 0.2}
TIMES = ("seconds", "samples_per_second")


def model(backend="auto", dtype="float32", n_threads=None, **changes):
    arguments = {"layer_sizes": (4, 6, 3), "activation": "tanh", "seed": 5} | changes
    return fastnn.MLP(**arguments, dtype=dtype, backend=backend, n_threads=n_threads)


def following(patience=50):
    """Callbacks whose state depends on all that happened."""
    return [
        EarlyStopping("loss", patience),
        EMA(0.9, every_steps=2, use_at_end=False),
        SWA(2, use_at_end=False),
    ]


def without_times(history):
    return {name: values for name, values in history.items() if name not in TIMES}


def whole_run(folder, backend="auto", dtype="float32", **changes):
    """A run with a checkpoint after every step and epoch; its model, and their files by age."""
    folder.mkdir(exist_ok=True)
    path, net = folder / "run", model(backend, dtype)
    arguments = SETTINGS | changes
    net.fit(X, Y, **arguments, callbacks=[Checkpoint(path, every_steps=1, keep=40), *following()])
    older = sorted(folder.glob("run.*"), key=lambda p: int(p.suffix[1:]))
    return net, [path, *older]
