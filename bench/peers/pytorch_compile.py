"""PyTorch with torch.compile: one graph for a whole step, from gather to update.

That is faster than compiling the loss alone, with or without the optimizer, and so is the C++
wrapper, which takes Python out of the graph. Where a step is little work, several are one graph,
and all parameters one vector.
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

STEPS_PER_CALL = 4  # where a step is small


def load(n_threads: int | None, turns: Turns) -> None:
    """Imports the library, with a cache of its own and no other processes that compile."""
    if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
        cache = tempfile.TemporaryDirectory(prefix="bench")
        atexit.register(cache.cleanup)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache.name
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    pytorch.load(n_threads, turns)


def compiled(function: Callable[..., Any], **options: bool) -> Callable[..., Any]:
    """`function` as one graph for the shapes of its first call; forgets earlier functions."""
    import torch

    torch.compiler.reset()
    options["cpp_wrapper"] = True
    return torch.compile(function, dynamic=False, fullgraph=True, options=options)


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
    shapes = [parameter.shape for parameter in parameters]
    if case.small:
        parameters = [torch.cat([parameter.flatten() for parameter in parameters])]
    descend = update(case, parameters)

    @torch.func.grad_and_value
    def gradients_at(parameters: list[Tensor], X: Tensor, y: Tensor) -> Tensor:
        if case.small:
            parts = parameters[0].split([shape.numel() for shape in shapes])
            parameters = [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
        return pytorch.loss_of(case, parameters, X, y)

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
    """The compiled network in inference mode, its weights frozen, which takes a module."""
    load(n_threads, turns)
    import torch

    turns.begin()
    parameters = {f"p{k}": array for k, array in enumerate(pytorch.parameters_of(case))}

    class Network(torch.nn.Module):
        def forward(self, X: Tensor) -> Tensor:
            return pytorch.outputs(case, [getattr(self, name) for name in parameters], X)

    network = Network()
    for name, array in parameters.items():
        network.register_buffer(name, array)
    network = compiled(network.eval(), freezing=True)

    @torch.inference_mode()
    def forward(X: np.ndarray) -> np.ndarray:
        return network(torch.from_numpy(X)).numpy()

    return forward


PEER = Peer("PyTorch compiled", version_of="torch", train=train, predict=predict, slow_start=True)

if __name__ == "__main__":
    serve(PEER)
