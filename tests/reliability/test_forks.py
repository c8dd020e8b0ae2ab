"""Forks, and the other ways of starting processes, around models and their threads."""

import itertools
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastnn
from fastnn.once import once

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    # that fork is what we test
    pytest.mark.filterwarnings("ignore:.*process.*multi-threaded:DeprecationWarning"),
]

LIMIT_SECONDS = 180  # a hang would last for ever; the work takes milliseconds
EPOCHS = 20
SIZES = (70, 60, 3)

RNG = np.random.default_rng(0)
X, Y = RNG.random((300, 70), dtype=np.float32), RNG.integers(0, 3, 300)

few_and_many = pytest.mark.parametrize(
    "n_forks", [4, pytest.param(50, marks=pytest.mark.long)], ids=["few", "many"]
)


# Not NumPy's: its BLAS can hang where another thread multiplies during a fork.
BACKEND = "cython" if "cython" in fastnn.available_backends() else "numba"


def model(seed=0):
    return fastnn.MLP(SIZES, backend=BACKEND, seed=seed, n_threads=2)


def digest(net):
    """What comes of a further epoch."""
    net.fit(X, Y, epochs=1, batch_size=32)
    return net.forward(X).tobytes() + b"".join(W.tobytes() for W in net.weights)


def after_every_epoch():
    """f(X) of model() before its training, and after each of EPOCHS epochs."""
    net = model()
    results = [net.forward(X).tobytes()]
    net.fit(X, Y, epochs=EPOCHS, callbacks=lambda run: results.append(net.forward(X).tobytes()))
    return results


def forked(work):
    """The bytes that work() returns in a child, within LIMIT_SECONDS."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(LIMIT_SECONDS)
        try:
            with os.fdopen(write_end, "wb") as pipe:
                pipe.write(work())
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        result = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return result


@few_and_many
def test_after_a_training(n_forks, tally):
    """A child forked after a training trains and predicts on, to the same bits as its parent."""
    net = model()
    net.fit(X, Y, epochs=1)
    results = [forked(lambda: digest(net)) for _ in range(n_forks)]
    assert set(results) == {digest(net)}
    tally("forks", n_forks)


@few_and_many
@pytest.mark.parametrize("forks_from", ["main thread", "side thread"])
def test_while_another_thread_trains(forks_from, n_forks, tally):
    """A child forked while another thread trains finds a whole epoch's weights; the same bits.

    It may train that model.
    """
    fresh, epochs = digest(model(1)), after_every_epoch()
    moments, present, done = random.Random(0), [model()], threading.Event()

    def training():
        while not done.is_set():
            present[0] = model()
            present[0].fit(X, Y, epochs=EPOCHS)

    def in_child():
        found = present[0].forward(X).tobytes()
        digest(present[0])  # is not refused
        return found + digest(model(1))

    def forking():
        try:
            for _ in range(n_forks):
                done.wait(moments.uniform(0, 0.02))  # never set by now
                result = forked(in_child)
                assert result[: len(epochs[0])] in epochs
                assert result[len(epochs[0]) :] == fresh
        finally:
            done.set()

    main, side = (forking, training) if forks_from == "main thread" else (training, forking)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(side)
        main()
        other.result()
    tally("forks", n_forks)


@few_and_many
def test_within_a_training(n_forks, tally):
    """A child that a callback forks goes on with the training, to the same bits as its parent."""
    expected = after_every_epoch()

    def forking(run):
        if run.epoch not in forked_at:
            return
        with pytest.raises(RuntimeError, match="fit is already running"):
            run.net.fit(X, Y)
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(LIMIT_SECONDS)
            forked_at.clear()
            child_writes_to.append(write_end)
        else:
            os.close(write_end)
            children.append((child, read_end))

    for n in range(0, n_forks, 4):
        forked_at, children, child_writes_to = set(range(1, 1 + min(4, n_forks - n))), [], []
        net = model()
        try:
            net.fit(X, Y, epochs=EPOCHS, callbacks=forking)
        finally:
            if child_writes_to:  # this is a child
                os.write(child_writes_to[0], net.forward(X).tobytes())
                os._exit(0)
        assert net.forward(X).tobytes() == expected[-1]
        for child, read_end in children:
            with os.fdopen(read_end, "rb") as pipe:
                assert pipe.read() == expected[-1]
            assert os.waitpid(child, 0)[1] == 0
    tally("forks", n_forks)


def test_within_an_epoch_on_a_stream():
    """A child forked within an epoch on a stream cannot go on with it, and says so."""
    here, children = os.getpid(), []

    class Forking(fastnn.callbacks.Callback):
        def on_progress(self, run):
            if run.epoch == 2 and not children:
                children.append(os.fork())
                if children[0] == 0:
                    signal.alarm(LIMIT_SECONDS)

    net, parts = model(), [(X[k : k + 50], Y[k : k + 50]) for k in range(0, 300, 50)]
    try:
        net.fit(parts, epochs=4, callbacks=Forking())
    except RuntimeError as error:
        if os.getpid() != here:
            os._exit(0 if "child of a fork" in str(error) else 1)
        raise
    finally:
        if os.getpid() != here:
            os._exit(2)
    assert os.waitpid(children[0], 0)[1] == 0
    assert net.epochs_trained == 4


@pytest.mark.compiled
def test_children_use_threads():
    """A forked child trains on as many threads as its parent, where the system has them."""

    def most_threads():
        """The most tasks of this process seen while a team of 3 trains."""
        most, end, stop = 0, time.monotonic() + LIMIT_SECONDS / 2, threading.Event()
        net = fastnn.MLP((70, 200, 3), n_threads=3)

        def training():
            while not stop.is_set():
                net.fit(X, Y, epochs=50)

        with ThreadPoolExecutor(1) as pool:
            trained = pool.submit(training)
            # this thread, the one that calls fit, perhaps one that leads the team, and two more
            while most < 4 and time.monotonic() < end:
                most = max(most, len(os.listdir("/proc/self/task")))
            stop.set()
            trained.result()
        return most

    if not os.path.isdir("/proc/self/task"):
        pytest.skip("this system does not show a process's threads")
    model().fit(X, Y, epochs=1)
    assert int(forked(lambda: str(most_threads()).encode())) >= 4


def test_grandchildren():
    """A child of a child trains and predicts to the same bits, too."""
    net = model()
    net.fit(X, Y, epochs=1)

    def in_child():
        own = model()
        own.fit(X, Y, epochs=1)
        return forked(lambda: digest(own))

    assert forked(in_child) == digest(net)


def test_one_batch_at_a_time_after_a_fork():
    """A child forked while another thread was within train_on_batch begins a state of its own."""
    nets, done, begun = [model() for _ in range(2)], threading.Event(), threading.Event()

    def training():
        while not done.is_set():
            nets[0].train_on_batch(X, Y)
            begun.set()

    def in_child():
        nets[0].weights, nets[0].biases = nets[1].weights, nets[1].biases
        loss = nets[0].train_on_batch(X, Y)
        return repr(loss).encode() + nets[0].forward(X).tobytes()

    with ThreadPoolExecutor(1) as pool:
        trained = pool.submit(training)
        begun.wait()
        try:
            results = {forked(in_child) for _ in range(5)}
        finally:
            done.set()
            trained.result()
    loss = nets[1].train_on_batch(X, Y)
    assert results == {repr(loss).encode() + nets[1].forward(X).tobytes()}


def test_while_another_thread_computes_a_property():
    """A child forked meanwhile computes that property of another object; it shares no lock."""
    begun, may_end = threading.Event(), threading.Event()

    class Lazy:
        @once
        def value(self):
            if os.getpid() == here:
                begun.set()
                may_end.wait()
            return b"computed"

    here = os.getpid()
    with ThreadPoolExecutor(1) as pool:
        computed = pool.submit(lambda: Lazy().value)
        begun.wait()
        try:
            assert forked(lambda: Lazy().value) == b"computed"
        finally:
            may_end.set()
        assert computed.result() == b"computed"


def test_while_another_thread_compiles():
    """A child forked while another thread has Numba compile a function compiles one of its own."""
    pytest.importorskip("numba", reason="compiles the functions")
    numbers, done, begun = itertools.count(), threading.Event(), threading.Event()

    def compiled():
        shift = float(next(numbers))  # so that every function is new

        def shifted(a, shift=shift):
            return a * math.tanh(a + shift)

        activation = fastnn.activation(shifted, name=f"shifted_{os.getpid()}_{shift:.0f}")
        net = fastnn.MLP((70, 4, 1), activation=activation, output="identity", backend=BACKEND)
        return net.forward(X[:5]).tobytes()

    def compiling():
        while not done.is_set():
            compiled()
            begun.set()

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(compiling)
        begun.wait()
        try:
            for _ in range(3):
                assert len(forked(compiled)) == 5 * X.itemsize
        finally:
            done.set()
            other.result()


# Two workers get the model, train it, and a new one of their own.
STARTING = """
import multiprocessing, sys
import numpy as np
import fastnn

rng = np.random.default_rng(0)
X, y = rng.random((300, 70), dtype=np.float32), rng.integers(0, 3, 300)

def digest(net):
    new = fastnn.MLP((70, 60, 3), seed=2, n_threads=2)
    for each in (net, new):
        each.fit(X, y, epochs=2)
    return net.forward(X).tobytes() + new.forward(X).tobytes()

if __name__ == "__main__":
    net = fastnn.MLP((70, 60, 3), n_threads=2)
    net.fit(X, y, epochs=1)
    way = sys.argv[1]
    if way == "loky":
        import joblib
        results = joblib.Parallel(2, backend="loky")(joblib.delayed(digest)(net) for _ in range(4))
    else:
        with multiprocessing.get_context(way).Pool(2) as pool:
            results = pool.map(digest, [net] * 4, chunksize=1)
    assert set(results) == {digest(net)}
"""


@pytest.mark.parametrize("way", ["fork", "spawn", "forkserver", "loky"])
def test_workers(way, tmp_path, tally):
    """Worker processes, however started, train to the same bits as the one that started them."""
    if way == "loky":
        pytest.importorskip("joblib")
    script = tmp_path / "starting.py"
    script.write_text(STARTING)
    subprocess.run(
        [sys.executable, "-W", "ignore", script, way], check=True, timeout=2 * LIMIT_SECONDS
    )
    tally("workers", 2)
