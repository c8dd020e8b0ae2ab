"""The one micro-kernel behind all products: MR rows by nv vectors of C, held in registers.

Written as LLVM instructions, by loops over the rows and vectors of the tile: what they emit are MR
x nv accumulators, each one chain of fused multiply-adds in the order of k, whatever the CPU. LLVM's
own vectorizer takes innermost loops only, and so would store and load C for every few k.

Changing the shape of the tile is changing TILES.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from .intrinsics import I64, kernel, vector_fma

# Bytes of a vector: (MR, NV). The registers: MR NV accumulators, NV vectors of B, one of A.
TILES = {64: (8, 3), 32: (4, 3), 16: (4, 4)}  # 24 + 3 + 1 of 32; 12 + 3 + 1 of 16; 16 + 4 + 1 of 32


def _vector_bytes() -> int:
    """The widest vectors of this CPU, or of the one that NUMBA_CPU_FEATURES describes."""
    if config.CPU_FEATURES is not None:
        features = [name[1:] for name in config.CPU_FEATURES.split(",") if name.startswith("+")]
    else:
        features = [name for name, has in llvmlite.binding.get_host_cpu_features().items() if has]
    if "avx512f" in features:
        return 64
    return 32 if "avx2" in features else 16


VECTOR_BYTES = _vector_bytes()
MR, NV = TILES[VECTOR_BYTES]


def vector_length(dtype: np.dtype[Any]) -> int:
    """VL, the numbers in a vector."""
    return VECTOR_BYTES // dtype.itemsize


def _micro_kernel(nv: int) -> Any:
    """The kernel for tiles of nv vectors."""

    @intrinsic
    def product(
        typingctx: Any,
        C: Any,
        c: Any,
        ldc: Any,
        start: Any,
        s: Any,
        lds: Any,
        A: Any,
        a: Any,
        a_row: Any,
        a_k: Any,
        panel_k: Any,
        a_panel: Any,
        B: Any,
        b: Any,
        ldb: Any,
        K: Any,
    ) -> Any:
        i = types.int64
        signature = types.void(C, i, i, start, i, i, A, i, i, i, i, i, B, i, i, i)

        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            _emit(context, builder, signature, args, nv)
            return context.get_dummy_value()

        return signature, code

    return product


def _emit(context: Any, builder: Any, signature: Any, args: Any, nv: int) -> None:
    _, c, ldc, _, s, lds, _, a, a_row, a_k, panel_k, a_panel, _, b, ldb, K = args
    dtype = signature.args[0].dtype
    VL = VECTOR_BYTES * 8 // dtype.bitwidth
    number = context.get_value_type(dtype)
    vector = ir.VectorType(number, VL)

    def data(i: int) -> Any:
        return context.make_array(signature.args[i])(context, builder, args[i]).data

    def vector_at(base: Any, index: Any) -> Any:
        return builder.bitcast(builder.gep(base, [index]), vector.as_pointer())

    def load(base: Any, index: Any) -> Any:
        return builder.load(vector_at(base, index), align=dtype.bitwidth // 8)

    def broadcast(x: Any) -> Any:
        one = builder.insert_element(ir.Constant(vector, ir.Undefined), x, ir.IntType(32)(0))
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), VL), [0] * VL)
        return builder.shuffle_vector(one, one, lanes)

    def at(first: Any, i: int, stride: Any, v: int = 0) -> Any:
        return builder.add(builder.add(first, builder.mul(I64(i), stride)), I64(v * VL))

    tile = [(i, v) for i in range(MR) for v in range(nv)]
    C_data, A_data, B_data, start_data = data(0), data(6), data(12), data(3)
    sums = {iv: cgutils.alloca_once(builder, vector) for iv in tile}
    for i, v in tile:
        builder.store(load(start_data, at(s, i, lds, v)), sums[i, v])
    panels = builder.sdiv(builder.sub(builder.add(K, panel_k), I64(1)), panel_k)
    with cgutils.for_range(builder, panels) as panel:
        first_k = builder.mul(panel.index, panel_k)
        left = builder.sub(K, first_k)
        count = builder.select(builder.icmp_signed("<", left, panel_k), left, panel_k)
        a_first = builder.add(a, builder.mul(panel.index, a_panel))
        b_first = builder.add(b, builder.mul(first_k, ldb))
        with cgutils.for_range(builder, count) as step:
            b_k = builder.add(b_first, builder.mul(step.index, ldb))
            a_at_k = builder.add(a_first, builder.mul(step.index, a_k))
            B_k = [load(B_data, at(b_k, 0, ldb, v)) for v in range(nv)]
            for i in range(MR):
                x = broadcast(builder.load(builder.gep(A_data, [at(a_at_k, i, a_row)])))
                for v in range(nv):
                    total = builder.load(sums[i, v])
                    builder.store(vector_fma(builder, vector, x, B_k[v], total), sums[i, v])
    for i, v in tile:
        builder.store(
            builder.load(sums[i, v]), vector_at(C_data, at(c, i, ldc, v)), align=dtype.bitwidth // 8
        )


_kernel_1, _kernel_2, _kernel_3, _kernel_4 = (_micro_kernel(nv) for nv in (1, 2, 3, 4))


@kernel
def tile(nv, C, c, ldc, start, s, lds, A, a, a_row, a_k, panel_k, a_panel, B, b, ldb, K):
    """C[i, j] = start[i, j] + sum over k < K of A[i, k] B[k, j], for i < MR and j < nv VL.

    All arrays are flat; each is followed by the place of its first element and its strides.
    start  rows lds apart; 0: the same one for all rows
    A      [i, k] at a + i a_row + k a_k; the next panel_k of k are a_panel further
    B      [k, j] at b + k ldb + j
    """
    if nv == 1:
        _kernel_1(C, c, ldc, start, s, lds, A, a, a_row, a_k, panel_k, a_panel, B, b, ldb, K)
    elif nv == 2:
        _kernel_2(C, c, ldc, start, s, lds, A, a, a_row, a_k, panel_k, a_panel, B, b, ldb, K)
    elif nv == 3 or NV < 4:
        _kernel_3(C, c, ldc, start, s, lds, A, a, a_row, a_k, panel_k, a_panel, B, b, ldb, K)
    else:
        _kernel_4(C, c, ldc, start, s, lds, A, a, a_row, a_k, panel_k, a_panel, B, b, ldb, K)
