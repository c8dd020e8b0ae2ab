"""Ctrl-C at random moments of a training."""

import inspect
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

LIMIT_SECONDS = 0.2

# Two jobs in turns: an epoch of the first lasts longer than LIMIT_SECONDS; those of the second are
# short, so that all that happens between epochs is met as well. The child says "ready" before it
# trains, and when KeyboardInterrupt has reached it.
CHILD = """
import os, signal, sys, time
import numpy as np, fastnn

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
rng = np.random.default_rng(0)
X = rng.integers(0, 256, (20_000, 784), dtype=np.uint8)
y = rng.integers(0, 10, 20_000)
settings = {"backend": sys.argv[1]}
# batches so small that one step is short on the slowest instruction set, too
jobs = [
    (fastnn.MLP((784, 512, 512, 10), **settings), (X, y),
     {"batch_size": 32, "learning_rate": 1e-4}),
    (fastnn.MLP((784, 32, 10), **settings), (X[:500], y[:500]),
     {"learning_rate": 1e-4, "validation": 0.2, "dropout": 0.1, "callbacks": lambda run: None}),
]
for net, (X_, y_), options in jobs:  # Numba, while it compiles, may leave a signal unheard
    net.fit(X_[:100], y_[:100], epochs=1, **options)
for i in range(int(sys.argv[2])):
    net, data, options = jobs[i % 2]
    before = net.weights[0].copy()
    try:
        print("ready", flush=True)
        net.fit(*data, epochs=1_000_000, **options)
    except KeyboardInterrupt:
        stopped = time.clock_gettime(time.CLOCK_MONOTONIC)
        waited = waited_for_a_core("self")
    usable = all(np.isfinite(W).all() for W in net.weights + net.biases)
    usable = usable and net.predict(X[:10]).shape == (10,)
    usable = usable and len({len(values) for values in net.history.values()}) <= 1
    changed = not np.array_equal(net.weights[0], before)
    net.fit(X[:100], y[:100], epochs=1)
    print(stopped, waited, int(usable), int(changed), flush=True)
"""


def waited_for_a_core(process):
    """Nanoseconds that the process's threads were ready to run and others had the cores."""
    nanoseconds = 0
    for task in os.listdir(f"/proc/{process}/task"):
        try:
            with open(f"/proc/{process}/task/{task}/schedstat") as file:
                nanoseconds += int(file.read().split()[1])
        except OSError:  # the thread has ended
            pass
    return nanoseconds


@pytest.mark.skipif(not os.path.exists("/proc/self/schedstat"), reason="no times of waiting here")
@pytest.mark.parametrize(
    "tries", [4, pytest.param(50, marks=pytest.mark.long)], ids=["few", "many"]
)
def test_ctrl_c_at_random_moments(backend, tries, tally):
    """At any moment Ctrl-C ends a fit within 0.2 s; the model has its last step's weights.

    It can be used and trained on. The time is that from the signal to the exception, less what the
    child's threads were ready to run but others had the cores: on a quiet machine, just the time.
    """
    child = subprocess.Popen(
        [sys.executable, "-c", inspect.getsource(waited_for_a_core) + CHILD, backend, str(tries)],
        stdout=subprocess.PIPE,
        text=True,
    )
    moments, delays, late_enough = random.Random(tries), [], 0
    hang = threading.Timer(600, child.kill)
    hang.start()
    try:
        for _ in range(tries):
            assert child.stdout.readline() == "ready\n"
            moment = moments.uniform(0, 1)
            time.sleep(moment)  # the random moment is what is tested
            waited = waited_for_a_core(child.pid)
            sent = time.clock_gettime(time.CLOCK_MONOTONIC)
            child.send_signal(signal.SIGINT)
            stopped, waited_by_then, usable, changed = child.stdout.readline().split()
            delays.append(float(stopped) - sent - 1e-9 * (int(waited_by_then) - waited))
            assert usable == "1"
            late_enough += int(changed)
        assert child.wait(60) == 0
    finally:
        hang.cancel()
        child.kill()
        child.wait()
        child.stdout.close()
    assert late_enough > 0
    assert max(delays) <= LIMIT_SECONDS, delays
    tally("signals", tries)
