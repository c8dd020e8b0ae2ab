"""Forms of X, y and sample weights that are accepted, and what they mean."""

import numpy as np
import pytest

import fastnn

N = 6


def good_X(n=N):
    return np.random.default_rng(0).normal(size=(n, 3))


def good_y(n=N):
    return np.arange(n) % 2


def make_memmap(X, folder):
    path = folder / "X"
    X.tofile(path)
    return np.memmap(path, dtype=X.dtype, mode="r", shape=X.shape)


def make_read_only(X, _):
    X = X.copy()
    X.flags.writeable = False
    return X


def make_unaligned(X, _):
    raw = np.zeros(X.nbytes + 1, dtype=np.uint8)
    raw[1:] = np.frombuffer(X.tobytes(), dtype=np.uint8)
    return raw[1:].view(X.dtype).reshape(X.shape)


# Other forms of the same whole numbers from 0 to 5.
FORMS = {
    "float32": lambda X, _: X.astype(np.float32),
    "float16": lambda X, _: X.astype(np.float16),
    "longdouble": lambda X, _: X.astype(np.longdouble),
    "fortran": lambda X, _: np.asfortranarray(X),
    "fortran float32": lambda X, _: np.asfortranarray(X, dtype=np.float32),
    "every second row and column": lambda X, _: np.repeat(np.repeat(X, 2, 0), 2, 1)[::2, ::2],
    "reversed": lambda X, _: np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1],
    "read-only": make_read_only,
    "memory map": make_memmap,
    "unaligned": make_unaligned,
    "big-endian": lambda X, _: X.astype(">f8"),
    "big-endian float32": lambda X, _: X.astype(">f4"),
    "int64": lambda X, _: X.astype(np.int64),
    "int8": lambda X, _: X.astype(np.int8),
    "uint16": lambda X, _: X.astype(np.uint16),
    "big-endian int": lambda X, _: X.astype(">i4"),
    "lists": lambda X, _: X.tolist(),
    "tuples of ints": lambda X, _: tuple(tuple(int(x) for x in row) for row in X),
    "masked without masked entries": lambda X, _: np.ma.masked_array(X),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_X_that_are_accepted(backend, dtype, form, tmp_path):
    net, twin = (fastnn.MLP((3, 4, 2), dtype=dtype, backend=backend) for _ in range(2))
    X = np.random.default_rng(0).integers(0, 6, (N, 3)).astype(np.float64)
    given = FORMS[form](X, tmp_path)
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(net.forward(given), twin.forward(X), rtol=tolerance)
    net.fit(given, good_y(), epochs=2, batch_size=4, optimizer="sgd", learning_rate=0.1)
    twin.fit(X, good_y(), epochs=2, batch_size=4, optimizer="sgd", learning_rate=0.1)
    for array, expected in zip(net.weights, twin.weights, strict=True):
        np.testing.assert_allclose(array, expected, rtol=tolerance * 100, atol=tolerance)
    np.testing.assert_array_equal(np.asarray(given, dtype=np.float64), X)


def test_uint8_is_x_over_255(backend, dtype):
    pixels = np.random.default_rng(0).integers(0, 256, (N, 3), dtype=np.uint8)
    net, twin = (fastnn.MLP((3, 4, 2), dtype=dtype, backend=backend) for _ in range(2))
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    for same in (pixels, np.asfortranarray(pixels), np.repeat(pixels, 2, axis=1)[:, ::2]):
        np.testing.assert_allclose(net.forward(same), twin.forward(pixels / 255), rtol=tolerance)
    net.fit(pixels, good_y(), epochs=2, batch_size=4)
    twin.fit(pixels / 255, good_y(), epochs=2, batch_size=4)
    for array, expected in zip(net.weights, twin.weights, strict=True):
        np.testing.assert_allclose(array, expected, rtol=1e-4)


def test_bool_is_0_and_1(backend, dtype):
    X = good_X() > 0
    net = fastnn.MLP((3, 4, 2), dtype=dtype, backend=backend)
    np.testing.assert_array_equal(net.forward(X), net.forward(X.astype(float)))


@pytest.mark.parametrize(
    "y",
    [
        good_y().tolist(),
        good_y().astype(np.uint8),
        good_y().astype(bool),
        good_y().astype(">i8"),
        good_y().astype(np.float32),
        good_y().astype(np.int16)[::-1][::-1],
        np.eye(2)[good_y()],
        np.eye(2, dtype=np.uint8)[good_y()],
        np.asfortranarray(np.eye(2)[good_y()]),
        np.eye(2, dtype=">f4")[good_y()].tolist(),
    ],
)
def test_forms_of_labels_that_are_accepted(backend, dtype, y):
    net = fastnn.MLP((3, 4, 2), dtype=dtype, backend=backend)
    expected = net.loss_and_gradients(good_X(), good_y())
    value, dW, _ = net.loss_and_gradients(good_X(), y)
    assert value == pytest.approx(expected[0], rel=1e-6)
    np.testing.assert_allclose(dW[0], expected[1][0], rtol=1e-5, atol=1e-7)


def test_shapes_of_one_output(backend, dtype):
    for output, y in (("sigmoid", [0, 1, 1]), ("identity", [0.5, -1, 2]), ("exp", [0, 1, 2])):
        net = fastnn.MLP((3, 4, 1), output=output, dtype=dtype, backend=backend)
        flat = net.loss_and_gradients(good_X(3), y)[0]
        assert flat == net.loss_and_gradients(good_X(3), np.array(y)[:, np.newaxis])[0]


@pytest.mark.parametrize("size", [1e-300, 1e300, 3])
def test_only_the_ratios_of_sample_weights_count(backend, dtype, size):
    net = fastnn.MLP((3, 4, 2), dtype=dtype, backend=backend)
    w = np.array([1.0, 2, 3, 4, 5, 0])
    expected = net.evaluate(good_X(), good_y(), sample_weight=w)
    given = net.evaluate(good_X(), good_y(), sample_weight=w * size)
    assert given["loss"] == pytest.approx(expected["loss"], rel=1e-6)
