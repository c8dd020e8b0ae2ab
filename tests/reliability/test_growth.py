"""What a process holds does not grow with what it has done."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import fastnn

SCRIPT = Path(__file__).resolve().with_name("growth.py")


@pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc")
@pytest.mark.parametrize("backend", fastnn.available_backends())
def test_nothing_grows_with_use(backend: str, tally: Callable[..., None]) -> None:
    """Memory, threads and files do not grow over 2,000 predictions, 200 fits, 500 errors."""
    run = subprocess.run(
        [sys.executable, SCRIPT, backend], check=True, capture_output=True, text=True
    )
    for name, growth in json.loads(run.stdout).items():
        n = growth["n"]
        assert growth["threads"] == 0, (name, growth)
        assert growth["files"] == 0, (name, growth)
        # The smallest block is 32 bytes: it would show if one in four calls lost it. Python's lists
        # of free objects fill up slowly: some 50 in 500 errors of nine kinds, none after 2,000.
        assert growth["malloc"] < 8 * n, (name, growth)
        assert growth["objects"] < n / 4, (name, growth)
        assert growth["resident"] < 4 << 20, (name, growth)
        tally(name, growth["rounds"] * n)
