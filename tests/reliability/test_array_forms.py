"""Arrays of any shape, strides, dtype, byte order and alignment, as Hypothesis thinks of them."""

import numpy as np
import pytest
from conftest import flat_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastnn

KINDS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
# Few examples, always the same ones; or many, others in each run.
EXAMPLES = [25, pytest.param(3000, marks=pytest.mark.long)]


def try_out(examples):
    return settings(
        max_examples=examples,
        stateful_step_count=20,
        derandomize=examples < 1000,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def dtypes(draw):
    if draw(st.integers(0, 9)) == 0:
        return np.dtype(draw(st.sampled_from(["?", "longdouble"])))
    return np.dtype(draw(st.sampled_from("<>")) + draw(st.sampled_from(KINDS)))


def laid_out(draw, array):
    """The same numbers at any address, with any strides; maybe read-only."""
    steps = [draw(st.sampled_from([1, 1, 1, 2, 3, -1, -2])) for _ in array.shape]
    spread = tuple(max(1, size * abs(step)) for size, step in zip(array.shape, steps, strict=True))
    order = tuple(draw(st.permutations(range(array.ndim))))
    shift = draw(st.integers(0, 17))
    raw = np.zeros(array.dtype.itemsize * int(np.prod(spread)) + shift, np.uint8)
    whole = raw[shift:].view(array.dtype).reshape([spread[axis] for axis in order])
    whole = whole.transpose(np.argsort(order))
    view = whole[tuple(slice(None, None, step) for step in steps)]
    view = view[tuple(slice(0, size) for size in array.shape)]
    view[...] = array
    view.flags.writeable = draw(st.booleans())
    return view


@st.composite
def samples(draw):
    """(X, y, w) in some form, and the same numbers as plain arrays; the number of X's columns."""
    n, n_in = draw(st.integers(0, 12)), draw(st.integers(1, 70))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    X = rng.integers(0, 2, (n, n_in)) * rng.integers(0, 5, (n, n_in))
    y, w = rng.integers(0, 2, n), rng.integers(1, 4, n)
    forms = [array.astype(draw(dtypes())) for array in (X, y, w)]
    plain_X = forms[0].astype(np.float64)
    if forms[0].dtype == np.uint8:
        plain_X = np.ascontiguousarray(forms[0])  # x / 255
    given_forms = tuple(laid_out(draw, form) for form in forms)
    plain = plain_X, y, forms[2].astype(np.float64)
    return given_forms, plain, n_in


@pytest.mark.parametrize("examples", EXAMPLES)
def test_forms_of_samples(examples, backend, dtype, tally):
    """X, y and weights of any shape, strides, dtype, byte order, alignment, read-only or empty give
    the same bits as plain arrays, or ValueError; they are not written to."""

    @try_out(examples)
    @given(samples(), st.integers(0, 8), st.integers(1, 70))
    def check(sampled, batch_size, width):
        (X, y, w), (plain_X, plain_y, plain_w), n_in = sampled
        tally("arrays", 3)
        net, twin = (
            fastnn.MLP((n_in, width, 2), dtype=dtype, backend=backend, n_threads=1) for _ in "12"
        )
        copies = X.copy(), y.copy(), w.copy()
        options = {"batch_size": batch_size or None, "epochs": 1, "learning_rate": 0.01}
        if len(X) == 0:
            for call in (net.forward, lambda X: net.fit(X, y, **options)):
                with pytest.raises(ValueError, match="X has shape"):
                    call(X)
            return
        same = np.array_equal if backend != "numpy" else about_equal  # BLAS sees the strides
        assert same(net.forward(X), twin.forward(plain_X))
        net.fit(X, y, sample_weight=w, **options)
        twin.fit(plain_X, plain_y, sample_weight=plain_w, **options)
        assert same(flat_of(net), flat_of(twin))
        for array, copy in zip((X, y, w), copies, strict=True):
            assert array.tobytes() == copy.tobytes()

    check()


def about_equal(a, b):
    return np.allclose(a, b, rtol=1e-4, atol=1e-3 if a.dtype == np.float32 else 1e-9)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_shapes_that_are_wrong(examples, backend, tally):
    """Arrays of wrong shapes are a ValueError that names one of them, for every method."""
    net = fastnn.MLP((3, 4, 2), backend=backend)
    before = flat_of(net)
    shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)

    @try_out(examples)
    @given(shapes, shapes, st.one_of(st.none(), shapes))
    def check(X_shape, y_shape, w_shape):
        X, y = np.ones(X_shape), np.full(y_shape, 0.5 if len(y_shape) == 2 else 1.0)
        w = None if w_shape is None else np.ones(w_shape)
        n = X_shape[0] if X_shape else 0
        if X_shape == (n, 3) and n and y_shape in ((n,), (n, 2)) and w_shape in (None, (n,)):
            net.evaluate(X, y, sample_weight=w)
            return
        for call in (net.evaluate, net.loss_and_gradients, net.fit, net.train_on_batch):
            with pytest.raises(ValueError, match="has shape"):
                call(X, y, sample_weight=w)
            tally("wrong calls")
        assert np.array_equal(flat_of(net), before)

    check()
