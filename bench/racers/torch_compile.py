"""PyTorch with torch.compile: forward, loss and their gradient become compiled kernels.

What was compiled is cached on disk by default, so only the first race of all pays for the compiler.
"""

from __future__ import annotations

from functools import partial

from bench.racers import pytorch, run

if __name__ == "__main__":
    run(partial(pytorch.racer, compiled=True))
