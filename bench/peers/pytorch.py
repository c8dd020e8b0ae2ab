"""PyTorch, eager, at its best on a CPU: functional calls, fused optimizers, data resident."""

from __future__ import annotations

from itertools import pairwise
from typing import NoReturn

from bench.networks import Case, make_data
from bench.peers import Peer, Turns, serve


def train(case: Case, n_threads: int | None, turns: Turns) -> NoReturn:
    """Trains for ever."""
    import torch
    from torch.nn import functional

    turns.imported()
    if n_threads is not None:
        torch.set_num_threads(n_threads)
    X, y = map(torch.from_numpy, make_data(case))
    turns.begin()
    torch.manual_seed(0)
    layers = [torch.nn.Linear(n_in, n_out) for n_in, n_out in pairwise(case.layer_sizes)]
    pairs = [(layer.weight, layer.bias) for layer in layers]
    parameters = [parameter for pair in pairs for parameter in pair]
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[case.optimizer]
    optimizer = kind(parameters, lr=case.learning_rate, fused=True)

    def loss_of(h: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        for W, b in pairs[:-1]:
            h = functional.relu(functional.linear(h, W, b))
        return functional.cross_entropy(functional.linear(h, *pairs[-1]), labels)

    while True:
        for rows in torch.randperm(len(X)).split(case.batch_size):
            loss = loss_of(X.index_select(0, rows), y.index_select(0, rows))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            turns.tick(case.batch_size, loss.detach())


PEER = Peer("PyTorch", version_of="torch", train=train)

if __name__ == "__main__":
    serve(PEER)
