"""The Numba backend: the compiled backend's method, in Python that Numba compiles when it is used.

products    the micro-kernel behind all matrix products
elementary, activations, losses, optimizers, dropout    functions of one number, or of a few
blocks      the chosen ones of these as C functions of many numbers
passes      rows of a batch: gather, forward, loss, backward
updates     tiles of the weights: dW, optimizer
loops       steps and shares of the work: what Python calls
layout      where everything lies
inputs      where X and y lie, and the keys of dropout
engine      the interface that all backends have
"""

from .engine import Engine

__all__ = ["Engine"]
