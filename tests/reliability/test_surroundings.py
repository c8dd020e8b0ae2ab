"""What belongs to the process, and fastnn leaves as it is; and other libraries beside it."""

import contextlib
import ctypes
import importlib.util
import platform
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastnn

N_THREADS = 3
N_SETTINGS = 9
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(600, 40)), RNG.integers(0, 5, 600)
BAD = np.full((3, 40), np.nan)


def expect_error(call):
    def raises(net):
        with pytest.raises(ValueError, match=r"NaN|become"):
            call(net)

    return raises


CALLS = {
    "fit": lambda net: net.fit(X, Y, epochs=2, batch_size=50),
    "fit with all": lambda net: net.fit(
        X, Y, epochs=1, dropout=0.2, clip_norm=1.0, l2=1e-3, validation=0.2, optimizer="sgd"
    ),
    "fit by L-BFGS": lambda net: net.fit(X, Y, epochs=2, optimizer="lbfgs"),
    "train_on_batch": lambda net: net.train_on_batch(X, Y),
    "loss_and_gradients": lambda net: net.loss_and_gradients(X, Y),
    "evaluate": lambda net: net.evaluate(X, Y),
    "predict": lambda net: net.predict(X),
    "predict one": lambda net: net.forward(X[:1]),
    "fit that fails": expect_error(lambda net: net.fit(BAD, [0, 1, 2])),
    "fit that diverges": expect_error(
        lambda net: net.fit(X, Y, epochs=50, optimizer="sgd", learning_rate=1e30)
    ),
    "predict that fails": expect_error(lambda net: net.forward(BAD)),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


def model(sizes=(40, 300, 5), **settings):
    return fastnn.MLP(sizes, n_threads=N_THREADS, **settings)


@pytest.fixture(scope="session")
def threads(tmp_path_factory):
    """tests/reliability/threads.c, loaded."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to look at the threads with")
    if platform.machine().lower() not in ("x86_64", "amd64", "aarch64", "arm64"):
        pytest.skip("threads.c does not know this processor's control word")
    library = tmp_path_factory.mktemp("threads") / "threads.so"
    source = Path(__file__).with_name("threads.c")
    subprocess.run(
        [compiler, "-O1", "-fopenmp", "-shared", "-fPIC", source, "-o", library], check=True
    )
    loaded = ctypes.CDLL(str(library))
    loaded.get_control_word.restype = ctypes.c_uint64
    loaded.set_control_word.argtypes = [ctypes.c_uint64]
    return loaded


def settings_of_openmp(threads):
    settings = (ctypes.c_int * N_SETTINGS)()
    threads.get_settings(settings)
    return list(settings)


def control_words(threads):
    words = (ctypes.c_uint64 * N_THREADS)()
    threads.get_control_words(N_THREADS, words)
    return list(words)


@every_call
def test_openmp_settings(call, threads, tally):
    """OpenMP's settings (threads, schedule, nesting, limits) are as before after every call."""
    before = settings_of_openmp(threads)
    call(model())
    assert settings_of_openmp(threads) == before
    tally("settings", N_SETTINGS)


@every_call
def test_control_words(call, threads, tally):
    """The floating-point control word of every thread is as before after every call."""
    before = control_words(threads)
    for sizes in ((40, 300, 5), (40, 12, 5)):  # prediction takes other ways for narrow ones
        call(model(sizes))
    assert control_words(threads) == before
    tally("threads", N_THREADS)


if platform.machine().lower() in ("x86_64", "amd64"):
    # flush to zero with denormals as zero; rounding up; traps for division by zero and overflow
    WORDS = {"denormals": 0x9FC0, "rounding up": 0x5F80, "traps": 0x1980}
else:
    WORDS = {"denormals": 1 << 24, "rounding up": 1 << 22}


@contextlib.contextmanager
def control_word(threads, word):
    before = threads.get_control_word()
    threads.set_control_word(word)
    try:
        yield
    finally:
        threads.set_control_word(before)


@pytest.mark.parametrize("word", WORDS.values(), ids=WORDS)
def test_other_control_words(word, threads, compiled_backend, tally):
    """Under another control word of the caller's, forward gives the same bits and leaves it."""
    net = model()
    parts = X, X[:1], X[:, :40]
    expected = [net.forward(part).tobytes() for part in parts]
    with control_word(threads, word):
        found = [net.forward(part).tobytes() for part in parts]
        after = threads.get_control_word()
    assert found == expected
    assert after == word
    tally("calls", len(parts))


@every_call
def test_numpy_error_state(call, backend, tally):
    """NumPy's error state is as before after every call."""
    with np.errstate(divide="raise", over="warn", under="print", invalid="call", call=print):
        before = np.geterr(), np.geterrcall()
        with np.errstate(all="ignore"):
            inner = np.geterr()
            call(model(backend=backend))
            assert np.geterr() == inner
        assert (np.geterr(), np.geterrcall()) == before
    tally("calls")


def signals_of_process():
    numbers = sorted(signal.valid_signals())
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return [signal.getsignal(number) for number in numbers], blocked, signal.getitimer(0)


@every_call
def test_signals(call, backend, tally):
    """Signal handlers, blocked signals and timers are as before after every call."""
    before = signals_of_process()
    call(model(backend=backend))
    assert signals_of_process() == before
    tally("signals", len(signal.valid_signals()))


# ---- other libraries ----

OTHERS = {
    "torch": """
import torch
torch.set_num_threads(2)
def other():
    generator = torch.Generator().manual_seed(0)
    A = torch.randn(300, 300, generator=generator, requires_grad=True)
    (A @ A).tanh().sum().backward()
    return A.grad.numpy()
""",
    "sklearn": """
from sklearn.cluster import KMeans
def other():
    return KMeans(5, n_init=1, max_iter=3, tol=0.0, random_state=0).fit(X).cluster_centers_
""",
    "numba": """
import numba
@numba.njit(parallel=True)
def rows(A):
    sums = np.zeros(len(A))
    for i in numba.prange(len(A)):
        sums[i] = np.sin(A[i]).sum()
    return sums
def other():
    return rows(X)
""",
}
HERE = """
import fastnn
def here():
    net = fastnn.MLP((40, 300, 5), n_threads=2)
    net.fit(X, y, epochs=2)
    return net.forward(X).tobytes()
"""
DATA = """
import hashlib
import numpy as np
rng = np.random.default_rng(0)
X, y = rng.normal(size=(600, 40)), rng.integers(0, 5, 600)
"""
BOTH = """
first = other()
results = []
for _ in range(3):
    results.append(here())
    np.testing.assert_allclose(other(), first, rtol=1e-4, atol=1e-6)
assert len(set(results)) == 1
print(hashlib.sha256(results[0]).hexdigest())
"""
ALONE = "print(hashlib.sha256(here()).hexdigest())"


def output_of(code):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        check=False,
        timeout=600,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("comes", ["before", "after"])
@pytest.mark.parametrize("library", OTHERS)
def test_beside_another_library(library, comes, tally):
    """Beside PyTorch, scikit-learn or Numba, whichever comes first, the bits are the same.

    They work in turns, on threads; the other's results stay the same, too.
    """
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    parts = [OTHERS[library], HERE] if comes == "before" else [HERE, OTHERS[library]]
    assert output_of("".join([DATA, *parts, BOTH])) == output_of(DATA + HERE + ALONE)
    tally("turns", 3)
