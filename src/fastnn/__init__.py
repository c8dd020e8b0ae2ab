"""fastnn: multilayer perceptrons, trained and served fast on CPUs.

Public names are imported when they are first used, so that `import fastnn` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import callbacks as callbacks
    from . import datasets as datasets
    from . import losses as losses
    from . import metrics as metrics
    from . import optimizers as optimizers
    from . import schedules as schedules
    from .backends import available_backends as available_backends
    from .backends import available_isas as available_isas
    from .backends import show_config as show_config
    from .custom import activation as activation
    from .custom import loss as loss
    from .files import ModelFileError as ModelFileError
    from .files import load as load
    from .mlp import MLP as MLP
    from .training import DivergenceError as DivergenceError

    __version__: str

_SUBMODULES = ("callbacks", "datasets", "losses", "metrics", "optimizers", "schedules")
_HOMES = {
    "MLP": "mlp",
    "load": "files",
    "ModelFileError": "files",
    "DivergenceError": "training",
    "available_backends": "backends",
    "available_isas": "backends",
    "show_config": "backends",
    "activation": "custom",
    "loss": "custom",
}

__all__ = [
    "MLP",
    "DivergenceError",
    "ModelFileError",
    "__version__",
    "activation",
    "available_backends",
    "available_isas",
    "callbacks",
    "datasets",
    "load",
    "loss",
    "losses",
    "metrics",
    "optimizers",
    "schedules",
    "show_config",
]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f".{name}", __name__)
    if name in _HOMES:
        value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    elif name == "__version__":
        value = _version()
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("fastnn-cpu")
    except PackageNotFoundError:  # the source tree on sys.path, not installed
        return "0+unknown"
