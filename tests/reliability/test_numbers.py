"""Extreme numbers: training gives finite weights or a DivergenceError, never NaN in silence."""

import itertools

import numpy as np
import pytest
from conftest import COMPILED, ENGINES, blobs, flat_of, targets, use_engine

import fastnn
from fastnn.network import ACTIVATIONS, DTYPES, LOSS_OF_OUTPUT, LOSSES, OUTPUTS, OUTPUTS_OF_LOSS
from fastnn.optimizers import LBFGS, OPTIMIZERS, SGD, RMSprop

pytestmark = pytest.mark.filterwarnings("error")

N = 21
OPTIMIZER_OBJECTS = [
    *(optimizer() for optimizer in OPTIMIZERS.values()),
    SGD(momentum=0.9),
    SGD(momentum=0.9, nesterov=True),
    RMSprop(momentum=0.9),
    LBFGS(),
]


def scaled(factor):
    return lambda X, info: X * factor


# What X (N, 3), whose numbers are about 1, is made into; `info` is np.finfo of the net's dtype.
FEATURES = {
    "ordinary": lambda X, info: X,
    "subnormal": lambda X, info: X * float(info.smallest_subnormal) * 1000,
    "smallest normal": lambda X, info: np.sign(X) * float(info.tiny),
    "largest": lambda X, info: np.sign(X) * float(info.max),
    "one largest": lambda X, info: np.where(np.arange(X.size).reshape(X.shape) == 5, info.max, X),
    "constant": lambda X, info: np.full_like(X, 7.0),
    "constant and huge": lambda X, info: np.full_like(X, 1e20),
    "zero": lambda X, info: np.zeros_like(X),
    "scales far apart": lambda X, info: X * [1e-30, 1.0, 1e30],
    "scales of 1e15": lambda X, info: X * 1e15,
    "one row": lambda X, info: X[:1],
}
# What fit gets beside optimizer and loss.
OPTIONS = {
    "plain": {},
    "rate 1e6": {"learning_rate": 1e6},
    "rate 1e38": {"learning_rate": 1e38},
    "clip_norm": {"clip_norm": 1.0},
    "clip_value": {"clip_value": 1.0, "clip_norm": 1e30},
    "l2": {"l2": 1e30, "l1": 1e30},
    "dropout": {"dropout": 0.9},
}


def outcome(net, X, y, **arguments):
    """Train; the kept weights must be finite, those of the last finite epoch. What came of it."""
    kept = [flat_of(net)]

    def keep(run):
        kept.append(flat_of(net))
        assert np.isfinite(run.history["loss"]).all()

    try:
        net.fit(X, y, callbacks=keep, **arguments)
        how = "finite"
    except fastnn.DivergenceError as error:
        how = str(error)
        assert arguments["optimizer"] == LBFGS() or f"in epoch {len(kept)};" in how
    assert np.isfinite(kept).all()
    assert np.array_equal(flat_of(net), kept[-1])
    assert net.epochs_trained == len(kept) - 1 == len(net.history["loss"] if kept[1:] else ())
    return how, net.epochs_trained, flat_of(net).tobytes()


def check_all(engines, monkeypatch, dtype, features, fits):
    """Every fit on every engine: what they come to; the compiled ones must all come to the same."""
    n_fits = 0
    for sizes, output, loss, optimizer, options in fits:
        if optimizer == LBFGS():
            options = {"l2": options["l2"]} if "l2" in options else {}
        X = FEATURES[features](np.random.default_rng(1).normal(size=(N, 3)), np.finfo(dtype))
        y = targets(loss, len(X), sizes[-1])
        outcomes = set()
        for engine in engines:
            net = fastnn.MLP(
                sizes, output=output, dtype=dtype, backend=use_engine(engine, monkeypatch)
            )
            arguments = {"learning_rate": 0.1, "batch_size": 6, "epochs": 3, **options}
            if optimizer == LBFGS():
                del arguments["learning_rate"], arguments["batch_size"]
            came_to = outcome(net, X, y, loss=loss, optimizer=optimizer, **arguments)
            if engine in COMPILED:
                outcomes.add(came_to)
            n_fits += 1
        assert len(outcomes) == min(1, len(COMPILED)), "instruction sets differ"
    return n_fits


SMALL, WIDE = (3, 5, 2), (3, 70, 50, 2)
PAIRS = [(output, loss) for loss in LOSSES for output in OUTPUTS_OF_LOSS[loss]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("features", FEATURES)
def test_extreme_numbers(features, dtype, monkeypatch, tally):
    """Extreme features, targets, rates: finite weights or DivergenceError within the epoch, with
    the last finite weights; the same on every instruction set."""
    fits = [
        *((SMALL, *pair, SGD(), {}) for pair in PAIRS),
        *((SMALL, "softmax", "cross_entropy", o, {}) for o in OPTIMIZER_OBJECTS),
        *((SMALL, "identity", "squared_error", o, OPTIONS["rate 1e6"]) for o in OPTIMIZER_OBJECTS),
        *((WIDE, "identity", "squared_error", SGD(), options) for options in OPTIONS.values()),
    ]
    tally("fits", check_all(ENGINES, monkeypatch, dtype, features, fits))


@pytest.mark.long
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("features", FEATURES)
def test_all_extreme_numbers(features, dtype, monkeypatch, tally):
    """The same for every optimizer, loss, output, option and two sizes of network."""
    fits = (
        (sizes, *pair, optimizer, options)
        for sizes, pair, optimizer, options in itertools.product(
            (SMALL, WIDE), PAIRS, OPTIMIZER_OBJECTS, OPTIONS.values()
        )
    )
    tally("fits", check_all(ENGINES, monkeypatch, dtype, features, fits))


# X, y and arguments of fit that are lopsided rather than large.
def one_class(info):
    return *blobs(N, 3, 1), {}


def imbalanced(info, **arguments):
    """One sample in 10,001 is of class 1."""
    X = np.random.default_rng(2).normal(size=(10_001, 3))
    y = np.zeros(10_001, int)
    y[7000] = 1
    return X, y, {"batch_size": 500, **arguments}


def weighted(info, *sizes):
    X, y = blobs(N, 3, 2)
    return X, y, {"sample_weight": np.resize(sizes, N)}


DATA = {
    "one class": one_class,
    "one class, balanced": lambda info: (*one_class(info)[:2], {"class_weight": "balanced"}),
    "one row": lambda info: ([[1.0, 2.0, 3.0]], [1], {}),
    "1:10,000": imbalanced,
    "1:10,000, balanced": lambda info: imbalanced(info, class_weight="balanced"),
    "1:10,000, validation": lambda info: imbalanced(info, validation=0.5, metrics="log_loss"),
    "weights far apart": lambda info: weighted(info, 1e-300, 1.0, 1e300),
    "largest weights": lambda info: weighted(info, np.finfo(float).max, 1.0),
    "subnormal weights": lambda info: weighted(info, 5e-324),
    "one weight above zero": lambda info: weighted(info, *[0.0] * (N - 1), 1.0),
    "largest targets": lambda info: (
        np.random.default_rng(3).normal(size=(N, 3)),
        np.resize([info.max, info.min], (N, 2)),
        {"output": "identity"},
    ),
    "largest counts": lambda info: (
        np.random.default_rng(3).normal(size=(N, 3)),
        np.full((N, 2), info.max),
        {"output": "exp"},
    ),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("data", DATA)
def test_lopsided_data(data, dtype, monkeypatch, tally):
    """One class, one row, 1:10,000, weights 1e600 apart, the largest targets: the same."""
    for optimizer in OPTIMIZER_OBJECTS:
        outcomes = set()
        for engine in ENGINES:
            X, y, arguments = DATA[data](np.finfo(dtype))
            net = fastnn.MLP(
                SMALL,
                output=arguments.pop("output", "softmax"),
                dtype=dtype,
                backend=use_engine(engine, monkeypatch),
            )
            arguments = {"learning_rate": 0.1, "batch_size": 6, "epochs": 2, **arguments}
            if optimizer == LBFGS():
                del arguments["learning_rate"], arguments["batch_size"]
            came_to = outcome(net, X, y, optimizer=optimizer, **arguments)
            if engine in COMPILED:
                outcomes.add(came_to)
            tally("fits")
        assert len(outcomes) == min(1, len(COMPILED)), "instruction sets differ"


@pytest.mark.parametrize("features", FEATURES)
def test_steps_on_extreme_numbers(features, backend, dtype, tally):
    """train_on_batch on extreme features: a finite step, or DivergenceError and no step."""
    X = FEATURES[features](np.random.default_rng(1).normal(size=(N, 3)), np.finfo(dtype))
    for loss, optimizer, rate in itertools.product(
        ("squared_error", "huber"), OPTIMIZERS, (1e-3, 1e6, 1e30)
    ):
        net = fastnn.MLP((3, 20, 1), output="identity", dtype=dtype, backend=backend)
        for _ in range(3):
            before = flat_of(net)
            try:
                value = net.train_on_batch(
                    X, X[:, :1], optimizer=optimizer, loss=loss, learning_rate=rate
                )
                assert np.isfinite(value)
            except fastnn.DivergenceError:
                assert np.array_equal(flat_of(net), before)
            assert np.isfinite(flat_of(net)).all()
            tally("steps")


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_extreme_weights(activation, backend, dtype, tally):
    """Weights of the largest size, assigned: they train to finite ones, or DivergenceError."""
    info = np.finfo(dtype)
    X = np.random.default_rng(1).normal(size=(N, 3))
    for size, output in itertools.product((info.max, 1e30, info.tiny, 0.0), OUTPUTS):
        net = fastnn.MLP((3, 9, 2), activation, output=output, dtype=dtype, backend=backend, seed=5)
        net.weights = [np.sign(W) * size for W in net.weights]
        net.biases = [np.full_like(b, size) for b in net.biases]
        y = targets(LOSS_OF_OUTPUT[output], N, 2)
        outcome(net, X, y, optimizer="adam", learning_rate=0.1, epochs=2, batch_size=6)
        tally("fits")
