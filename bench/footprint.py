"""Start-up time, memory and size, of fastnn and its peers: python -m bench.footprint [--wheel FILE]

The exit status is 1 if fastnn passes one of its limits.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from bench.peers import Peer
from bench.rounds import known_peers
from bench.tables import markdown

TIMED = "import time; begin = time.perf_counter(); {}; print(time.perf_counter() - begin)"
IMPORTS = {
    "numpy": TIMED.format("import numpy"),
    "fastnn": TIMED.format("import numpy, fastnn"),
    "fastnn with MLP and all it needs": TIMED.format("import numpy, fastnn; fastnn.MLP((2, 2))"),
}

# A process of its own, so that its peak is that of loading and training and of nothing else.
TRAINING = """
from bench.racers import peak_bytes
from fastnn import MLP, datasets
arrays = datasets.load_mnist(download=False)
MLP((784, 128, 10)).fit(arrays[0], arrays[1], epochs=2, validation=arrays[2:])
print(sum(array.nbytes for array in arrays), peak_bytes())
"""
LIMIT_IMPORT_MS = 20
LIMIT_MEMORY_MB = 80
LIMIT_WHEEL_MB = 2.5

FIRST_STEP_ROW = "784-128-10-b128-adam"
FIRST_PREDICTION_ROW = "predict 784-128-10 batch 1"  # imports a peer that does not train
RACERS = Path(__file__).parent / "racers"
STARTS = 5  # of every peer, for its import and first step


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


def own_figures(rounds: int, wheel: Path | None) -> list[tuple[str, float, float | None, str]]:
    """What fastnn itself is held to: (what, figure, limit or None, unit)."""
    rows: list[tuple[str, float, float | None, str]] = []
    times = import_milliseconds(rounds)
    rows.append(("import numpy", times.pop("numpy"), None, "ms"))
    for name, time in times.items():
        limit = LIMIT_IMPORT_MS if name == "fastnn" else None
        rows.append((f"import {name}, beyond numpy", time, limit, "ms"))
    data, peak = map(int, run(TRAINING).split())
    rows.append(("MNIST as uint8", data / 1e6, None, "MB"))
    beyond = (peak - data) / 1e6
    rows.append(("peak memory of training on it, beyond it", beyond, LIMIT_MEMORY_MB, "MB"))
    if wheel:
        rows.append(("wheel", wheel.stat().st_size / 1e6, LIMIT_WHEEL_MB, "MB"))
    return rows


# ---- peers


def required(name: str, found: dict[str, Distribution]) -> dict[str, Distribution]:
    """The distribution `name` and all that it needs, extras left out, added to `found`."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    if canonicalize_name(name) in found:
        return found
    dist = distribution(name)
    found[canonicalize_name(name)] = dist
    for line in dist.requires or []:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            required(requirement.name, found)
    return found


def sizes(dist: Distribution) -> Iterator[int]:
    """Bytes of every installed file, bytecode left out: it need not be there."""
    for file in dist.files or []:
        path = Path(str(dist.locate_file(file)))
        if path.suffix != ".pyc" and path.is_file():
            yield path.stat().st_size


def installed_megabytes(name: str, wheel: Path | None) -> tuple[float, float] | None:
    """Of the distribution alone, and with all that it needs; None where it lives elsewhere.

    An editable install has its files elsewhere: then they are those of the wheel, if one is given.
    """
    found = required(name, {})
    own = found.pop(next(iter(found)))
    origin = json.loads(own.read_text("direct_url.json") or "{}")
    if not origin.get("dir_info", {}).get("editable"):
        alone = sum(sizes(own))
    elif wheel:
        alone = sum(info.file_size for info in zipfile.ZipFile(wheel).infolist())
    else:
        return None
    return alone / 1e6, (alone + sum(sum(sizes(dist)) for dist in found.values())) / 1e6


def first_step_seconds(name: str, row: str) -> tuple[float, float]:
    """Import, and the first step of the row, in a new process; making the data does not count."""
    command = [sys.executable, "-m", f"bench.peers.{name}"]
    line = f"row {row}\n"
    done = subprocess.run(command, input=line, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    return answer["import_seconds"], answer["first_step_seconds"]


def training_megabytes(name: str) -> float:
    """Peak memory of a process that reads MNIST and trains 784-256-10 for an epoch."""
    command = [sys.executable, "-m", f"bench.racers.{name}", "--epochs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["peak_bytes"] / 1e6


def peer_figures(name: str, peer: Peer, wheel: Path | None) -> dict[str, Any]:
    """The figures of one library, None for what it does not have; or {"gap": why}."""
    about: dict[str, Any] = {"peer": name, "title": peer.title, "gap": ""}
    try:
        distribution(peer.version_of)
    except PackageNotFoundError:
        return about | {"gap": "not installed"}
    megabytes = installed_megabytes(peer.version_of, wheel)
    about["alone_mb"], about["installed_mb"] = megabytes or (None, None)
    about["import_s"] = about["first_step_s"] = about["training_mb"] = None
    try:
        row = FIRST_STEP_ROW if peer.train is not None else FIRST_PREDICTION_ROW
        n = 1 if peer.slow_start else STARTS
        starts = [first_step_seconds(name, row) for _ in range(n)]
        about["import_s"] = statistics.median(start[0] for start in starts)
        if peer.train is not None:
            about["first_step_s"] = statistics.median(sum(start) for start in starts)
        if (RACERS / f"{name}.py").exists():
            about["training_mb"] = training_megabytes(name)
    except subprocess.CalledProcessError as error:
        return about | {"gap": (error.stderr.strip().splitlines() or ["failed"])[-1]}
    return about


def peers_table(rows: list[dict[str, Any]]) -> str:
    """One line per library."""
    columns = {
        "import_s": ("import", "{:.2f} s"),
        "first_step_s": (f"import and first step of {FIRST_STEP_ROW}", "{:.2f} s"),
        "alone_mb": ("its own files", "{:.1f} MB"),
        "installed_mb": ("with all it needs", "{:.0f} MB"),
        "training_mb": ("peak memory, an epoch of MNIST", "{:.0f} MB"),
    }
    lines = []
    for row in rows:
        if row["gap"]:
            lines.append([row["title"], f"gap: {row['gap']}", *["-"] * (len(columns) - 1)])
            continue
        figures = [
            "-" if row[key] is None else form.format(row[key]) for key, (_, form) in columns.items()
        ]
        lines.append([row["title"], *figures])
    return markdown(["", *(title for title, _ in columns.values())], lines)


def main() -> None:
    """Measures and prints Markdown tables; status 1 if a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=31, help="imports of each kind")
    parser.add_argument("--wheel", type=Path, help="of fastnn, for its sizes")
    names = list(known_peers())
    parser.add_argument("--peers", nargs="*", choices=names, default=names, help="default: all")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    args = parser.parse_args()
    rows = own_figures(args.rounds, args.wheel)
    lines = [
        [what, f"{figure:.1f} {unit}", "-" if limit is None else f"{limit:g} {unit}"]
        for what, figure, limit, unit in rows
    ]
    print(markdown(["fastnn", "measured", "at most"], lines), flush=True)
    peers = {name: peer for name, peer in known_peers().items() if name in args.peers}
    figures = [peer_figures(name, peer, args.wheel) for name, peer in peers.items()]
    if figures:
        print(f"\n{peers_table(figures)}")
    if args.json:
        own = [dict(zip(("what", "figure", "limit", "unit"), row, strict=True)) for row in rows]
        args.json.write_text(json.dumps({"fastnn": own, "peers": figures}, indent=1) + "\n")
    sys.exit(any(limit is not None and figure > limit for _, figure, limit, _ in rows))


if __name__ == "__main__":
    main()
