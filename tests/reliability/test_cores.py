"""fastnn takes no more cores than the process may use."""

import os
import subprocess
import sys

import numpy as np
import pytest

import fastnn
from fastnn import backends
from fastnn.backends.cores import cpu_count

# cpu.max, or cpu.cfs_quota_us and cpu.cfs_period_us, of the folders below sys/fs/cgroup; what
# /proc/self/cgroup says; the cores that come of it.
CASES = {
    "no limit, version 2": ({"": "max 100000"}, "0::/", 64),
    "version 2": ({"": "200000 100000"}, "0::/", 2),
    "rounded down": ({"": "250000 100000"}, "0::/", 2),
    "less than one": ({"": "50000 100000"}, "0::/", 1),
    "another period": ({"": "30000 10000"}, "0::/", 3),
    "own group": ({"a.slice/b.service": "300000 100000"}, "0::/a.slice/b.service", 3),
    "group above": (
        {"a": "200000 100000", "a/b": "max 100000", "a/b/c": "400000 100000"},
        "0::/a/b/c",
        2,
    ),
    "group beside": ({"a": "200000 100000", "b": "300000 100000"}, "0::/b", 3),
    "the host's path, in a container": ({"": "200000 100000"}, "0::/docker/0123", 2),
    "outside of what is mounted": ({"": "max 100000"}, "0::/../../a", 64),
    "no control groups": ({}, None, 64),
    "nonsense": ({"": "many"}, "0::/", 64),
    "no limit, version 1": ({"cpu": ("-1", "100000")}, "4:cpu:/", 64),
    "version 1": ({"cpu": ("200000", "100000")}, "4:cpu:/", 2),
    "version 1, own group": (
        {"cpu,cpuacct": ("-1", "100000"), "cpu,cpuacct/docker/0123": ("150000", "50000")},
        "3:memory:/docker/0123\n4:cpu,cpuacct:/docker/0123\n0::/",
        3,
    ),
    "version 1, in a container": (
        {"cpu": ("200000", "100000")},
        "4:cpu,cpuacct:/docker/0123\n1:name=systemd:/",
        2,
    ),
    "cpuset is not cpu": ({"cpuset": ("200000", "100000")}, "4:cpuset:/", 64),
}


@pytest.mark.parametrize(("groups", "own", "cores"), CASES.values(), ids=CASES)
def test_quota_of_control_groups(groups, own, cores, tmp_path, monkeypatch, tally):
    """The number of threads chosen is not above the quota of the process's control groups."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)), raising=False)
    for folder, limits in groups.items():
        place = tmp_path / "sys/fs/cgroup" / folder
        place.mkdir(parents=True, exist_ok=True)
        if isinstance(limits, str):
            (place / "cpu.max").write_text(limits + "\n")
        else:
            (place / "cpu.cfs_quota_us").write_text(limits[0] + "\n")
            (place / "cpu.cfs_period_us").write_text(limits[1] + "\n")
    if own is not None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(own + "\n")
    assert cpu_count(str(tmp_path)) == cores
    tally("settings")


needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system has no affinity"
)


@needs_affinity
def test_affinity(compiled_backend, tally):
    """The number of threads chosen is not above the cores of the affinity mask, and follows it."""
    network = fastnn.MLP((4, 3)).network
    engine = backends.load(compiled_backend).Engine
    before = os.sched_getaffinity(0)
    try:
        for cores in (sorted(before)[:1], before):
            os.sched_setaffinity(0, cores)
            assert engine(network, None).n_threads <= len(cores)
            tally("masks")
    finally:
        os.sched_setaffinity(0, before)


# The most tasks of the process that a thread of Python sees while another fits and predicts.
TASKS = """
import os, sys, threading
import numpy as np, fastnn

os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
rng = np.random.default_rng(0)
X, y = rng.normal(size=(2000, 300)), rng.integers(0, 9, 2000)
most, done = 0, threading.Event()

def work():
    net = fastnn.MLP((300, 400, 9))
    net.fit(X, y, epochs=2)
    net.predict(X)
    done.set()

before = len(os.listdir("/proc/self/task"))
threading.Thread(target=work).start()
while not done.is_set():
    most = max(most, len(os.listdir("/proc/self/task")))
print(most - before - 1)
"""


@needs_affinity
def test_threads_of_a_process_on_one_core(tally):
    """On one core, a fit and a prediction large enough for many threads start none."""
    if not os.path.isdir("/proc/self/task"):
        pytest.skip("this system does not show a process's threads")
    code = [sys.executable, "-c", TASKS]
    assert subprocess.run(code, capture_output=True, check=True, text=True).stdout == "0\n"
    tally("processes")


def test_a_number_given_is_kept(compiled_backend):
    """A number of threads that the user gives is the user's: more than cores are allowed."""
    net = fastnn.MLP((4, 3), n_threads=2 * cpu_count() + 1, backend=compiled_backend)
    assert net._engine().n_threads == 2 * cpu_count() + 1
    assert np.isfinite(net.forward(np.ones((5, 4)))).all()
