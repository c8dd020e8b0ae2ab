"""The Numba backend: same bits for any threads, batch split and CPU; its threads beside others'."""

import hashlib
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import fastnn
from fastnn import backends

pytest.importorskip("numba", reason="the numba backend is not installed")

LIMIT_SECONDS = 300


def fitted(n_threads, dtype="float32", layers=(49, 97, 33, 11), n=150, batch_size=33, **settings):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(n, layers[0])), rng.integers(0, layers[-1], n)
    net = fastnn.MLP(layers, "gelu", dtype=dtype, backend="numba", n_threads=n_threads, seed=5)
    net.fit(X, y, epochs=2, batch_size=batch_size, **settings)
    return net, X, y


def digest(net):
    return hashlib.sha256(b"".join(a.tobytes() for a in net.weights + net.biases)).hexdigest()


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "sgd", "l2": 0.01, "l1": 0.001},
        {"optimizer": "adam", "dropout": 0.2, "clip_norm": 0.5},
        {"optimizer": "adam", "batch_size": None, "n": 2500},
        {"layers": (3, 10), "batch_size": 1},
        {"layers": (70, 300, 2), "batch_size": 129, "n": 400},
    ],
    ids=str,
)
def test_threads_change_no_bit(dtype, settings):
    digests = {digest(fitted(n_threads, dtype, **settings)[0]) for n_threads in (1, 2, 3, 5)}
    assert len(digests) == 1


def test_a_row_alone_in_a_batch_in_any_order(dtype):
    net, X, _ = fitted(2, dtype)
    expected = net.forward(X)
    for row in (0, 1, 33, 149):
        assert net.forward(X[row : row + 1]).tobytes() == expected[row].tobytes()
    for size in (2, 5, 31, 64, 65):
        parts = [net.forward(X[start : start + size]) for start in range(0, len(X), size)]
        assert np.concatenate(parts).tobytes() == expected.tobytes()
    order = np.random.default_rng(1).permutation(len(X))
    assert net.forward(X[order]).tobytes() == expected[order].tobytes()


def test_length_of_the_native_calls_does_not_show(dtype, monkeypatch):
    expected = digest(fitted(1, dtype, n=2500, batch_size=1100)[0])
    monkeypatch.setattr(fastnn.training, "SECONDS_PER_CALL", 0.0)
    assert digest(fitted(2, dtype, n=2500, batch_size=1100)[0]) == expected


def test_several_python_threads_predict_at_once():
    net, X, _ = fitted(2)
    expected, wrong = net.forward(X).tobytes(), []

    def predict():
        wrong.extend(i for i in range(20) if net.forward(X).tobytes() != expected)

    threads = [threading.Thread(target=predict) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_SECONDS)
    assert not any(thread.is_alive() for thread in threads)
    assert not wrong


# ---- in processes of their own ----


def run(code, **environment):
    """What the code prints, in a new process that has these tests on its path."""
    environment = os.environ | environment | {"PYTHONPATH": os.path.dirname(__file__)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


TRAIN = "from test_numba import *; print(digest(fitted({})[0]))"


def test_three_real_threads_change_no_bit():
    assert run(TRAIN.format(3), NUMBA_NUM_THREADS="3") == digest(fitted(1)[0])


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="names of x86-64's instruction sets")
def test_narrower_vectors_change_no_bit(tmp_path):
    """Other tiles, other panels: for a CPU with AVX2 and nothing wider."""
    features = "+avx,+avx2,+fma,+bmi,+bmi2,+sse4.2"
    given = run(
        TRAIN.format(2),
        NUMBA_CPU_NAME="haswell",
        NUMBA_CPU_FEATURES=features,
        NUMBA_CACHE_DIR=str(tmp_path),
    )
    assert given == digest(fitted(1)[0])


FORK = """
import os, signal
from test_numba import *

def work(backend, n_threads=2):
    rng = np.random.default_rng(0)
    X, y = rng.random((300, 70), dtype=np.float32), rng.integers(0, 3, 300)
    net = fastnn.MLP((70, 60, 3), backend=backend, n_threads=n_threads)
    net.fit(X, y, epochs=2)
    net.forward(X)
    return digest(net)

def in_child(backend):
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm({limit})
        os.write(write_end, work(backend).encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        result = pipe.read()
    assert os.waitpid(child, 0)[1] == 0, backend
    return result

here = {{backend: work(backend) for backend in {order}}}
for backend in ("numba", "cython"):
    assert in_child(backend) == work(backend), backend
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.skipif("cython" not in fastnn.available_backends(), reason="needs both backends")
@pytest.mark.parametrize(
    "order", [("numba", "cython"), ("cython", "numba"), ("numba",), ("cython",)], ids=str
)
def test_beside_the_compiled_backend_with_forks(order):
    assert run(FORK.format(order=order, limit=LIMIT_SECONDS)) == "done"


def test_the_users_settings_of_numba_stay():
    code = """
from test_numba import *
import numba
numba.config.THREADING_LAYER = "workqueue"
before = numba.config.THREADING_LAYER
fitted(2)
assert numba.threading_layer() == "omp"
assert numba.config.THREADING_LAYER == before
assert numba.get_num_threads() == numba.config.NUMBA_NUM_THREADS
print("done")
"""
    assert run(code) == "done"


def test_another_threading_layer_in_use_is_a_clear_error():
    code = """
from test_numba import *
import numba
numba.config.THREADING_LAYER = "workqueue"
numba.get_num_threads()
fitted(1)
try:
    fitted(2)
except RuntimeError as error:
    print(error)
"""
    printed = run(code)
    assert "OpenMP threading layer" in printed
    assert "'workqueue' is in use" in printed
    assert "NUMBA_THREADING_LAYER=omp" in printed


def test_a_missing_openmp_layer_is_a_clear_error():
    code = """
import sys
from test_numba import *
import numba
sys.modules["numba.np.ufunc.omppool"] = None
try:
    fitted(2)
except RuntimeError as error:
    print(error)
print(digest(fitted(1)[0]))
"""
    message, given = run(code).splitlines()
    assert "OpenMP threading layer" in message
    assert "could not be loaded" in message
    assert "n_threads=1" in message
    assert given == digest(fitted(1)[0])


def test_numba_is_not_imported_until_it_is_asked_for():
    code = """
import sys, fastnn
net = fastnn.MLP((2, 3, 2))
net.forward([[1.0, 2.0]])
fastnn.show_config("dicts")
print(net.backend, "numba" in sys.modules)
"""
    expected = "cython" if "cython" in fastnn.available_backends() else "numpy"
    assert run(code) == f"{expected} False"


def test_a_missing_numba_is_an_import_error(monkeypatch):
    monkeypatch.setattr(backends, "_numba_is_installed", lambda: False)
    with pytest.raises(ImportError, match=r"pip install 'fastnn-cpu\[numba\]'"):
        fastnn.MLP((2, 2), backend="numba")
    assert "numba" not in fastnn.available_backends()
