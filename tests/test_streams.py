"""Streams: chunks of data that are read while the chunk before is trained on."""

import threading

import numpy as np
import pytest

from fastnn.streams import Blocks, Loader, Shards, chunks_of

N = 103


def arrays():
    X = np.arange(2 * N, dtype=np.float32).reshape(N, 2)
    return X, np.arange(N) % 3, np.arange(N) / N


def rows_of(chunks):
    """The first column of X, in the order of the chunks, as row numbers."""
    return (np.concatenate([chunk[0] for chunk in chunks])[:, 0] / 2).astype(int)


@pytest.mark.parametrize("block_rows", [1, 7, 50, N, 1000])
@pytest.mark.parametrize("n_blocks", [1, 3, 200])
def test_blocks_hold_every_row_once(block_rows, n_blocks):
    X, y, w = arrays()
    blocks = Blocks(X, y, w, block_rows=block_rows, n_blocks=n_blocks, seed=4)
    chunks = list(blocks(0))
    assert all(len(chunk) == 3 for chunk in chunks)
    assert all(len(chunk[0]) <= block_rows * n_blocks for chunk in chunks)
    rows = rows_of(chunks)
    assert sorted(rows) == list(range(N))
    assert (np.concatenate([chunk[1] for chunk in chunks]) == y[rows]).all()
    assert (np.concatenate([chunk[2] for chunk in chunks]) == w[rows]).all()


def test_the_order_of_blocks_is_a_function_of_seed_and_epoch():
    X, y, _ = arrays()
    orders = {
        (seed, epoch): tuple(rows_of(Blocks(X, y, block_rows=5, n_blocks=2, seed=seed)(epoch)))
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(set(orders.values())) == 9
    again = Blocks(X, y, block_rows=5, n_blocks=2, seed=1)
    assert tuple(rows_of(again(2))) == orders[1, 2]


def test_blocks_of_a_memory_map(tmp_path):
    X, y, _ = arrays()
    np.save(tmp_path / "X.npy", X)
    blocks = Blocks(np.load(tmp_path / "X.npy", mmap_mode="r"), y, block_rows=10, n_blocks=3)
    assert sorted(rows_of(blocks(0))) == list(range(N))


def test_wrong_blocks():
    X, y, w = arrays()
    with pytest.raises(ValueError, match="one length"):
        Blocks(X, y[:-1])
    with pytest.raises(ValueError, match="one length"):
        Blocks(X, y, w[1:])
    with pytest.raises(ValueError, match="above 0"):
        Blocks(X[:0], y[:0])
    with pytest.raises(ValueError, match="block_rows"):
        Blocks(X, y, block_rows=0)
    with pytest.raises(ValueError, match="n_blocks"):
        Blocks(X, y, n_blocks=0)


@pytest.fixture
def folder(tmp_path):
    X, y, _ = arrays()
    for i, part in enumerate(np.array_split(np.arange(N), 4)):
        np.savez(tmp_path / f"part{i}.npz", X=X[part], y=y[part])
    return tmp_path


def test_shards(folder):
    _, y, _ = arrays()
    for shards in (Shards(folder), Shards(sorted(folder.glob("*.npz")), seed=3)):
        rows = rows_of(shards(0))
        assert sorted(rows) == list(range(N))
        assert (np.concatenate([chunk[1] for chunk in shards(0)]) == y[rows]).all()
    assert (rows_of(Shards(folder, seed=None)(5)) == np.arange(N)).all()
    assert len({tuple(rows_of(Shards(folder)(epoch))) for epoch in range(10)}) > 1


def test_wrong_shards(folder, tmp_path_factory):
    with pytest.raises(FileNotFoundError, match=r"no \.npz file"):
        Shards(tmp_path_factory.mktemp("empty"))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Shards([folder / "nowhere.npz"])
    with pytest.raises(ValueError, match="names"):
        Shards(folder, names=("X",))
    with pytest.raises(ValueError, match=r"has no array 'Z', only \['X', 'y'\]"):
        list(Shards(folder, names=("Z", "y"))(0))


def test_chunks_of_lists_functions_and_iterators():
    chunks = [(1, 2), (3, 4)]
    assert list(chunks_of(chunks, 0)) == list(chunks_of(chunks, 7)) == chunks
    assert list(chunks_of(lambda epoch: [(epoch, 0)], 7)) == [(7, 0)]
    once = iter(chunks)
    assert list(chunks_of(once, 0)) == chunks
    with pytest.raises(ValueError, match="iterator"):
        chunks_of(once, 1)


def test_the_loader_keeps_the_order_and_reads_one_ahead():
    read, wanted = [], threading.Semaphore(0)

    def items():
        for i in range(5):
            read.append(i)
            wanted.release()
            yield (i,)

    with Loader(items()) as loaded:
        for i, (item,) in enumerate(loaded):
            assert item == i
            if i < 4:
                assert wanted.acquire(timeout=30)  # item i
            # one in hand, one ready, one being put: never more
            assert len(read) <= i + 3
    assert read == list(range(5))


def test_what_the_stream_raises_comes_after_the_items_before_it():
    def items():
        yield (1,)
        raise OSError("the disk is gone")

    seen = []
    with pytest.raises(OSError, match="the disk is gone"), Loader(items()) as loaded:
        seen.extend(loaded)
    assert seen == [(1,)]


def test_leaving_early_ends_the_thread_and_closes_the_iterator():
    closed = threading.Event()

    def items():
        try:
            i = 0
            while True:
                yield (i,)
                i += 1
        finally:
            closed.set()

    with Loader(items()) as loaded:
        assert next(loaded) == (0,)
    assert closed.wait(30)
