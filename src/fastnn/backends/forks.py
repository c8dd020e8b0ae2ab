"""Whether this process is the child of a fork, and what the backends make of it.

A fork takes only the thread that calls it along. GNU OpenMP, which the compiled backend and Numba
share, would wait for the others for ever: so in a child the compiled backend leads its teams from
new threads, and the Numba backend goes on with one thread. The bits are the same.
"""

from __future__ import annotations

import os

is_child = False  # of a process in which fastnn was loaded


def _after_fork_in_child() -> None:
    global is_child
    is_child = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
