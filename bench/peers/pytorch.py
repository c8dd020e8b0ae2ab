"""PyTorch, eager, at its best on a CPU: functional calls, fused optimizers, data resident."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from bench.networks import Case, make_data, make_parameters
from bench.peers import Peer, Turns, serve

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from bench.peers import Forward


def load(n_threads: int | None, turns: Turns) -> None:
    """Imports the library and sets its number of threads."""
    import torch

    turns.imported()
    if n_threads is not None:
        torch.set_num_threads(n_threads)


def parameters_of(case: Case) -> list[Tensor]:
    """W (n_out, n_in), b, W, b, ... of every layer."""
    import torch

    pairs = make_parameters(case)
    return [torch.from_numpy(array) for W, b in pairs for array in (W.T.copy(), b)]


def last_layer(case: Case, parameters: list[Tensor], h: Tensor) -> Tensor:
    """The last pre-activation."""
    import torch
    from torch.nn.functional import linear

    activation = {"relu": torch.relu, "tanh": torch.tanh}[case.activation]
    for k in range(0, len(parameters) - 2, 2):
        h = activation(linear(h, *parameters[k : k + 2]))
    return linear(h, *parameters[-2:])


def loss_of(case: Case, parameters: list[Tensor], X: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy, or half the squared error."""
    from torch.nn.functional import cross_entropy, mse_loss

    a = last_layer(case, parameters, X)
    if case.output == "softmax":
        return cross_entropy(a, y)
    return mse_loss(a, y, reduction="sum") * (0.5 / len(y))


def train(case: Case, n_threads: int | None, turns: Turns) -> NoReturn:
    """Trains for ever."""
    load(n_threads, turns)
    import torch

    X, y = map(torch.from_numpy, make_data(case))
    turns.begin()
    parameters = [parameter.requires_grad_() for parameter in parameters_of(case)]
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[case.optimizer]
    optimizer = kind(parameters, lr=case.learning_rate, fused=True)

    def step(X: Tensor, y: Tensor) -> Tensor:
        loss = loss_of(case, parameters, X, y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    while case.shuffled:
        for rows in torch.randperm(len(X)).split(case.batch_size):
            loss = step(X.index_select(0, rows), y.index_select(0, rows))
            turns.tick(case.batch_size, loss)
    while True:
        turns.tick(case.batch_size, step(X, y))


def outputs(case: Case, parameters: list[Tensor], X: Tensor) -> Tensor:
    """What the network predicts."""
    a = last_layer(case, parameters, X)
    return a.softmax(1) if case.output == "softmax" else a


def predict(case: Case, n_threads: int | None, turns: Turns) -> Forward:
    """Functional calls in inference mode."""
    load(n_threads, turns)
    import torch

    turns.begin()
    parameters = parameters_of(case)

    @torch.inference_mode()
    def forward(X: np.ndarray) -> np.ndarray:
        return outputs(case, parameters, torch.from_numpy(X)).numpy()

    return forward


PEER = Peer("PyTorch", version_of="torch", train=train, predict=predict)

if __name__ == "__main__":
    serve(PEER)
