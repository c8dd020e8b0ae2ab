"""The settings and the data of a run in words, so that two runs can be compared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .mlp import MLP
    from .training import Plan

    Array = NDArray[Any]

# An array of at most so many bytes is described by the hash of all of it, a larger one by that of
# rows which make up about so many bytes: they lie evenly from the first to the last.
SAMPLE_BYTES = 32 * 2**20
# What of a plan may differ from one part of a run to the next, or is described apart.
FREE = ("training", "validation", "options", "epochs", "max_seconds", "callbacks", "check")


def settings_of(net: MLP, plan: Plan) -> dict[str, str]:
    """What must be the same for a run to go on to the same bits, by the names of fit's arguments.

    The number of threads, the instruction set, the number of epochs and max_seconds may differ.
    """
    network, training = net.network, plan.training
    settings: dict[str, Any] = {
        "layer_sizes": network.layer_sizes,
        "activation": network.activations,
        "output": network.output,
        "dtype": network.dtype.name,
        "seed": net.seed,
        "backend": net.backend,
    }
    for part in (plan, plan.options, training):
        settings |= {f.name: getattr(part, f.name) for f in fields(part) if f.name not in FREE}
    if plan.validation is not None:
        for f in fields(plan.validation):
            array = getattr(plan.validation, f.name)
            if array is not getattr(training, f.name):  # it is where both are parts of one array
                settings[f"validation {f.name}"] = array
    settings["metrics"] = tuple(plan.metrics)  # their names
    keeping = [_describe_members(c, c.settings) for c in plan.callbacks if c.keeps_state]
    described = {name: describe(value) for name, value in settings.items()}
    return described | {"callbacks that keep a state": ", ".join(keeping) or "none"}


def differences(theirs: dict[str, str], ours: dict[str, str]) -> list[str]:
    """A line for every setting that is not the same."""
    return [
        f"{name}: {theirs.get(name, 'none')} in the checkpoint, {ours.get(name, 'none')} here"
        for name in ours | theirs
        if theirs.get(name) != ours.get(name)
    ]


def describe(value: Any) -> str:
    """The value in words that are the same in another process: no addresses, arrays by a hash.

    A function is described by its name: what it does is not looked at.
    """
    if isinstance(value, np.ndarray):
        return fingerprint(value)
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if isinstance(value, tuple | list):
        return f"({', '.join(map(describe, value))})"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {describe(value[key])}' for key in value)}}}"
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    names = [f.name for f in fields(value)] if is_dataclass(value) else sorted(vars(value))
    return _describe_members(value, [name for name in names if not name.startswith("_")])


def _describe_members(value: Any, names: Iterable[str]) -> str:
    members = ", ".join(f"{name}={describe(getattr(value, name))}" for name in names)
    return f"{type(value).__name__}({members})"


def fingerprint(array: Array) -> str:
    """dtype, shape, and a hash of all of the array or, above SAMPLE_BYTES, of a sample of rows."""
    rows = array
    if array.nbytes > SAMPLE_BYTES:
        n = max(2, SAMPLE_BYTES * len(array) // array.nbytes)
        rows = array[np.linspace(0, len(array) - 1, n).astype(np.int64)]
    digest = hashlib.sha256(np.ascontiguousarray(rows).data).hexdigest()
    return f"{array.dtype} {array.shape} with hash {digest[:16]}"
