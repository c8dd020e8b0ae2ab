"""Many Python threads at once: with one model, with several, and with one that trains."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastnn
from fastnn.sklearn import MLPClassifier

N_PREDICTING = 32
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(400, 30)), RNG.integers(0, 4, 400)


def at_once(functions):
    """What each returns, or the exception it raises; all of them begin together."""
    barrier = threading.Barrier(len(functions))

    def run(function):
        barrier.wait()
        try:
            return function()
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(functions)) as pool:
        return list(pool.map(run, functions))


def model(backend, seed=0, n_threads=2):
    return fastnn.MLP((30, 50, 4), seed=seed, backend=backend, n_threads=n_threads)


@pytest.mark.parametrize(
    "rounds", [4, pytest.param(40, marks=pytest.mark.long)], ids=["few", "many"]
)
def test_predicting_while_another_model_trains(backend, rounds, tally):
    """32 threads predict with one model while another model trains: the same bits as alone."""
    parts = [X[: 1 + 12 * k] for k in range(N_PREDICTING)]
    alone = model(backend, seed=1)
    alone.fit(X, Y, epochs=rounds, batch_size=50)
    expected = [model(backend).forward(part).tobytes() for part in parts]

    def one_round():
        net, other = model(backend), model(backend, seed=1)
        calls = [lambda part=part: net.forward(part).tobytes() for part in parts]
        found = at_once([*calls, lambda: other.fit(X, Y, epochs=rounds, batch_size=50)])
        assert found[:-1] == expected
        assert other.forward(X).tobytes() == alone.forward(X).tobytes()

    for _ in range(rounds):
        one_round()
    tally("predictions", rounds * N_PREDICTING)


def test_training_several_models_at_once(backend, tally):
    """Threads each train a model of their own: the same bits as one after the other."""

    def trained(seed):
        net = model(backend, seed)
        net.fit(X, Y, epochs=2, batch_size=50)
        return net.forward(X).tobytes()

    expected = [trained(seed) for seed in range(4)]
    assert at_once([lambda seed=seed: trained(seed) for seed in range(4)]) == expected
    tally("models", 4)


def test_several_fits_of_one_model(backend, tally):
    """Of several fits of one model at once, one runs, the others raise RuntimeError.

    The weights are those of the fits that ran, one after the other.
    """
    n, net = 8, model(backend)
    found = at_once([lambda: net.fit(X, Y, epochs=2, batch_size=50)] * n)
    refused = [error for error in found if isinstance(error, RuntimeError)]
    assert all("fit is already running on this model" in str(error) for error in refused)
    ran = n - len(refused)
    assert ran == sum(isinstance(history, dict) for history in found) >= 1
    assert net.epochs_trained == 2 * ran
    alone = model(backend)
    for _ in range(ran):
        alone.fit(X, Y, epochs=2, batch_size=50)
    assert net.forward(X).tobytes() == alone.forward(X).tobytes()
    tally("fits", n)


def test_changing_a_model_while_it_trains(backend, tally):
    """While fit runs, fit, train_on_batch and new weights are refused, and nothing else is."""
    net = model(backend)
    calls = [
        lambda: net.fit(X, Y, epochs=1),
        lambda: net.train_on_batch(X, Y),
        lambda: setattr(net, "weights", net.weights),
        lambda: setattr(net, "biases", net.biases),
        lambda: net.predict(X).shape,
        lambda: tuple(net.evaluate(X, Y)),
    ]
    found = []
    net.fit(X, Y, epochs=1, callbacks=lambda run: found.extend(at_once(calls)))
    assert [type(result) for result in found] == [RuntimeError] * 4 + [tuple] * 2, found
    net.weights = net.weights
    net.train_on_batch(X, Y)
    tally("calls", len(calls))


def test_partial_fits_of_one_estimator(tally):
    """Of several partial_fits of one estimator at once, those that run count, the others raise."""
    n, estimator = 8, MLPClassifier((20,), random_state=0)
    estimator.partial_fit(X, Y, classes=np.arange(4))
    found = at_once([lambda: estimator.partial_fit(X, Y)] * n)
    assert all(isinstance(result, MLPClassifier | RuntimeError) for result in found), found
    assert np.isfinite(estimator.predict_proba(X)).all()
    tally("partial_fits", n)
