"""Same bits: the compiled backend's results do not depend on threads, instruction set or batch.

Everything here is compared with ==, never within a tolerance. The first instruction set of the
list with one thread is the baseline; sizes are odd on purpose, so that tiles, panels and thread
shares all have remainders.
"""

import functools

import numpy as np
import pytest
from conftest import COMPILED, ISAS, targets

import fastnn
from fastnn.network import ACTIVATIONS, LOSSES, OUTPUTS, OUTPUTS_OF_LOSS
from fastnn.optimizers import RULES, SGD, Adagrad, Adam, AdamW, Lion, RMSprop

THREADS = (1, 2, 3, 5)
OPTIMIZERS = {
    "sgd": SGD(),
    "momentum": SGD(momentum=0.9),
    "nesterov": SGD(momentum=0.9, nesterov=True),
    "decay": SGD(momentum=0.9, weight_decay=0.1),
    "adagrad": Adagrad(),
    "rmsprop": RMSprop(),
    "rmsprop momentum": RMSprop(momentum=0.9),
    "adam": Adam(),
    "adamw": AdamW(weight_decay=0.1),
    "lion": Lion(weight_decay=0.1),
}

# Limits that most of the steps here exceed, and with penalties, which count as gradient.
REGULARISATIONS = {
    "none": {},
    "dropout": {"dropout": 0.3},
    "clip_value": {"clip_value": 1e-3},
    "clip_norm": {"clip_norm": 0.1},
    "all": {"dropout": 0.5, "clip_value": 1e-3, "clip_norm": 0.01},
}

# (layer sizes, number of samples, batch size): the last batch is smaller in most
SHAPES = [
    ((7, 13, 5, 3), 50, 7),
    ((1, 1, 1), 5, 2),
    ((49, 97, 33, 11), 100, 33),
    ((784, 128, 10), 200, 64),
    ((190, 203, 7), 150, 50),
    ((3, 10), 23, 1),
    ((3, 10), 50, 7),
    ((3, 10), 67, 33),
    ((17, 300, 2), 129, None),
    ((33, 65, 17), 31, 31),
    ((13, 66, 64, 1), 70, 33),
]


def data(layers, n, loss, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, layers[0]))
    X[rng.random(X.shape) < 0.3] = 0.0  # zeros may be skipped, and that must not show
    return X, targets(loss, n, layers[-1], seed)


def fitted(
    layers,
    n,
    batch_size,
    dtype,
    n_threads=1,
    activation="relu",
    output="softmax",
    loss=None,
    optimizer="sgd",
    l2=0.0,
    l1=0.0,
    weighted=False,
    epochs=2,
    regularisation="none",
    factors=None,
):
    """A model trained with the instruction set that FASTNN_ISA names."""
    net = fastnn.MLP(
        layers, activation, output, dtype=dtype, seed=5, backend="cython", n_threads=n_threads
    )
    X, y = data(layers, n, loss or fastnn.network.LOSS_OF_OUTPUT[output])
    net.fit(
        X,
        y,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=OPTIMIZERS[optimizer],
        learning_rate=0.01,
        loss=loss,
        l2=l2,
        l1=l1,
        sample_weight=np.arange(n) % 4 if weighted else None,
        **REGULARISATIONS[regularisation],
        learning_rate_factors=factors,
    )
    return net


@functools.cache
def _baseline(**arguments):
    return fitted(n_threads=1, **arguments)


@pytest.fixture
def baseline(force_isa):
    """baseline(**arguments): the model that the first instruction set trains on one thread."""

    def train(**arguments):
        force_isa(ISAS[0])
        return _baseline(**arguments)

    return train


def assert_same_bits(net, other):
    for a, b in zip(net.weights + net.biases, other.weights + other.biases, strict=True):
        assert np.isfinite(a).all()
        assert a.tobytes() == b.tobytes()
    # Sums of losses over native calls, which end by the clock, are the same only to rounding.
    assert net.history["loss"] == pytest.approx(other.history["loss"], rel=1e-9)


@pytest.mark.parametrize("isa", ISAS)
def test_penalty(force_isa, dtype, isa):
    network = fastnn.network.Network((49, 97, 33, 11), dtype=dtype)
    flat = np.random.default_rng(3).normal(size=network.n_parameters).astype(dtype)
    found = []
    for chosen in (ISAS[0], isa):
        force_isa(chosen)
        engine = fastnn.backends.load("cython").Engine(network, 1)
        engine.set_parameters(flat)
        found.append(engine.penalty(0.3, 0.7))
    assert found[0] == found[1]


@pytest.mark.parametrize("n_threads", THREADS)
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_training_shapes(baseline, force_isa, dtype, shape, isa, n_threads):
    layers, n, batch_size = shape
    arguments = {"layers": layers, "n": n, "batch_size": batch_size, "dtype": dtype}
    expected = baseline(**arguments)
    force_isa(isa)
    assert_same_bits(fitted(n_threads=n_threads, **arguments), expected)


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("regularisation", ["none", "dropout"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_training_activations(
    baseline, force_isa, dtype, activation, regularisation, isa, n_threads
):
    arguments = {
        "layers": (9, 21, 18, 5),
        "n": 40,
        "batch_size": 13,
        "dtype": dtype,
        "activation": activation,
        "regularisation": regularisation,
    }
    expected = baseline(**arguments)
    force_isa(isa)
    assert_same_bits(fitted(n_threads=n_threads, **arguments), expected)


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("loss", LOSSES)
def test_training_losses_outputs_penalties(baseline, force_isa, dtype, loss, isa, n_threads):
    for output in OUTPUTS_OF_LOSS[loss]:
        for n_out in (1, 3, 19):
            arguments = {
                "layers": (6, 18, n_out),
                "n": 30,
                "batch_size": 8,
                "dtype": dtype,
                "activation": "tanh",
                "output": output,
                "loss": loss,
                "l2": 0.01,
                "l1": 0.001,
                "weighted": True,
            }
            expected = baseline(**arguments)
            force_isa(isa)
            assert_same_bits(fitted(n_threads=n_threads, **arguments), expected)


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("regularisation", REGULARISATIONS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_optimizers(baseline, force_isa, dtype, optimizer, regularisation, isa, n_threads):
    arguments = {
        "layers": (20, 50, 33, 7),
        "n": 90,
        "batch_size": 16,
        "dtype": dtype,
        "optimizer": optimizer,
        "l2": 0.001,
        "regularisation": regularisation,
    }
    expected = baseline(**arguments)
    force_isa(isa)
    assert_same_bits(fitted(n_threads=n_threads, **arguments), expected)


def test_no_optimizer_is_left_out():
    assert {optimizer.rule.name for optimizer in OPTIMIZERS.values()} == set(RULES)


@pytest.mark.parametrize("regularisation", ["none", "all"])
@pytest.mark.parametrize("factors", [(0, 1, 1), (0.5, 0, 2), (3, 1, 0)], ids=str)
@pytest.mark.parametrize("isa", ISAS)
def test_training_layers_at_their_own_rates(
    baseline, force_isa, dtype, factors, isa, regularisation
):
    arguments = {
        "layers": (20, 50, 130, 7),
        "n": 90,
        "batch_size": 16,
        "dtype": dtype,
        "optimizer": "adamw",
        "factors": factors,
        "regularisation": regularisation,
    }
    expected = baseline(**arguments)
    force_isa(isa)
    for n_threads in (1, 2, 5):
        assert_same_bits(fitted(n_threads=n_threads, **arguments), expected)


@pytest.mark.parametrize("regularisation", ["none", "all"])
@pytest.mark.parametrize("isa", ISAS)
def test_training_wide_enough_for_threads_and_blocking(baseline, force_isa, isa, regularisation):
    """Sums of more than a thousand terms, and work that is worth sharing among threads."""
    arguments = {
        "layers": (1030, 530, 10),
        "n": 260,
        "batch_size": 130,
        "dtype": "float32",
        "regularisation": regularisation,
    }
    expected = baseline(**arguments)
    force_isa(isa)
    for n_threads in (1, 2, 5):
        assert_same_bits(fitted(n_threads=n_threads, epochs=2, **arguments), expected)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_predictions_across_instruction_sets_and_threads(force_isa, dtype, activation, output, isa):
    layers = (19, 37, 5)
    X, _ = data(layers, 41, "squared_error")
    results = []
    for name, n_threads in ((ISAS[0], 1), (isa, 1), (isa, 2), (isa, 5)):
        force_isa(name)
        net = fastnn.MLP(
            layers, activation, output, dtype=dtype, backend="cython", n_threads=n_threads
        )
        results.append(net.forward(X).tobytes())
    assert len(set(results)) == 1


@pytest.mark.parametrize("layers", [(7, 13, 5, 3), (1, 1, 1), (784, 128, 10), (3, 10)], ids=str)
@pytest.mark.parametrize("output", OUTPUTS)
def test_a_row_alone_in_a_batch_in_any_order(compiled_backend, dtype, output, layers):
    net = fastnn.MLP(layers, "tanh", output, dtype=dtype, backend=compiled_backend, n_threads=2)
    X, _ = data(layers, 67, "squared_error")
    expected = net.forward(X)
    for row in (0, 1, 33, 66):
        assert net.forward(X[row : row + 1]).tobytes() == expected[row].tobytes()
    for size in (2, 5, 12, 13, 31, 32, 33):
        parts = [net.forward(X[start : start + size]) for start in range(0, len(X), size)]
        assert np.concatenate(parts).tobytes() == expected.tobytes()
    order = np.random.default_rng(1).permutation(len(X))
    assert net.forward(X[order]).tobytes() == expected[order].tobytes()


def test_layout_and_type_of_X_do_not_show(compiled_backend, dtype):
    """The same numbers in another memory layout, or as another dtype that holds them exactly."""
    net = fastnn.MLP((9, 17, 4), dtype=dtype, backend=compiled_backend)
    X = np.random.default_rng(0).normal(size=(23, 9)).astype(np.float32)
    expected = net.forward(X).tobytes()
    wide = np.zeros((46, 27), dtype=np.float32)
    wide[::2, ::3] = X
    for same in (
        X.astype(np.float64),
        np.asfortranarray(X),
        np.asfortranarray(X.astype(np.float64)),
        wide[::2, ::3],
        np.ascontiguousarray(X[::-1])[::-1],
        np.ascontiguousarray(X[:, ::-1])[:, ::-1],
    ):
        assert net.forward(same).tobytes() == expected


def test_gradients_across_instruction_sets_and_threads(force_isa, dtype):
    layers = (49, 97, 33, 11)
    X, y = data(layers, 61, "cross_entropy")
    results = set()
    for isa in ISAS:
        for n_threads in THREADS:
            force_isa(isa)
            net = fastnn.MLP(layers, "gelu", dtype=dtype, backend="cython", n_threads=n_threads)
            value, dW, db = net.loss_and_gradients(X, y, l2=0.1, l1=0.01)
            results.add((value, *(array.tobytes() for array in dW + db)))
    assert len(results) == min(len(ISAS), 1)


@pytest.mark.parametrize("regularisation", ["none", "all"])
@pytest.mark.parametrize("name", COMPILED)
def test_length_of_the_native_calls_does_not_show(
    name, force_isa, dtype, regularisation, monkeypatch
):
    """One call for an epoch, or a call for every step: Ctrl-C and displays cost no bits."""
    force_isa(name.partition("-")[2])
    arguments = {
        "layers": (9, 21, 4),
        "n": 50,
        "batch_size": 8,
        "dtype": dtype,
        "regularisation": regularisation,
    }
    expected = fitted(optimizer="adam", **arguments)
    monkeypatch.setattr(fastnn.training, "SECONDS_PER_CALL", 0.0)
    net = fitted(optimizer="adam", **arguments)
    for a, b in zip(net.weights + net.biases, expected.weights + expected.biases, strict=True):
        assert a.tobytes() == b.tobytes()


def test_layout_and_type_of_X_do_not_show_in_training(compiled_backend, dtype):
    X, y = data((5, 8, 3), 30, "cross_entropy")
    X, results = X.astype(np.float32), set()
    for same in (X, X.astype(np.float64), np.asfortranarray(X)):
        net = fastnn.MLP((5, 8, 3), dtype=dtype, backend=compiled_backend)
        net.fit(same, y, epochs=2, batch_size=7)
        results.add(b"".join(array.tobytes() for array in net.weights))
    assert len(results) == 1
