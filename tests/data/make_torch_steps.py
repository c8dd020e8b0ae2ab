"""Makes torch_steps.json: what PyTorch's autograd and optimizers do to a few small networks.

Run it with PyTorch installed: `python tests/data/make_torch_steps.py`. All numbers are float32;
JSON keeps them exactly, since Python prints the shortest text that reads back the same.
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


def torch_steps(name: str) -> tuple[list[np.ndarray], list[np.ndarray], list[float]]:
    """Weights and biases after PyTorch's full-batch steps, and the loss before each."""
    import torch
    from torch.nn import functional

    _, activation, output, optimizer, constants, learning_rate, steps, l2 = CASES[name]
    W, b, X, y = start(name)
    parameters = [torch.tensor(array, requires_grad=True) for array in W + b]
    weights, biases = parameters[: len(W)], parameters[len(W) :]
    g = getattr(torch if activation in ("tanh", "sigmoid") else functional, activation)
    make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer]
    descent = make(parameters, lr=learning_rate, **constants)
    inputs, target, losses = torch.tensor(X), torch.tensor(y), []
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
        descent.step()
    arrays = [parameter.detach().numpy() for parameter in parameters]
    return arrays[: len(W)], arrays[len(W) :], losses


def main() -> None:
    import torch

    cases = {}
    for name in CASES:
        W, b, X, y = start(name)
        W_after, b_after, losses = torch_steps(name)
        cases[name] = {
            "weights": [array.tolist() for array in W],
            "biases": [array.tolist() for array in b],
            "X": X.tolist(),
            "y": y.tolist(),
            "weights_after": [array.tolist() for array in W_after],
            "biases_after": [array.tolist() for array in b_after],
            "losses": losses,
        }
    text = json.dumps({"torch": torch.__version__, "cases": cases}, separators=(",", ":"))
    PATH.write_text(text.replace('"weights":', '\n"weights":') + "\n")


if __name__ == "__main__":
    main()
