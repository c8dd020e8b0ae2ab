"""Ctrl-C, and several Python threads with one model; reliability/test_ctrl_c.py sends signals."""

import sys
import threading
import time

import numpy as np
import pytest

import fastnn
from fastnn import backends
from fastnn.network import Network
from fastnn.optimizers import SGD
from fastnn.options import TrainingOptions


@pytest.mark.parametrize("event", ["on_train_begin", "on_progress", "on_epoch_end"])
def test_ctrl_c_at_other_moments_leaves_a_usable_model(backend, event):
    """The signal's exception as a callback would see it, at each place where Python runs."""

    def interrupt(self, run):
        raise KeyboardInterrupt

    Interrupting = type("Interrupting", (fastnn.callbacks.Callback,), {event: interrupt})
    X, y = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2
    net = fastnn.MLP((3, 4, 2), backend=backend)
    before = net.weights[0].copy()
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, y, epochs=3, callbacks=Interrupting())
    assert np.array_equal(net.weights[0], before) == (event == "on_train_begin")
    assert net.epochs_trained == (event == "on_epoch_end")
    net.fit(X, y, epochs=1)
    assert np.isfinite(net.forward(X)).all()


def test_native_training_lets_other_python_threads_run(compiled_backend):
    """Threads give the interpreter away only when they block, or after a whole switch interval.

    With that interval longer than the call, the counter moves during it only if the call itself
    has let go of the interpreter. The engine is called directly: no other code comes between.
    """
    network = Network((64, 64, 10))
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 64)).astype(np.float32)
    y = rng.integers(0, 10, 2000, dtype=np.int32)
    engine = backends.load(compiled_backend).Engine(network, 1)
    engine.set_parameters(network.initialize(0))
    engine.start(TrainingOptions(SGD(), "cross_entropy"))
    order = np.tile(np.arange(2000, dtype=np.int64), 100)
    count, stop = 0, threading.Event()

    def counting():
        nonlocal count
        while not stop.is_set():
            count += 1
            time.sleep(0)  # gives the interpreter away, waits for nothing

    interval = sys.getswitchinterval()
    sys.setswitchinterval(60.0)
    thread = threading.Thread(target=counting)
    try:
        thread.start()
        before = count
        engine.train(X, y, None, order, 0, 32, np.full(len(order), 0.01), 0.3)
        during = count - before
    finally:
        stop.set()
        sys.setswitchinterval(interval)
        thread.join()
    assert during > 0


def run_in_threads(functions):
    """Run all at once; the first exception of any of them is raised here."""
    barrier, errors = threading.Barrier(len(functions)), []

    def run(function):
        try:
            barrier.wait()
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("n_threads", [1, 2])
def test_threads_predict_with_one_model_at_once(backend, dtype, n_threads):
    X = np.random.default_rng(0).normal(size=(300, 64))
    net = fastnn.MLP((64, 100, 10), dtype=dtype, backend=backend, n_threads=n_threads)
    parts = [X[:1], X[:7], X, X[50:]]
    expected = [net.forward(part).tobytes() for part in parts]
    fresh = fastnn.MLP((64, 100, 10), dtype=dtype, backend=backend, n_threads=n_threads)
    results = [[] for _ in parts]

    def predicting(k):
        for _ in range(30):
            results[k].append(fresh.forward(parts[k]).tobytes())

    run_in_threads([lambda k=k: predicting(k) for k in range(len(parts))])
    for given, one in zip(results, expected, strict=True):
        assert len(given) == 30
        assert set(given) == {one}


@pytest.mark.parametrize(
    ("layer_sizes", "n"),
    [((64, 100, 10), 300), ((4, 8, 3), 2100)],
    ids=["the first layer by columns", "parts in turns"],
)
def test_threads_evaluate_and_take_gradients_with_one_model_at_once(backend, dtype, layer_sizes, n):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(n, layer_sizes[0])), rng.integers(0, layer_sizes[-1], n)
    net = fastnn.MLP(layer_sizes, dtype=dtype, backend=backend, n_threads=2)

    def evaluated(n):
        return net.evaluate(X[:n], y[:n])["loss"]

    def gradients(n):
        value, dW, db = net.loss_and_gradients(X[:n], y[:n])
        return value, *(array.tobytes() for array in dW + db)

    calls = [(function, rows) for function in (evaluated, gradients) for rows in (7, n)]
    expected, results = [function(n) for function, n in calls], [set() for _ in calls]

    def repeating(k):
        function, n = calls[k]
        for _ in range(30):
            results[k].add(function(n))

    run_in_threads([lambda k=k: repeating(k) for k in range(len(calls))])
    assert results == [{one} for one in expected]


def test_predicting_while_another_thread_trains_sees_whole_epochs(backend):
    """Every prediction is of the weights before the fit or after some epoch, never of a mixture."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(500, 20)), rng.integers(0, 3, 500)
    net = fastnn.MLP((20, 30, 3), backend=backend, n_threads=1)
    x, done = X[:5], threading.Event()
    of_epochs, seen = {net.forward(x).tobytes()}, []

    def training():
        try:
            net.fit(
                X, y, epochs=30, callbacks=lambda run: of_epochs.add(run.net.forward(x).tobytes())
            )
        finally:
            done.set()

    def predicting():
        while True:
            last = done.is_set()
            seen.append(net.forward(x).tobytes())
            if last:
                break

    run_in_threads([training, predicting, predicting])
    assert len(of_epochs) == 31
    assert set(seen) <= of_epochs
    assert seen[-1] == net.forward(x).tobytes()


def test_a_second_fit_at_the_same_time_is_refused(backend):
    X, y = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2
    net = fastnn.MLP((3, 4, 2), backend=backend)
    refused = []

    def fit_again():
        with pytest.raises(RuntimeError, match="fit is already running on this model"):
            net.fit(X, y, epochs=1)
        refused.append(True)

    net.fit(X, y, epochs=2, callbacks=lambda run: run_in_threads([fit_again]))
    assert refused == [True, True]
    assert net.epochs_trained == 2
    net.fit(X, y, epochs=1)
    assert net.epochs_trained == 3
