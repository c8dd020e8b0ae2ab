"""Zeros left out of products: exactly the products, and exactly the training, that keep them."""

import itertools

import numpy as np
import pytest

import fastnn
from fastnn.backends import _cython
from fastnn.network import ACTIVATIONS, DTYPES

ISAS = fastnn.available_isas()
# Around the edges of tiles, panels, groups of panels, and of the 64 rows whose bits are a word.
SIZES = (1, 7, 12, 24, 47, 48, 49, 63, 64, 65, 97, 128, 145, 200)
SHARES_OF_ZEROS = (0.0, 0.3, 0.5, 0.9, 1.0)


# The kinds of core differ in what they sum together and in which zeros they keep.
pytestmark = pytest.mark.usefixtures("core")


def with_zeros(rng, shape, dtype, share, alike=1):
    """Whole numbers, so that products are exact, a share of them zero; so many rows have their
    zeros at the same places."""
    X = rng.integers(1, 9, shape) * rng.choice([-1, 1], shape)
    is_zero = np.repeat(rng.random(shape) < share, alike, axis=0)[: len(X)]
    return np.where(is_zero, 0, X).astype(dtype)


# Of images, columns that lie side by side are alike: dW takes these in pairs.
@pytest.mark.parametrize(("product", "alike"), [("forward", 1), ("dh", 1), ("dW", 1), ("dW", 4)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ISAS)
def test_products_without_zeros_are_exact_on_whole_numbers(isa, dtype, product, alike):
    rng = np.random.default_rng(0)
    shapes = [(m, k, n) for size in SIZES for m, k, n in [(size, 50, 70), (9, size, 97)]]
    shapes += [(65, 97, size) for size in SIZES]
    for (m, k, n), shares in itertools.product(
        shapes, itertools.product(SHARES_OF_ZEROS, (0.0, 0.5))
    ):
        A = with_zeros(rng, (m, k), dtype, shares[0], alike)
        B = with_zeros(rng, (k, n), dtype, shares[1])
        packed = _cython.Product(A, B, product, isa, skip_zeros=True)
        packed.run()
        assert np.array_equal(packed.result(), A @ B), (m, k, n, shares)


def bits_after(backend, X, y, layers, activation, dtype, n_threads, **settings):
    """Weights and predictions of a short training."""
    net = fastnn.MLP(layers, activation, dtype=dtype, n_threads=n_threads, backend=backend, seed=1)
    net.fit(X, y, epochs=2, learning_rate=0.05, **settings)
    arrays = (*net.weights, *net.biases, net.forward(X))
    return b"".join(array.tobytes() for array in arrays)


def assert_same_bits(backend, monkeypatch, X, y, **settings):
    """Training gives them whether zeros are skipped or not."""
    monkeypatch.setenv("FASTNN_SKIP_ZEROS", "1")
    on = bits_after(backend, X, y, **settings)
    monkeypatch.setenv("FASTNN_SKIP_ZEROS", "0")
    assert bits_after(backend, X, y, **settings) == on


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_training_has_the_same_bits_with_skipping_on_and_off(
    compiled_backend, dtype, monkeypatch, activation, n_threads
):
    X, y = fastnn.datasets.load_digits_subset()[:2]
    assert X.dtype == np.uint8
    assert (X == 0).mean() > 0.5
    assert_same_bits(
        compiled_backend,
        monkeypatch,
        X[:150],
        y[:150],
        layers=(X.shape[1], 130, 100, 10),
        activation=activation,
        dtype=dtype,
        n_threads=n_threads,
        batch_size=130,
        optimizer="adam",
    )


@pytest.mark.parametrize(
    "kind", ["no zeros", "all zeros", "zero rows", "one-hot", "negative zeros"]
)
def test_extreme_inputs_have_the_same_bits_with_skipping_on_and_off(
    compiled_backend, dtype, monkeypatch, kind
):
    rng = np.random.default_rng(5)
    X = rng.normal(size=(211, 120)).astype(dtype)
    if kind == "all zeros":
        X[:] = 0
    elif kind == "zero rows":
        X[::2] = 0
    elif kind == "one-hot":
        X = np.eye(120, dtype=dtype)[rng.integers(0, 120, 211)]
    elif kind == "negative zeros":
        X[rng.random(X.shape) < 0.6] = -0.0
    y = rng.integers(0, 4, 211)
    assert_same_bits(
        compiled_backend,
        monkeypatch,
        X,
        y,
        layers=(120, 130, 4),
        activation="relu",
        dtype=dtype,
        n_threads=2,
        batch_size=64,
        optimizer="sgd",
    )


def test_a_batch_in_several_parts_has_the_same_bits_with_skipping_on_and_off(
    compiled_backend, dtype, monkeypatch
):
    rng = np.random.default_rng(6)
    X = rng.normal(size=(2500, 120))
    X[rng.random(X.shape) < 0.3] = 0
    y = rng.integers(0, 5, 2500)
    for density in (X, np.where(rng.random(X.shape) < 0.7, 0, X)):
        assert_same_bits(
            compiled_backend,
            monkeypatch,
            density,
            y,
            layers=(120, 600, 5),
            activation="relu",
            dtype=dtype,
            n_threads=2,
            batch_size=None,
            optimizer="adam",
        )
