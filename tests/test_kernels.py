"""The compiled kernels one by one: exact products, activations, the same bits."""

import itertools
import math

import numpy as np
import pytest

import fastnn
from fastnn.backends import _cython, _numpy_activations
from fastnn.network import ACTIVATIONS, DTYPES

ISAS = fastnn.available_isas()
PRODUCTS = ("forward", "dh", "dW")

# Every size around the tiles' edges (MR up to 8, NR up to 48) in each dimension in turn, beside a
# few others; and sizes beyond one block of K, odd in every dimension.
OTHERS = ((1, 1), (5, 50), (48, 9), (67, 16))
SIZES = [
    shape
    for size in range(68)
    for a, b in OTHERS
    for shape in ((size, a, b), (a, size, b), (a, b, size))
]
LARGE = [(3, 1171, 101), (257, 131, 3), (199, 67, 211), (1025, 3, 49)]


def multiply(A, B, product, isa):
    packed = _cython.Product(A, B, product, isa)
    packed.run()
    return packed.result()


def integers(rng, shape, dtype):
    """Whole numbers so small that every sum of products is exact in float32."""
    return rng.integers(-8, 9, shape).astype(dtype)


def test_the_compiled_extension_has_its_instruction_sets():
    assert ISAS[0] == "scalar"
    assert len(ISAS) == len(set(ISAS))


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ISAS)
def test_products_are_exact_on_whole_numbers(isa, dtype, product):
    rng = np.random.default_rng(0)
    for m, k, n in SIZES + LARGE:
        A, B = integers(rng, (m, k), dtype), integers(rng, (k, n), dtype)
        C = multiply(A, B, product, isa)
        assert C.dtype == dtype
        assert np.array_equal(C, A @ B), (m, k, n)


def layouts(A):
    """The same numbers in every layout an X may have."""
    m, k = A.shape
    yield np.asfortranarray(A)
    yield np.repeat(A, 3, axis=1)[:, ::3]
    yield np.repeat(A, 2, axis=0)[::2]
    yield A[::-1].copy()[::-1]
    yield A[:, ::-1].copy()[:, ::-1]
    read_only = A.copy()
    read_only.flags.writeable = False
    yield read_only
    unaligned = np.frombuffer(b"\0" + A.tobytes(), np.uint8)[1:].view(A.dtype).reshape(m, k)
    assert A.itemsize == 1 or not unaligned.flags.aligned
    yield unaligned


@pytest.mark.parametrize("input_dtype", ["float32", "float64", "uint8"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ISAS)
def test_every_layout_of_x_gives_the_same_product(isa, dtype, input_dtype):
    rng = np.random.default_rng(1)
    for m, k, n in [(1, 1, 1), (9, 50, 17), (13, 97, 49)]:
        A, B = rng.integers(0, 256, (m, k)).astype(input_dtype), integers(rng, (k, n), dtype)
        expected = multiply(A, B, "forward", isa)
        if input_dtype != "uint8":
            assert np.array_equal(expected, A.astype(dtype) @ B)
        for X in layouts(A):
            assert np.array_equal(multiply(X, B, "forward", isa), expected), X.strides


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ISAS)
def test_uint8_is_divided_by_255_with_correct_rounding(isa, dtype):
    X = np.arange(256, dtype=np.uint8)[:, np.newaxis]
    for width in (1, 16, 17, 49):  # vectors and their remainders
        h = multiply(np.repeat(X, width, axis=1), np.eye(width, dtype=dtype), "forward", isa)
        expected = np.arange(256, dtype=dtype) / dtype_of(dtype)(255)
        assert all(np.array_equal(h[:, i], expected) for i in range(width))


def dtype_of(name):
    return np.dtype(name).type


def arguments(dtype):
    """Dense around 0, wide, and extreme."""
    huge = np.finfo(dtype).max / 4
    return np.concatenate(
        [
            np.linspace(-1, 1, 20_001),
            np.linspace(-120, 120, 20_001),
            np.geomspace(1e-30, 1e4, 2_001),
            -np.geomspace(1e-30, 1e4, 2_001),
            [0.0, -huge, huge],
        ]
    ).astype(dtype)


# Largest error in units in the last place (ulp), measured over `arguments` and rounded up: g, and
# g' where it is at least 0.1 (near its zeros, g' made from h loses digits, not accuracy).
ULPS = {
    "identity": (0, 0), "relu": (0, 0), "leaky_relu": (1, 1), "elu": (2, 8), "selu": (3, 20),
    "sigmoid": (3, 16), "tanh": (3, 40), "softplus": (4, 3), "gelu": (5, 12), "silu": (5, 8),
    "mish": (6, 16),
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_agree_with_the_reference(name, isa, dtype):
    a = arguments(dtype)
    h, slope = _cython.activate(name, a, isa)
    exact = np.longdouble if name != "gelu" else np.float64
    g, g_prime = _numpy_activations.ACTIVATIONS[name]
    with np.errstate(all="ignore"):
        expected, expected_slope = g(a.astype(exact)), g_prime(a.astype(exact))
    normal = np.abs(expected) >= 1e4 * np.finfo(dtype).tiny  # the kernels' exp has no denormals
    slopes = np.isfinite(expected_slope) & (np.abs(expected_slope) >= 0.1)
    ulps, slope_ulps = ULPS[name]
    if name == "gelu" and dtype == "float64":
        # The reference rounds its argument, a / sqrt(2).
        ulps = ulps + 2 * np.minimum(np.abs(a[normal]), 40) ** 2
    assert (np.abs(h - expected)[normal] <= ulps * np.spacing(np.abs(h[normal]))).all()
    error = np.abs(slope - expected_slope)[slopes]
    assert (error <= slope_ulps * np.spacing(np.abs(slope[slopes]))).all()
    assert np.isfinite(h).all()
    assert np.isnan(_cython.activate(name, np.array([math.nan], dtype), isa)[0]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_have_the_same_bits_on_every_instruction_set(name, dtype):
    a = arguments(dtype)
    results = [np.stack(_cython.activate(name, a, isa)) for isa in ISAS]
    for one, other in itertools.pairwise(results):
        assert one.tobytes() == other.tobytes()


def floats_to_root(dtype):
    """Every float32 from 1 to 4, there and where multiply-adds begin to underflow or overflow: a
    factor of 4 changes no digit of a root. Any others, by their bits; and the special ones.
    """
    kind = np.dtype(dtype)
    bits = np.random.default_rng(0).integers(0, 2 ** (8 * kind.itemsize - 1), 100_000)
    special = [
        0.0,
        -0.0,
        math.inf,
        math.nan,
        -1.0,
        kind.type(np.finfo(kind).tiny) / 2,
        2.0**-96,
        2.0**96,
    ]
    yield bits.astype(f"u{kind.itemsize}").view(kind)
    for x in special:  # beside usual ones, and alone in its vector
        yield np.array([x] + 40 * [2.0] + 40 * [x], kind)
    if dtype == "float32":
        mantissas = np.arange(2**24, dtype=np.uint32) + np.float32(1).view(np.uint32)
        for scale in (1.0, 2.0**-96, 2.0**94, 2.0**-98):
            yield mantissas.view(kind) * kind.type(scale)


@pytest.mark.usefixtures("core")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ISAS)
def test_optimizers_take_roots_rounded_correctly(isa, dtype):
    """As IEEE 754 has them, and so NumPy, whichever way a core takes them."""
    for x in floats_to_root(dtype):
        with np.errstate(invalid="ignore"):
            expected = np.sqrt(x)
        y = _cython.square_roots(x, isa)
        same = (y.view(f"u{y.itemsize}") == expected.view(f"u{y.itemsize}")) | np.isnan(y)
        assert same.all()
        assert np.array_equal(np.isnan(y), np.isnan(expected))


def test_an_unknown_product_or_instruction_set_is_refused():
    A = np.ones((2, 2), np.float32)
    with pytest.raises(ValueError, match="forward, dh or dW"):
        _cython.Product(A, A, "backward")
    with pytest.raises(ValueError, match=r"mmx.*scalar"):
        _cython.Product(A, A, "forward", "mmx")


def test_the_peak_is_measured_on_every_instruction_set():
    for isa, dtype in itertools.product(ISAS, DTYPES):
        assert _cython.fma_peak(1, dtype, isa, seconds=0.003) > 0
