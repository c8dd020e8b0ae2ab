"""Prediction goes three ways: rows in lanes for narrow networks, one row alone and few rows of
networks with many weights by panels of the layers, else blocks of rows, as evaluation always does.
The user cannot tell which it was."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import ISAS, targets

import fastnn
from fastnn.network import LOSS_OF_OUTPUT, OUTPUTS

NARROW = [(1, 1), (2, 8, 2), (13, 64, 64, 1), (33, 50, 17), (20, 3, 49), (64, 10, 33, 5)]
MANY_WEIGHTS = (300, 1000, 400, 5)
WIDE = [(784, 128, 10), (20, 300, 5), (5, 1000, 70, 3), (3, 10, 500), MANY_WEIGHTS]


def inputs(n, n_in, seed=0):
    X = np.random.default_rng(seed).normal(size=(n, n_in))
    X[np.random.default_rng(1).random(X.shape) < 0.2] = 0.0
    return X.astype(np.float32)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("layers", NARROW + WIDE, ids=str)
def test_all_ways_give_the_same_bits(force_isa, dtype, layers, output, isa):
    X = inputs(107, layers[0])
    loss = LOSS_OF_OUTPUT[output]
    y = targets(loss, len(X), layers[-1]).astype(dtype)
    force_isa(ISAS[0])
    net = fastnn.MLP(layers, "elu", output, dtype=dtype, backend="cython", n_threads=1)
    by_blocks, _ = net._engine().forward_and_loss(X, y, None, loss)
    force_isa(isa)
    for n_threads in (1, 2, 5):
        net = fastnn.MLP(layers, "elu", output, dtype=dtype, backend="cython", n_threads=n_threads)
        assert net.forward(X).tobytes() == by_blocks.tobytes()
        for row in (0, 16, 47, 48, 106):
            assert net.forward(X[row : row + 1]).tobytes() == by_blocks[row].tobytes()
        for n in (2, 15, 49, 96):
            assert net.forward(X[:n]).tobytes() == by_blocks[:n].tobytes()


@pytest.mark.parametrize("n_threads", [2, 5])
@pytest.mark.parametrize("layers", [(13, 64, 64, 1), (20, 300, 5), (5, 1000, 70, 3)], ids=str)
def test_the_team_that_has_trained_predicts(compiled_backend, layers, n_threads):
    """In the first milliseconds, in place of the pool's helpers; afterwards these."""
    X = inputs(700, layers[0])
    y = targets(LOSS_OF_OUTPUT["identity"], len(X), layers[-1])
    forwards = []
    for threads in (1, n_threads):
        net = fastnn.MLP(layers, output="identity", backend=compiled_backend, n_threads=threads)
        net.fit(X, y, epochs=2, batch_size=100, validation=(X, y))
        forwards.append((net.history["val_loss"], net.forward(X).tobytes(), net.forward(X[:1])))
    (loss, f, row), (own_loss, own_f, own_row) = forwards
    assert own_loss == loss
    assert own_f == f
    assert np.array_equal(own_row, row)


@pytest.mark.parametrize("type_of_X", ["float32", "float64", "uint8"])
@pytest.mark.parametrize("layers", [(37, 20, 3), (37, 100, 3)], ids=str)
def test_rows_taken_by_index(compiled_backend, dtype, layers, type_of_X):
    X = (np.abs(inputs(90, 37)) * 50).astype(type_of_X)
    rows = np.random.default_rng(0).integers(0, len(X), 61)
    net = fastnn.MLP(layers, dtype=dtype, backend=compiled_backend)
    expected = net.forward(X[rows])
    for same in (X, np.asfortranarray(X)):
        assert net._engine().forward(same, rows).tobytes() == expected.tobytes()


def unaligned(X):
    raw = np.zeros(X.nbytes + 1, np.uint8)
    raw[1:] = np.frombuffer(X.tobytes(), np.uint8)
    return raw[1:].view(X.dtype).reshape(X.shape)


@pytest.mark.parametrize("zeros", [0.0, 0.6])
@pytest.mark.parametrize("layers", [(131, 100, 3), (131, 1100, 3)], ids=str)  # W in cache, or not
def test_rows_that_are_read_where_they_lie(compiled_backend, dtype, layers, zeros):
    """The bits of rows that are gathered, as those taken by index are."""
    X = np.random.default_rng(0).normal(size=(150, 131)).astype(dtype)
    X[np.random.default_rng(1).random(X.shape) < zeros] = 0.0
    net = fastnn.MLP(layers, dtype=dtype, backend=compiled_backend)
    expected = net._engine().forward(X, np.arange(len(X)))
    assert net.forward(X).tobytes() == expected.tobytes()
    assert net.forward(np.repeat(X, 3, 0)[::3]).tobytes() == expected.tobytes()
    assert net.forward(np.hstack([X, X])[:, 131:]).tobytes() == expected.tobytes()
    assert net.forward(X[::-1].copy()[::-1]).tobytes() == expected.tobytes()
    assert net.forward(unaligned(X)).tobytes() == expected.tobytes()
    assert net.forward(np.broadcast_to(X[:1], X.shape))[-1].tobytes() == expected[0].tobytes()


@pytest.mark.parametrize("zeros", [0.0, 0.6])
@pytest.mark.parametrize("n_threads", [2, 3, 7])
@pytest.mark.parametrize("n", [2, 9, 32])
def test_few_rows_of_many_weights(compiled_backend, dtype, n, n_threads, zeros):
    """Read where they lie or gathered, with zeros left out or not: the bits of a large batch."""
    X = np.random.default_rng(0).normal(size=(150, 300)).astype(dtype)
    X[np.random.default_rng(1).random(X.shape) < zeros] = 0.0
    net = fastnn.MLP(MANY_WEIGHTS, dtype=dtype, backend=compiled_backend, n_threads=n_threads)
    expected = net.forward(X)[:n].tobytes()
    assert net.forward(X[:n]).tobytes() == expected
    assert net.forward(np.asfortranarray(X[:n])).tobytes() == expected
    assert net._engine().forward(X, np.arange(n)).tobytes() == expected
    assert net.hidden(X[:n], 1).tobytes() == net.hidden(X, 1)[:n].tobytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("layers", [(37, 20, 3), (37, 100, 3), (37, 1500, 400, 3)], ids=str)
@pytest.mark.parametrize("n", [1, 7, 70])
def test_a_bad_number_is_found_wherever_it_is(compiled_backend, dtype, n, layers, bad):
    net = fastnn.MLP(layers, dtype=dtype, backend=compiled_backend, n_threads=2)
    net.weights = [np.zeros_like(W) for W in net.weights]  # nothing of X reaches the output
    good = inputs(n, 37)
    for row in {0, n // 2, n - 1}:
        for column in range(37):
            for order in "CF":
                X = good.copy(order)
                X[row, column] = bad
                with pytest.raises(ValueError, match="X contains NaN or infinity"):
                    net.forward(X)


@pytest.mark.parametrize("layers", [(37, 20, 3), (37, 100, 3)], ids=str)
@pytest.mark.parametrize("n", [1, 7, 70])
def test_the_largest_finite_numbers_are_no_error(compiled_backend, n, layers):
    net = fastnn.MLP(layers, backend=compiled_backend)
    X = np.full((n, 37), np.finfo(np.float32).max)
    assert net.forward(X).shape == (n, 3)


@pytest.mark.parametrize(
    ("layers", "largest"),
    [((13, 64, 64, 1), 3000), ((20, 300, 5), 3000), (MANY_WEIGHTS, 20)],
    ids=str,
)
def test_python_threads_predict_at_once(compiled_backend, layers, largest):
    """Only one call at a time gets the helpers; the others go on alone."""
    net = fastnn.MLP(layers, output="identity", backend=compiled_backend, n_threads=3)
    batches = [inputs(n, layers[0], seed=n) for n in (1, 5, 20, 50, 500, 3000) if n <= largest]
    expected = [net.forward(X).tobytes() for X in batches]

    def predict_all(_):
        return [net.forward(X).tobytes() for X in batches]

    with ThreadPoolExecutor(6) as threads:
        assert all(result == expected for result in threads.map(predict_all, range(60)))


@pytest.mark.parametrize("rows", [1, 2, 40, 300])
@pytest.mark.parametrize("layers", [(5, 9, 7, 3), (20, 300, 130, 4)], ids=str)
@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_hidden_layers(backend, dtype, activation, layers, rows):
    """The layers below are a network of their own, with the rest of the network left off."""
    net = fastnn.MLP(layers, activation, dtype=dtype, backend=backend)
    X = np.random.default_rng(0).normal(size=(rows, layers[0]))
    for k in (1, 2):
        h = net.hidden(X, k)
        assert h.shape == (rows, layers[k])
        assert h.dtype == dtype
        assert h.tobytes() == net.hidden(X, k - 3).tobytes()
        expected = fastnn.MLP(
            (*layers[: k + 1], layers[k]), activation, "identity", dtype=dtype, backend=backend
        )
        expected.weights = [*net.weights[:k], np.eye(layers[k])]
        expected.biases = [*net.biases[:k], np.zeros(layers[k])]
        assert (h == expected.forward(X)).all()


def test_hidden_layers_that_do_not_exist():
    net = fastnn.MLP((2, 3, 4, 2))
    for layer in (0, 3, -3):
        with pytest.raises(ValueError, match=r"layer must be in 1 ... 2 or -2 ... -1"):
            net.hidden(np.zeros((1, 2)), layer)
    with pytest.raises(ValueError, match="layer"):
        fastnn.MLP((2, 2)).hidden(np.zeros((1, 2)))
