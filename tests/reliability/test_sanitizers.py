"""The extension built with sanitizers, and what they report. The builds alone take minutes."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from reliability import instrumented

ROOT = instrumented.ROOT
THREADS = Path(__file__).resolve().with_name("threads.py")
ADDRESS = "-fsanitize=address,undefined -fno-omit-frame-pointer -g1"

pytestmark = pytest.mark.long


def reports_in(folder: Path) -> str:
    return "\n".join(file.read_text(errors="replace") for file in sorted(folder.glob("report.*")))


def test_the_whole_suite_under_address_and_undefined_behaviour_sanitizers(
    tmp_path: Path, tally: Callable[..., None]
) -> None:
    """AddressSanitizer and UndefinedBehaviorSanitizer report nothing over the whole suite."""
    python = instrumented.build(tmp_path / "asan", {"CC": "gcc", "CFLAGS": ADDRESS})
    reports = f"log_path={tmp_path / 'report'}"
    environment = {
        **os.environ,
        "LD_PRELOAD": " ".join(map(instrumented.library, ("libasan.so", "libstdc++.so"))),
        # Python itself gives back little of what it holds at its end
        "ASAN_OPTIONS": f"detect_leaks=0:{reports}",
        "UBSAN_OPTIONS": f"print_stacktrace=1:{reports}",
    }
    instrumented.check_that_it_is_used(python, environment, "__asan_report", "__ubsan_handle")
    tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--ignore=tests/reliability", "tests"]
    run = subprocess.run(
        [python, *tests], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    found = reports_in(tmp_path)
    assert not found, found[:5000]
    assert run.returncode == 0, run.stdout[-5000:]
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed is not None
    tally("tests", int(passed[1]))


def test_the_team_of_threads_under_thread_sanitizer(
    tmp_path: Path, tally: Callable[..., None]
) -> None:
    """ThreadSanitizer, with Archer for OpenMP, finds no race in training or predicting."""
    archer = instrumented.archer()
    if archer is None:
        pytest.skip("needs clang, its compiler-rt, and libomp with libarcher")
    flags = "-fsanitize=thread -g1"
    python = instrumented.build(tmp_path / "tsan", {"CC": "clang", "CFLAGS": flags})
    python = instrumented.interpreter_with_thread_sanitizer(python)
    environment = {
        **os.environ,
        "OMP_TOOL_LIBRARIES": archer,
        "ARCHER_OPTIONS": "verbose=1",
        # NumPy and libomp are not instrumented: their own accesses are not seen
        "TSAN_OPTIONS": f"ignore_noninstrumented_modules=1:log_path={tmp_path / 'report'}",
    }
    instrumented.check_that_it_is_used(python, environment, "__tsan_read")
    # without random addresses, which the sanitizer's fixed ones may collide with
    run = subprocess.run(
        ["setarch", "-R", python, THREADS], env=environment, capture_output=True, text=True
    )
    found = reports_in(tmp_path)
    assert "WARNING: ThreadSanitizer" not in found, found[:5000]
    assert run.returncode == 0, run.stderr[-5000:]
    assert "Archer detected OpenMP application with TSan" in run.stderr + run.stdout + found
    tally("fits by teams of 2, 3 and 4 threads", int(run.stdout.split()[-1]))
