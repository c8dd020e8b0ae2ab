"""Who may change a model, over threads and forks."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .model import Model

# Held while the parameters of a model, whichever, are copied in or out. One lock for all of them,
# so that a fork can wait for it: a child never finds parameters of which a thread that it does not
# have has copied half, nor a lock that this thread holds for ever.
PARAMETERS = threading.RLock()

# The models that change at this moment, each with the thread that does it.
_changing: dict[Model, list[int]] = {}


@contextmanager
def alone(net: Model, refusal: str) -> Iterator[None]:
    """Nothing else may train `net` or assign its weights meanwhile: RuntimeError(refusal)."""
    turn = [threading.get_ident()]  # one that is no other's
    try:
        if _changing.setdefault(net, turn) is not turn:
            raise RuntimeError(refusal)
        yield
    finally:
        if _changing.get(net) is turn:
            del _changing[net]


def _after_fork_in_child() -> None:
    """What other threads of the parent were doing, nobody does here."""
    for net, (thread,) in list(_changing.items()):
        if thread != threading.get_ident():
            del _changing[net]
            net._batches = None  # its engine may be in the middle of a step
    PARAMETERS.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=PARAMETERS.acquire,
        after_in_parent=PARAMETERS.release,
        after_in_child=_after_fork_in_child,
    )
