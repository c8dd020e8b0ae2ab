"""Sparse X: the bits of the dense X of the same values, whatever the form, and what is refused."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import flat_of

import fastnn
from fastnn import backends, checks
from fastnn.network import Network
from fastnn.optimizers import OPTIMIZERS, SGD
from fastnn.options import TrainingOptions

sparse = pytest.importorskip("scipy.sparse")

METHODS = ("forward", "predict", "predict_proba", "evaluate", "loss_and_gradients", "fit", "hidden")
METHODS_WITH_Y = ("evaluate", "loss_and_gradients", "fit")

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


def matrix(n, n_in, density=0.05, dtype="float64", seed=0):
    """A random CSR matrix with an empty row, an empty column and a row and a column that are full,
    as far as it is large enough."""
    rng = np.random.default_rng(seed)
    X = np.where(rng.random((n, n_in)) < density, rng.normal(size=(n, n_in)), 0)
    X[n // 2], X[:, n_in // 2] = 1, 2
    X[n // 3], X[:, n_in // 3] = 0, 0
    return sparse.csr_array(X.astype(dtype))


def labels(X, n_out):
    return np.arange(X.shape[0]) * 7 % n_out


def bits(net, X, y):
    """Everything that a model makes of X, but for what a training brings."""
    loss, dW, db = net.loss_and_gradients(X, y, l2=0.1)
    arrays = (*dW, *db, net.forward(X))
    return loss, net.evaluate(X, y), [array.tobytes() for array in arrays]


def fitted(X, y, layers, backend, dtype, n_threads=1, **settings):
    net = fastnn.MLP(layers, dtype=dtype, n_threads=n_threads, backend=backend, seed=3)
    history = net.fit(X, y, **({"epochs": 2, "learning_rate": 0.01} | settings))
    return flat_of(net).tobytes(), history["loss"], bits(net, X, y)


def threads(backend):
    return (1, 2, 3) if backend == "cython" else (1,)


# ---- the bits of the dense run ----


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


# ---- forms ----


def with_explicit_zeros(X):
    """Those of its last row."""
    last = slice(X.indptr[-2], X.indptr[-1])
    row = np.zeros(X.shape[1])
    row[X.indices[last]] = X.data[last]
    data, indices = np.append(X.data[: last.start], row), np.arange(len(row))
    indptr = np.append(X.indptr[:-1], len(data))
    return sparse.csr_array((data, np.append(X.indices[: last.start], indices), indptr), X.shape)


def out_of_order(X):
    X = X.copy()
    for start, end in zip(X.indptr[:-1], X.indptr[1:], strict=True):
        X.indices[start:end] = X.indices[start:end][::-1].copy()
        X.data[start:end] = X.data[start:end][::-1].copy()
    return type(X)((X.data, X.indices, X.indptr), X.shape)


def with_duplicates(X):
    """Every element in three parts, whose sum depends on their order, in a row's random order."""
    rng = np.random.default_rng(8)
    row = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
    data = np.concatenate([X.data * 0.1, X.data * 0.7, X.data * 0.2])
    row, indices = np.tile(row, 3), np.tile(X.indices, 3)
    order = np.lexsort((rng.random(len(row)), row))
    return sparse.csr_array((data[order], indices[order], 3 * X.indptr), X.shape)


def with_spare_room(X):
    X = X.copy()
    X.data, X.indices = np.append(X.data, [np.nan] * 3), np.append(X.indices, [999] * 3)
    return X


def replaced(X, **arrays):
    """With these arrays as they are."""
    X = X.copy()
    for name, array in arrays.items():
        setattr(X, name, array)
    return X


def mapped(X, folder):
    for name in ("data", "indices", "indptr"):
        getattr(X, name).tofile(folder / name)
    return replaced(
        X,
        **{
            name: np.memmap(folder / name, getattr(X, name).dtype, mode="r")
            for name in ("data", "indices", "indptr")
        },
    )


def read_only(X, _):
    X = X.copy()
    for array in (X.data, X.indices, X.indptr):
        array.flags.writeable = False
    return X


FORMS = {
    "csr_matrix": lambda X, _: sparse.csr_matrix(X),
    **{
        f"{name}_{kind}": lambda X, _, make=f"{name}_{kind}": getattr(sparse, make)(X)
        for name in ("csc", "coo", "lil", "dok", "bsr", "dia")
        for kind in ("array", "matrix")
    },
    "int64 indices": lambda X, _: replaced(X, indices=X.indices.astype(np.int64)),
    "int64 indptr": lambda X, _: replaced(X, indptr=X.indptr.astype(np.int64)),
    "int16 indices": lambda X, _: replaced(X, indices=X.indices.astype(np.int16)),
    "big-endian": lambda X, _: replaced(
        X, data=X.data.astype(">f8"), indices=X.indices.astype(">i4")
    ),
    "float32": lambda X, _: X.astype(np.float32),
    "longdouble": lambda X, _: X.astype(np.longdouble),
    "strided": lambda X, _: replaced(X, data=np.repeat(X.data, 2)[::2]),
    "unaligned": lambda X, _: replaced(
        X, data=np.frombuffer(b"x" + X.data.tobytes(), np.uint8)[1:].view(np.float64)
    ),
    "explicit zeros": lambda X, _: with_explicit_zeros(X),
    "out of order": lambda X, _: out_of_order(X),
    "duplicates": lambda X, _: with_duplicates(X),
    "spare room": lambda X, _: with_spare_room(X),
    "slice of rows": lambda X, _: sparse.vstack([X, X], format="csr")[len(X.indptr) - 1 :],
    "memory map": mapped,
    "read-only": read_only,
}


def arrays_of(X):
    return [
        array.copy() for array in vars(X).values() if isinstance(array, np.ndarray) and array.ndim
    ]


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_X_that_are_accepted(backend, dtype, form, tmp_path):
    X = matrix(24, 20, 0.3)
    given = FORMS[form](X, tmp_path)
    before = arrays_of(given)
    Z = with_duplicates(X).toarray() if form == "duplicates" else X.toarray()
    if form == "float32":
        Z = Z.astype(np.float32)
    y = labels(X, 3)
    expected = fitted(Z, y, (20, 9, 3), backend, dtype, batch_size=7)
    assert fitted(given, y, (20, 9, 3), backend, dtype, batch_size=7) == expected
    for array, copy in zip(arrays_of(given), before, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("X_dtype", ["uint8", "int8", "uint16", "int64", "bool"])
def test_whole_numbers(backend, dtype, X_dtype):
    """uint8 is x/255, as in a dense X."""
    X = matrix(40, 30, 0.3)
    X.data = np.random.default_rng(0).integers(0, 256, len(X.data)).astype(X_dtype)
    y = labels(X, 3)
    expected = fitted(X.toarray(), y, (30, 9, 3), backend, dtype, batch_size=7)
    assert fitted(X, y, (30, 9, 3), backend, dtype, batch_size=7) == expected


def test_a_matrix_in_order_is_not_copied():
    X = matrix(20, 30, dtype="float32")
    csr = checks.check_X(X, Network((30, 2)))
    for name in ("data", "indices", "indptr"):
        assert np.shares_memory(getattr(csr, name), getattr(X, name))


def test_dense_rows_and_the_longest():
    X = matrix(20, 30)
    csr = checks.check_X(X, Network((30, 2)))
    rows = np.array([3, 0, 19, 3])
    np.testing.assert_array_equal(csr.dense(), X.toarray())
    np.testing.assert_array_equal(csr.dense(rows), X.toarray()[rows])
    assert csr.longest_row == max(np.diff(X.indptr)) == 29


def test_scipy_is_not_imported():
    code = "import sys, fastnn; fastnn.MLP((2, 2)).predict([[1, 2]]); print('scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# ---- what is refused ----


@pytest.fixture
def net(backend, dtype):
    """30-4-2 softmax; the test must leave it as it was."""
    net = fastnn.MLP((30, 4, 2), dtype=dtype, backend=backend)
    before = flat_of(net)
    yield net
    np.testing.assert_array_equal(flat_of(net), before)


def call(net, method, X):
    if method in METHODS_WITH_Y:
        return getattr(net, method)(X, np.arange(X.shape[0]) % 2)
    return getattr(net, method)(X)


WRONG = {
    "too wide": (lambda X: matrix(6, 31), r"X has shape \(6, 31\), but .* \(n, 30\)"),
    "no rows": (lambda X: X[:0], r"X has shape \(0, 30\), but .* \(n, 30\) with n of at least 1"),
    "NaN": (
        lambda X: replaced(X, data=np.append(X.data[:-1], np.nan)),
        "X contains NaN or infinity",
    ),
    "infinity": (
        lambda X: replaced(X, data=np.append(X.data[:-1], -np.inf)),
        "X contains NaN or infinity",
    ),
    "negative column": (
        lambda X: replaced(X, indices=X.indices - 100),
        "X.indices holds columns from -100 to .*, outside 0 ... 29",
    ),
    "column too large": (
        lambda X: replaced(X, indices=X.indices + 1),
        "X.indices holds columns from .* to 30, outside 0 ... 29",
    ),
    "indptr too short": (
        lambda X: replaced(X, indptr=X.indptr[:-1]),
        "X.indptr does not rise from 0, with 7 entries",
    ),
    "indptr falls": (
        lambda X: replaced(X, indptr=X.indptr[::-1]),
        "X.indptr does not rise from 0, with 7 entries",
    ),
    "too few elements": (
        lambda X: replaced(X, data=X.data[:-1]),
        "X.indptr ends at .*, but there are .* elements",
    ),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("method", METHODS)
def test_wrong_X(net, method, case):
    make, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        call(net, method, make(matrix(6, 30, 0.3)))


def test_values_beyond_float32(backend):
    X = matrix(6, 30, 0.3)
    X.data[3] = 1e39
    message = "X contains NaN or infinity, or values beyond float32"
    for method in METHODS:
        with pytest.raises(ValueError, match=message):
            call(fastnn.MLP((30, 4, 2), backend=backend), method, X)


@pytest.mark.parametrize("X_dtype", [complex, object])
def test_not_numbers(net, X_dtype):
    with pytest.raises(TypeError, match="X must hold real numbers, got dtype"):
        net.predict(replaced(matrix(6, 30), data=np.ones(matrix(6, 30).nnz, X_dtype)))


def test_wrong_validation_data_and_sparse_targets(net):
    X, y = matrix(6, 30), np.arange(6) % 2
    with pytest.raises(ValueError, match=r"validation X has shape \(2, 31\)"):
        net.fit(X, y, validation=(matrix(2, 31), [0, 1]))
    with pytest.raises(TypeError, match="y must hold real numbers"):
        net.fit(X, sparse.csr_array(np.eye(2)[y]))
