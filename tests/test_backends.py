"""Choosing a backend: an explicit choice works or raises."""

import os
import subprocess
import sys
import sysconfig

import numpy as np
import pytest
from conftest import IS_PURE

import fastnn
from fastnn import backends
from fastnn.network import Network


def test_the_compiled_extension_is_built():
    """Without it every compiled row of the suite would be missing, so that is an error.

    FASTNN_PURE=1 says that the missing extension is meant; then it must be missing.
    """
    if IS_PURE:
        assert fastnn.available_backends() == ["numpy", "numba"]
    else:
        assert fastnn.available_backends() == list(backends.BACKENDS)
        assert "scalar" in fastnn.available_isas()


def test_every_available_backend_loads_and_has_the_interface(backend):
    module = backends.load(backend)
    engine = module.Engine(Network((2, 3), output="softmax"), None)
    for name in ("set_parameters", "get_parameters", "penalty", "forward", "forward_and_loss"):
        assert callable(getattr(engine, name))
    for name in ("loss_and_gradients", "start", "train"):
        assert callable(getattr(engine, name))
    assert engine.n_threads >= 1
    assert engine.isa == os.environ.get("FASTNN_ISA", "")


def engine_with(flat, network, backend):
    engine = backends.load(backend).Engine(network, None)
    engine.set_parameters(flat)
    return engine


def test_an_engine_says_whether_its_parameters_are_finite(backend, dtype):
    """Whichever of them it is that is not, those of a last panel's few columns too."""
    network = Network((3, 17, 2), output="identity", dtype=dtype)
    largest = np.full(network.n_parameters, np.finfo(dtype).max, dtype)
    found = np.empty_like(largest)
    assert engine_with(largest, network, backend).get_parameters(found) is True
    assert found.tobytes() == largest.tobytes()
    for i in range(network.n_parameters):
        flat = largest.copy()
        flat[i] = (np.nan, np.inf, -np.inf)[i % 3]
        assert engine_with(flat, network, backend).get_parameters(found) is False
        assert found.tobytes() == flat.tobytes()


@pytest.mark.parametrize(("l2", "l1"), [(0.5, 0.0), (0.0, 0.25), (0.5, 0.25)])
@pytest.mark.parametrize("sizes", [(2, 3), (17, 97, 3), (300, 1)], ids=str)
def test_penalty_of_the_weights_without_the_biases(backend, dtype, sizes, l2, l1):
    network = Network(sizes, output="identity", dtype=dtype)
    flat = np.random.default_rng(1).normal(size=network.n_parameters).astype(dtype)
    W = [np.asarray(W, np.float64) for W in network.views(flat)[0]]
    expected = sum(l2 / 2 * (W**2).sum() + l1 * np.abs(W).sum() for W in W)
    # a sum of less than 2000 terms of one sign, with three roundings in each
    assert engine_with(flat, network, backend).penalty(l2, l1) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("asked", ["torch", "Numpy", "", "auto ", None, 3])
def test_unknown_backend_lists_the_known_ones(asked):
    with pytest.raises(ValueError, match=r"unknown backend .*known: numpy, cython, numba"):
        fastnn.MLP((2, 2), backend=asked)


def test_auto_follows_the_environment(monkeypatch):
    monkeypatch.setenv("FASTNN_BACKEND", "numpy")
    assert fastnn.MLP((2, 2)).backend == "numpy"
    monkeypatch.setenv("FASTNN_BACKEND", "nonsense")
    with pytest.raises(ValueError, match="unknown backend 'nonsense'"):
        fastnn.MLP((2, 2))


def test_an_explicit_backend_does_not_follow_the_environment(monkeypatch):
    monkeypatch.setenv("FASTNN_BACKEND", "nonsense")
    assert fastnn.MLP((2, 2), backend="numpy").backend == "numpy"


def test_a_backend_that_is_not_built_is_an_import_error(monkeypatch):
    monkeypatch.setattr(backends, "_cython_is_built", lambda: False)
    with pytest.raises(ImportError, match=r"cython backend is not built.*pip install"):
        fastnn.MLP((2, 2), backend="cython")
    assert "cython" not in fastnn.available_backends()
    assert fastnn.available_isas() == []
    assert fastnn.MLP((2, 2), backend="auto").backend == "numpy"


def test_unknown_isa_lists_the_known_ones(compiled_backend, monkeypatch):
    monkeypatch.setenv("FASTNN_ISA", "mmx")
    with pytest.raises(ValueError, match=r"mmx.*scalar"):
        fastnn.MLP((2, 2), backend=compiled_backend).forward(np.ones((1, 2)))


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5"])
def test_bad_thread_count_in_the_environment(monkeypatch, text):
    monkeypatch.setenv("FASTNN_NUM_THREADS", text)
    with pytest.raises(ValueError, match="FASTNN_NUM_THREADS must be a positive integer"):
        fastnn.MLP((2, 2)).forward(np.ones((1, 2)))


def test_thread_count_from_the_environment_and_the_argument(monkeypatch):
    monkeypatch.setenv("FASTNN_NUM_THREADS", "3")
    assert backends.threads(None) == 3
    assert backends.threads(2) == 2
    monkeypatch.delenv("FASTNN_NUM_THREADS")
    assert backends.threads(None) is None


@pytest.mark.parametrize("n_threads", [0, -2, True])
def test_bad_n_threads(n_threads):
    with pytest.raises(ValueError, match="n_threads must be an integer of at least 1"):
        fastnn.MLP((2, 2), n_threads=n_threads)


def test_show_config_prints_or_returns(capsys):
    config = fastnn.show_config("dicts")
    assert capsys.readouterr().out == ""
    assert config["backends"] == fastnn.available_backends()
    assert config["isas"] == fastnn.available_isas()
    assert config["threads"] >= 1
    assert fastnn.show_config() is None
    printed = capsys.readouterr().out
    assert all(name in printed for name in config)
    with pytest.raises(ValueError, match="unknown mode"):
        fastnn.show_config("json")


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python has a global lock"
)
def test_a_python_without_the_global_lock_stays_so():
    """An extension that does not declare that it can do without brings the lock back for all."""
    code = "import sys; from fastnn.backends import _cython; print(sys._is_gil_enabled())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout == "False\n"
