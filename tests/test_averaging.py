"""Averages of the weights against their closed forms, and what the model has at the end."""

import numpy as np
import pytest
from conftest import assert_has, blobs, flat_of

import fastnn
from fastnn.callbacks import EMA, SWA, Callback

X, Y = blobs(100)
SETTINGS = {"epochs": 4, "batch_size": 30, "learning_rate": 0.05}  # 4 steps an epoch


class Weights(Callback):
    """Those after each step and each epoch, float64."""

    every_steps = 1

    def __init__(self):
        self.of_steps, self.of_epochs, self.last = [], [], None

    def on_steps(self, run):
        self.of_steps.append(run.parameters().astype(float))

    def on_epoch_end(self, run):
        self.of_epochs.append(run.parameters().astype(float))


def model(backend, dtype="float32"):
    return fastnn.MLP((4, 6, 3), "tanh", dtype=dtype, backend=backend)


def trained(average, backend, dtype="float32", **changes):
    """The model at the end, and the weights along the way."""
    net, weights = model(backend, dtype), Weights()
    net.fit(X, Y, **SETTINGS | changes, callbacks=[average, weights])
    return net, weights


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("every_steps", [1, 3, 5])
def test_ema_is_the_sum_that_its_recurrence_unrolls_to(backend, dtype, decay, every_steps):
    """decay^(K-1) w_1 + (1 - decay) sum of decay^(K-j) w_j over j = 2 ... K"""
    net, weights = trained(EMA(decay, every_steps), backend, dtype)
    w = weights.of_steps[every_steps - 1 :: every_steps]
    K = len(w)
    expected = decay ** (K - 1) * w[0] + (1 - decay) * sum(
        decay ** (K - j) * w[j - 1] for j in range(2, K + 1)
    )
    # float64 sums of at most 16 terms, then one rounding to the network's dtype
    np.testing.assert_allclose(
        flat_of(net), expected, rtol=np.finfo(dtype).eps, atol=16 * np.finfo(float).eps
    )


@pytest.mark.parametrize("first_epoch", [1, 2, 4])
def test_swa_is_the_mean_of_epochs(backend, dtype, first_epoch):
    average = SWA(first_epoch)
    net, weights = trained(average, backend, dtype)
    expected = np.mean(weights.of_epochs[first_epoch - 1 :], axis=0)
    np.testing.assert_allclose(
        flat_of(net), expected, rtol=np.finfo(dtype).eps, atol=16 * np.finfo(float).eps
    )
    assert average.count == 5 - first_epoch


@pytest.mark.parametrize("average", [EMA(0.9, 2, use_at_end=False), SWA(2, use_at_end=False)])
def test_the_model_keeps_its_own_weights_where_told_to(backend, average):
    """And `model` gives the average, which evaluates as its weights do."""
    net, weights = trained(average, backend)
    assert np.array_equal(flat_of(net), weights.of_steps[-1].astype("float32"))
    other = model(backend)
    same = SWA(2) if isinstance(average, SWA) else EMA(0.9, 2)
    evaluated = []
    other.fit(X, Y, **SETTINGS, callbacks=[same, lambda run: evaluated.append(at_end(same, run))])
    assert not np.array_equal(flat_of(other), flat_of(net))
    assert evaluated[-1] == other.evaluate(X, Y)


def at_end(average, run):
    return average.model(run).evaluate(X, Y) if average.count else None


def test_the_training_itself_does_not_see_the_average(backend):
    plain, averaged = model(backend), model(backend)
    history = plain.fit(X, Y, **SETTINGS, validation=0.2)
    other = averaged.fit(X, Y, **SETTINGS, validation=0.2, callbacks=[EMA(0.5, 1), SWA(1)])
    for name in ("loss", "val_loss", "val_accuracy"):
        assert other[name] == history[name]


def test_the_last_callback_that_sets_the_weights_wins(backend):
    averages = [SWA(1), EMA(0.5, 1)]
    both, one = model(backend), model(backend)
    both.fit(X, Y, **SETTINGS, callbacks=averages)
    one.fit(X, Y, **SETTINGS, callbacks=averages[1])
    assert_has(both, flat_of(one))


def test_an_average_used_again_begins_afresh(backend):
    average = EMA(0.9, 1)
    nets = [model(backend) for _ in range(2)]
    for net in nets:
        net.fit(X, Y, **SETTINGS, callbacks=average)
    assert_has(nets[0], flat_of(nets[1]))
    assert average.count == 16


def test_too_few_steps_for_an_average(backend):
    plain = model(backend)
    plain.fit(X, Y, **SETTINGS)
    average = EMA(every_steps=17)
    net, _ = trained(average, backend)
    assert_has(net, flat_of(plain))

    def ask(run):
        with pytest.raises(RuntimeError, match="EMA has not averaged any weights yet"):
            average.model(run)

    model(backend).fit(X, Y, **SETTINGS, callbacks=[average, ask])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: EMA(1.0), ValueError, "decay must be at least 0 and below 1, got 1.0"),
        (lambda: EMA(-0.1), ValueError, "decay must be"),
        (lambda: EMA(every_steps=0), ValueError, "every_steps must be"),
        (lambda: SWA(0), ValueError, "first_epoch must be an integer of at least 1"),
        (lambda: SWA(1.5), TypeError, "first_epoch must be an integer"),
    ],
)
def test_wrong_settings(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_swa_after_the_end():
    net = model("auto")
    with pytest.raises(ValueError, match="first_epoch=5, the run 4 epochs"):
        net.fit(X, Y, **SETTINGS, callbacks=SWA(5))
    assert net.epochs_trained == 0
