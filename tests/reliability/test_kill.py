"""SIGKILL at random moments of a run that writes checkpoints.

`pytest -m long` kills 50 times, the suite 5 times.
"""

import hashlib
import os
import random
import signal
import subprocess
import sys

import pytest

import fastnn
from fastnn import files

# It writes "ready" when the training begins, and the SHA-256 of all that is there at the end. A
# checkpoint after every step: most of the time is spent writing them.
CHILD = """
import sys
import numpy as np
import fastnn
from fastnn.callbacks import EMA, Callback, Checkpoint, EarlyStopping

class Ready(Callback):
    def on_train_begin(self, run):
        print("ready", flush=True)

rng = np.random.default_rng(0)
X, y = rng.normal(size=(2000, 30)), rng.integers(0, 5, 2000)
net = fastnn.MLP((30, 40, 5), seed=1, backend=sys.argv[1])
callbacks = [Checkpoint(sys.argv[2], every_steps=1, keep=3), EarlyStopping(patience=100),
             EMA(every_steps=2), Ready()]
net.fit(X, y, epochs=int(sys.argv[3]), batch_size=100, validation=0.1, callbacks=callbacks,
        resume=True)
"""


def started(backend, path, epochs):
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, backend, str(path), str(epochs)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "ready\n"
    return child


def ended(child):
    child.stdout.close()
    return child.wait()


def digest(path):
    """SHA-256 of all that a finished run has, but the times it took."""
    content = files.read(path)
    sha = hashlib.sha256(content.flat.tobytes())
    content.run["progress"].pop("seconds")
    sha.update(repr(content.run).encode())
    for name in sorted(content.tensors.keys() - {"history.seconds", "history.samples_per_second"}):
        sha.update(content.tensors[name].tobytes())
    return sha.hexdigest()


def check_files(folder):
    """Every file that has a checkpoint's name can be read, and nothing else is there but what a
    killed writer has left, once."""
    names = sorted(os.listdir(folder))
    for name in names:
        if name.endswith(".tmp"):
            continue
        assert name in ("run", "run.1", "run.2")
        files.read(folder / name)
        fastnn.load(folder / name)
    assert sum(name.endswith(".tmp") for name in names) <= 1


def kill_and_resume(backend, folder, kills, epochs, longest):
    """Kill so often, beginning again with a new run where one has ended; then let it end."""
    random_moment = random.Random(kills)
    path = folder / "run"
    whole = folder / "whole"
    whole.mkdir()
    assert ended(started(backend, whole / "run", epochs)) == 0
    expected = digest(whole / "run")
    part = folder / "part"
    part.mkdir()
    path, killed, completed = part / "run", 0, 0
    while killed < kills:
        child = started(backend, path, epochs)
        try:
            child.wait(random_moment.uniform(0, longest))
        except subprocess.TimeoutExpired:
            child.kill()
        code = ended(child)
        check_files(part)
        if code == -signal.SIGKILL:
            killed += 1
            continue
        assert code == 0
        assert digest(path) == expected
        completed += 1
        for name in os.listdir(part):
            (part / name).unlink()
    assert ended(started(backend, path, epochs)) == 0
    assert digest(path) == expected
    assert sorted(os.listdir(part)) == ["run", "run.1", "run.2"]
    return completed


@pytest.mark.parametrize("backend", fastnn.available_backends())
def test_killed_a_few_times(backend, tmp_path, tally):
    """A run killed while it writes checkpoints leaves whole ones, and goes on to the same bits."""
    kill_and_resume(backend, tmp_path, kills=5, epochs=10, longest=0.3)
    tally("kills", 5)


@pytest.mark.long
@pytest.mark.parametrize("backend", fastnn.available_backends())
def test_killed_fifty_times(backend, tmp_path, tally):
    """A run killed fifty times while it writes checkpoints goes on to the same bits."""
    kill_and_resume(backend, tmp_path, kills=50, epochs=60, longest=0.3)
    tally("kills", 50)
