"""Several softmaxes side by side, each with its cross-entropy: GroupedCrossEntropy."""

import math

import numpy as np
import pytest
from conftest import COMPILED, ISAS, flat_of, targets
from test_gradients import assert_gradient_is_right, far_from_kinks

import fastnn
from fastnn.losses import CrossEntropy, GroupedCrossEntropy

SIZES = (2, 17, 1, 4)  # more and fewer than a vector has lanes, one class, across panels


def grouped_data(n=37):
    rng, y = np.random.default_rng(4), [targets("cross_entropy", n, size) for size in SIZES]
    y[0] = np.eye(2)[rng.integers(0, 2, n)]
    return rng.normal(size=(n, 5)), np.hstack(y), rng.choice([0.0, 0.5, 2.0], n)


@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_group_is_a_softmax_network_of_its_own(backend, dtype, smoothing, weighted):
    """Loss and gradients of the output layer are those of one network for each group."""
    X, y, w = grouped_data()
    w = w if weighted else None
    loss = GroupedCrossEntropy(smoothing, SIZES)
    net = fastnn.MLP((5, sum(SIZES)), output="identity", dtype=dtype, backend=backend)
    value, dW, db = net.loss_and_gradients(X, y, loss, sample_weight=w)
    tolerance = 2e-5 if dtype == "float32" else 1e-12
    total = 0.0
    for group in loss.groups(sum(SIZES)):
        alone = fastnn.MLP((5, group.stop - group.start), dtype=dtype, backend=backend)
        alone.weights, alone.biases = [net.weights[0][group]], [net.biases[0][group]]
        part, dW_alone, db_alone = alone.loss_and_gradients(
            X, y[:, group], CrossEntropy(smoothing), sample_weight=w
        )
        total += part
        np.testing.assert_allclose(dW[0][group], dW_alone[0], rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(db[0][group], db_alone[0], rtol=tolerance, atol=tolerance)
    assert value == pytest.approx(total, rel=tolerance)


def test_gradients_of_groups_against_central_differences(backend):
    net = fastnn.MLP((5, 3, sum(SIZES)), "tanh", "identity", dtype="float64", backend=backend)
    flat, X = far_from_kinks(net.network, 4)
    _, y, _ = grouped_data(4)
    assert_gradient_is_right(net, flat, X, y, GroupedCrossEntropy(0.1, SIZES), 0.0, 0.0, None)


@pytest.mark.skipif(not COMPILED, reason="the extension is not built")
def test_groups_have_the_same_bits_on_every_instruction_set_and_team(force_isa, dtype):
    X, y, w = grouped_data()
    results = set()
    for isa in ISAS:
        force_isa(isa)
        for n_threads in (1, 2, 5):
            net = fastnn.MLP(
                (5, 9, sum(SIZES)), "tanh", "identity", dtype, backend="cython", n_threads=n_threads
            )
            net.fit(X, y, 2, 18, loss=GroupedCrossEntropy(0.1, SIZES), sample_weight=w)
            results.add(flat_of(net).tobytes())
    assert len(results) == 1


def test_groups_have_the_same_bits_in_any_team_of_numba(dtype):
    pytest.importorskip("numba", reason="the numba backend is not installed")
    X, y, w = grouped_data(300)
    results = set()
    for n_threads in (1, 2, 3, 5):
        net = fastnn.MLP(
            (5, 9, sum(SIZES)), "tanh", "identity", dtype, backend="numba", n_threads=n_threads
        )
        net.fit(X, y, 2, 130, loss=GroupedCrossEntropy(0.1, SIZES), sample_weight=w)
        value = net.evaluate(X, y, GroupedCrossEntropy(0.1, SIZES))["loss"]
        results.add((value, flat_of(net).tobytes()))
    assert len(results) == 1


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_huge_logits_of_a_group(backend, dtype, size):
    net = fastnn.MLP((1, 5), output="identity", dtype=dtype, backend=backend)
    net.weights = [[[0.0], [0.0], [size], [0.0], [0.0]]]
    loss, y = GroupedCrossEntropy(sizes=(2, 3)), [[1.0, 0.0, 0.0, 1.0, 0.0]]
    value, dW, _ = net.loss_and_gradients([[1.0]], y, loss)
    f = [0.5, 0.5, 1.0, 0.0, 0.0] if size > 0 else [0.5, 0.5, 0.0, 0.5, 0.5]
    assert value == pytest.approx(math.log(2) + (size if size > 0 else math.log(2)), rel=2e-6)
    np.testing.assert_allclose(dW[0][:, 0], np.subtract(f, y[0]), atol=1e-6)


def test_accuracy_of_groups_is_that_of_all_of_them(backend):
    net = fastnn.MLP((5, 5), output="identity", dtype="float64", backend=backend)
    net.weights = [np.eye(5)]
    X = [[9.0, 0.0, 0.0, 9.0, 0.0], [0.0, 9.0, 0.0, 0.0, 9.0]]
    right = np.array([[1, 0, 0, 1, 0], [0, 1, 0, 0, 1]])
    half = np.array([[1, 0, 0, 1, 0], [1, 0, 0, 0, 1]])
    loss = GroupedCrossEntropy(sizes=(2, 3))
    assert net.evaluate(X, right, loss)["accuracy"] == 1.0
    assert net.evaluate(X, half, loss)["accuracy"] == 0.5
    assert net.evaluate(X, half, loss, sample_weight=[3.0, 1.0])["accuracy"] == 0.75
