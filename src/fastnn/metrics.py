"""Metrics: what a network's outputs f are worth beside the targets y, in one number.

accuracy   the share of samples with every label right; softmax, sigmoid
top_k      the share of samples whose class is among the 5 likeliest; softmax. TopK(k) for other k.
log_loss   mean of -ln of the probability given to what is true; softmax, sigmoid. Probabilities are
           clipped to [eps, 1 - eps], eps that of the network's dtype, as scikit-learn does.
r2         R^2 = 1 - (residual sum of squares) / (total sum of squares); identity, exp, sigmoid
mae        mean of |f - y|; identity, exp, sigmoid

With the loss grouped_cross_entropy, what is measured unless asked otherwise is the accuracy: the
share of samples with every group's label right.

All of them are weighted by the sample weights; log_loss of several labels, r2 and mae are the means
over the outputs. With soft labels the likeliest one counts as the class, except for log_loss.

A metric of one's own is a function metric(y, f) that returns a number, without sample weights:
f is (n, n_out); y is (n,) class indices, as int32, or (n, n_out), like f.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .checks import check_count
from .losses import GroupedCrossEntropy, Loss
from .network import Network, known

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Metric: TypeAlias = "str | TopK | Callable[[Array, Array], float]"
    Metrics = Metric | Mapping[str, Metric] | Iterable[Metric | Mapping[str, Metric]]
    Measure = Callable[[Array, Array, Array | None], float]  # y, f, sample weights


@dataclass(frozen=True)
class TopK:
    """The metric top_k for other k than 5; unless given another name, it is called top_3 and so on.

    Raises ValueError for k below 1, TypeError unless k is an integer.
    """

    k: int = 5

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", check_count(self.k, "k"))


def accuracy(y: Array, f: Array, w: Array | None, network: Network) -> float:
    if network.output == "softmax":
        right = f.argmax(axis=1) == _classes(y)
    else:
        right = ((f > 0.5) == (y > 0.5)).all(axis=1)
    return float(np.average(right, weights=w))


def accuracy_of_groups(y: Array, f: Array, w: Array | None, groups: Sequence[slice]) -> float:
    right = [f[:, group].argmax(axis=1) == y[:, group].argmax(axis=1) for group in groups]
    return float(np.average(np.all(right, axis=0), weights=w))


def top_k(y: Array, f: Array, w: Array | None, network: Network, k: int = 5) -> float:
    """Of equal outputs the first is the likeliest, as in `MLP.predict`; so TopK(1) is accuracy."""
    label = _classes(y)[:, np.newaxis]
    f_label = np.take_along_axis(f, label, axis=1)
    likelier = (f > f_label) | ((f == f_label) & (np.arange(f.shape[1]) < label))
    return float(np.average(likelier.sum(axis=1) < k, weights=w))


def log_loss(y: Array, f: Array, w: Array | None, network: Network) -> float:
    eps = np.finfo(f.dtype).eps
    f = np.clip(f.astype(np.float64), eps, 1 - eps)
    if network.output == "sigmoid":
        losses = -(y * np.log(f) + (1 - y) * np.log1p(-f)).mean(axis=1)
    elif y.ndim == 1:
        losses = -np.log(f[np.arange(len(f)), y])
    else:
        losses = -(y * np.log(f)).sum(axis=1)
    return float(np.average(losses, weights=w))


def r2(y: Array, f: Array, w: Array | None, network: Network) -> float:
    """As scikit-learn has it: a constant output counts 1 if it is met exactly, else 0; NaN for
    n < 2."""
    if len(f) < 2:
        return math.nan
    f, y = f.astype(np.float64), y.astype(np.float64)
    w = np.ones(len(f)) if w is None else w.astype(np.float64)
    residual = w @ (y - f) ** 2
    total = w @ (y - np.average(y, axis=0, weights=w)) ** 2
    constant = np.where(residual == 0, 1.0, 0.0)
    safe_total = np.where(total == 0, 1.0, total)
    return float(np.where(total == 0, constant, 1 - residual / safe_total).mean())


def mae(y: Array, f: Array, w: Array | None, network: Network) -> float:
    return float(np.average(np.abs(f.astype(np.float64) - y).mean(axis=1), weights=w))


METRICS: dict[str, Callable[[Array, Array, Array | None, Network], float]] = {
    "accuracy": accuracy,
    "top_k": top_k,
    "log_loss": log_loss,
    "r2": r2,
    "mae": mae,
}
OUTPUTS_OF_METRIC = {
    "accuracy": ("softmax", "sigmoid"),
    "top_k": ("softmax",),
    "log_loss": ("softmax", "sigmoid"),
    "r2": ("identity", "exp", "sigmoid"),
    "mae": ("identity", "exp", "sigmoid"),
}
METRIC_OF_OUTPUT = {"softmax": "accuracy", "sigmoid": "accuracy", "identity": "r2", "exp": "r2"}


def collect(metrics: Metrics, network: Network, loss: Loss) -> dict[str, Measure]:
    """The metrics by name; for none given, the one that belongs to the output and the loss.

    Raises TypeError for what is no metric, ValueError for an unknown name, a metric that does not
    suit the network, and two of one name.
    """
    entries = list(_entries(metrics))
    if not entries and isinstance(loss, GroupedCrossEntropy):
        return {"accuracy": partial(accuracy_of_groups, groups=loss.groups(network.n_out))}
    default = METRIC_OF_OUTPUT[network.output]
    measures: dict[str, Measure] = {}
    for name, metric in entries or [(default, default)]:
        if name in measures or name == "loss":
            raise ValueError(f"two metrics are called {name!r}; metrics={{name: metric}} names one")
        measures[name] = _measure(name, metric, network)
    return measures


def scores(
    measures: Mapping[str, Measure], y: Array, f: Array, w: Array | None, loss: float
) -> dict[str, float]:
    """{"loss": loss, ...} with the value of every metric."""
    return {"loss": loss} | {name: measure(y, f, w) for name, measure in measures.items()}


def _entries(metrics: Any) -> Iterable[tuple[str, Any]]:
    """(name, metric) pairs of whatever fit or evaluate was given."""
    if isinstance(metrics, str):
        yield metrics, metrics
    elif isinstance(metrics, TopK):
        yield f"top_{metrics.k}", metrics
    elif isinstance(metrics, Mapping):
        yield from ((str(name), metric) for name, metric in metrics.items())
    elif callable(metrics) and not isinstance(metrics, type):
        if not hasattr(metrics, "__name__"):
            raise ValueError(f"{metrics!r} has no __name__; metrics={{name: metric}} gives it one")
        yield metrics.__name__, metrics
    elif isinstance(metrics, Iterable):
        for metric in metrics:
            yield from _entries(metric)
    else:
        raise _no_metric(metrics)


def _measure(name: str, metric: Any, network: Network) -> Measure:
    if isinstance(metric, str):
        known(metric, tuple(METRICS), "metric")
        _check_output(metric, network)
        if metric != "top_k":
            return lambda y, f, w: METRICS[metric](y, f, w, network)
        metric = TopK()
    if isinstance(metric, TopK):
        _check_output("top_k", network)
        if metric.k > network.n_out:
            raise ValueError(f"{metric} needs that many outputs, this network has {network.n_out}")
        return lambda y, f, w: top_k(y, f, w, network, metric.k)
    if not callable(metric) or isinstance(metric, type):
        raise _no_metric(metric)

    def measure(y: Array, f: Array, w: Array | None) -> float:
        value = metric(y, f)
        try:
            return float(value)
        except (TypeError, ValueError):
            raise TypeError(f"the metric {name!r} must return a number, got {value!r}") from None

    return measure


def _check_output(metric: str, network: Network) -> None:
    outputs = OUTPUTS_OF_METRIC[metric]
    if network.output not in outputs:
        raise ValueError(
            f"the metric {metric!r} needs the output {' or '.join(outputs)}, "
            f"this network's is {network.output}"
        )


def _no_metric(given: object) -> TypeError:
    return TypeError(
        f"metrics must be names ({', '.join(METRICS)}), TopK objects or functions f(y, f), "
        f"got {given!r}"
    )


def _classes(y: Array) -> Array:
    """Class indices (n,) of softmax's targets."""
    return y if y.ndim == 1 else y.argmax(axis=1)
