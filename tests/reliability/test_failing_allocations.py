"""What happens when there is no memory."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SHIM = HERE.parent / "csrc" / "failing_allocations.c"
OPERATIONS = (
    "fit",
    "fit-with-validation",
    "fit-in-parts",
    "fit-sparse",
    "train-on-batch",
    "gradients",
    "predict",
    "predict-one",
    "predict-sparse",
    "evaluate",
    "construct",
    "save-and-load",
)

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the failing allocator is glibc's"),
    pytest.mark.compiled,  # NumPy's BLAS and Numba crash where they get no memory
]


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("shim") / "failing_allocations.so"
    compiler = [os.environ.get("CC", "gcc"), "-shared", "-fPIC", "-O1", "-Wall", "-Werror"]
    subprocess.run([*compiler, SHIM, "-o", library, "-ldl"], check=True)
    return library


def fail_in_turn(shim: Path, operation: str, n_threads: int, stride: int) -> tuple[int, int, int]:
    """How many allocations failed; how often that was a MemoryError; how often in other words."""
    command = [sys.executable, HERE / "fail_allocations.py", operation, str(n_threads), str(stride)]
    # every object of Python's in a malloc of its own
    environment = {**os.environ, "LD_PRELOAD": str(shim), "PYTHONMALLOC": "malloc"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    failed, raised, in_other_words = map(int, run.stdout.split())
    return failed, raised, in_other_words


@pytest.mark.parametrize(
    ("stride", "n_threads"),
    [(41, 1), (41, 2), *(pytest.param(1, n, marks=pytest.mark.long) for n in (1, 2))],
)
def test_an_operation_without_memory_raises_and_the_model_goes_on(
    shim: Path, stride: int, n_threads: int, tally: Callable[..., None]
) -> None:
    """Whichever allocation fails: MemoryError, and the same model then computes the same bits."""
    for operation in OPERATIONS:
        failed, raised, in_other_words = fail_in_turn(shim, operation, n_threads, stride)
        assert raised > 0, operation
        # CPython and NumPy have a few places that raise another exception for it
        assert in_other_words <= 2 + failed // 10, operation
        tally("failed allocations", failed)
        tally("MemoryErrors", raised)
        tally("said in other words by CPython or NumPy", in_other_words)
