"""`fastnn.duals` in Numba: the same rules, for a type of two float32 or float64.

A custom function is compiled with a dual number for its argument, also for its value alone: what
computes the unused slope is left out by LLVM, and constants take the type of the argument rather
than make all of it float64.
"""

from __future__ import annotations

import math
import operator
import types as python_types
from typing import Any

from llvmlite import binding as llvm
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.typeconv import Conversion
from numba.extending import (
    intrinsic,
    lower_cast,
    make_attribute_wrapper,
    models,
    overload,
    register_model,
)

from ... import duals
from . import elementary
from .intrinsics import select

# Inlined by LLVM whatever their size: a loop with calls in it has no vectors.
kernel = njit(error_model="numpy", forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)


class DualType(types.Type):
    """Of value and slope, both of one type of floating-point numbers."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(f"Dual({dtype})")

    def can_convert_from(self, typingctx: Any, other: Any) -> Any:
        return Conversion.safe if isinstance(other, types.Number | types.Boolean) else None

    def unify(self, typingctx: Any, other: Any) -> Any:
        return self if isinstance(other, types.Number | types.Boolean) else None


@register_model(DualType)
class DualModel(models.StructModel):
    def __init__(self, dmm: Any, kind: Any) -> None:
        super().__init__(dmm, kind, [("value", kind.dtype), ("slope", kind.dtype)])


make_attribute_wrapper(DualType, "value", "value")
make_attribute_wrapper(DualType, "slope", "slope")


def _make(context: Any, builder: Any, kind: Any, value: Any, slope: Any) -> Any:
    result = cgutils.create_struct_proxy(kind)(context, builder)
    result.value, result.slope = value, slope
    return result._getvalue()


@lower_cast(types.Number, DualType)
@lower_cast(types.Boolean, DualType)
def _number_to_dual(context: Any, builder: Any, number: Any, kind: Any, value: Any) -> Any:
    value = context.cast(builder, value, number, kind.dtype)
    return _make(context, builder, kind, value, context.get_constant(kind.dtype, 0))


@intrinsic
def make_dual(typingctx: Any, value: Any, slope: Any) -> Any:
    kind = DualType(value)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _make(context, builder, kind, *args)

    return kind(value, value), code


@intrinsic
def like(typingctx: Any, x: Any, value: Any, slope: Any) -> Any:
    """A dual number of x's kind."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _make(context, builder, x, args[1], args[2])

    return x(x, x.dtype, x.dtype), code


@intrinsic
def as_dual(typingctx: Any, x: Any, like: Any) -> Any:
    """x as a dual number of the kind of `like`."""
    kind = like if isinstance(like, DualType) else x

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.cast(builder, args[0], x, kind)

    return kind(x, like), code


# ---- functions of one plain number, of the whole range ----

_exp, _near_expm1, _normal_log, _tanh = (
    kernel(f.py_func) for f in (elementary.exp, elementary.expm1, elementary.log, elementary.tanh)
)


@kernel
def _log(x):
    small = x < elementary.least_normal(x)
    y = _normal_log(select(small, x * elementary.upscale(x), x))
    y = select(small, y - elementary.ln_upscale(x), y)
    y = select(x > elementary.greatest(x), x, y)  # infinity
    y = select(x == elementary.zero(x), -elementary.infinity(x), y)
    return select(x < elementary.zero(x), x - x + (y - y) / (y - y), y)


@kernel
def _expm1(x):
    limit = elementary.expm1_one(x)
    near = _near_expm1(select(x > limit, limit, x))
    return select(x > limit, _exp(x), near)


@kernel
def _log1p(x):
    """Kahan's: the rounding error of 1 + x is put back."""
    u = elementary.one(x) + x
    rest = (x - (u - elementary.one(x))) / u
    return select(x > elementary.greatest(x), x, _log(u) + select(rest == rest, rest, u - u))


def _of_libm(name: str) -> Any:
    """A function of the C library, number by number, under a name that LLVM does not know.

    LLVM might replace one it knows by Intel's SVML, in vectors but not in what is left over: then
    a number's bits would depend on its place.
    """

    @intrinsic
    def function(typingctx: Any, x: Any, *others: Any) -> Any:
        c_name = name + ("f" if x == types.float32 else "")
        llvm.add_symbol(f"fastnn_{c_name}", llvm.address_of_symbol(c_name))

        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            args = [args[0], *cgutils.unpack_tuple(builder, args[1])]
            kind = ir.FunctionType(args[0].type, [arg.type for arg in args])
            f = cgutils.get_or_insert_function(builder.module, kind, f"fastnn_{c_name}")
            # So that LLVM leaves out an unused slope. llvmlite does not know willreturn.
            f.attributes.update({"readnone", "nounwind", "willreturn"})
            return builder.call(f, args)

        return x(x, types.StarArgTuple(others)), code

    return function


@kernel
def _sqrt(x):
    return math.sqrt(x)


@kernel
def _times(x, y):
    is_zero = (x == elementary.zero(x)) | (y == elementary.zero(y))
    return select(is_zero, elementary.zero(x), x * y)


base = python_types.ModuleType("fastnn_base")
for _name, _function in {
    "exp": _exp, "expm1": _expm1, "log": _log, "log1p": _log1p, "tanh": _tanh,
    "sqrt": _sqrt, "times": _times, "select": select, "one": elementary.one,
    "two_over_root_pi": elementary.two_over_root_pi,
}.items():  # fmt: skip
    setattr(base, _name, _function)
for _name in ("sinh", "cosh", "sin", "cos", "atan", "erf", "pow"):
    setattr(base, _name, _of_libm(_name))


# ---- the rules, compiled ----

_scope: dict[str, Any] = {"base": base, "like": like}
for _rule in (duals.chain, duals.choose):
    _scope[_rule.__name__] = kernel(python_types.FunctionType(_rule.__code__, _scope))
for _name, _rule in duals.RULES.items():
    _scope[_name] = kernel(python_types.FunctionType(_rule.__code__, _scope, _name))


def _is_dual(*kinds: Any) -> bool:
    return any(isinstance(kind, DualType) for kind in kinds)


def _overload_operator(function: Any, rule: Any) -> None:
    @overload(function)
    def operate(x, y):
        if _is_dual(x, y):
            return lambda x, y: rule(as_dual(x, y), as_dual(y, x))


def _overload_comparison(compare: Any) -> None:
    @overload(compare)
    def operate(x, y):
        if _is_dual(x, y):
            return lambda x, y: compare(as_dual(x, y).value, as_dual(y, x).value)


_MOST_FACTORS = 8


@overload(operator.pow, prefer_literal=True)
def _whole_power(x, y):
    """x^2 and the like, written as such: by multiplication."""
    if not isinstance(x, DualType) or not isinstance(y, types.IntegerLiteral):
        return None
    n, multiply = y.literal_value, _scope["multiply"]
    if not 1 <= n <= _MOST_FACTORS:
        return None

    def repeated(x, y):
        result = x
        for _ in range(n - 1):
            result = multiply(result, x)
        return result

    return repeated


for _operator, _name in duals.OPERATORS.items():
    _overload_operator(_operator, _scope[_name])
for _operator in duals.COMPARISONS:
    _overload_comparison(_operator)


@overload(operator.neg)
def _negative(x):
    if _is_dual(x):
        negative = _scope["negative"]
        return lambda x: negative(x)


@overload(operator.pos)
def _positive(x):
    if _is_dual(x):
        return lambda x: x


@overload(operator.truth)
@overload(bool)
def _truth(x):
    if _is_dual(x):
        return lambda x: x.value != 0


def _of_any(name: str) -> Any:
    """A rule that also takes plain numbers, as float64, and three of them for maximum."""
    rule = _scope[name]
    n_arguments = duals.RULES[name].__code__.co_argcount

    def one(x):
        raise NotImplementedError

    def two(x, y, z=None):
        raise NotImplementedError

    function: Any = one if n_arguments == 1 else two

    if n_arguments == 1:

        @overload(function)
        def of_one(x):
            if _is_dual(x):
                return lambda x: rule(x)
            return lambda x: rule(make_dual(float(x), 0.0)).value

    else:

        @overload(function)
        def of_two(x, y, z=None):
            three = not (z is None or isinstance(z, types.NoneType | types.Omitted))
            if not _is_dual(x, y, z):
                return lambda x, y, z=None: (
                    rule(make_dual(float(x), 0.0), make_dual(float(y), 0.0)).value
                )
            if three:
                return lambda x, y, z=None: function(function(x, y), z)
            return lambda x, y, z=None: rule(as_dual(x, y), as_dual(y, x))

    return function


_MODULE, _REPLACED = duals.functions(_of_any)


def _compiled(function: Any, values: tuple[float, ...]) -> Any:
    function = kernel(duals.rebound(function, _MODULE, _REPLACED, kernel))
    if not values:
        return function
    return _with_parameters(function, values)


def _with_parameters(function: Any, values: tuple[float, ...]) -> Any:
    """The function with the values of its parameters, which become constants of its code."""
    code = function.py_func.__code__
    arguments = ", ".join(code.co_varnames[: code.co_argcount - len(values)])
    source = f"lambda {arguments}: function({arguments}, *values)"
    return kernel(eval(source, {"function": function, "values": values}))


def activation_functions(own: Any) -> tuple[Any, Any]:
    """g and its derivative, both functions of a plain number, of a custom activation."""
    f = _compiled(own.function, own.values)

    @kernel
    def g(a):
        return as_dual(f(make_dual(a, elementary.one(a))), make_dual(a, a)).value

    if own.derivative is None:

        @kernel
        def slope(a):
            return as_dual(f(make_dual(a, elementary.one(a))), make_dual(a, a)).slope

    else:
        d = _compiled(own.derivative, own.values)

        @kernel
        def slope(a):
            return as_dual(d(make_dual(a, elementary.zero(a))), make_dual(a, a)).value

    return g, slope


def loss_function(own: Any) -> Any:
    """(a, f, y, c) -> l, dl/df of a custom loss."""
    compiled = _compiled(own.function, own.values)

    if own.derivative is None:

        @kernel
        def term(a, f, y, c):
            x, z = make_dual(f, elementary.one(f)), make_dual(y, elementary.zero(y))
            loss = as_dual(compiled(x, z), x)
            return loss.value, loss.slope

        return term
    d = _compiled(own.derivative, own.values)

    @kernel
    def term_with(a, f, y, c):
        x, z = make_dual(f, elementary.zero(f)), make_dual(y, elementary.zero(y))
        return as_dual(compiled(x, z), x).value, as_dual(d(x, z), x).value

    return term_with
