"""Users' own activations and losses, from plain Python functions of single numbers.

    @fastnn.activation
    def snake(a, frequency=1.0):
        return a + math.sin(frequency * a) ** 2 / frequency

    fastnn.MLP((4, 32, 1), activation="snake", output="identity")
    fastnn.MLP((4, 32, 1), activation=snake(frequency=2.0), output="identity")

A function may use arithmetic, comparisons, conditions and loops, the functions of math and NumPy
that `duals.RULES` and `duals.OTHER_NAMES` list, and other such functions. Arguments with defaults
are its parameters. The derivative is made by dual numbers unless it is given; then the two are
compared.

The reference backend calls the functions; Numba compiles them for the two others.
"""

from __future__ import annotations

import importlib
import inspect
import math
import pickle
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

from . import duals
from .losses import Loss
from .network import ACTIVATIONS, LOSSES, OUTPUTS_OF_CUSTOM_LOSS, number
from .once import once

# Where a function is tried and a given derivative is compared with it: small and large, both signs,
# no kink of a usual function (0, 1, 6, ...) among them.
GRID = tuple(
    sign * size
    for size in (1e-3, 0.013, 0.17, 0.71, 1.3, 2.9, 4.7, 8.3, 21.0, 97.0)
    for sign in (1, -1)
)
TOLERANCE = 1e-6


@dataclass(frozen=True, repr=False)
class Custom:
    """A registered function with values for its parameters; calling it gives it others."""

    base_name: str
    function: Callable[..., Any]
    derivative: Callable[..., Any] | None
    parameters: tuple[tuple[str, float], ...] = ()

    kind: ClassVar[str]
    n_arguments: ClassVar[int]

    @property
    def name(self) -> str:
        """snake, or snake(frequency=2.0): what files keep, and what stands for it everywhere."""
        values = ", ".join(f"{name}={value!r}" for name, value in self.parameters)
        return f"{self.base_name}({values})" if values else self.base_name

    def __repr__(self) -> str:
        return self.name

    def __call__(self, **parameters: float) -> Any:
        """The same with other values for some of its parameters."""
        values = dict(self.parameters)
        for name, value in parameters.items():
            if name not in values:
                known = ", ".join(values) or "none"
                raise TypeError(f"{self.base_name} has no parameter {name!r}; it has: {known}")
            values[name] = number(value, name)
        new = replace(self, parameters=tuple(values.items()))
        new.check()
        return new

    @property
    def values(self) -> tuple[float, ...]:
        """Of the parameters."""
        return tuple(value for _, value in self.parameters)

    @once
    def with_slope(self) -> Callable[..., tuple[float, float]]:
        """(value, derivative with respect to the first argument) at single numbers, in float64."""
        both, values = duals.with_slope(self.function), self.values
        if self.derivative is None:
            return lambda *x: both(*x, *values)
        given = duals.with_slope(self.derivative)
        return lambda *x: (both(*x, *values)[0], given(*x, *values)[0])

    def check(self) -> None:
        """ValueError where a given derivative is not that of the function, with the point.

        A point alone, right on either side, is a kink: any slope will do there. Where the function
        is NaN or infinite nothing is compared.
        """
        for point in self.points() if self.derivative else ():
            if self._is_wrong(point) and all(
                self._is_wrong((point[0] * (1 + shift), *point[1:])) for shift in (1e-3, -1e-3)
            ):
                value, expected, given = self._both_slopes(point)
                arguments = ", ".join(f"{x:g}" for x in point)
                raise ValueError(
                    f"the derivative given for {self.name} is wrong: at ({arguments}) it is "
                    f"{given!r}, but the function, {value!r} there, has the slope {expected!r}"
                )

    def _both_slopes(self, point: tuple[float, ...]) -> tuple[float, float, float]:
        """The value, its slope by dual numbers, and as it is used."""
        value, exact = duals.with_slope(self.function)(*point, *self.values)
        return value, exact, self.with_slope(*point)[1]

    def _is_wrong(self, point: tuple[float, ...]) -> bool:
        value, expected, given = self._both_slopes(point)
        if not math.isfinite(value) or not (math.isfinite(expected) or math.isfinite(given)):
            return False
        return not abs(given - expected) <= TOLERANCE * max(abs(expected), abs(given), 1.0)

    def points(self) -> list[tuple[float, ...]]:
        """Where it is tried."""
        return [(x,) for x in GRID]

    def __deepcopy__(self, memo: Any) -> Any:
        """Nothing of it changes."""
        return self

    def __reduce__(self) -> Any:
        """By reference, where the function can be imported; else as Numba's cloudpickle has it."""
        functions = _portable(self.function, self), _portable(self.derivative, self)
        rest = (getattr(self, field.name) for field in fields(self)[3:])
        return _restored, (type(self), self.base_name, *functions, *rest)


class Activation(Custom):
    """See `fastnn.activation`."""

    kind = "activation"
    n_arguments = 1


@dataclass(frozen=True, repr=False)
class CustomLoss(Custom, Loss):  # type: ignore[override]
    """See `fastnn.loss`. A sum over the outputs, of any output but softmax."""

    kind = "loss"
    n_arguments = 2
    output: str = "identity"

    def points(self) -> list[tuple[float, ...]]:
        return [(f, y) for f in GRID for y in (0.3, 2.1, -0.9)]


_registered: dict[str, dict[str, Any]] = {"activation": {}, "loss": {}}


def activation(
    f: Callable[..., Any] | None = None,
    derivative: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
) -> Any:
    """Register g(a, parameters...) as an activation; also a decorator, with or without arguments.

    f           a function of one number; further arguments need defaults, and are its parameters
    derivative  g'(a, the same parameters); None: made by dual numbers. At a kink, either slope.
    name        None: that of the function. Registering a name again replaces what it was.

    Returns an `Activation`, which `MLP` takes wherever it takes a name, and which called with
    parameters gives one with those. Raises ValueError for a name that is not an identifier or is a
    built-in one, and for a derivative that is wrong, with the point and both values; TypeError for
    a function that is none, takes other arguments, or uses what it may not.
    """
    return _register(Activation, f, derivative, name)


def loss(
    f: Callable[..., Any] | None = None,
    derivative: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    output: str = "identity",
) -> Any:
    """Register l(f, y, parameters...) as a loss: one output's part of it; their sum is the loss.

    derivative  dl/df(f, y, the same parameters); None: made by dual numbers
    output      identity, sigmoid or exp, else ValueError: what `fastnn.sklearn.MLPRegressor` gives
                its network for this loss. An `MLP` may have any of the three with it.

    The rest as for `activation`.
    """
    if output not in OUTPUTS_OF_CUSTOM_LOSS:
        known = ", ".join(OUTPUTS_OF_CUSTOM_LOSS)
        raise ValueError(f"unknown output {output!r} of a custom loss; known: {known}")
    return _register(CustomLoss, f, derivative, name, output=output)


def find(kind: str, text: str) -> Any:
    """What a name like snake or snake(frequency=2.0) stands for; None if it is not registered."""
    match = re.fullmatch(r"(\w+)(?:\((.*)\))?", text)
    found = _registered[kind].get(match[1]) if match else None
    if found is None or match is None or not match[2]:
        return found
    pairs = (pair.partition("=") for pair in match[2].split(","))
    try:
        return found(**{name.strip(): float(value) for name, _, value in pairs})
    except ValueError:
        raise ValueError(f"{text!r} is not {kind}(parameter=number, ...)") from None


def unknown(kind: str, given: object, built_in: Sequence[str]) -> ValueError:
    """The error for what is neither built in nor registered."""
    names = ", ".join((*built_in, *_registered[kind]))
    return ValueError(
        f"unknown {kind} {given!r}; known: {names}. "
        f"One of your own has to be registered in this process (fastnn.{kind})"
    )


def _register(cls: type[Custom], f: Any, derivative: Any, name: str | None, **settings: Any) -> Any:
    if f is None:
        return lambda f: _register(cls, f, derivative, name, **settings)
    if not callable(f) or not (derivative is None or callable(derivative)):
        raise TypeError(f"{cls.kind} takes Python functions, got {f!r} and {derivative!r}")
    name = getattr(f, "__name__", "") if name is None else name
    if not isinstance(name, str) or not re.fullmatch(r"[^\W\d]\w*", name):
        raise ValueError(f"a custom {cls.kind} needs a name that is an identifier, got {name!r}")
    if name in (ACTIVATIONS if cls.kind == "activation" else LOSSES):
        raise ValueError(f"{name!r} is a built-in {cls.kind}; choose another name")
    new = cls(name, f, derivative, _parameters(f, cls, name), **settings)
    try:
        for point in new.points():
            new.with_slope(*point)
    except (AttributeError, RecursionError, TypeError) as error:
        raise TypeError(f"{name} cannot be differentiated: {error}") from error
    new.check()
    _registered[cls.kind][name] = new
    return new


def _parameters(f: Any, cls: type[Custom], name: str) -> tuple[tuple[str, float], ...]:
    given = list(inspect.signature(f).parameters.values())
    needed, rest = given[: cls.n_arguments], given[cls.n_arguments :]
    simple = all(p.kind is p.POSITIONAL_OR_KEYWORD for p in given)
    if len(needed) < cls.n_arguments or not simple or any(p.default is p.empty for p in rest):
        wanted = "one number" if cls.n_arguments == 1 else "f and y"
        raise TypeError(
            f"{name} must be a function of {wanted} and of parameters with defaults, "
            f"got {name}{inspect.signature(f)}"
        )
    return tuple((p.name, number(p.default, p.name)) for p in rest)


# ---- for the compiled backend ----


def compiled_activation(name: str, dtype: Any) -> tuple[int, int]:
    """Addresses of the C functions of g and of its derivative (fnn_activation in csrc/fastnn.h)."""
    blocks = _numba_blocks()
    g, slope = blocks.activation(name, dtype)
    return blocks.address(g), blocks.address(slope)


def compiled_loss(loss: Any, output: str, dtype: Any) -> int:
    """The address of the C function of a loss's terms (fnn_targets)."""
    blocks = _numba_blocks()
    return int(blocks.address(blocks.loss(loss, output, dtype)))


def _numba_blocks() -> Any:
    try:
        import numba  # noqa: F401
    except ImportError:
        raise ImportError(
            "custom activations and losses are compiled by Numba; pip install 'fastnn-cpu[numba]', "
            "or use backend='numpy'"
        ) from None
    from .backends._numba import blocks

    return blocks


# ---- pickles ----


def _portable(function: Any, owner: Custom) -> Any:
    """What stands for a function in a pickle: (module, qualified name), or bytes.

    Bytes also for those of __main__, which is another module in a worker process.
    """
    if function is None:
        return None
    module, name = function.__module__, function.__qualname__
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    can_be_imported = found is function or getattr(found, "function", None) is function
    if can_be_imported and module != "__main__":
        return module, name
    try:
        from numba import cloudpickle
    except ImportError:
        if can_be_imported:
            return module, name
        raise pickle.PicklingError(
            f"{owner.name}: {name} cannot be imported from {module}; define it with def at the top "
            "of a module, or install Numba (pip install 'fastnn-cpu[numba]')"
        ) from None
    return cloudpickle.dumps(function)


def _unpacked(portable: Any) -> Any:
    if isinstance(portable, bytes):
        return pickle.loads(portable)
    if portable is None:
        return None
    found: Any = importlib.import_module(portable[0])
    for part in portable[1].split("."):
        found = getattr(found, part)
    return getattr(found, "function", found)


def _restored(cls: type[Custom], name: str, f: Any, derivative: Any, *rest: Any) -> Any:
    """Also registers it where nothing has the name, as in a worker process."""
    new = cls(name, _unpacked(f), _unpacked(derivative), *rest)
    _registered[cls.kind].setdefault(name, new)
    return new
