"""Adam by hand in NumPy, in place: for the NumPy peer and the NumPy racer.

NumPy is imported late, as peers do: the number of threads is set by then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


class Adam:
    """Moves parameters (n,) by their gradient (n,), both float32; overwrites the gradient."""

    def __init__(self, parameters: np.ndarray, gradient: np.ndarray, learning_rate: float) -> None:
        import numpy as np

        self.parameters, self.gradient = parameters, gradient
        self.learning_rate, self.t = learning_rate, 0
        self.m, self.v, self.scratch = np.zeros((3, gradient.size), np.float32)

    def step(self) -> None:
        """One step."""
        import numpy as np

        g, m, v, scratch = self.gradient, self.m, self.v, self.scratch
        self.t += 1
        np.multiply(g, np.float32(0.1), out=scratch)
        m *= np.float32(0.9)
        m += scratch
        g *= g
        g *= np.float32(0.001)
        v *= np.float32(0.999)
        v += g
        np.sqrt(v, out=scratch)
        scratch *= np.float32((1 - 0.999**self.t) ** -0.5)
        scratch += np.float32(1e-8)
        np.divide(m, scratch, out=scratch)
        scratch *= np.float32(self.learning_rate / (1 - 0.9**self.t))
        self.parameters -= scratch
