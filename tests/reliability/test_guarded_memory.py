"""The kernels alone, in programs of tests/csrc, on memory that is guarded or far away."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import fastnn
from fastnn.network import DTYPES

CSRC = Path(__file__).resolve().parents[1] / "csrc"
ISAS = fastnn.available_isas()
# As released, and with undefined behaviour made fatal.
RELEASED, CHECKED = "-O3", "-O1 -fsanitize=undefined -fno-sanitize-recover=all"

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="mmap's flags are those of Linux"),
    pytest.mark.compiled,
]

Compile = Callable[[str], Path]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """The folder of the programs of tests/csrc under some flags, compiled once for all tests."""
    folders: dict[str, Path] = {}

    def compile_once(flags: str) -> Path:
        if flags not in folders:
            folders[flags] = tmp_path_factory.mktemp("programs")
            call = f'compile "$CC" {folders[flags]} "guarded far_indices" {flags}'
            environment = {**os.environ, "CC": os.environ.get("CC", "gcc")}
            subprocess.run(
                ["bash", "-ec", f"source {CSRC}/compile.sh && {call}"], check=True, env=environment
            )
        return folders[flags]

    return compile_once


def output_of(*command: object) -> str:
    run = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


def long(*values: object) -> object:
    return pytest.param(*values, marks=pytest.mark.long)


@pytest.mark.parametrize(
    ("flags", "sizes"), [("-O1", "edges"), long(RELEASED, "all"), long(CHECKED, "all")]
)
def test_kernels_touch_nothing_beside_their_buffers(
    compiled: Compile, flags: str, sizes: str, tally: Callable[..., None]
) -> None:
    """No kernel reads or writes a byte outside of its buffers, whatever the sizes."""
    program = compiled(flags) / "guarded"
    assert output_of(program).split() == ISAS
    for isa in ISAS:
        for dtype in DTYPES:
            line = output_of(program, isa, f"f{dtype[-2:]}", sizes)
            words = line.replace(",", "").split()
            tally("networks", int(words[words.index("cases") - 1]))
            tally("guarded buffers", int(words[words.index("buffers") - 1]))
            tally("kernel sets")


def test_kernels_find_weights_beyond_2_to_the_32(
    compiled: Compile, tally: Callable[..., None]
) -> None:
    """Kernels that work on panels or tiles find weights beyond 2³² elements."""
    program = compiled("-O1") / "far_indices"
    for isa in ISAS:
        for dtype in DTYPES:
            assert "4356000000 weights" in output_of(program, isa, f"f{dtype[-2:]}")
            tally("kernel sets")
