"""What Python has no word for: fused multiply-adds, bits of a float, memory by address, denormals.

Each is a few instructions of LLVM, put where it is called; loops over them are vectorised by LLVM
as loops over + and * are.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

# Division by zero is inf or NaN, not an exception: those keep LLVM from making vectors.
kernel = njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False)
# A few lines that are put where they are called before types are known: every function that Numba
# compiles on its own takes a tenth of a second or two.
inlined = njit(error_model="numpy", inline="always")

I32, I64 = ir.IntType(32), ir.IntType(64)
# Bits of the fraction, and the exponent's bias, by the size of a number in bits.
FRACTION_BITS = {32: 23, 64: 52}
BIAS = {32: 127, 64: 1023}


def vector_fma(builder: Any, vector: Any, x: Any, y: Any, z: Any) -> Any:
    """x * y + z, rounded once, of values of one LLVM type: a number or a vector of numbers."""
    if isinstance(vector, ir.VectorType):
        name = f"v{vector.count}{vector.element.intrinsic_name}"
    else:
        name = vector.intrinsic_name
    kind = ir.FunctionType(vector, [vector] * 3)
    return builder.call(
        cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.{name}"), [x, y, z]
    )


@intrinsic
def fma(typingctx: Any, x: Any, y: Any, z: Any) -> Any:
    """x * y + z, rounded once; the type is x's."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return vector_fma(builder, args[0].type, *args)

    return x(x, x, x), code


@intrinsic
def select(typingctx: Any, condition: Any, x: Any, y: Any) -> Any:
    """x if condition else y, both of them computed: a branch would keep LLVM from vectors."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(*args)

    return x(types.boolean, x, x), code


def constant(value: float, value_f64: float | None = None) -> Any:
    """c(x): the constant in the type of x, as literals in Numba are float64 and would make all so.

    value_f64  where float64 takes another one
    """

    @intrinsic
    def c(typingctx: Any, x: Any) -> Any:
        chosen = value_f64 if value_f64 is not None and x == types.float64 else value

        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return context.get_constant(x, chosen)

        return x(x), code

    return c


def polynomial(f32: Sequence[float], f64: Sequence[float]) -> Any:
    """p(x) by Horner's rule, the constant term first; in float64 with other coefficients."""

    @intrinsic
    def horner(typingctx: Any, x: Any) -> Any:
        coefficients = f64 if x == types.float64 else f32

        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            total = context.get_constant(x, coefficients[-1])
            for c in coefficients[-2::-1]:
                total = vector_fma(builder, total.type, total, args[0], context.get_constant(x, c))
            return total

        return x(x), code

    return horner


def _function_of_one(name: str) -> Any:
    """An LLVM intrinsic of one number."""

    @intrinsic
    def function(typingctx: Any, x: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            number = args[0].type
            f = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(number, [number]), f"{name}.{number.intrinsic_name}"
            )
            return builder.call(f, args)

        return x(x), code

    return function


round_to_whole = _function_of_one("llvm.rint")
absolute = _function_of_one("llvm.fabs")
square_root = _function_of_one("llvm.sqrt")


@intrinsic
def power_of_two(typingctx: Any, n: Any) -> Any:
    """2^n for a whole number n, as a number of n's type, within the range of normal numbers."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = n.bitwidth
        whole = ir.IntType(bits)
        exponent = builder.add(builder.fptosi(args[0], whole), whole(BIAS[bits]))
        return builder.bitcast(builder.shl(exponent, whole(FRACTION_BITS[bits])), args[0].type)

    return n(n), code


@intrinsic
def exponent_of(typingctx: Any, x: Any) -> Any:
    """e of x = m 2^e, 1 <= m < 2, for normal x > 0."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = x.bitwidth
        whole = ir.IntType(bits)
        exponent = builder.lshr(builder.bitcast(args[0], whole), whole(FRACTION_BITS[bits]))
        return builder.sitofp(builder.sub(exponent, whole(BIAS[bits])), args[0].type)

    return x(x), code


@intrinsic
def fraction_of(typingctx: Any, x: Any) -> Any:
    """m of x = m 2^e, 1 <= m < 2, for normal x > 0."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = x.bitwidth
        whole = ir.IntType(bits)
        fraction = builder.and_(
            builder.bitcast(args[0], whole), whole((1 << FRACTION_BITS[bits]) - 1)
        )
        one = whole(BIAS[bits] << FRACTION_BITS[bits])
        return builder.bitcast(builder.or_(fraction, one), args[0].type)

    return x(x), code


def array_of(context: Any, builder: Any, kind: Any, data: Any, shape: list[Any]) -> Any:
    """What lies at `data` as a C-contiguous array of this type, which owns nothing."""
    array = context.make_array(kind)(context, builder)
    itemsize = I64(context.get_abi_sizeof(context.get_data_type(kind.dtype)))
    strides = [itemsize]
    for size in shape[:0:-1]:
        strides.insert(0, builder.mul(strides[0], size))
    populate_array(array, data, shape, strides, itemsize, None)
    return array._getvalue()


@intrinsic
def part(typingctx: Any, array: Any, start: Any, n: Any) -> Any:
    """array[start : start + n], 1-D."""
    kind = types.Array(array.dtype, 1, "C")

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(array)(context, builder, args[0]).data
        return array_of(context, builder, kind, builder.gep(data, [args[1]]), [args[2]])

    return kind(array, types.int64, types.int64), code


@intrinsic
def numbers(typingctx: Any, data: Any, n: Any) -> Any:
    """n numbers from a pointer on, as an array."""
    kind = types.Array(data.dtype, 1, "C")

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return array_of(context, builder, kind, args[0], [args[1]])

    return kind(data, types.int64), code


@intrinsic
def numbers_at(typingctx: Any, address: Any, n: Any, dtype: Any) -> Any:
    """n numbers of `dtype` from an address on, as an array."""
    kind = types.Array(dtype.dtype, 1, "C")

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = builder.inttoptr(args[0], context.get_data_type(kind.dtype).as_pointer())
        return array_of(context, builder, kind, data, [args[1]])

    return kind(types.int64, types.int64, dtype), code


@intrinsic
def call_block(typingctx: Any, function: Any, *arrays: Any) -> Any:
    """The C function f(real *, ..., int64 n) at an address; n is the length of the last array."""
    signature = types.void(types.int64, types.StarArgTuple(arrays))

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values = [
            context.make_array(kind)(context, builder, value)
            for kind, value in zip(arrays, cgutils.unpack_tuple(builder, args[1]), strict=True)
        ]
        n = builder.extract_value(values[-1].shape, 0)
        _call(builder, args[0], [*(value.data for value in values), n])
        return context.get_dummy_value()

    return signature, code


@intrinsic
def call_stage(typingctx: Any, function: Any, record: Any, *numbers: Any) -> Any:
    """The C function f(int64, ...) at an address; `record` is one of `records` or its address."""
    signature = types.void(types.int64, record, types.StarArgTuple([types.int64] * len(numbers)))

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _call(builder, args[0], [args[1], *cgutils.unpack_tuple(builder, args[2])])
        return context.get_dummy_value()

    return signature, code


def _call(builder: Any, address: Any, args: list[Any]) -> None:
    kind = ir.FunctionType(ir.VoidType(), [arg.type for arg in args])
    builder.call(builder.inttoptr(address, kind.as_pointer()), args)


_IS_X86 = platform.machine() in ("x86_64", "AMD64")


@intrinsic
def _control_word(typingctx: Any) -> Any:
    """The SSE control word; 0 elsewhere."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = cgutils.alloca_once(builder, I32)
        builder.store(I32(0), word)
        if _IS_X86:
            _access_control_word(builder, "llvm.x86.sse.stmxcsr", word)
        return builder.load(word)

    return types.uint32(), code


@intrinsic
def set_control_word(typingctx: Any, word: Any) -> Any:
    """Back to what `denormals_off` has returned."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = cgutils.alloca_once(builder, I32)
        builder.store(args[0], word)
        if _IS_X86:
            _access_control_word(builder, "llvm.x86.sse.ldmxcsr", word)
        return context.get_dummy_value()

    return types.void(types.uint32), code


def _access_control_word(builder: Any, name: str, word: Any) -> None:
    memory = ir.IntType(8).as_pointer()
    f = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(ir.VoidType(), [memory]), name
    )
    builder.call(f, [builder.bitcast(word, memory)])


@inlined
def denormals_off():
    """Denormals count as zero in this thread: Adam's m decays into them, at 100 cycles each."""
    before = _control_word()
    set_control_word(before | np.uint32(0x8040))
    return before


_clock = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.voidptr))


@inlined
def clock(time):
    """Seconds, of the monotonic clock. time: int64 (2,), written to."""
    _clock(np.int32(1), time.ctypes)
    return time[0] + 1e-9 * time[1]
