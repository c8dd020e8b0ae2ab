"""The engine of the Numba backend: parameters and settings in Python, over the compiled loops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...checks import check_X, not_finite
from ...losses import Loss
from ...losses import get as get_loss
from ...network import Network
from ...optimizers import SGD
from ...options import TrainingOptions
from ...sparse import CSR
from .. import MANY
from . import blocks, loops, outputs, stages, threads
from .dropout import drop, shuffle
from .inputs import count_rows, data_of, dropout_of, gather_of
from .layout import (
    BATCH,
    NO_DROPOUT,
    NO_STAGES,
    PART,
    SOFTMAX,
    Context,
    Data,
    Layout,
    Net,
    Request,
    Run,
    Stages,
    T,
    Work,
    no_request,
    no_run,
)
from .optimizers import LOSSES, LOSSES_AT_STEP
from .products import MR
from .records import in_memory
from .updates import clipping_factor

Array = NDArray[Any]

# A large batch is taken in parts, so that the memory of a step does not grow with the batch and a
# call can end within a step: parts of PART_ROWS, of more where their activities still fit into
# PART_BYTES, of fewer where that is more than PART_FLOPS of work, but of LEAST_PART_ROWS at least.
PART_ROWS, LEAST_PART_ROWS, PART_BYTES, PART_FLOPS = 1024, 256, 2 << 20, 3e10
# Below this much work for each thread, in operations, starting them costs more than sharing brings;
# and what a row costs beside its products.
FLOPS_PER_THREAD, ROW_FLOPS = 1e6, 3e3
NO_LOSSES = np.empty(0)


class Engine:
    """See `fastnn.backends.Engine`."""

    isa = ""

    def __init__(self, network: Network, n_threads: int | None = None) -> None:
        self.network = network
        self._n_threads_given = n_threads is not None
        self.n_threads = n_threads or threads.most()
        if self.n_threads > 1 and threads.can_team():
            threads.start_openmp()
        self._layout = Layout(network)
        self._net = self._layout.net()
        self._shares: dict[tuple[tuple[int, ...], int], tuple[Array, Array]] = {}
        self._spare: Work | None = None

    # ---- parameters ----

    def set_parameters(self, flat: Array) -> None:
        flat = np.ascontiguousarray(flat, dtype=self.network.dtype)
        self._layout.pack(flat, self._net.W)
        self._layout.pack_transposed(flat, self._net.Wt)

    def get_parameters(self, out: Array) -> bool:
        self._layout.unpack(self._net.W, out)
        return bool(np.isfinite(out).all())

    def penalty(self, l2: float, l1: float) -> float:
        flat = np.empty(self.network.n_parameters, self.network.dtype)
        self.get_parameters(flat)
        return self.network.penalty(flat, l2, l1)

    # ---- prediction ----

    def forward(
        self, X: ArrayLike, rows: Array | None = None, n_layers: int | None = None
    ) -> Array:
        checked, k_last = check_X(X, self.network), n_layers or self.network.n_layers
        data = data_of(self.network, checked, rows)
        return self._predict(checked, data, count_rows(checked, rows), k_last, None)

    def forward_and_loss(
        self,
        X: Array | CSR,
        y: Array,
        sample_weight: Array | None,
        loss: str | Loss,
        rows: Array | None = None,
    ) -> tuple[Array, float]:
        n, data = count_rows(X, rows), data_of(self.network, X, rows, y, sample_weight, loss)
        losses = np.empty(n)
        f = self._predict(X, data, n, self.network.n_layers, loss, losses)
        return f, float(np.add.accumulate(losses)[-1]) / n

    def _predict(
        self,
        X: Array | CSR,
        data: Data,
        n: int,
        k_last: int,
        loss: str | Loss | None,
        losses: Array = NO_LOSSES,
    ) -> Array:
        network, dtype = self.network, self.network.dtype
        size = min(self._team_size(n, network.flops_per_sample / 3), -(-n // MR))
        block = min(loops.BLOCK_ROWS, -(-n // (size * MR)) * MR)
        f = np.empty((n, network.layer_sizes[k_last]), dtype)
        run = no_run()._replace(sums=np.ones(4))  # 1/n of the loss: the sum is wanted
        work = self._take_work(block * size, size)
        chosen = self._stages(X, data, loss, size)._replace(
            rows=stages.stage(loops.predict_rows, dtype)
        )
        context = Context(self._net, work, data, run, Request(n, k_last, f, losses), chosen, size)
        self._call(loops.predict, context)
        self._spare = work
        return f

    def _take_work(self, rows: int, size: int) -> Work:
        """The spare one if free and fitting: several Python threads may predict at once."""
        work, self._spare = self._spare, None
        if work is not None and work.rows >= rows and len(work.faults) == size:
            return work
        return self._layout.work(rows, size)

    def _call(self, loop: Any, context: Context) -> None:
        """Run a stage of `loops`; ValueError if it finds X not finite."""
        run, record = stages.stage(loop, self.network.dtype), in_memory(context)
        if context.n_shares == 1:
            stages.run(run, record.ctypes.data)
        else:
            with threads.team(context.n_shares):
                stages.run(run, record.ctypes.data)
        if context.work.faults.any():
            context.work.faults[:] = 0
            raise not_finite("X", self.network.dtype)

    def _stages(self, X: Array | CSR, data: Data, loss: str | Loss | None, size: int) -> Stages:
        """What all passes need; `loss` None: no loss."""
        dtype, output = self.network.dtype, self.network.output
        is_softmax = output == "softmax"
        chosen = None if loss is None else get_loss(loss)
        losses = None if chosen is None else outputs.LOSSES.get(chosen.name, outputs.terms)
        return NO_STAGES._replace(
            gather=stages.stage(gather_of(X), dtype),
            output=stages.stage(outputs.softmax if is_softmax else outputs.elementwise, dtype),
            output_block=SOFTMAX if is_softmax else blocks.address(blocks.output(output, dtype)),
            loss=0 if losses is None else stages.stage(losses, dtype),
            loss_block=0 if chosen is None else blocks.address(blocks.loss(chosen, output, dtype)),
            team=stages.team() if size > 1 else 0,
        )

    # ---- gradients and training ----

    def loss_and_gradients(
        self,
        X: Array | CSR,
        y: Array,
        sample_weight: Array | None,
        loss: str | Loss,
        l2: float,
        l1: float,
        rows: Array | None = None,
    ) -> tuple[float, Array]:
        n, network = count_rows(X, rows), self.network
        size = self._team_size(n, network.flops_per_sample)
        run = self._run_of(TrainingOptions(SGD(), get_loss(loss)), size, n, n)
        run = run._replace(seconds=math.inf)
        net = self._net._replace(gradient=self._layout.flat())
        work = self._layout.work(run.part_rows, size)
        data = data_of(self.network, X, rows, y, sample_weight, loss)
        self._train(net, work, X, data, run, loss, None)
        flat, gradient = np.empty((2, network.n_parameters), network.dtype)
        self._layout.unpack(net.W, flat)
        self._layout.unpack(net.gradient, gradient)
        for dW, W in zip(network.views(gradient)[0], network.views(flat)[0], strict=True):
            dW += l2 * W + l1 * np.sign(W)
        J = float(run.sums[LOSSES]) / n + network.penalty(flat, l2, l1)
        return J, gradient

    def shuffled(self, rows: Array, seed: int, epoch: int) -> Array:
        order = rows.copy()
        shuffle(order, np.uint64(seed), np.uint64(epoch))
        return order

    def start(self, options: TrainingOptions) -> None:
        self._options = options
        states = [self._layout.flat() for _ in range(options.rule.n_states)]
        empty = np.empty(0, self.network.dtype)
        p, q = [*states, empty, empty][:2]
        gradient = self._layout.flat() if options.clip_norm is not None else empty
        self._net = self._net._replace(p=p, q=q, gradient=gradient)
        self._work: Work | None = None
        self._counts, self._sums = np.zeros(5, np.int64), np.zeros(4)
        self.at_step = 0, 0.0

    def get_state(self) -> tuple[int, list[Array]]:
        n_states = self._options.rule.n_states
        arrays = [np.zeros(self.network.n_parameters, self.network.dtype) for _ in range(n_states)]
        for packed, flat in zip((self._net.p, self._net.q), arrays, strict=False):
            self._layout.unpack(packed, flat)
        return int(self._counts[T]), arrays

    def set_state(self, t: int, arrays: Sequence[Array]) -> None:
        self._counts[T] = t
        for packed, flat in zip((self._net.p, self._net.q), arrays, strict=False):
            self._layout.pack(np.ascontiguousarray(flat, self.network.dtype), packed)

    def train(
        self,
        X: Array | CSR,
        y: Array,
        sample_weight: Array | None,
        order: Array,
        position: int,
        batch_size: int,
        learning_rates: Array,
        seconds: float,
        max_steps: int = MANY,
        epoch: int = 0,
        sum_of_losses: float = 0.0,
    ) -> tuple[int, float]:
        options, counts, sums = self._options, self._counts, self._sums
        batch_size = min(batch_size, len(order))
        size = self._team_size(batch_size, self.network.flops_per_sample)
        if position == 0:
            counts[PART] = 0
        counts[BATCH] = position - counts[PART]
        sums[LOSSES] = sum_of_losses
        if counts[PART] == 0:
            sums[LOSSES_AT_STEP] = sum_of_losses
        n_steps = min(max_steps, -(-(len(order) - int(counts[BATCH])) // batch_size))
        run = self._run_of(options, size, len(order), batch_size)._replace(
            learning_rates=np.array(learning_rates[:n_steps], np.float64),
            dropout=dropout_of(options, epoch),
            max_steps=n_steps,
            seconds=float(seconds),
            counts=counts,
            sums=sums,
        )
        if run.part_rows < batch_size and len(self._net.gradient) == 0:
            self._net = self._net._replace(gradient=self._layout.flat())
        work = self._work
        if work is None or work.rows < run.part_rows or len(work.faults) != size:
            work = self._work = self._layout.work(run.part_rows, size, options.dropout)
        data = data_of(self.network, X, order, y, sample_weight, options.loss)
        self._train(self._net, work, X, data, run, options.loss, options.rule.name)
        self.at_step = int(counts[BATCH]), float(sums[LOSSES_AT_STEP])
        return int(counts[BATCH] + counts[PART]), float(sums[LOSSES])

    def _train(
        self,
        net: Net,
        work: Work,
        X: Array | CSR,
        data: Data,
        run: Run,
        loss: str | Loss,
        rule: str | None,
    ) -> None:
        """Run `loops.train`; rule None: the gradient is left in net.gradient."""
        dtype, size = self.network.dtype, len(run.starts) - 1
        chosen = self._stages(X, data, loss, size)._replace(
            rows=stages.stage(loops.train_rows, dtype),
            weights=stages.stage(loops.train_weights, dtype),
            rule=0 if rule is None else blocks.address(blocks.rule(rule, dtype)),
        )
        if len(run.dropout.keys) > 0:
            chosen = chosen._replace(drop=stages.stage(drop, dtype))
        if run.clip_norm > 0:
            chosen = chosen._replace(
                factor=stages.stage(clipping_factor, dtype),
                clipped=stages.stage(loops.train_clipped, dtype),
            )
        context = Context(net, work, data, run, no_request(dtype), chosen, size)
        self._call(loops.train, context)

    def _team_size(self, rows: int, flops_per_row: float) -> int:
        if not threads.can_team():
            return 1
        if self._n_threads_given:
            return self.n_threads
        most = rows * (flops_per_row + ROW_FLOPS) / FLOPS_PER_THREAD
        return int(max(1.0, min(self.n_threads, most)))

    # ---- what the loops take ----

    def _run_of(self, options: TrainingOptions, size: int, n_order: int, batch_size: int) -> Run:
        """A call of train without its own settings."""
        factors = options.learning_rate_factors or (1.0,) * self.network.n_layers
        trained = tuple(k for k, factor in enumerate(factors) if factor > 0)
        if (trained, size) not in self._shares:
            self._shares[trained, size] = self._layout.shares(trained, size)
        tiles, starts = self._shares[trained, size]
        rule, flops = options.rule, self.network.flops_per_sample
        constants = rule.momentum, rule.beta1, rule.beta2, rule.eps, rule.weight_decay
        row_bytes = 3 * sum(self.network.layer_sizes) * self.network.dtype.itemsize
        most = min(max(PART_ROWS, PART_BYTES // row_bytes), int(PART_FLOPS / flops))
        most = max(LEAST_PART_ROWS, most)
        parts = -(-batch_size // most)
        return Run(
            tiles,
            starts,
            learning_rates=np.zeros(1),
            dropout=NO_DROPOUT,
            constants=np.array(constants, np.float64),
            is_adam=int(rule.name == "adam"),
            epsilon_hat=int(rule.epsilon_hat),
            batch_weighting=int(options.batch_weighting),
            factors=np.array(factors, np.float64),
            lowest=trained[0] + 1,
            l2=float(options.l2),
            l1=float(options.l1),
            clip_value=float(options.clip_value or 0),
            clip_norm=float(options.clip_norm or 0),
            batch_size=batch_size,
            part_rows=-(-batch_size // parts),  # equal ones
            n_order=n_order,
            max_steps=MANY,
            seconds=0.0,
            flops_per_row=float(flops),
            counts=np.zeros(5, np.int64),
            sums=np.zeros(4),
        )
