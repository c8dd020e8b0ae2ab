"""Steps follow the published formulas and agree with scikit-learn and PyTorch."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_close, blobs, parameters
from data import make_torch_steps
from sklearn.linear_model import LogisticRegression

import fastnn
from fastnn.optimizers import OPTIMIZERS, RULES, SGD, Adagrad, Adam, AdamW, Lion, RMSprop
from fastnn.schedules import Cosine

# ---- the published formulas, step by step ----


def follow_sgd(momentum, nesterov, learning_rate):
    """PyTorch's form of Sutskever et al. (2013)."""
    buffers = {}

    def step(k, w, g):
        buffers[k] = momentum * buffers.get(k, 0.0) + g
        return w - learning_rate * (g + momentum * buffers[k] if nesterov else buffers[k])

    return step


def follow_adagrad(eps, learning_rate):
    """Duchi et al. (2011), the diagonal form, with PyTorch's eps."""
    sums = {}

    def step(k, w, g):
        sums[k] = sums.get(k, 0.0) + g**2
        return w - learning_rate * g / (np.sqrt(sums[k]) + eps)

    return step


def follow_rmsprop(alpha, eps, momentum, learning_rate):
    """Tieleman and Hinton (2012), with PyTorch's momentum and eps."""
    states = {}

    def step(k, w, g):
        v, buf = states.get(k, (0.0, 0.0))
        v = alpha * v + (1 - alpha) * g**2
        buf = momentum * buf + g / (np.sqrt(v) + eps)
        states[k] = v, buf
        return w - learning_rate * buf

    return step


def follow_adam(beta1, beta2, eps, learning_rate, epsilon_hat=False):
    """Algorithm 1 of Kingma and Ba (2015), or the form at the end of their section 2."""
    states = {}

    def step(k, w, g):
        t, m, v = states.get(k, (0, 0.0, 0.0))
        t, m, v = t + 1, beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        states[k] = t, m, v
        if epsilon_hat:
            rate = learning_rate * np.sqrt(1 - beta2**t) / (1 - beta1**t)
            return w - rate * m / (np.sqrt(v) + eps)
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        return w - learning_rate * m_hat / (np.sqrt(v_hat) + eps)

    return step


def follow_lion(beta1, beta2, learning_rate):
    """Algorithm 2 of Chen et al. (2023)."""
    momenta = {}

    def step(k, w, g):
        m = momenta.get(k, 0.0)
        momenta[k] = beta2 * m + (1 - beta2) * g
        return w - learning_rate * np.sign(beta1 * m + (1 - beta1) * g)

    return step


def decaying(follow, weight_decay, learning_rate):
    """Weight decay before the step, as Loshchilov and Hutter (2019) have it; not for biases."""

    def step(k, w, g):
        return follow(k, (1 - learning_rate * weight_decay * (w.ndim == 2)) * w, g)

    return step


RATE = 0.05
# what is tested, and a fresh follower of its formula
FORMULAS = {
    "plain": (SGD(), lambda: follow_sgd(0.0, False, RATE)),
    "momentum": (SGD(momentum=0.9), lambda: follow_sgd(0.9, False, RATE)),
    "nesterov": (SGD(momentum=0.8, nesterov=True), lambda: follow_sgd(0.8, True, RATE)),
    "sgd weight decay": (
        SGD(momentum=0.5, weight_decay=0.3),
        lambda: decaying(follow_sgd(0.5, False, RATE), 0.3, RATE),
    ),
    "adagrad": (Adagrad(), lambda: follow_adagrad(1e-10, RATE)),
    "adagrad eps": (Adagrad(eps=0.1), lambda: follow_adagrad(0.1, RATE)),
    "rmsprop": (RMSprop(), lambda: follow_rmsprop(0.99, 1e-8, 0.0, RATE)),
    "rmsprop constants": (
        RMSprop(alpha=0.7, eps=1e-2, momentum=0.6),
        lambda: follow_rmsprop(0.7, 1e-2, 0.6, RATE),
    ),
    "adam": (Adam(), lambda: follow_adam(0.9, 0.999, 1e-8, RATE)),
    "adam constants": (
        Adam(betas=(0.7, 0.9), eps=1e-3),
        lambda: follow_adam(0.7, 0.9, 1e-3, RATE),
    ),
    "adam epsilon hat": (
        Adam(betas=(0.7, 0.9), eps=1e-3, epsilon_hat=True),
        lambda: follow_adam(0.7, 0.9, 1e-3, RATE, epsilon_hat=True),
    ),
    "adamw": (AdamW(), lambda: decaying(follow_adam(0.9, 0.999, 1e-8, RATE), 0.01, RATE)),
    "adamw constants": (
        AdamW(betas=(0.7, 0.9), eps=1e-3, weight_decay=0.4),
        lambda: decaying(follow_adam(0.7, 0.9, 1e-3, RATE), 0.4, RATE),
    ),
    "lion": (Lion(), lambda: follow_lion(0.9, 0.99, RATE)),
    "lion constants": (
        Lion(betas=(0.5, 0.8), weight_decay=0.2),
        lambda: decaying(follow_lion(0.5, 0.8, RATE), 0.2, RATE),
    ),
}


def test_every_rule_has_its_formula_here():
    assert {optimizer.rule.name for optimizer, _ in FORMULAS.values()} == set(RULES)
    assert {type(optimizer) for optimizer, _ in FORMULAS.values()} == set(OPTIMIZERS.values())


@pytest.mark.parametrize("batch_size", [None, 1, 4, 100])
@pytest.mark.parametrize("name", FORMULAS)
def test_steps_follow_the_formulas(backend, name, batch_size):
    """11 samples, so a batch size of 4 leaves a smaller last batch of 3, which counts too."""
    rng = np.random.default_rng(0)
    X, y, w = rng.normal(size=(11, 3)), rng.integers(0, 2, 11), rng.random(11) + 0.1
    w *= 11 / w.sum()
    net = fastnn.MLP((3, 5, 2), "tanh", dtype="float64", seed=3, backend=backend)
    twin = fastnn.MLP((3, 5, 2), "tanh", dtype="float64", seed=3, backend="numpy")
    net.fit(
        X,
        y,
        epochs=2,
        batch_size=batch_size,
        optimizer=FORMULAS[name][0],
        learning_rate=RATE,
        l2=0.1,
        l1=0.01,
        sample_weight=w,
        shuffle=False,
    )
    follow, size = FORMULAS[name][1](), batch_size or 11
    for _ in range(2):
        for start in range(0, 11, size):
            rows = slice(start, start + size)
            _, dW, db = data_gradient(twin, X[rows], y[rows], w[rows])
            dW = [g + 0.1 * W + 0.01 * np.sign(W) for g, W in zip(dW, twin.weights, strict=True)]
            moved = [
                follow(k, array, g)
                for k, (array, g) in enumerate(
                    zip(twin.weights + twin.biases, dW + db, strict=True)
                )
            ]
            twin.weights, twin.biases = moved[:2], moved[2:]
    assert_close(net, parameters(twin), 1e-11)


def data_gradient(net, X, y, w):
    """(1/n) sum_t w_t gradient_t; loss_and_gradients scales w to mean one, which is undone."""
    value, dW, db = net.loss_and_gradients(X, y, sample_weight=w)
    return value, [g * w.mean() for g in dW], [g * w.mean() for g in db]


def test_penalties_shrink_weights_not_biases(backend):
    net = fastnn.MLP((2, 3), output="identity", dtype="float64", backend=backend)
    net.weights, net.biases = [np.full((3, 2), 2.0)], [np.array([1.0, 2.0, 3.0])]
    net.fit(
        np.zeros((1, 2)), [[1.0, 2.0, 3.0]], epochs=1, optimizer="sgd", learning_rate=0.1, l2=0.5
    )
    np.testing.assert_allclose(net.weights[0], 2.0 - 0.1 * 0.5 * 2.0)
    np.testing.assert_array_equal(net.biases[0], [1.0, 2.0, 3.0])


# ---- what they are for ----

FORMS = {
    "sgd": SGD(),
    "momentum": SGD(momentum=0.9),
    "nesterov": SGD(momentum=0.9, nesterov=True),
    "adagrad": Adagrad(),
    "rmsprop": RMSprop(),
    "rmsprop_momentum": RMSprop(momentum=0.5),
    "adam": Adam(),
    "lion": Lion(),
}
RATES = {"sgd": 1.0, "momentum": 0.2, "nesterov": 0.2, "adagrad": 0.5}


@pytest.mark.parametrize("name", RULES)
def test_every_rule_reaches_the_optimum_of_a_convex_problem(compiled_backend, name):
    """Multinomial logistic regression with a penalty has one minimum, where the gradient is 0."""
    X, y = blobs(100)
    net = fastnn.MLP((4, 3), dtype="float64", backend=compiled_backend)
    rate = Cosine(RATES.get(name, 0.02))  # falls to 0: steps of constant length end there, too
    net.fit(X, y, epochs=2000, batch_size=None, optimizer=FORMS[name], learning_rate=rate, l2=0.05)
    _, dW, db = net.loss_and_gradients(X, y, l2=0.05)
    assert max(np.abs(gradient).max() for gradient in dW + db) < 1e-4


def test_sgd_with_weight_decay_ends_where_l2_does(backend):
    """Where W no longer moves, g = -weight_decay W: the optimum of a penalty with l2 so large."""
    X, y = blobs(100)
    net = fastnn.MLP((4, 3), dtype="float64", backend=backend)
    optimizer = SGD(weight_decay=0.05)
    net.fit(X, y, epochs=1000, batch_size=None, optimizer=optimizer, learning_rate=1.0)
    _, dW, db = net.loss_and_gradients(X, y, l2=0.05)
    assert max(np.abs(gradient).max() for gradient in dW + db) < 1e-6


def test_weight_decay_shrinks_weights_not_biases(backend):
    """With a gradient of 0 nothing else moves them: by 1 - learning_rate * weight_decay a step."""
    for optimizer in (SGD(weight_decay=0.5), AdamW(weight_decay=0.5), Lion(weight_decay=0.5)):
        net = fastnn.MLP((2, 3), output="identity", dtype="float64", backend=backend)
        net.weights, net.biases = [np.full((3, 2), 2.0)], [np.array([1.0, 2.0, 3.0])]
        net.fit(
            np.zeros((1, 2)), [[1.0, 2.0, 3.0]], epochs=2, optimizer=optimizer, learning_rate=0.1
        )
        np.testing.assert_allclose(net.weights[0], 2.0 * 0.95**2, rtol=1e-15)
        np.testing.assert_array_equal(net.biases[0], [1.0, 2.0, 3.0])


# ---- other libraries ----


@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_logistic_regression_agrees_with_scikit_learn(backend, n_classes, weighted):
    """scikit-learn minimises C sum_t w_t l_t + 1/2 ||W||^2, so l2 = 1 / (C sum_t w_t)."""
    X, y = blobs(150, 4, n_classes)
    w = np.random.default_rng(1).random(150) + 0.2 if weighted else None
    C = 0.2
    l2 = 1 / (C * (150 if w is None else w.sum()))
    peer = LogisticRegression(C=C, tol=1e-12, max_iter=1000).fit(X, y, sample_weight=w)
    # Two classes: scikit-learn has one row of weights, as the sigmoid output does.
    layers, output = ((4, 1), "sigmoid") if n_classes == 2 else ((4, n_classes), "softmax")
    net = fastnn.MLP(layers, output=output, dtype="float64", backend=backend)
    net.fit(
        X,
        y,
        epochs=1500,
        batch_size=None,
        optimizer=SGD(momentum=0.9, nesterov=True),
        learning_rate=0.2,
        l2=l2,
        sample_weight=w,
    )
    difference = net.predict_proba(X) - peer.predict_proba(X)
    assert np.abs(difference).max() < 1e-4


def torch_like(name, backend, dtype):
    """The model of a case of make_torch_steps.py after fit, and its history."""
    layers, activation, output, optimizer, constants, learning_rate, steps, l2 = (
        make_torch_steps.CASES[name]
    )
    W, b, X, y = make_torch_steps.start(name)
    net = fastnn.MLP(layers, activation, output, dtype=dtype, backend=backend)
    net.weights, net.biases = W, b
    history = net.fit(
        X,
        y,
        epochs=steps,
        batch_size=None,
        optimizer=OPTIMIZERS[optimizer](**constants),
        learning_rate=learning_rate,
        l2=l2,
    )
    return net, history


torch_steps = functools.cache(make_torch_steps.torch_steps)  # the same for every backend


def torch_tolerance(name, dtype):
    """Weights here are of size 1, whose spacing in float32 is 1.2e-7; each step adds roundings."""
    if dtype == "float64":
        return 1e-11
    return 1e-5 if name.startswith("trajectory") else 1e-6


@pytest.mark.parametrize("name", make_torch_steps.CASES)
def test_steps_agree_with_stored_figures_of_pytorch(backend, dtype, name):
    stored = json.loads(make_torch_steps.PATH.read_text())["cases"][name]
    for given, expected in zip(
        make_torch_steps.start(name),
        (stored["weights"], stored["biases"], stored["X"], stored["y"]),
        strict=True,
    ):
        for array, values in zip(given, expected, strict=True):
            np.testing.assert_array_equal(array, np.asarray(values, dtype=array.dtype))
    net, history = torch_like(name, backend, dtype)
    after = stored[dtype]
    assert_close(net, after["weights"] + after["biases"], torch_tolerance(name, dtype))
    if make_torch_steps.CASES[name][-1] == 0:  # else the history has the penalty as well
        assert history["loss"] == pytest.approx(after["losses"], rel=1e-5)


@pytest.mark.parametrize("name", make_torch_steps.CASES)
def test_steps_agree_with_pytorch_itself(backend, dtype, name):
    pytest.importorskip("torch", reason="PyTorch is not installed; its stored figures are tested")
    W, b, _ = torch_steps(name, dtype)
    assert_close(torch_like(name, backend, dtype)[0], W + b, torch_tolerance(name, dtype))


def test_the_stored_figures_are_complete():
    assert Path(make_torch_steps.__file__).parent == make_torch_steps.PATH.parent
    assert set(json.loads(make_torch_steps.PATH.read_text())["cases"]) == set(
        make_torch_steps.CASES
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(momentum=1.0), "momentum must be at least 0 and below 1"),
        (lambda: SGD(momentum=-0.1), "momentum must be at least 0 and below 1"),
        (lambda: SGD(momentum=np.nan), "momentum must be at least 0 and below 1"),
        (lambda: SGD(nesterov=True), "nesterov=True needs a momentum above 0"),
        (lambda: Adam(betas=(1.0, 0.9)), r"betas\[0\] must be at least 0 and below 1"),
        (lambda: Adam(betas=(0.9, -1)), r"betas\[1\] must be at least 0 and below 1"),
        (lambda: Adam(betas=(0.9,)), "betas must be a pair of numbers"),
        (lambda: Adam(betas=0.9), "betas must be a pair of numbers"),
        (lambda: Adam(eps=0.0), "eps must be a positive number"),
        (lambda: Adam(eps=np.inf), "eps must be a positive number"),
        (lambda: SGD(weight_decay=-0.1), "weight_decay must be a finite number of at least 0"),
        (lambda: Adagrad(eps=-1.0), "eps must be a positive number"),
        (lambda: RMSprop(alpha=1.0), "alpha must be at least 0 and below 1"),
        (lambda: RMSprop(momentum=1.5), "momentum must be at least 0 and below 1"),
        (lambda: RMSprop(eps=0), "eps must be a positive number"),
        (lambda: AdamW(betas=(2.0, 0.9)), r"betas\[0\] must be at least 0 and below 1"),
        (lambda: AdamW(eps=0), "eps must be a positive number"),
        (lambda: AdamW(weight_decay=np.nan), "weight_decay must be a finite number"),
        (lambda: Lion(betas=0.9), "betas must be a pair of numbers"),
        (lambda: Lion(weight_decay=np.inf), "weight_decay must be a finite number"),
    ],
)
def test_wrong_constants_of_optimizers(make, message):
    with pytest.raises(ValueError, match=message):
        make()
