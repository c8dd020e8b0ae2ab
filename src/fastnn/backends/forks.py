"""What the backends know of one another's threads when a process forks.

A fork takes only the thread that calls it along. GNU OpenMP, which the compiled backend and Numba
share, would wait for the others for ever: so in a child the compiled backend leads its teams from
new threads, and the Numba backend goes on with one thread. The bits are the same.
"""

from __future__ import annotations

import os

used_by_numba = False  # whether Numba has started OpenMP's threads in this process
is_child = False  # of a process in which fastnn was loaded


def _after_fork_in_child() -> None:
    global is_child
    is_child = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
