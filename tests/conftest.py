"""What the tests run over: every backend x instruction set x dtype, from the lists of names.

A row of ENGINES is "numpy", "numba" or "cython-<instruction set>". The compiled rows exist only
where the extension is built; test_backends.py fails where it is not, so nothing is left out in
silence. FASTNN_PURE=1 says that it is meant to be absent, as in the pure-Python wheel: then what is
about the extension alone is left out: COMPILED_ONLY, the tests marked `compiled`, and those that
force instruction sets.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn.network import DTYPES

COMPILED_ONLY = ["test_kernels.py", "test_zeros.py", "reliability/test_elementary.py"]
IS_PURE = bool(os.environ.get("FASTNN_PURE"))
collect_ignore = COMPILED_ONLY if IS_PURE else []

ISAS = fastnn.available_isas()
COMPILED = [f"cython-{isa}" for isa in ISAS]
ENGINES = [name for name in fastnn.available_backends() if name != "cython"] + COMPILED
N = 6  # samples of good_X and good_y


def _is_compiled_only(item: pytest.Item) -> bool:
    fixtures = getattr(item, "fixturenames", ())
    marked = item.get_closest_marker("compiled") is not None
    return marked or "force_isa" in fixtures or "compiled_backend" in fixtures


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if IS_PURE:
        config.hook.pytest_deselected(items=[item for item in items if _is_compiled_only(item)])
        items[:] = [item for item in items if not _is_compiled_only(item)]


def use_engine(name: str, environment: pytest.MonkeyPatch) -> str:
    """Force the row's instruction set; returns its backend's name."""
    backend, _, isa = name.partition("-")
    if isa:
        environment.setenv("FASTNN_ISA", isa)
    return backend


@pytest.fixture(params=["zlib", "isal.isal_zlib"])
def inflater(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both readers of gzip, whichever the loaders take."""
    monkeypatch.setattr(fastnn.datasets, "zlib", importlib.import_module(request.param))


@pytest.fixture(params=[False, True], ids=["narrow", "wide"])
def core(request: pytest.FixtureRequest) -> Iterator[None]:
    """Both kinds of core, whatever this one is."""
    from fastnn.backends import _kernels

    before = _kernels.set_wide_core(request.param)
    yield
    _kernels.set_wide_core(before)


@pytest.fixture(autouse=True)
def environment() -> Iterator[pytest.MonkeyPatch]:
    """No settings from outside; what a test sets here is undone.

    Not pytest's own monkeypatch: pytest-run-parallel takes that for a sign that a test cannot run
    in several threads.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in ("FASTNN_BACKEND", "FASTNN_ISA", "FASTNN_NUM_THREADS", "FASTNN_SKIP_ZEROS"):
            patch.delenv(name, raising=False)
        yield patch


@pytest.fixture(params=ENGINES)
def backend(request: pytest.FixtureRequest, environment: pytest.MonkeyPatch) -> str:
    """The backend's name, over every backend x instruction set."""
    return use_engine(request.param, environment)


@pytest.fixture(params=COMPILED)
def compiled_backend(request: pytest.FixtureRequest, environment: pytest.MonkeyPatch) -> str:
    """The backend's name, over the compiled backend's instruction sets."""
    return use_engine(request.param, environment)


@pytest.fixture(params=DTYPES)
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def force_isa(environment: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Choose the instruction set of the engines that are made from now on."""
    return lambda isa: environment.setenv("FASTNN_ISA", isa)


@pytest.fixture
def net(backend, dtype):
    """3-4-2 softmax; the test must leave it as it was, and usable."""
    net = fastnn.MLP((3, 4, 2), dtype=dtype, backend=backend)
    before = [array.copy() for array in net.weights + net.biases]
    yield net
    for array, copy in zip(net.weights + net.biases, before, strict=True):
        np.testing.assert_array_equal(array, copy)
    assert net.epochs_trained == 0
    net.fit(good_X(), good_y(), epochs=1, learning_rate=0.1)
    assert net.epochs_trained == 1
    assert np.isfinite(net.forward(good_X())).all()


@pytest.fixture
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for the disk; test_files.py has that a file is on it before it gets its name."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Callable[..., None]:
    """tally("files", 20): twenty more of the things that this test has tried.

    For the rows of docs/reliability.md, which tools/reliability.py writes: the first paragraph of a
    test's docstring is the promise it keeps. The counts of all its parameters add up. (Here, since
    a second conftest.py would be what `from conftest import ...` finds.)
    """

    def add(what: str, n: int = 1) -> None:
        request.node.user_properties.append((what, n))

    return add


def targets(loss: str, n: int, n_out: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Targets that suit the loss, (n, n_out) float64; the cross-entropies get soft labels."""
    rng = np.random.default_rng(seed)
    if loss in ("cross_entropy", "grouped_cross_entropy"):
        y = rng.random((n, n_out)) + 0.05
        return y / y.sum(axis=1, keepdims=True)
    if loss == "binary_cross_entropy":
        return rng.integers(0, 2, (n, n_out)).astype(float)
    if loss == "poisson":
        return rng.poisson(2.0, (n, n_out)).astype(float)
    return rng.normal(size=(n, n_out))


def blobs(n=120, n_in=4, n_classes=3, seed=0):
    """Overlapping clouds: classes that can be learned but not separated."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, n_classes, n)
    return rng.normal(size=(n_classes, n_in))[y] + rng.normal(size=(n, n_in)), y


def good_X(n=N):
    return np.random.default_rng(0).normal(size=(n, 3))


def good_y(n=N):
    return np.arange(n) % 2


def parameters(net):
    return [array.copy() for array in net.weights + net.biases]


def assert_close(net, expected, rtol):
    for given, array in zip(net.weights + net.biases, expected, strict=True):
        np.testing.assert_allclose(given, array, rtol=rtol, atol=rtol)


def flat_of(net):
    """All parameters, as engines have them."""
    arrays = [array.ravel() for pair in zip(net.weights, net.biases, strict=True) for array in pair]
    return np.concatenate(arrays)


def assert_a_nan_changes_nothing(layers, X, y, batch_size):
    """Found in a later batch by a team of two, it leaves the weights from before."""
    X = X.copy()
    X[150, 3] = np.nan
    net = fastnn.MLP(layers, n_threads=2)
    before = flat_of(net)
    with pytest.raises(ValueError, match="NaN"):
        net.fit(X, y, epochs=1, batch_size=batch_size, shuffle=False)
    assert_has(net, before)


def assert_has(net, flat):
    """The net's parameters are these, bit for bit."""
    assert np.array_equal(flat_of(net), flat)
