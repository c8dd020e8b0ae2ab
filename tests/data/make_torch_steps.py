"""Makes torch_steps.json: what PyTorch's autograd and optimizers do to a few small networks.

Run it with PyTorch installed: `python tests/data/make_torch_steps.py`. Every case starts from
float32 numbers and is computed in float32 and in float64; JSON keeps both exactly, since Python
prints the shortest text that reads back the same.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

PATH = Path(__file__).with_name("torch_steps.json")

# name: layers, activation, output, optimizer, its constants, learning rate, steps, l2
CASES: dict[str, tuple[Any, ...]] = {
    "sgd": ((4, 5, 3), "relu", "softmax", "sgd", {}, 0.1, 1, 0.0),
    "sgd l2": ((4, 5, 3), "tanh", "softmax", "sgd", {}, 0.1, 1, 0.01),
    "momentum": ((4, 6, 3), "tanh", "softmax", "sgd", {"momentum": 0.9}, 0.1, 4, 0.0),
    "nesterov": (
        (4, 6, 3),
        "gelu",
        "softmax",
        "sgd",
        {"momentum": 0.9, "nesterov": True},
        0.1,
        4,
        0.0,
    ),
    "adam": ((4, 6, 5, 3), "tanh", "softmax", "adam", {}, 0.01, 5, 0.0),
    "adam constants": (
        (4, 6, 3),
        "silu",
        "softmax",
        "adam",
        {"betas": (0.8, 0.99), "eps": 1e-4},
        0.01,
        5,
        0.0,
    ),
    "sigmoid": ((3, 4, 2), "sigmoid", "sigmoid", "sgd", {}, 0.1, 1, 0.0),
    "identity": ((3, 4, 2), "elu", "identity", "sgd", {}, 0.1, 1, 0.0),
    "exp": ((3, 4, 2), "softplus", "exp", "sgd", {}, 0.1, 1, 0.0),
}
# optimizer, constants, learning rate: 50 steps, so that an eps in the wrong place or a correction
# left out cannot hide
LONG = {
    "sgd weight decay": ("sgd", {"weight_decay": 0.1}, 0.1),
    "momentum": ("sgd", {"momentum": 0.9, "weight_decay": 0.1}, 0.05),
    "nesterov": ("sgd", {"momentum": 0.9, "nesterov": True}, 0.05),
    "adagrad": ("adagrad", {}, 0.02),
    "adagrad eps": ("adagrad", {"eps": 0.01}, 0.02),
    "rmsprop": ("rmsprop", {}, 0.005),
    "rmsprop alpha eps": ("rmsprop", {"alpha": 0.9, "eps": 0.01}, 0.01),
    "rmsprop momentum": ("rmsprop", {"momentum": 0.8}, 0.002),
    "adam": ("adam", {}, 0.01),
    "adamw": ("adamw", {}, 0.01),
    "adamw weight decay": ("adamw", {"weight_decay": 0.5, "eps": 0.01}, 0.01),
}
CASES |= {
    f"trajectory of {name}": ((6, 12, 7, 3), "tanh", "softmax", kind, constants, rate, 50, 0.001)
    for name, (kind, constants, rate) in LONG.items()
}


def start(
    name: str, n: int = 8
) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray, np.ndarray]:
    """Weights, biases, X and y of a case, float32 (y: int64 for softmax)."""
    layers, _, output, *_ = CASES[name]
    rng = np.random.default_rng(sorted(CASES).index(name))
    pairs = list(zip(layers[1:], layers[:-1], strict=True))
    W = [rng.normal(0, 0.5, shape).astype(np.float32) for shape in pairs]
    b = [rng.normal(0, 0.5, shape[0]).astype(np.float32) for shape in pairs]
    X = rng.normal(size=(n, layers[0])).astype(np.float32)
    if output == "softmax":
        return W, b, X, rng.integers(0, layers[-1], n)
    y = {
        "sigmoid": rng.integers(0, 2, (n, layers[-1])),
        "identity": rng.normal(size=(n, layers[-1])),
        "exp": rng.poisson(2.0, (n, layers[-1])),
    }[output]
    return W, b, X, y.astype(np.float32)


def torch_loss(output: str, a: Any, target: Any) -> Any:
    """The mean over the samples, from the output layer's pre-activation a."""
    from torch.nn import functional

    if output == "softmax":
        return functional.cross_entropy(a, target)
    total = {
        "sigmoid": functional.binary_cross_entropy_with_logits,
        "identity": lambda a, y, reduction: 0.5 * ((a - y) ** 2).sum(),
        "exp": functional.poisson_nll_loss,
    }[output](a, target, reduction="sum")
    return total / len(a)


def torch_optimizer(kind: str, constants: dict[str, Any], W: list[Any], b: list[Any]) -> Any:
    """PyTorch's own, with weight decay on weights only. Its SGD's is not decoupled: not its own."""
    import torch

    make = {
        "sgd": torch.optim.SGD,
        "adagrad": torch.optim.Adagrad,
        "rmsprop": torch.optim.RMSprop,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
    }[kind]
    groups = [{"params": W}, {"params": b, "weight_decay": 0.0}]
    own = constants if kind == "adamw" else {**constants, "weight_decay": 0.0}
    return make(groups, **own)


def torch_steps(name: str, dtype: str) -> tuple[list[np.ndarray], list[np.ndarray], list[float]]:
    """Weights and biases after PyTorch's full-batch steps, and the loss before each."""
    import torch
    from torch.nn import functional

    _, activation, output, kind, constants, learning_rate, steps, l2 = CASES[name]
    W, b, X, y = start(name)
    parameters = [torch.tensor(array.astype(dtype), requires_grad=True) for array in W + b]
    weights, biases = parameters[: len(W)], parameters[len(W) :]
    g = getattr(torch if activation in ("tanh", "sigmoid") else functional, activation)
    descent = torch_optimizer(kind, {"lr": learning_rate, **constants}, weights, biases)
    inputs, losses = torch.tensor(X.astype(dtype)), []
    target = torch.tensor(y if output == "softmax" else y.astype(dtype))
    for _ in range(steps):
        h = inputs
        for k in range(len(W)):
            a = functional.linear(h, weights[k], biases[k])
            h = g(a) if k + 1 < len(W) else a
        loss = torch_loss(output, a, target)
        losses.append(loss.item())
        objective = loss + 0.5 * l2 * sum((weight**2).sum() for weight in weights)
        descent.zero_grad()
        objective.backward()
        if kind == "sgd" and "weight_decay" in constants:
            with torch.no_grad():
                for weight in weights:
                    weight.mul_(1 - learning_rate * constants["weight_decay"])
        descent.step()
    arrays = [parameter.detach().numpy() for parameter in parameters]
    return arrays[: len(W)], arrays[len(W) :], losses


def main() -> None:
    import torch

    cases = {}
    for name in CASES:
        W, b, X, y = start(name)
        cases[name] = {
            "weights": [array.tolist() for array in W],
            "biases": [array.tolist() for array in b],
            "X": X.tolist(),
            "y": y.tolist(),
        }
        for dtype in ("float32", "float64"):
            W, b, losses = torch_steps(name, dtype)
            cases[name][dtype] = {
                "weights": [array.tolist() for array in W],
                "biases": [array.tolist() for array in b],
                "losses": losses,
            }
    text = json.dumps({"torch": torch.__version__, "cases": cases}, separators=(",", ":"))
    PATH.write_text(text.replace('"weights":', '\n"weights":') + "\n")


if __name__ == "__main__":
    main()
