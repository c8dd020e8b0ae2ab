"""Sparse X: the bits of the dense X of the same values; test_sparse_forms.py has its forms."""

import numpy as np
import pytest
from conftest import flat_of
from sparse_matrices import bits, fitted, labels, matrix

import fastnn
from fastnn import backends, checks
from fastnn.network import Network
from fastnn.optimizers import OPTIMIZERS, SGD
from fastnn.options import TrainingOptions

sparse = pytest.importorskip("scipy.sparse")

# The optimizers under which inputs that a batch does not touch keep their weights, and the others.
CHOICES = {name: name for name in OPTIMIZERS} | {
    "nesterov": SGD(momentum=0.9, nesterov=True),
    "decay": SGD(weight_decay=0.1),
}
SETTINGS = {
    "plain": {},
    "penalties": {"l2": 0.01, "l1": 0.001},
    "clipped": {"clip_value": 1e-3, "l2": 0.01},
    "clipped by norm": {"clip_norm": 0.1},
    "dropout": {"dropout": (0.3, 0.2)},
    "frozen": {"learning_rate_factors": (0, 1)},
}


def threads(backend):
    return (1, 2, 3) if backend == "cython" else (1,)


@pytest.mark.parametrize(
    ("choice", "setting"),
    [(choice, "plain") for choice in CHOICES]
    + [
        (choice, setting)
        for choice in ("sgd", "adam")
        for setting in SETTINGS
        if setting != "plain"
    ],
)
def test_training_has_the_bits_of_the_dense_run(backend, dtype, choice, setting):
    X = matrix(90, 150)
    y = labels(X, 7)
    settings = {"batch_size": 16, "optimizer": CHOICES[choice], **SETTINGS[setting]}
    expected = fitted(X.toarray(), y, (150, 30, 7), backend, dtype, **settings)
    for n_threads in threads(backend):
        assert fitted(X, y, (150, 30, 7), backend, dtype, n_threads, **settings) == expected


# (layer sizes, samples, batch size, density): around tiles, panels, groups of panels and blocks of
# inputs; rows of more elements than are read at a time; more threads than there are such blocks
SHAPES = [
    ((1, 3), 5, 2, 0.5),
    ((1, 1, 2), 9, 1, 0.5),
    ((7, 49, 2), 20, 20, 0.3),
    ((48, 48, 3), 33, 8, 0.1),
    ((97, 145, 3), 33, 8, 0.1),
    ((700, 300, 3), 20, 7, 0.02),
    ((600, 20, 3), 12, 5, 1.0),
    ((2000, 5), 40, 3, 0.001),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_shapes(backend, dtype, optimizer, shape):
    layers, n, batch_size, density = shape
    X = matrix(n, layers[0], density)
    y = labels(X, layers[-1])
    settings = {"batch_size": batch_size, "optimizer": optimizer}
    expected = fitted(X.toarray(), y, layers, backend, dtype, **settings)
    for n_threads in threads(backend):
        assert fitted(X, y, layers, backend, dtype, n_threads, **settings) == expected


def test_a_matrix_of_zeros(backend, dtype):
    X = sparse.csr_matrix((40, 30))
    assert X.nnz == 0
    expected = fitted(X.toarray(), labels(X, 3), (30, 8, 3), backend, dtype, batch_size=16)
    assert fitted(X, labels(X, 3), (30, 8, 3), backend, dtype, batch_size=16) == expected


@pytest.mark.parametrize("n", [1, 2, 255, 256, 257, 700])
def test_predictions_of_any_number_of_rows(backend, dtype, n):
    X = matrix(n, 60)
    for n_threads in threads(backend):
        net = fastnn.MLP((60, 20, 10, 4), dtype=dtype, backend=backend, n_threads=n_threads)
        for method in ("forward", "predict", "predict_proba", "hidden"):
            given, expected = (getattr(net, method)(Z) for Z in (X, X.toarray()))
            assert given.dtype == expected.dtype
            assert np.array_equal(given, expected)


@pytest.mark.parametrize("n", [150, 700])
def test_weights_beyond_the_caches(compiled_backend, n):
    """More than 16 MB of them: rows go through blocks of columns, where there are rows enough."""
    X = matrix(n, 9000, density=0.01, dtype="float32")
    for n_threads in (1, 2):
        net = fastnn.MLP((9000, 499, 2), backend=compiled_backend, n_threads=n_threads)
        assert np.array_equal(net.hidden(X), net.hidden(X.toarray()))


@pytest.mark.parametrize("activation", fastnn.network.ACTIVATIONS)
def test_activations(backend, activation):
    X = matrix(50, 120)
    nets = [fastnn.MLP((120, 100, 3), activation, backend=backend) for _ in range(2)]
    for net, Z in zip(nets, (X, X.toarray()), strict=True):
        net.fit(Z, labels(X, 3), epochs=2, batch_size=12, dropout=0.2)
    assert flat_of(nets[0]).tobytes() == flat_of(nets[1]).tobytes()


def test_validation_weights_and_shuffling(backend, dtype):
    X, V = matrix(60, 50), matrix(30, 50, seed=1)
    y, w = labels(X, 3), np.arange(60) % 4
    for validation in (lambda Z: 0.3, lambda Z: (Z(V), labels(V, 3), np.arange(30) % 3)):
        histories = []
        for Z in (lambda A: A, lambda A: A.toarray()):
            net = fastnn.MLP((50, 10, 3), dtype=dtype, backend=backend, seed=4)
            history = net.fit(
                Z(X), y, batch_size=16, validation=validation(Z), sample_weight=w, epochs=3
            )
            histories.append({k: v for k, v in history.items() if "second" not in k})
        assert histories[0] == histories[1]


@pytest.mark.compiled
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("clip_norm", [None, 0.01])
def test_batches_in_several_parts_and_calls_that_end_inside_one(dtype, optimizer, clip_norm):
    """The compiled backend takes 1024 rows at a time; most inputs are not in all parts."""
    network = Network((300, 21, 5), "tanh", "softmax", dtype)
    X, y = matrix(2500, 300, density=0.001), labels(matrix(2500, 300), 5).astype(np.int32)
    order = np.random.default_rng(4).permutation(2500)
    options = TrainingOptions(
        fastnn.optimizers.get(optimizer), "cross_entropy", l1=1e-4, clip_norm=clip_norm
    )
    results = []
    for Z, n_threads, seconds in ((X.toarray(), 1, 9.0), (X, 1, 9.0), (X, 2, 0.0), (X, 3, 0.0)):
        engine = backends.load("cython").Engine(network, n_threads)
        engine.set_parameters(network.initialize(1))
        engine.start(options)
        flat, calls = np.empty(network.n_parameters, dtype), 0
        for _ in range(2):
            position, total = 0, 0.0
            while position < 2500:
                position, total = engine.train(
                    checks.check_X(Z, network), y, None, order, position, 2200,
                    np.full(2, 0.1), seconds, sum_of_losses=total,
                )  # fmt: skip
                calls += 1
        assert calls > 2 or seconds > 0
        engine.get_parameters(flat)
        results.append((flat.tobytes(), total))
    assert results == [results[0]] * 4


def test_one_model_takes_sparse_and_dense_by_turns(backend, dtype):
    X = matrix(60, 150)
    nets = [fastnn.MLP((150, 100, 3), dtype=dtype, backend=backend) for _ in range(2)]
    for k in range(4):
        for net, Z in zip(nets, ((X, X.toarray())[k % 2], X.toarray()), strict=True):
            net.fit(Z, labels(X, 3), epochs=1, batch_size=20)
        assert bits(nets[0], (X.toarray(), X)[k % 2], labels(X, 3)) == bits(
            nets[1], X.toarray(), labels(X, 3)
        )
    assert flat_of(nets[0]).tobytes() == flat_of(nets[1]).tobytes()


def test_a_run_that_is_resumed(backend, tmp_path):
    X = matrix(60, 40)
    settings = {"X": X, "y": labels(X, 3), "batch_size": 16, "epochs": 4}
    whole, first, second = (fastnn.MLP((40, 8, 3), backend=backend) for _ in range(3))
    whole.fit(**settings)
    checkpoint = fastnn.callbacks.Checkpoint(tmp_path / "run")
    first.fit(**{**settings, "epochs": 2}, callbacks=checkpoint)
    second.fit(**settings, resume=tmp_path / "run")
    assert flat_of(second).tobytes() == flat_of(whole).tobytes()
    with pytest.raises(ValueError, match="X: "):
        second.fit(**{**settings, "X": X * 2}, resume=tmp_path / "run")


def test_lbfgs(backend, dtype):
    X = matrix(60, 40)
    nets = [fastnn.MLP((40, 8, 3), dtype=dtype, backend=backend) for _ in range(2)]
    for net, Z in zip(nets, (X, X.toarray()), strict=True):
        net.fit(Z, labels(X, 3), epochs=3, optimizer="lbfgs")
    assert flat_of(nets[0]).tobytes() == flat_of(nets[1]).tobytes()


def test_a_stream_of_sparse_chunks(backend, dtype):
    chunks = [matrix(n, 40, density, seed=n) for n, density in ((30, 0.02), (50, 0.3), (7, 0.1))]
    nets = [fastnn.MLP((40, 8, 3), dtype=dtype, backend=backend) for _ in range(2)]
    for net, form in zip(nets, (lambda X: X, lambda X: X.toarray()), strict=True):
        net.fit([(form(X), labels(X, 3)) for X in chunks], epochs=2, batch_size=16)
    assert flat_of(nets[0]).tobytes() == flat_of(nets[1]).tobytes()


def test_an_order_with_repeats(backend, dtype):
    """The longest row again and again: more elements in a batch than in all of X."""
    X = matrix(12, 40)
    nets = [fastnn.MLP((40, 8, 3), dtype=dtype, backend=backend) for _ in range(2)]
    order = np.array([6] * 9 + [1, 6, 2])
    for net, Z in zip(nets, (X, X.toarray()), strict=True):
        net.fit(Z, labels(X, 3), epochs=2, batch_size=8, shuffle=lambda epoch: order)
    assert flat_of(nets[0]).tobytes() == flat_of(nets[1]).tobytes()


def test_the_estimators_take_it_as_it_is():
    estimators = pytest.importorskip("fastnn.sklearn")
    X = matrix(60, 40)
    fitted = [
        estimators.MLPRegressor(hidden_layer_sizes=(8,), random_state=0).partial_fit(
            Z, np.arange(60.0)
        )
        for Z in (X, X.toarray())
    ]
    assert fitted[0].coefs_[0].tobytes() == fitted[1].coefs_[0].tobytes()
