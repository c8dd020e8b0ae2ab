"""Training on a file larger than memory: a sparse one of 10 GB, of which the disk keeps next to
nothing, read in blocks by a thread of its own while the blocks before are trained on.

The pixels of a few blocks, spread over the file, are written; all others are zeros, as are their
labels. The training stops after a few seconds, with a checkpoint from which it could go on.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

import fastnn
from fastnn.callbacks import Checkpoint
from fastnn.streams import Blocks

BLOCK = 4096  # rows that are read together


def write(folder, n):
    """X.npy (n, 784) uint8 and y.npy (n,): every hundredth block has images of bright corners."""
    X = np.lib.format.open_memmap(folder / "X.npy", "w+", np.uint8, (n, 784))
    y = np.lib.format.open_memmap(folder / "y.npy", "w+", np.int32, (n,))
    rng = np.random.default_rng(0)
    for start in range(0, n, 100 * BLOCK):
        corner = rng.integers(0, 4, len(y[start : start + BLOCK]))
        images = rng.integers(0, 64, (len(corner), 2, 14, 2, 14), dtype=np.uint8)
        images[np.arange(len(corner)), corner // 2, :, corner % 2] += 128
        X[start : start + BLOCK] = images.reshape(-1, 784)
        y[start : start + BLOCK] = corner + 1  # 0 is nothing to see


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--gigabytes", type=float, default=10.0)
parser.add_argument("--seconds", type=float, default=5.0)
args = parser.parse_args()
with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    write(folder, int(args.gigabytes * 1e9 / 784))
    on_disk = sum(path.stat().st_blocks * 512 for path in folder.iterdir())
    X, y = (np.load(folder / file, mmap_mode="r") for file in ("X.npy", "y.npy"))
    print(f"{X.nbytes / 1e9:.2f} GB in {len(X):,} images, {on_disk / 1e6:.0f} MB on the disk")
    net = fastnn.MLP((784, 64, 5), seed=0)
    checkpoint = Checkpoint(folder / "run", every_steps=500)
    net.fit(
        Blocks(X, y, block_rows=BLOCK), epochs=1, callbacks=checkpoint, max_seconds=args.seconds
    )
    seen = net.evaluate(X[:BLOCK], y[:BLOCK])["accuracy"]
    print(f"accuracy on the first block {100 * seen:.1f} %")
