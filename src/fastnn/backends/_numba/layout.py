"""Where everything lies, and the records that the compiled loops take.

Every matrix that a product touches lies in panels of NR columns, each panel stored [rows][ld]: the
element (r, c) is at (c // NR * rows + r) * ld + c % NR. ld is NR, or whole vectors where one panel
holds all columns. W is kept transposed, (n_in, n_out), with rows of padding up to a multiple of MR
and the bias as the row after those; Wt, which dh needs, is (n_out, n_in). The optimizer's state and
the gradient lie as W does. h, delta and what g' is computed from are (rows of the batch, n).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...network import Network
from . import blocks
from .activations import takes_a
from .optimizers import N_CONSTANTS
from .products import MR, NV, vector_length

Array = NDArray[Any]

# Columns of Net.layers: the last three are the addresses of g and of its derivative, and whether
# that is a function of a rather than of h.
N_IN, N_OUT, W_ROWS, W_LD, W_PLACE, WT_LD, WT_PLACE, G, G_SLOPE, TAKES_A = range(10)
# Columns of Work.places, layer k's in row k, the input's in row 0: KNOWN is what g' is computed
# from, a or h before dropout, and the same as H where that is h.
WIDTH, LD, H, KNOWN, DELTA = range(5)


class Net(NamedTuple):
    """The network and its parameters."""

    NR: int
    VL: int
    layers: Array  # int64 (n_layers, 10)
    W: Array  # flat, real
    Wt: Array
    p: Array  # the optimizer's state, empty where it has none
    q: Array
    gradient: Array  # empty where nothing needs all of it
    zeros: Array  # (NR,)


class Work(NamedTuple):
    """What one pass writes: its own for every pass that runs at the same time."""

    rows: int  # of the activities, a multiple of MR for every share
    places: Array  # int64 (n_layers + 1, 5)
    space: Array  # flat, real: all activities
    squares: Array  # flat, real: one block of a gradient for each share
    losses: Array  # float64 (rows,)
    faults: Array  # int64 (shares,): 1 where X is not finite
    sums: Array  # float64 (NR,)
    step: Array  # real: a step's constants of every layer
    time: Array  # int64 (2,): room for the clock


class Data(NamedTuple):
    """X by its address, since it comes in many types and strides; and what the loss compares with.

    All arrays but `parameters` are read-only. A sample's row is order[i], or i where order is
    empty.
    """

    address: int
    row_stride: int  # bytes
    column_stride: int
    indices: int  # of a sparse X, whose elements are at `address`: where their columns are,
    indices_size: int  # 4 or 8 bytes each,
    indptr: int  # and which of them each row has
    indptr_size: int
    order: Array  # int64
    labels: Array  # int32 (n,) or empty
    values: Array  # (n, n_out) or empty
    weights: Array  # (n,) or empty
    parameters: Array  # real: the loss's constants, one for each output, or see `outputs`


class Dropout(NamedTuple):
    """Of h_0, ..., h_L; empty arrays where there is none."""

    keys: Array  # uint64, of this epoch
    thresholds: Array  # int64: what a random number of 32 bits is compared with; 0: no dropout
    scales: Array  # float64


class Run(NamedTuple):
    """What the steps of one call of train follow, and how far they are."""

    tiles: Array  # int64 (n_tiles, 3), share i taking those from starts[i] to starts[i + 1]
    starts: Array
    learning_rates: Array  # float64, of the steps of this call
    dropout: Dropout
    constants: Array  # float64: those of the optimizer
    is_adam: int
    epsilon_hat: int
    batch_weighting: int
    factors: Array  # float64 (n_layers,): of the learning rate
    lowest: int  # of the layers that train, from 1
    l2: float
    l1: float
    clip_value: float  # 0: none
    clip_norm: float  # 0: none
    batch_size: int
    part_rows: int  # a batch of more rows comes in parts of so many
    n_order: int
    max_steps: int
    seconds: float
    flops_per_row: float
    counts: Array  # int64: BATCH, PART, the sizes of the present ones, T steps taken
    sums: Array  # float64: losses, also those up to the last whole step; factors: `optimizers`


class Request(NamedTuple):
    """What a prediction is to give."""

    n: int
    k_last: int  # the layer whose h is asked for
    f: Array  # (n, D_k)
    losses: Array  # float64 (n,), or empty: not asked for


class Stages(NamedTuple):
    """Addresses of C functions, see `stages`; 0 where there is none."""

    gather: int
    drop: int
    output: int
    loss: int
    output_block: int  # the output's g; 0: identity
    loss_block: int
    rows: int
    rule: int  # the optimizer's block; 0: the gradient is left in Net.gradient
    weights: int
    factor: int
    clipped: int
    team: int  # calls another of them for all shares, in threads


class Context(NamedTuple):
    """All that a stage is given."""

    net: Net
    work: Work
    data: Data
    run: Run
    request: Request
    stages: Stages
    n_shares: int


SOFTMAX = 1  # in Stages.output_block: no address

# The places in Run.counts; those in Run.sums are in `optimizers`.
BATCH, PART, BATCH_ROWS, PART_ROWS, T = range(5)


def roundup(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def panel_rows(columns: int, VL: int) -> tuple[int, int]:
    """ld, and the number of panels, of a matrix."""
    NR = NV * VL
    if columns <= NR:
        return roundup(columns, VL), 1
    return NR, -(-columns // NR)


def read_only(array: Array) -> Array:
    """As the loops take arrays that they only read: aligned, whole and not writeable."""
    array = np.require(array, requirements=["C", "A"]).view()
    array.flags.writeable = False
    return array


NO_DROPOUT = Dropout(np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0))
NO_STAGES = Stages(*(0,) * len(Stages._fields))


@functools.cache
def no_run() -> Run:
    """A Run for where nothing is trained."""
    none = np.zeros(0)
    return Run(
        np.zeros((0, 3), np.int64), np.zeros(0, np.int64), none, NO_DROPOUT, none, 0, 0, 0, none, 0,
        0.0, 0.0, 0.0, 0.0, 0, 0, 0, 0, 0.0, 0.0, np.zeros(0, np.int64), none,
    )  # fmt: skip


@functools.cache
def no_request(dtype: Any) -> Request:
    return Request(0, 0, np.zeros((0, 0), dtype), np.zeros(0))


@functools.cache
def no_targets(dtype: Any) -> tuple[Array, Array, Array, Array, Array]:
    """The arrays of a Data that has X alone."""
    empty = read_only(np.zeros(0, dtype))
    return (
        read_only(np.zeros(0, np.int64)), read_only(np.zeros(0, np.int32)),
        read_only(np.zeros((0, 0), dtype)), empty, np.zeros(0, dtype),
    )  # fmt: skip


def example(dtype: np.dtype[Any]) -> Context:
    """A Context whose types are those of every one in this dtype."""
    layout = Layout(Network((1, 1), dtype=dtype))
    return Context(
        layout.net(), layout.work(1, 1), Data(0, 0, 0, 0, 0, 0, 0, *no_targets(dtype)), no_run(),
        no_request(dtype), NO_STAGES, 1,
    )  # fmt: skip


def zeros(size: int, dtype: Any) -> Array:
    """Zeros that begin on a cache line."""
    itemsize = np.dtype(dtype).itemsize
    memory = np.zeros(size + 64 // itemsize, dtype)
    start = -memory.ctypes.data % 64 // itemsize
    return memory[start : start + size]


class Layout:
    """The places of a network's matrices, which never change."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.dtype = network.dtype
        self.VL = vector_length(network.dtype)
        self.NR = NV * self.VL
        self.layers = np.zeros((network.n_layers, 10), np.int64)
        self.size = self.transposed_size = 0
        self.functions = [blocks.activation(name, self.dtype) for name in network.activations]
        for k, (n_out, n_in) in enumerate(network.shapes):
            ld, panels = panel_rows(n_out, self.VL)
            rows = roundup(n_in, MR) + 1
            self.layers[k, [N_IN, N_OUT, W_ROWS, W_LD]] = n_in, n_out, rows, ld
            self.layers[k, W_PLACE] = self.size
            self.size += panels * rows * ld
            if k > 0:
                ld, panels = panel_rows(n_in, self.VL)
                self.layers[k, [WT_LD, WT_PLACE]] = ld, self.transposed_size
                self.transposed_size += panels * n_out * ld
            if k < network.n_layers - 1:
                self.layers[k, [G, G_SLOPE]] = [blocks.address(b) for b in self.functions[k]]
                self.layers[k, TAKES_A] = takes_a(network.activations[k])

    def flat(self) -> Array:
        """An array that lies as W does."""
        return zeros(self.size, self.dtype)

    def net(self) -> Net:
        empty = zeros(0, self.dtype)
        Wt = zeros(self.transposed_size, self.dtype)
        return Net(
            self.NR, self.VL, self.layers, self.flat(), Wt, empty, empty, empty,
            zeros(self.NR, self.dtype),
        )  # fmt: skip

    def work(self, rows: int, n_shares: int, dropout: tuple[float, ...] = ()) -> Work:
        rows = roundup(rows, MR)
        places = np.zeros((self.network.n_layers + 1, 5), np.int64)
        size = 0
        for k, width in enumerate(self.network.layer_sizes):
            ld, panels = panel_rows(width, self.VL)
            places[k, [WIDTH, LD]] = width, ld
            names = [H] if k == 0 else [H, DELTA]
            if 0 < k < self.network.n_layers and (
                takes_a(self.network.activations[k - 1]) or (dropout and dropout[k] > 0)
            ):
                names.append(KNOWN)
            for name in names:
                places[k, name] = size
                size += panels * rows * ld
            if KNOWN not in names:
                places[k, KNOWN] = places[k, H]
        return Work(
            rows,
            places,
            zeros(size, self.dtype),
            zeros(n_shares * self.NR * (self.NR + 1), self.dtype),
            np.zeros(rows),
            np.zeros(n_shares, np.int64),
            np.zeros(self.NR),
            zeros(self.network.n_layers * N_CONSTANTS, self.dtype),
            np.zeros(2, np.int64),
        )

    def views(self, packed: Array, k: int) -> tuple[list[Array], list[Array]]:
        """Each panel's weights (n_in, columns) and biases (columns,) of layer k, as views."""
        n_in, n_out, rows, ld, place = self.layers[k, : W_PLACE + 1]
        _, panels = panel_rows(n_out, self.VL)
        W, b = [], []
        for p in range(panels):
            start = place + p * rows * ld
            panel = packed[start : start + rows * ld].reshape(rows, ld)
            columns = min(self.NR, n_out - p * self.NR)
            W.append(panel[:n_in, :columns])
            b.append(panel[-1, :columns])
        return W, b

    def pack(self, flat: Array, packed: Array) -> None:
        """Parameters in the network's order, put into an array that lies as W does."""
        for k, (W, b) in enumerate(zip(*self.network.views(flat), strict=True)):
            for p, (W_p, b_p) in enumerate(zip(*self.views(packed, k), strict=True)):
                outputs = slice(p * self.NR, (p + 1) * self.NR)
                W_p[...], b_p[...] = W[outputs].T, b[outputs]

    def unpack(self, packed: Array, flat: Array) -> None:
        """The same, backwards."""
        for k, (W, b) in enumerate(zip(*self.network.views(flat), strict=True)):
            for p, (W_p, b_p) in enumerate(zip(*self.views(packed, k), strict=True)):
                outputs = slice(p * self.NR, (p + 1) * self.NR)
                W[outputs], b[outputs] = W_p.T, b_p

    def pack_transposed(self, flat: Array, Wt: Array) -> None:
        for k, W in enumerate(self.network.views(flat)[0]):
            if k == 0:
                continue
            n_out, n_in = W.shape
            ld, place = self.layers[k, [WT_LD, WT_PLACE]]
            _, panels = panel_rows(n_in, self.VL)
            for p in range(panels):
                start = place + p * n_out * ld
                panel = Wt[start : start + n_out * ld].reshape(n_out, ld)
                inputs = slice(p * self.NR, (p + 1) * self.NR)
                panel[:, : W[:, inputs].shape[1]] = W[:, inputs]

    def tiles(self, layers: Sequence[int]) -> list[tuple[int, int, int, float]]:
        """(layer, block of NR inputs, panel of outputs, cost for a row), of these layers."""
        tiles = []
        for k in layers:
            n_out, n_in = self.network.shapes[k]
            for p in range(panel_rows(n_out, self.VL)[1]):
                vectors = -(-min(self.NR, n_out - p * self.NR) // self.VL)
                for q in range(-(-n_in // self.NR)):
                    rows = roundup(min(self.NR, n_in - q * self.NR), MR)
                    tiles.append((k, q, p, rows * (vectors + 1.0)))
        return tiles

    def shares(self, layers: Sequence[int], n_shares: int) -> tuple[Array, Array]:
        """Tiles, int64 (n_tiles, 3), and where in them each share begins and the last one ends.

        The most expensive first, each to the share with the least so far (Graham, 1969).
        """
        loads, given = [0.0] * n_shares, [[] for _ in range(n_shares)]  # type: ignore[var-annotated]
        for tile in sorted(self.tiles(layers), key=lambda tile: -tile[3]):
            share = min(range(n_shares), key=loads.__getitem__)
            loads[share] += tile[3]
            given[share].append(tile[:3])
        ordered = [sorted(tiles, key=lambda t: (t[0], t[2], t[1])) for tiles in given]
        starts = np.cumsum([0, *map(len, ordered)])
        flat = [tile for tiles in ordered for tile in tiles]
        return np.array(flat, np.int64).reshape(-1, 3), starts.astype(np.int64)
