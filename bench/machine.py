"""What the machine can do and what else it is doing while we measure."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable
from pathlib import Path

import fastnn


def n_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


class Others:
    """CPU time that everybody but us uses; a hypervisor's steal counts as others' too."""

    def __init__(self, pids: Iterable[int] = ()) -> None:
        self._pids = list(pids)
        self._start, self._before = time.perf_counter(), self._seconds()

    def busy_cores(self) -> float:
        """Mean number of cores kept busy by others since this object was made."""
        return max(0.0, self._seconds() - self._before) / (time.perf_counter() - self._start)

    def _seconds(self) -> float:
        ticks = os.sysconf("SC_CLK_TCK")
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields)
        everybody = (user + nice + system + irq + softirq + steal) / ticks
        ours = sum(os.times()[:4])  # with the children that have ended
        for pid in self._pids:
            stat = Path(f"/proc/{pid}/stat")
            if stat.exists():
                # after the name in brackets, which may contain spaces: fields 14 and 15
                fields = stat.read_text().rpartition(")")[2].split()
                ours += (int(fields[11]) + int(fields[12])) / ticks
        return everybody - ours


def fma_peak(n_threads: int, dtype: str = "float32") -> float | None:
    """GFLOP/s of multiply-adds, measured now; None without the compiled backend."""
    try:
        from fastnn.backends import _cython
    except ImportError:
        return None
    return float(_cython.fma_peak(n_threads, dtype))


def round_trip() -> float | None:
    """Seconds from one core to another and back, measured now; None without the compiled backend
    or a second core.
    """
    try:
        from fastnn.backends import _cython
    except ImportError:
        return None
    return float(_cython.round_trip()) if n_cores() > 1 else None


def instruction_set() -> str:
    """The one that fastnn takes here; "" without the compiled backend."""
    isas = fastnn.available_isas()
    return os.environ.get("FASTNN_ISA") or (isas[-1] if isas else "")


def describe() -> str:
    """One line on the CPU, the Python and the load."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpu = models[0] if models else platform.machine()
    isa = instruction_set()
    load = "/".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{cpu}{f' with {isa}' if isa else ''}, {n_cores()} cores, "
        f"Python {platform.python_version()}, load average {load}"
    )
