"""Dual numbers: a value and its slope, carried through a function together (forward mode).

f(Dual(x, 1)) is f(x) and f'(x), by the rules of differentiation, exact but for rounding. The rules
are functions of any pair of numbers with `value` and `slope`; the Numba backend compiles the same
ones. `rebound` gives a user's function these in place of math's and NumPy's.

Griewank and Walther, Evaluating Derivatives (2008), chapter 3.
"""

from __future__ import annotations

import builtins
import functools
import math
import operator
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


class Dual:
    """value + slope * epsilon, epsilon^2 = 0: both np.float64, which overflow to infinity."""

    __slots__ = ("slope", "value")

    def __init__(self, value: Any, slope: Any = 0.0) -> None:
        self.value, self.slope = np.float64(value), np.float64(slope)

    def __bool__(self) -> bool:
        return bool(self.value != 0)

    def __float__(self) -> float:
        raise TypeError("a custom function may use arithmetic, comparisons, and functions of math")

    def __neg__(self) -> Any:
        return negative(self)

    def __pos__(self) -> Dual:
        return self

    def __abs__(self) -> Any:
        return absolute(self)


def dual(x: Any) -> Any:
    """x as a dual number: one of its own kind stays, a constant has no slope."""
    return x if isinstance(x, Dual) else Dual(x)


def like(x: Dual, value: Any, slope: Any) -> Dual:
    """A dual number of x's kind."""
    return Dual(value, slope)


class _Base:
    """The functions of plain numbers that the rules are made of."""

    exp, expm1, log, log1p, sqrt, tanh = np.exp, np.expm1, np.log, np.log1p, np.sqrt, np.tanh
    sinh, cosh, sin, cos, atan, pow = np.sinh, np.cosh, np.sin, np.cos, np.arctan, np.power
    erf = staticmethod(math.erf)

    @staticmethod
    def times(x: Any, y: Any) -> Any:
        return x * y if x != 0 and y != 0 else 0.0

    @staticmethod
    def select(condition: Any, x: Any, y: Any) -> Any:
        return x if condition else y

    @staticmethod
    def one(x: Any) -> float:
        return 1.0

    @staticmethod
    def two_over_root_pi(x: Any) -> float:
        return 2 / math.sqrt(math.pi)


base = _Base()


# ---- rules: each takes dual numbers and returns one. Numba binds `like` and `base` to its own ----
#
# Factors of slopes are multiplied by base.times, for which zero times infinity or NaN is zero
# (ForwardDiff.jl has it as its NaN-safe mode): where 1 / (1 + e^-a) is 0 because e^-a has
# overflowed, so is its slope, and not NaN.


def chain(x: Any, value: Any, derivative: Any) -> Any:
    """g(x), of value g(x.value) and derivative g'(x.value)."""
    return like(x, value, base.times(x.slope, derivative))


def add(x: Any, y: Any) -> Any:
    return like(x, x.value + y.value, x.slope + y.slope)


def subtract(x: Any, y: Any) -> Any:
    return like(x, x.value - y.value, x.slope - y.slope)


def multiply(x: Any, y: Any) -> Any:
    slope = base.times(x.slope, y.value) + base.times(y.slope, x.value)
    return like(x, x.value * y.value, slope)


def divide(x: Any, y: Any) -> Any:
    quotient = x.value / y.value
    return like(x, quotient, (x.slope - base.times(y.slope, quotient)) / y.value)


def negative(x: Any) -> Any:
    return like(x, -x.value, -x.slope)


def choose(condition: Any, x: Any, y: Any) -> Any:
    """x if condition else y, without a branch."""
    value = base.select(condition, x.value, y.value)
    return like(x, value, base.select(condition, x.slope, y.slope))


def absolute(x: Any) -> Any:
    return choose(x.value < 0, negative(x), x)


def power(x: Any, y: Any) -> Any:
    """x^y; the slope in y counts where x > 0, as elsewhere no power is differentiable in y."""
    value = base.pow(x.value, y.value)
    in_x = base.times(y.value, base.pow(x.value, y.value - base.one(x.value)))
    slope = base.times(x.slope, in_x)
    if y.slope != 0:
        slope = slope + base.times(y.slope, base.times(value, base.log(x.value)))
    return like(x, value, slope)


def exp(x: Any) -> Any:
    e = base.exp(x.value)
    return chain(x, e, e)


def expm1(x: Any) -> Any:
    return chain(x, base.expm1(x.value), base.exp(x.value))


def log(x: Any) -> Any:
    return chain(x, base.log(x.value), base.one(x.value) / x.value)


def log1p(x: Any) -> Any:
    return chain(x, base.log1p(x.value), base.one(x.value) / (base.one(x.value) + x.value))


def sqrt(x: Any) -> Any:
    root = base.sqrt(x.value)
    return chain(x, root, base.one(x.value) / (root + root))


def tanh(x: Any) -> Any:
    t = base.tanh(x.value)
    return chain(x, t, base.one(x.value) - t * t)


def sinh(x: Any) -> Any:
    return chain(x, base.sinh(x.value), base.cosh(x.value))


def cosh(x: Any) -> Any:
    return chain(x, base.cosh(x.value), base.sinh(x.value))


def sin(x: Any) -> Any:
    return chain(x, base.sin(x.value), base.cos(x.value))


def cos(x: Any) -> Any:
    return chain(x, base.cos(x.value), -base.sin(x.value))


def atan(x: Any) -> Any:
    return chain(x, base.atan(x.value), base.one(x.value) / (base.one(x.value) + x.value * x.value))


def erf(x: Any) -> Any:
    density = base.exp(-x.value * x.value) * base.two_over_root_pi(x.value)
    return chain(x, base.erf(x.value), density)


def maximum(x: Any, y: Any) -> Any:
    """The larger one, x of two equal ones; NaN if either is, unlike Python's."""
    return choose((x.value < y.value) | (y.value != y.value), y, x)


def minimum(x: Any, y: Any) -> Any:
    return choose((x.value > y.value) | (y.value != y.value), y, x)


RULES: dict[str, Callable[..., Any]] = {
    rule.__name__: rule
    for rule in (
        add, subtract, multiply, divide, negative, absolute, power, exp, expm1, log, log1p, sqrt,
        tanh, sinh, cosh, sin, cos, atan, erf, maximum, minimum,
    )
}  # fmt: skip
OPERATORS: dict[Callable[..., Any], str] = {
    operator.add: "add",
    operator.sub: "subtract",
    operator.mul: "multiply",
    operator.truediv: "divide",
    operator.pow: "power",
}
COMPARISONS = (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne)
# What a user may call a rule of another name.
OTHER_NAMES = {
    "fabs": "absolute", "abs": "absolute", "max": "maximum", "min": "minimum", "fmax": "maximum",
    "fmin": "minimum", "pow": "power", "arctan": "atan", "negative": "negative",
}  # fmt: skip
CONSTANTS = {"pi": math.pi, "e": math.e, "inf": math.inf, "nan": math.nan}


def functions(rule_named: Callable[[str], Any]) -> tuple[types.ModuleType, dict[Any, Any]]:
    """What takes the place of the modules math and numpy in a user's function, and of their
    functions by themselves: rule_named("exp") for exp, and so on."""
    module = types.ModuleType("fastnn_functions")
    names = {name: name for name in RULES} | OTHER_NAMES
    for name, rule in names.items():
        setattr(module, name, rule_named(rule))
    for name, value in CONSTANTS.items():
        setattr(module, name, value)
    replaced = {
        getattr(home, name): getattr(module, name)
        for home in (math, np, builtins)
        for name in names
        if hasattr(home, name)
    }
    return module, replaced


def rebound(
    function: Callable[..., Any],
    module: types.ModuleType,
    replaced: Mapping[Any, Any],
    wrap: Callable[[Any], Any] = lambda function: function,
) -> Callable[..., Any]:
    """The function with the replacements in place of what it finds in its globals and closure.

    wrap  is applied to the Python functions that it calls, which are rebound as well
    """
    function = getattr(function, "py_func", function)  # one that Numba has compiled already

    def new(value: Any) -> Any:
        if value is math or value is np:
            return module
        try:
            if value in replaced:
                return replaced[value]
        except TypeError:  # not hashable
            return value
        value = getattr(value, "py_func", value)
        if isinstance(value, types.FunctionType):
            return wrap(rebound(value, module, replaced, wrap))
        return value

    scope = {**vars(builtins), **function.__globals__}
    names = _names(function.__code__)
    globals_ = {"__builtins__": builtins, "__name__": function.__module__}
    globals_ |= {name: new(scope[name]) for name in names if name in scope}
    cells = tuple(types.CellType(new(cell.cell_contents)) for cell in function.__closure__ or ())
    copy = types.FunctionType(
        function.__code__, globals_, function.__name__, function.__defaults__, cells
    )
    copy.__qualname__, copy.__kwdefaults__ = function.__qualname__, function.__kwdefaults__
    return copy


def _names(code: types.CodeType) -> set[str]:
    inner = (c for c in code.co_consts if isinstance(c, types.CodeType))
    return set(code.co_names).union(*(_names(c) for c in inner))


def _of_two(rule: Callable[..., Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The methods of an operator, x on the left and x on the right."""
    return (lambda x, y: rule(x, dual(y))), (lambda x, y: rule(dual(y), x))


def _comparison(compare: Callable[..., bool]) -> Callable[..., bool]:
    return lambda x, y: bool(compare(x.value, dual(y).value))


for _operator, _rule in OPERATORS.items():
    _left, _right = _of_two(RULES[_rule])
    setattr(Dual, f"__{_operator.__name__}__", _left)
    setattr(Dual, f"__r{_operator.__name__}__", _right)
for _operator in COMPARISONS:
    setattr(Dual, f"__{_operator.__name__}__", _comparison(_operator))


def _of_any(name: str) -> Callable[..., Any]:
    """A rule that also takes plain numbers, and more than two for maximum and minimum."""
    rule = RULES[name]

    def function(*args: Any) -> Any:
        duals = [dual(x) for x in args]
        return functools.reduce(rule, duals) if len(duals) > 1 else rule(*duals)

    return function


_MODULE, _REPLACED = functions(_of_any)


def with_slope(f: Callable[..., Any]) -> Callable[..., tuple[float, float]]:
    """g(x, ...) = (f(x, ...), df/dx) in float64, x and the rest being numbers."""
    function = rebound(f, _MODULE, _REPLACED)

    def both(x: float, *rest: Any) -> tuple[float, float]:
        with np.errstate(all="ignore"):
            result = dual(function(Dual(x, 1.0), *rest))
        return float(result.value), float(result.slope)

    return both
