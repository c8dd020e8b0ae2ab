"""Optimizers: what they are called and their constants. The backends hold the formulas' code.

g is the gradient of the objective, penalties included; the state starts at zero with every fit.
weight_decay is decoupled from it (Loshchilov and Hutter, 2019): before the step,
W = W - learning_rate * weight_decay * W, for weights, not for biases.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from .checks import check_amount, check_count
from .network import known, number

# The rules by which an engine makes steps, one function each in every backend, and the number of
# state arrays of W's shape that each keeps. In the order of the enum in csrc/fastnn.h.
RULES = {
    "sgd": 0,
    "momentum": 1,
    "nesterov": 1,
    "adagrad": 1,
    "rmsprop": 1,
    "rmsprop_momentum": 2,
    "adam": 2,
    "lion": 1,
}


class Rule(NamedTuple):
    """What an engine needs to know of an optimizer: one of RULES, and its constants."""

    name: str
    momentum: float = 0.0
    beta1: float = 0.0
    beta2: float = 0.0
    eps: float = 0.0
    weight_decay: float = 0.0
    epsilon_hat: bool = False

    @property
    def n_states(self) -> int:
        return RULES[self.name]


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum (Sutskever et al., 2013), in PyTorch's form.

    buf = momentum * buf + g
    step = g + momentum * buf  if nesterov  else  buf
    W = W - learning_rate * step

    Raises ValueError unless 0 <= momentum < 1, for nesterov without momentum, and for a negative
    weight_decay.
    """

    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _check_fraction(self.momentum, "momentum")
        check_amount(self.weight_decay, "weight_decay")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov=True needs a momentum above 0")

    @property
    def rule(self) -> Rule:
        name = "nesterov" if self.nesterov else "momentum" if self.momentum else "sgd"
        return _rule(name, momentum=self.momentum, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class Adagrad:
    """Adagrad (Duchi et al., 2011): rates that fall with all the gradients a weight has seen.

    v = v + g^2
    W = W - learning_rate * g / (sqrt(v) + eps)

    Raises ValueError unless eps is above 0.
    """

    eps: float = 1e-10

    def __post_init__(self) -> None:
        _check_eps(self.eps)

    @property
    def rule(self) -> Rule:
        return _rule("adagrad", eps=self.eps)


@dataclass(frozen=True)
class RMSprop:
    """RMSprop (Tieleman and Hinton, 2012), in PyTorch's form.

    v = alpha * v + (1 - alpha) * g^2
    buf = momentum * buf + g / (sqrt(v) + eps)
    W = W - learning_rate * buf

    Raises ValueError unless alpha and momentum are in [0, 1) and eps is above 0.
    """

    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0

    def __post_init__(self) -> None:
        _check_fraction(self.alpha, "alpha")
        _check_fraction(self.momentum, "momentum")
        _check_eps(self.eps)

    @property
    def rule(self) -> Rule:
        name = "rmsprop_momentum" if self.momentum else "rmsprop"
        return _rule(name, momentum=self.momentum, beta2=self.alpha, eps=self.eps)


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba, 2015); t counts the steps from 1.

    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g^2
    W = W - learning_rate / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)

    epsilon_hat: eps is added to sqrt(v) before the bias correction, as in the "epsilon hat" of the
    paper's section 2 and in scikit-learn: eps / sqrt(1 - beta2^t) stands for eps.

    Raises ValueError unless both betas are in [0, 1) and eps is above 0.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    epsilon_hat: bool = False

    def __post_init__(self) -> None:
        _check_betas(self.betas)
        _check_eps(self.eps)

    @property
    def rule(self) -> Rule:
        beta1, beta2 = self.betas
        rule = _rule("adam", beta1=beta1, beta2=beta2, eps=self.eps)
        return rule._replace(epsilon_hat=bool(self.epsilon_hat))


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019); else as Adam.

    Raises ValueError also for a negative weight_decay.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.01
    epsilon_hat: bool = False

    def __post_init__(self) -> None:
        Adam(self.betas, self.eps)
        check_amount(self.weight_decay, "weight_decay")

    @property
    def rule(self) -> Rule:
        return Adam(self.betas, self.eps, self.epsilon_hat).rule._replace(
            weight_decay=float(self.weight_decay)
        )


@dataclass(frozen=True)
class Lion:
    """Lion (Chen et al., 2023): every weight moves by learning_rate, or stays where g is 0.

    step = sign(beta1 * m + (1 - beta1) * g)
    W = W - learning_rate * step
    m = beta2 * m + (1 - beta2) * g

    Its authors use a tenth to a third of Adam's learning rate, and a weight_decay that much larger.
    Raises ValueError unless both betas are in [0, 1), and for a negative weight_decay.
    """

    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _check_betas(self.betas)
        check_amount(self.weight_decay, "weight_decay")

    @property
    def rule(self) -> Rule:
        beta1, beta2 = self.betas
        return _rule("lion", beta1=beta1, beta2=beta2, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class LBFGS:
    """Limited-memory BFGS (Byrd et al., 1995), by SciPy, on all samples at once: for small data.

    An epoch of fit is an iteration: a direction from the last history_size changes of W and g, and
    a search along it, which takes one pass over the data, sometimes a few. Training ends before the
    last epoch where the largest element of |g| is at most tolerance_grad, where an iteration lowers
    the objective J by no more than tolerance_change * max(|J|, 1), and where rounding leaves
    nothing to gain: float64 comes further than float32.

    It has no learning rate and takes no batches; fit refuses what does not go with it.
    Needs SciPy: pip install 'fastnn-cpu[lbfgs]'. Raises ValueError for a history_size below 1 or a
    negative tolerance.
    """

    history_size: int = 10
    tolerance_grad: float = 1e-5
    tolerance_change: float = 1e-9

    def __post_init__(self) -> None:
        check_count(self.history_size, "history_size")
        check_amount(self.tolerance_grad, "tolerance_grad")
        check_amount(self.tolerance_change, "tolerance_change")


# Those whose steps are an engine's.
Optimizer = SGD | Adagrad | RMSprop | Adam | AdamW | Lion
OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": SGD,
    "adagrad": Adagrad,
    "rmsprop": RMSprop,
    "adam": Adam,
    "adamw": AdamW,
    "lion": Lion,
}


def get(optimizer: str | Optimizer | LBFGS) -> Optimizer | LBFGS:
    """The optimizer itself; a name stands for the one with its default constants."""
    if isinstance(optimizer, Optimizer | LBFGS):
        return optimizer
    if optimizer == "lbfgs":
        return LBFGS()
    return OPTIMIZERS[known(optimizer, (*OPTIMIZERS, "lbfgs"), "optimizer")]()


def _rule(name: str, **constants: float) -> Rule:
    """With Python's floats: NumPy's would turn float32 into float64."""
    floats: dict[str, Any] = {key: float(value) for key, value in constants.items()}
    return Rule(name, **floats)


def _check_fraction(value: float, name: str) -> None:
    if not 0 <= number(value, name) < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value!r}")


def _check_eps(eps: float) -> None:
    if not 0 < number(eps, "eps") < float("inf"):
        raise ValueError(f"eps must be a positive number, got {eps!r}")


def _check_betas(betas: tuple[float, float]) -> None:
    try:
        beta1, beta2 = betas
    except (TypeError, ValueError):
        raise ValueError(f"betas must be a pair of numbers, got {betas!r}") from None
    _check_fraction(beta1, "betas[0]")
    _check_fraction(beta2, "betas[1]")
