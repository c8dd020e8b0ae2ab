"""Losses with constants: values, gradients, the same bits, PyTorch's numbers.

What holds for every loss is tested by name elsewhere: gradients and agreement with the reference in
test_gradients.py, the same bits of whole trainings in test_same_bits.py. What holds for groups, and
for label smoothing: test_grouped_losses.py, test_label_smoothing.py.
"""

import math

import numpy as np
import pytest
from conftest import COMPILED, ISAS, parameters, targets
from test_gradients import assert_gradient_is_right, far_from_kinks

import fastnn
from fastnn import losses
from fastnn.losses import (
    AbsoluteError,
    BinaryCrossEntropy,
    CrossEntropy,
    GroupedCrossEntropy,
    Huber,
    Poisson,
    Quantile,
    SquaredError,
)
from fastnn.network import LOSSES, OUTPUTS_OF_LOSS

CONSTANTS = [
    CrossEntropy(label_smoothing=0.1),
    BinaryCrossEntropy(label_smoothing=0.2),
    Huber(0.3),
    Huber(2.0),
    Quantile((0.25,)),
    Quantile((0.9, 0.1, 0.5)),
]
CASES = [
    (loss, output)
    for loss in [*map(losses.get, LOSSES), *CONSTANTS]
    for output in OUTPUTS_OF_LOSS[loss.name]
]
WIDTHS = (3, 18)  # outputs: the rows in the lanes up to 16, one row at a time beyond


def make_y(loss, n, n_out):
    return targets(loss.name, n, loss.n_targets(n_out))


def element_by_element(loss, f, y):
    """l of one sample, from its outputs and targets, by the formulas of fastnn.losses."""
    s = getattr(loss, "label_smoothing", 0.0)
    if isinstance(loss, GroupedCrossEntropy):
        total = 0.0
        for group in loss.groups(len(f)):
            powers = [math.exp(f_c) for f_c in f[group]]
            shares = [power / sum(powers) for power in powers]
            total += element_by_element(CrossEntropy(s), shares, y[group])
        return total
    if isinstance(loss, CrossEntropy):
        y = [(1 - s) * value + s / len(y) for value in y]
        return -sum(y_c * math.log(f_c) for y_c, f_c in zip(y, f, strict=True))
    total = 0.0
    for c, f_c in enumerate(f):
        y_c = y[c // (len(f) // len(y))]
        d = abs(f_c - y_c)
        if isinstance(loss, BinaryCrossEntropy):
            y_c = (1 - s) * y_c + s / 2
            total -= y_c * math.log(f_c) + (1 - y_c) * math.log(1 - f_c)
        elif isinstance(loss, SquaredError):
            total += d**2 / 2
        elif isinstance(loss, Poisson):
            total += f_c - y_c * math.log(f_c)
        elif isinstance(loss, AbsoluteError):
            total += d
        elif isinstance(loss, Huber):
            total += d**2 / 2 if d <= loss.delta else loss.delta * (d - loss.delta / 2)
        else:
            q = loss.quantiles[c % len(loss.quantiles)]
            total += q * d if f_c < y_c else (1 - q) * d
    return total


@pytest.mark.parametrize("n_out", WIDTHS)
@pytest.mark.parametrize(("loss", "output"), CASES, ids=str)
def test_values_follow_the_formulas(backend, dtype, loss, output, n_out):
    net = fastnn.MLP((4, n_out), output=output, dtype=dtype, backend=backend)
    X, y = np.random.default_rng(0).normal(size=(9, 4)), make_y(loss, 9, n_out)
    f = net.forward(X).tolist()
    expected = [element_by_element(loss, *pair) for pair in zip(f, y.tolist(), strict=True)]
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    assert net.evaluate(X, y, loss)["loss"] == pytest.approx(np.mean(expected), rel=tolerance)
    if isinstance(loss, CrossEntropy):
        hard = np.eye(n_out)[y.argmax(axis=1)]
        values = [net.evaluate(X, labels, loss)["loss"] for labels in (hard, y.argmax(axis=1))]
        expected = [element_by_element(loss, *pair) for pair in zip(f, hard.tolist(), strict=True)]
        assert values == [pytest.approx(np.mean(expected), rel=tolerance)] * 2


@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("n_out", WIDTHS)
@pytest.mark.parametrize(("loss", "output"), CASES, ids=str)
def test_gradients_against_central_differences(backend, loss, output, n_out, weighted):
    net = fastnn.MLP((2, 2, n_out), "tanh", output, dtype="float64", backend=backend)
    flat, X = far_from_kinks(net.network, 4)
    w = np.array([0.5, 2.0, 0.0, 1.5]) if weighted else None
    assert_gradient_is_right(net, flat, X, make_y(loss, 4, n_out), loss, 0.0, 0.0, w)


@pytest.mark.parametrize("output", ["identity", "exp"])
@pytest.mark.parametrize("loss", [AbsoluteError(), Quantile((0.9,)), Huber()], ids=str)
def test_the_gradient_at_f_equal_to_y_is_zero(backend, dtype, loss, output):
    """Between the slopes on both sides: one of the subgradients. With zero weights f is exact."""
    net = fastnn.MLP((1, 3), output=output, dtype=dtype, backend=backend)
    net.weights = [np.zeros((3, 1))]
    y = np.full((2, 3), 0.0 if output == "identity" else 1.0)
    value, dW, db = net.loss_and_gradients([[1.0], [2.0]], y, loss)
    assert value == 0.0
    assert not dW[0].any()
    assert not db[0].any()


@pytest.mark.parametrize("size", [1e4, -1e4])
@pytest.mark.parametrize("n_out", WIDTHS)
@pytest.mark.parametrize("loss", CONSTANTS, ids=str)
def test_huge_logits(backend, dtype, loss, n_out, size):
    """Logits (size, 0, 0, ...), the last class for softmax, y = 0 for the others."""
    output = OUTPUTS_OF_LOSS[loss.name][0]
    net = fastnn.MLP((1, n_out), output=output, dtype=dtype, backend=backend)
    net.weights = [np.eye(n_out, 1) * size]
    y = np.zeros((1, loss.n_targets(n_out)))
    y[0, -1] = output == "softmax"
    value, dW, _ = net.loss_and_gradients([[1.0]], y, loss)
    f = float(size > 0)  # of softmax and sigmoid, to the last digit
    if isinstance(loss, CrossEntropy):
        share = loss.label_smoothing / n_out
        ln_f = -size if size > 0 else -math.log(n_out - 1)  # of the other classes
        first = 0.0 if size > 0 else size + ln_f
        expected, slope = -(1 - share) * ln_f - share * first, f - share
    elif isinstance(loss, BinaryCrossEntropy):
        y_c = loss.label_smoothing / 2
        expected, slope = abs(size) * (1 - y_c if f else y_c) + (n_out - 1) * math.log(2), f - y_c
    elif isinstance(loss, Huber):
        slope = math.copysign(loss.delta, size)
        expected = loss.delta * (abs(size) - loss.delta / 2)
    else:
        slope = f - loss.quantiles[0]
        expected = slope * size
    assert value == pytest.approx(expected, rel=2e-6)
    assert dW[0][0, 0] == pytest.approx(slope, rel=1e-6)
    assert np.isfinite(dW[0]).all()


# ---- the same bits ----


def fitted(loss, output, n_out, dtype, n_threads):
    net = fastnn.MLP(
        (5, 9, n_out), "tanh", output, dtype=dtype, backend="cython", n_threads=n_threads
    )
    X, y = np.random.default_rng(1).normal(size=(41, 5)), make_y(loss, 41, n_out)
    for labels in (y, y.argmax(axis=1)) if isinstance(loss, CrossEntropy) else (y,):
        net.fit(X, labels, epochs=1, batch_size=18, learning_rate=0.01, loss=loss)
    assert all(np.isfinite(array).all() for array in parameters(net))
    return b"".join(array.tobytes() for array in parameters(net))


@pytest.mark.skipif(not COMPILED, reason="the extension is not built")
@pytest.mark.parametrize("n_out", [1, *WIDTHS, 51])
@pytest.mark.parametrize(("loss", "output"), CASES, ids=str)
def test_the_same_bits_on_every_instruction_set_and_team(force_isa, dtype, loss, output, n_out):
    n_out *= 3 if isinstance(loss, Quantile) and n_out == 1 else 1
    results = set()
    for isa in ISAS:
        force_isa(isa)
        results |= {fitted(loss, output, n_out, dtype, n_threads) for n_threads in (1, 2, 5)}
    assert len(results) == 1


@pytest.mark.parametrize(
    ("loss", "output"), [(name, output) for name in LOSSES for output in OUTPUTS_OF_LOSS[name]]
)
def test_the_same_bits_one_row_at_a_time_or_in_lanes(compiled_backend, dtype, loss, output):
    """16 outputs go with the rows in the lanes. A 17th that is exactly 0, as its y, adds nothing to
    loss and gradients, but now it is one row at a time."""
    rng = np.random.default_rng(2)
    X, y, W = rng.normal(size=(37, 4)), targets(loss, 37, 16), rng.normal(size=(16, 4))
    results = []
    for n_out in (16, 17):
        net = fastnn.MLP((4, n_out), output=output, dtype=dtype, backend=compiled_backend)
        net.weights = [np.pad(W, ((0, n_out - 16), (0, 0)))]
        adds_itself = output == "identity" and loss != "grouped_cross_entropy"
        bias = 0.0 if adds_itself else -1e30
        net.biases = [np.pad(np.linspace(-1, 1, 16), (0, n_out - 16), constant_values=bias)]
        labels = np.pad(y, ((0, 0), (0, n_out - 16)))
        value, dW, db = net.loss_and_gradients(X, labels, loss)
        results.append((value, dW[0][:16].tobytes(), db[0][:16].tobytes()))
    assert results[0] == results[1]


# ---- quantiles ----


def test_outputs_of_quantiles_come_target_by_target(backend):
    """f - y is -1 for the first target, 2 for the second."""
    net = fastnn.MLP((1, 4), output="identity", dtype="float64", backend=backend)
    net.weights, net.biases = [np.zeros((4, 1))], [[0.0, 0.0, 3.0, 3.0]]
    value, _, db = net.loss_and_gradients([[0.0]], [[1.0, 1.0]], Quantile((0.25, 0.5)))
    np.testing.assert_array_equal(db[0], [-0.25, -0.5, 0.75, 0.5])
    assert value == 0.25 + 0.5 + 2 * (0.75 + 0.5)


def test_outputs_estimate_the_quantiles(backend):
    """Of the numbers 0 ... 998 and their doubles, F of whom has steps of 1/999.

    A step of descent is rate * (F(f) - q): it brings f half or a quarter of the way to the
    quantile, and then moves it to and fro by 500/999.
    """
    net = fastnn.MLP((1, 6), output="identity", dtype="float64", backend=backend)
    settings = {"batch_size": None, "optimizer": "sgd", "learning_rate": 500.0}
    X, y = np.zeros((999, 1)), np.stack([np.arange(999.0), 2 * np.arange(999.0)], axis=1)
    net.fit(X, y, epochs=100, loss=Quantile((0.1, 0.5, 0.9)), **settings)
    expected = [99.9, 499.5, 899.1, 199.8, 999.0, 1798.2]
    assert np.abs(net.predict(X[:1])[0] - expected).max() < 2


@pytest.mark.parametrize("n_out", [1, 3])
def test_the_median_is_half_the_absolute_error(backend, n_out):
    X, y = np.random.default_rng(0).normal(size=(20, 2)), targets("quantile", 20, n_out)
    net = fastnn.MLP((2, n_out), output="identity", dtype="float64", backend=backend)
    half, whole = (net.loss_and_gradients(X, y, name) for name in ("quantile", "absolute_error"))
    assert 2 * half[0] == whole[0]
    np.testing.assert_array_equal(2 * half[1][0], whole[1][0])


# ---- names and objects ----


@pytest.mark.parametrize("name", LOSSES)
def test_a_name_stands_for_the_default_constants(backend, name):
    loss, output = losses.get(name), OUTPUTS_OF_LOSS[name][0]
    assert loss.name == name
    assert losses.get(loss) is loss
    X, y, results = np.ones((3, 2)), targets(name, 3, 2), []
    for given in (name, loss):
        net = fastnn.MLP((2, 2), output=output, backend=backend)
        net.fit(X, y, epochs=1, loss=given)
        results.append((net.evaluate(X, y, given)["loss"], net.weights[0].tobytes()))
    assert results[0] == results[1]


def test_losses_are_values():
    assert Quantile([0.1, np.float32(0.5)]) == Quantile((0.1, 0.5))
    assert len({Huber(1), Huber(1.0), Huber(), losses.get("huber")}) == 1
    assert repr(Huber(0.5)) == "Huber(delta=0.5)"


WRONG = {
    "delta 0": (lambda: Huber(0), ValueError, "delta must be a positive number, got 0"),
    "delta NaN": (lambda: Huber(math.nan), ValueError, "delta must be a positive number"),
    "delta infinite": (lambda: Huber(math.inf), ValueError, "delta must be a positive number"),
    "delta text": (lambda: Huber("large"), TypeError, "delta must be a number, got 'large'"),
    "no quantiles": (lambda: Quantile(()), ValueError, "quantiles must be above 0 and below 1"),
    "quantile 1": (lambda: Quantile((0.5, 1)), ValueError, "quantiles must be above 0 and below 1"),
    "one number": (lambda: Quantile(0.5), TypeError, "quantiles must be a sequence"),
    "sizes 0": (lambda: GroupedCrossEntropy(sizes=(2, 0)), ValueError, "sizes must be at least 1"),
    "sizes 1.5": (lambda: GroupedCrossEntropy(sizes=(1.5,)), TypeError, "a sequence of integers"),
    "a size": (lambda: GroupedCrossEntropy(sizes=3), TypeError, "a sequence of integers, got 3"),
    "a text": (lambda: Quantile(["low"]), TypeError, "quantiles must be a sequence"),
    "smoothing 1": (lambda: CrossEntropy(1.0), ValueError, "at least 0 and below 1, got 1.0"),
    "smoothing -1": (lambda: BinaryCrossEntropy(-1), ValueError, "at least 0 and below 1, got -1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_constants(case):
    make, error, message = WRONG[case]
    with pytest.raises(error, match=message):
        make()


WRONG_LOSSES = {
    "output": (Huber(), "softmax", 3, "the loss 'huber' needs the output identity or exp"),
    "base class": (losses.Loss(), "softmax", 3, "unknown loss"),
    "class": (Huber, "identity", 3, "unknown loss"),
    "groups": (
        GroupedCrossEntropy(sizes=(2, 2)),
        "identity",
        3,
        r"groups of sizes \(2, 2\) need 4 outputs, this network has 3",
    ),
    "labels of a group": (
        GroupedCrossEntropy(sizes=(1, 2)),
        "identity",
        3,
        "columns 1:3 of every row must sum to 1; row 0 sums to 2",
    ),
    "outputs": (Quantile((0.1, 0.9)), "identity", 3, "2 quantiles need a multiple of 2 outputs"),
    "targets": (
        Quantile((0.1, 0.9)),
        "identity",
        4,
        r"y has shape \(5, 4\), but 5 samples and 4 outputs with the loss quantile take \(5, 2\)",
    ),
}


@pytest.mark.parametrize("method", ["fit", "evaluate", "loss_and_gradients"])
@pytest.mark.parametrize("case", WRONG_LOSSES)
def test_losses_that_do_not_suit_the_network(backend, case, method):
    loss, output, n_out, message = WRONG_LOSSES[case]
    net = fastnn.MLP((2, n_out), output=output, backend=backend)
    with pytest.raises(ValueError, match=message):
        getattr(net, method)(np.ones((5, 2)), np.ones((5, n_out)), loss=loss)


# ---- PyTorch, where it is installed ----


def torch_gradients(torch, net, X, value_of):
    """PyTorch's value and (dW, db) for a network without hidden layer; value_of(a) is its loss."""
    W, b = (torch.tensor(array[0], requires_grad=True) for array in (net.weights, net.biases))
    value = value_of(torch.tensor(X) @ W.T + b)
    value.backward()
    return value.item(), W.grad.numpy(), b.grad.numpy()


def assert_as_torch(given, expected):
    assert given[0] == pytest.approx(expected[0], rel=1e-12)
    np.testing.assert_allclose(given[1][0], expected[1], rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(given[2][0], expected[2], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("n_out", WIDTHS)
def test_cross_entropy_as_in_pytorch(backend, n_out, smoothing):
    torch = pytest.importorskip("torch")
    net = fastnn.MLP((4, n_out), dtype="float64", backend=backend)
    X, y = np.random.default_rng(0).normal(size=(25, 4)), targets("cross_entropy", 25, n_out)
    loss = torch.nn.CrossEntropyLoss(label_smoothing=smoothing)
    for labels in (y, y.argmax(axis=1)):
        given, target = (
            net.loss_and_gradients(X, labels, CrossEntropy(smoothing)),
            torch.tensor(labels),
        )
        assert_as_torch(given, torch_gradients(torch, net, X, lambda a, y=target: loss(a, y)))


@pytest.mark.parametrize("delta", [0.2, 1.0, 3.0])
def test_huber_and_absolute_error_as_in_pytorch(backend, delta):
    """PyTorch's mean over all elements, times the 3 outputs that fastnn sums over."""
    torch = pytest.importorskip("torch")
    net = fastnn.MLP((4, 3), output="identity", dtype="float64", backend=backend)
    X, y = np.random.default_rng(0).normal(size=(25, 4)), targets("huber", 25, 3)
    target = torch.tensor(y)
    for loss, theirs in (
        (Huber(delta), torch.nn.HuberLoss(delta=delta)),
        (AbsoluteError(), torch.nn.L1Loss()),
    ):
        given = net.loss_and_gradients(X, y, loss)
        expected = torch_gradients(torch, net, X, lambda a, f=theirs: 3 * f(a, target))
        assert_as_torch(given, expected)
