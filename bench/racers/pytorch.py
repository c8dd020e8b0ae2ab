"""PyTorch, eager: functional calls, the fused Adam, data resident."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.racers import BATCH_SIZE, LEARNING_RATE, N_HIDDEN, Race, read_mnist, run

if TYPE_CHECKING:
    import torch


def prepare(race: Race) -> tuple[list[torch.Tensor], list[torch.nn.Parameter]]:
    """X, y, X_test, y_test and the first W1, b1, W2, b2."""
    import torch

    torch.set_num_threads(race.n_threads or torch.get_num_threads())
    race.split("imports")
    data = [torch.from_numpy(array) for array in read_mnist()]
    race.split("loading")
    torch.manual_seed(race.seed)
    layers = [torch.nn.Linear(784, N_HIDDEN), torch.nn.Linear(N_HIDDEN, 10)]
    return data, [p for layer in layers for p in layer.parameters()]


def racer(race: Race) -> None:
    """Trains until race is over."""
    import torch
    from torch.nn import functional

    (X, y, X_test, y_test), parameters = prepare(race)
    W1, b1, W2, b2 = parameters
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE, fused=True)

    def forward(h: torch.Tensor) -> torch.Tensor:
        h = functional.relu(functional.linear(h, W1, b1))
        return functional.linear(h, W2, b2)

    def loss_of(rows: torch.Tensor) -> torch.Tensor:
        f = forward(X.index_select(0, rows))
        return functional.cross_entropy(f, y.index_select(0, rows))

    while True:
        for rows in torch.randperm(len(X)).split(BATCH_SIZE):
            optimizer.zero_grad(set_to_none=True)
            loss_of(rows).backward()
            optimizer.step()
        with torch.inference_mode():
            right = forward(X_test).argmax(dim=1) == y_test
        if race.is_over(right.float().mean().item()):
            return


if __name__ == "__main__":
    run(racer)
