"""Class weights: what they are, whom they count for, and what they cannot be used with."""

import numpy as np
import pytest
from conftest import assert_close, parameters
from sklearn.utils.class_weight import compute_class_weight

import fastnn
from fastnn.network import STREAM_VALIDATION, random_stream

N = 40
SETTINGS = {"epochs": 3, "batch_size": 8, "learning_rate": 0.05}
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 4))
LABELS = RNG.choice(3, N, p=(0.7, 0.2, 0.1))
LABELS[:3] = 0, 1, 2
# kind: output, number of outputs, y, the class of each sample
KINDS = {
    "indices": ("softmax", 3, LABELS, LABELS),
    "float indices": ("softmax", 3, LABELS.astype(float), LABELS),
    "a class that does not occur": ("softmax", 4, LABELS, LABELS),
    "one-hot": ("softmax", 3, np.eye(3)[LABELS], LABELS),
    "binary": ("sigmoid", 1, LABELS > 0, (LABELS > 0).astype(int)),
    "binary column": ("sigmoid", 1, (LABELS > 0)[:, np.newaxis], (LABELS > 0).astype(int)),
}


def fitted(backend, output, n_out, y, **arguments):
    net = fastnn.MLP((4, 5, n_out), "tanh", output, dtype="float64", seed=2, backend=backend)
    net.fit(X, y, **SETTINGS, **arguments)
    return net


@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("class_weight", ["balanced", {0: 0.5, 1: 3.0}, {1.0: 0}, {}], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_class_weights_multiply_sample_weights(backend, kind, class_weight, weighted):
    output, n_out, y, classes = KINDS[kind]
    w = np.random.default_rng(1).random(N) if weighted else np.ones(N)
    if class_weight == "balanced":
        present = np.unique(classes)
        values = compute_class_weight("balanced", classes=present, y=classes, sample_weight=w)
        of_class = dict(zip(present, values, strict=True))
    else:
        of_class = class_weight
    net = fitted(
        backend, output, n_out, y, class_weight=class_weight, sample_weight=w if weighted else None
    )
    explicit = w * [of_class.get(label, 1.0) for label in classes]
    twin = fitted(backend, output, n_out, y, sample_weight=explicit)
    assert_close(net, parameters(twin), 1e-10)


def test_balanced_classes_have_the_same_total(backend):
    """Zero weights, so all f are 1/3: each class's part of the gradient of b is then the same."""
    net = fastnn.MLP((4, 3), dtype="float64", backend=backend)
    net.weights = [np.zeros((3, 4))]
    net.fit(
        X,
        LABELS,
        epochs=1,
        batch_size=None,
        optimizer="sgd",
        learning_rate=1.0,
        class_weight="balanced",
    )
    np.testing.assert_allclose(net.biases[0], 0.0, atol=1e-15)


def test_the_mean_weight_is_one(backend):
    """Only ratios count: the loss in the history is the weighted mean."""
    for weights in ({0: 1, 1: 2, 2: 4}, {0: 10, 1: 20, 2: 40}, {0: 2.5e307, 1: 5e307, 2: 1e308}):
        net = fastnn.MLP((4, 3), dtype="float64", backend=backend)
        net.weights = [np.zeros((3, 4))]
        net.biases = [np.log([0.5, 0.25, 0.25])]
        history = net.fit(X, LABELS, epochs=1, batch_size=None, class_weight=weights)
        w = np.array([1.0, 2.0, 4.0])[LABELS]
        losses = np.log([2.0, 4.0, 4.0])[LABELS]
        assert history["loss"] == [pytest.approx(np.average(losses, weights=w), rel=1e-12)]


def test_balanced_counts_the_training_samples_and_leaves_validation_alone(backend):
    shuffled = random_stream(2, STREAM_VALIDATION).permutation(N)
    held, kept = np.sort(shuffled[:10]), np.sort(shuffled[10:])
    net = fitted(backend, "softmax", 3, LABELS, class_weight="balanced", validation=0.25)
    counts = np.bincount(LABELS[kept])
    w = (1 / counts)[LABELS]
    twin = fastnn.MLP((4, 5, 3), "tanh", dtype="float64", seed=2, backend=backend)
    twin.fit(X[kept], LABELS[kept], sample_weight=w[kept], **SETTINGS)
    assert_close(net, parameters(twin), 1e-10)
    evaluated = net.evaluate(X[held], LABELS[held])
    assert net.history["val_loss"][-1] == pytest.approx(evaluated["loss"], rel=1e-12)
    assert net.history["val_accuracy"][-1] == evaluated["accuracy"]


def test_none_changes_no_bit(backend, dtype):
    results = set()
    for arguments in ({}, {"class_weight": None}):
        net = fastnn.MLP((4, 3), dtype=dtype, backend=backend)
        net.fit(X, LABELS, epochs=2, **arguments)
        results.add(net.weights[0].tobytes())
    assert len(results) == 1


WEIGHTS = [0.5, 2.0, 1.0]


def test_class_weights_as_in_pytorch(backend):
    """Full batch: its weighted mean divides by the sum of the weights, too."""
    torch = pytest.importorskip("torch")
    net = fastnn.MLP((4, 3), dtype="float64", backend=backend)
    W, b = (torch.tensor(array[0], requires_grad=True) for array in (net.weights, net.biases))
    loss = torch.nn.CrossEntropyLoss(weight=torch.tensor(WEIGHTS, dtype=torch.float64))
    value = loss(torch.tensor(X) @ W.T + b, torch.tensor(LABELS))
    value.backward()
    expected = [W.detach() - 0.5 * W.grad, b.detach() - 0.5 * b.grad]
    history = net.fit(
        X,
        LABELS,
        epochs=1,
        batch_size=None,
        optimizer="sgd",
        learning_rate=0.5,
        class_weight=dict(enumerate(WEIGHTS)),
    )
    assert history["loss"] == [pytest.approx(value.item(), rel=1e-12)]
    assert_close(net, [array.numpy() for array in expected], 1e-12)


SOFT = np.full((N, 3), 1 / 3)
# class_weight, output, number of outputs, y, error, message
WRONG = {
    "name": ("equal", "softmax", 3, LABELS, ValueError, "None, 'balanced' or a mapping"),
    "list": ([1, 2, 3], "softmax", 3, LABELS, ValueError, "None, 'balanced' or a mapping"),
    "unknown class": (
        {3: 1},
        "softmax",
        3,
        LABELS,
        ValueError,
        "has 3, which is none of .*0 ... 2",
    ),
    "text class": ({"a": 1}, "softmax", 3, LABELS, ValueError, "has 'a', which is none"),
    "fraction": ({0.5: 1}, "softmax", 3, LABELS, ValueError, r"has 0.5, which is none"),
    "negative": ({0: -1}, "softmax", 3, LABELS, ValueError, r"class_weight\[0\] must be a finite"),
    "NaN": ({0: np.nan}, "softmax", 3, LABELS, ValueError, r"class_weight\[0\] must be a finite"),
    "text": ({0: "much"}, "softmax", 3, LABELS, TypeError, r"class_weight\[0\] must be a number"),
    "zero": ({0: 0, 1: 0, 2: 0}, "softmax", 3, LABELS, ValueError, "zero on every sample to train"),
    "soft labels": ("balanced", "softmax", 3, SOFT, ValueError, "y holds soft labels"),
    "soft binary": ("balanced", "sigmoid", 1, SOFT[:, 0], ValueError, "y holds soft labels"),
    "multilabel": (
        {0: 1},
        "sigmoid",
        3,
        np.eye(3)[LABELS],
        ValueError,
        "sigmoid with one output; this network's is sigmoid with 3",
    ),
    "values": ("balanced", "identity", 1, SOFT[:, 0], ValueError, "network's is identity with 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_class_weights(backend, case):
    class_weight, output, n_out, y, error, message = WRONG[case]
    net = fastnn.MLP((4, n_out), output=output, backend=backend)
    before = net.weights[0].copy()
    with pytest.raises(error, match=message):
        net.fit(X, y, class_weight=class_weight)
    np.testing.assert_array_equal(net.weights[0], before)
