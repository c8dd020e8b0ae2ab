"""Import time, memory and size of fastnn: python -m bench.footprint [--wheel FILE]"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

from bench.tables import markdown

TIMED = "import time; begin = time.perf_counter(); {}; print(time.perf_counter() - begin)"
IMPORTS = {
    "numpy": TIMED.format("import numpy"),
    "fastnn": TIMED.format("import numpy, fastnn"),
    "fastnn with MLP and all it needs": TIMED.format("import numpy, fastnn; fastnn.MLP((2, 2))"),
}

# A process of its own, so that its peak is that of loading and training and of nothing else.
TRAINING = """
import pathlib
from fastnn import MLP, datasets
arrays = datasets.load_mnist(download=False)
MLP((784, 128, 10)).fit(arrays[0], arrays[1], epochs=2, validation=arrays[2:])
status = pathlib.Path("/proc/self/status").read_text().splitlines()
peak = next(line.split()[1] for line in status if line.startswith("VmHWM"))
print(sum(array.nbytes for array in arrays), int(peak) * 1024)
"""
LIMIT_IMPORT_MS = 20
LIMIT_MEMORY_MB = 80
LIMIT_WHEEL_MB = 2.5


def run(program: str) -> str:
    """What a new interpreter prints."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def import_milliseconds(rounds: int) -> dict[str, float]:
    """Median time of import numpy, and by how much each of the others exceeds it.

    The processes take turns, and differences are taken within a turn.
    """
    seconds: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for _ in range(rounds):
        for name, program in IMPORTS.items():
            seconds[name].append(float(run(program)))
    base = seconds.pop("numpy")
    beyond = {
        name: 1e3 * statistics.median(a - b for a, b in zip(values, base, strict=True))
        for name, values in seconds.items()
    }
    return {"numpy": 1e3 * statistics.median(base), **beyond}


def main() -> None:
    """Measures and prints a Markdown table; status 1 if a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=31, help="imports of each kind")
    parser.add_argument("--wheel", type=Path)
    args = parser.parse_args()
    # [what, figure, limit or None, unit]
    rows: list[tuple[str, float, float | None, str]] = []
    times = import_milliseconds(args.rounds)
    rows.append(("import numpy", times.pop("numpy"), None, "ms"))
    for name, time in times.items():
        limit = LIMIT_IMPORT_MS if name == "fastnn" else None
        rows.append((f"import {name}, beyond numpy", time, limit, "ms"))
    data, peak = map(int, run(TRAINING).split())
    rows.append(("MNIST as uint8", data / 1e6, None, "MB"))
    beyond = (peak - data) / 1e6
    rows.append(("peak memory of training on it, beyond it", beyond, LIMIT_MEMORY_MB, "MB"))
    if args.wheel:
        rows.append(("wheel", args.wheel.stat().st_size / 1e6, LIMIT_WHEEL_MB, "MB"))
    lines = [
        [what, f"{figure:.1f} {unit}", "-" if limit is None else f"{limit:g} {unit}"]
        for what, figure, limit, unit in rows
    ]
    print(markdown(["", "measured", "at most"], lines))
    sys.exit(any(limit is not None and figure > limit for _, figure, limit, _ in rows))


if __name__ == "__main__":
    main()
