"""PyTorch with torch.compile: one graph for a whole step, from gather to update.

That is faster than compiling the loss alone, with or without the optimizer, and so is the C++
wrapper, which takes Python out of the graph. Where a step is little work, several are one graph.
Every row is compiled anew, nothing comes from a cache of earlier runs, so that the first step
tells what compiling costs.
"""

from __future__ import annotations

import atexit
import os
import tempfile
from typing import TYPE_CHECKING, Any, NoReturn

from bench.networks import Case, make_data
from bench.peers import Peer, Turns, pytorch, serve

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from torch import Tensor

    from bench.peers import Forward

STEPS_PER_CALL = 8  # where a step is small


def load(n_threads: int | None, turns: Turns) -> None:
    """Imports the library, with a cache of its own and no other processes that compile."""
    if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
        cache = tempfile.TemporaryDirectory(prefix="bench")
        atexit.register(cache.cleanup)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache.name
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    pytorch.load(n_threads, turns)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as one graph for the shapes of its first call; forgets earlier functions."""
    import torch

    torch.compiler.reset()
    return torch.compile(function, dynamic=False, fullgraph=True, options={"cpp_wrapper": True})


def update(case: Case, parameters: list[Tensor]) -> Callable[[tuple[Tensor, ...]], None]:
    """The optimizer's step from the gradients, in place."""
    import torch

    rate = case.learning_rate

    def sgd(gradients: tuple[Tensor, ...]) -> None:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.sub_(gradient, alpha=rate)

    if case.optimizer == "sgd":
        return sgd
    first, second = ([torch.zeros_like(parameter) for parameter in parameters] for _ in "mv")
    t = torch.zeros(())

    def adam(gradients: tuple[Tensor, ...]) -> None:
        t.add_(1)
        scale, root = rate / (1 - 0.9**t), torch.rsqrt(1 - 0.999**t)
        for parameter, g, m, v in zip(parameters, gradients, first, second, strict=True):
            m.lerp_(g, 0.1)
            v.mul_(0.999).addcmul_(g, g, value=0.001)
            parameter.sub_(scale * m / (v.sqrt() * root + 1e-8))

    return adam


def train(case: Case, n_threads: int | None, turns: Turns) -> NoReturn:
    """Trains for ever."""
    load(n_threads, turns)
    import torch

    X, y = map(torch.from_numpy, make_data(case))
    turns.begin()
    parameters = pytorch.parameters_of(case)
    gradients_at = torch.func.grad_and_value(lambda p, X, y: pytorch.loss_of(case, p, X, y))
    descend = update(case, parameters)

    def step(X: Tensor, y: Tensor) -> Tensor:
        gradients, loss = gradients_at(parameters, X, y)
        descend(gradients)
        return loss

    def steps(batches: Tensor) -> Tensor:
        for rows in batches:
            loss = step(X.index_select(0, rows), y.index_select(0, rows))
        return loss

    b = case.batch_size
    if not case.shuffled:
        step = compiled(step)
        while True:
            turns.tick(b, step(X, y))
    steps = compiled(steps)
    per_call = STEPS_PER_CALL if case.small else 1
    while True:
        calls = torch.randperm(len(X))[: len(X) // (per_call * b) * per_call * b]
        for rows in calls.view(-1, per_call, b):
            turns.tick(per_call * b, steps(rows))


def predict(case: Case, n_threads: int | None, turns: Turns) -> Forward:
    """The compiled network in inference mode."""
    load(n_threads, turns)
    import torch

    turns.begin()
    parameters = pytorch.parameters_of(case)
    network = compiled(lambda X: pytorch.outputs(case, parameters, X))

    @torch.inference_mode()
    def forward(X: np.ndarray) -> np.ndarray:
        return network(torch.from_numpy(X)).numpy()

    return forward


PEER = Peer("PyTorch compiled", version_of="torch", train=train, predict=predict, slow_start=True)

if __name__ == "__main__":
    serve(PEER)
