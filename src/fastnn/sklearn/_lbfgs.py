"""solver="lbfgs": scipy's L-BFGS-B, as scikit-learn calls it, on fastnn's loss and gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.optimize
from sklearn.utils.optimize import _check_optimize_result
from sklearn.utils.parallel import _get_threadpool_controller

from .. import backends, samples, training
from ..backends import Engine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..mlp import MLP
    from ._base import BaseMLP
    from ._tasks import ScikitTasks

    Array = NDArray[Any]


# Below so much work in one evaluation (operations) it is left to one thread: between evaluations
# the others fall asleep, and on a busy machine waking them takes whole time slices.
LEAST_TEAM_FLOPS = 1e8


def _engine(net: MLP, n: int) -> Engine:
    n_threads = backends.threads(net.n_threads)
    if n_threads is None and n * net.network.flops_per_sample < LEAST_TEAM_FLOPS:
        n_threads = 1
    engine: Engine = backends.load(net.backend).Engine(net.network, n_threads)
    engine.set_parameters(net._flat)
    return engine


def fit_lbfgs(
    estimator: BaseMLP, X: Any, y: Array, sample_weight: Array | None, tasks: ScikitTasks | None
) -> None:
    """Train with all samples at a time; ConvergenceWarning where max_iter or max_fun end it."""
    net = estimator.network_
    weight = estimator._training_weight(y, sample_weight, False)
    l2 = estimator._l2(weight) / X.shape[0]
    loss = estimator._fastnn_loss()
    data, _ = samples.split(X, y, weight, None, net.network, loss, net.seed)
    engine = _engine(net, len(data.X))

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        engine.set_parameters(flat.astype(net.network.dtype))
        J, gradient = engine.loss_and_gradients(data.X, data.y, data.sample_weight, loss, l2, 0.0)
        return J, gradient.astype(np.float64)

    def tell(intermediate_result: scipy.optimize.OptimizeResult) -> None:
        estimator.n_iter_ += 1
        if estimator.verbose:
            print(f"Iteration {estimator.n_iter_}, loss = {intermediate_result.fun:.8f}")
        if tasks is not None:
            net._take(intermediate_result.x.astype(net.network.dtype))
            if tasks.end_task():
                raise StopIteration
            tasks.begin_task("lbfgs-iter")

    start = np.empty(net.n_parameters, net.network.dtype)
    engine.get_parameters(start)
    estimator.n_iter_ = 0
    if tasks is not None:
        tasks.begin_task("lbfgs-iter")
    # BLAS's threads, which its vectors do not need, would go on spinning on fastnn's cores.
    with _get_threadpool_controller().limit(limits=1, user_api="blas"):
        result = scipy.optimize.minimize(
            objective,
            start.astype(np.float64),
            method="L-BFGS-B",
            jac=True,
            callback=tell if estimator.verbose or tasks is not None else None,
            options={
                "maxfun": estimator.max_fun,
                "maxiter": estimator.max_iter,
                "gtol": estimator.tol,
            },
        )
    estimator.n_iter_ = _check_optimize_result("lbfgs", result, estimator.max_iter)
    flat = result.x.astype(net.network.dtype)
    if not np.isfinite(flat).all():
        raise training.DivergenceError(
            "L-BFGS ended at weights that are NaN or infinite. The input may have large values "
            "and need to be scaled."
        )
    net._take(flat)
    penalty = net.network.penalty(flat, l2, 0.0)
    to_scikit = estimator._loss_in_scikit_terms(y, sample_weight)
    estimator.loss_ = to_scikit(float(result.fun) - penalty) + penalty
