"""Streams: chunks of data that are read while the chunk before is trained on."""

import threading

import numpy as np
import pytest
from conftest import parameters

import fastnn
from fastnn.callbacks import Callback
from fastnn.schedules import Cosine
from fastnn.streams import Blocks, Loader, Shards

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


# ---- fit


def small():
    X, y, w = arrays()
    return (X / N - 1).astype(np.float32), y, w


def fitted(*data, backend="auto", n_threads=None, **settings):
    net = fastnn.MLP((2, 8, 3), "tanh", seed=3, backend=backend, n_threads=n_threads)
    settings = {"batch_size": 10, "epochs": 2, "learning_rate": 0.01} | settings
    return net, net.fit(*data, **settings)


def bits(net):
    return b"".join(array.tobytes() for array in parameters(net))


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_stream_of_one_chunk_is_the_array(backend, shuffle):
    X, y, _ = small()
    settings = {"shuffle": shuffle, "backend": backend, "dropout": 0.2}
    expected, history = fitted(X, y, **settings)
    for stream in ([(X, y)], lambda epoch: iter([(X, y)])):
        net, streamed = fitted(stream, **settings)
        assert bits(net) == bits(expected)
        assert streamed["loss"] == history["loss"]


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_whole_batches_in_their_own_order_are_the_array(backend, optimizer):
    X, y, _ = small()
    chunks = [(X[start : start + 30], y[start : start + 30]) for start in range(0, N, 30)]
    settings = {"shuffle": False, "backend": backend, "optimizer": optimizer}
    expected, history = fitted(X, y, **settings)
    net, streamed = fitted(chunks, **settings)
    assert bits(net) == bits(expected)
    assert streamed["loss"] == history["loss"]


def test_shuffled_chunks_have_the_same_bits_for_any_team(compiled_backend):
    X, y, _ = small()
    blocks = Blocks(X, y, block_rows=8, n_blocks=4)
    teams = [fitted(blocks, backend=compiled_backend, n_threads=n)[0] for n in (1, 2, 3)]
    assert len({bits(net) for net in teams}) == 1


def test_every_chunk_has_an_order_and_a_dropout_of_its_own(backend):
    """The same chunk twice in an epoch is not trained on as in two epochs, nor twice alike."""
    X, y, _ = small()
    chunk = (X[:20], y[:20])
    for settings in ({"dropout": 0.5, "shuffle": False}, {"batch_size": 7}):
        twice, _ = fitted([chunk, chunk], epochs=1, backend=backend, **settings)
        epochs, _ = fitted([chunk], epochs=2, backend=backend, **settings)
        assert bits(twice) != bits(epochs)


def test_steps_and_schedules_go_on_over_chunks():
    X, y, _ = small()
    steps, blocks = [], Blocks(X, y, block_rows=10, n_blocks=3)  # 3 + 3 + 3 + 2 steps

    class Steps(Callback):
        every_steps = 2

        def on_steps(self, run):
            steps.append(run.step)

    _, history = fitted(blocks, callbacks=Steps(), learning_rate=Cosine(0.01))
    assert steps == list(range(2, 23, 2))
    last = 0.005 * (1 + np.cos(np.pi * np.array([10, 21]) / 22))
    assert history["learning_rate"] == pytest.approx(last, rel=1e-12)


def test_the_length_of_a_stream():
    X, y, _ = small()
    seen = []

    class Lengths(Callback):
        def on_train_begin(self, run):
            seen.append(run.n_samples)

        def on_epoch_end(self, run):
            seen.append(run.n_samples)

    fitted([(X, y)], callbacks=Lengths(), verbose=True)
    fitted(Blocks(X, y), callbacks=Lengths(), verbose=True)
    assert seen == [0, N, N, N, N, N]
    with pytest.raises(ValueError, match="Cosine needs to know how many samples"):
        fitted([(X, y)], learning_rate=Cosine(0.01))


def test_weights_and_validation_with_a_stream():
    X, y, w = small()
    once, history = fitted([(X, y, w * 2)], validation=(X, y), shuffle=False)
    expected, of_arrays = fitted(X, y, sample_weight=w, validation=(X, y), shuffle=False)
    # weights of arrays are scaled to mean one, those of streams are taken as they come
    scale = 2 * w.mean()
    assert history["loss"][0] == pytest.approx(scale * of_arrays["loss"][0], rel=0.05)
    assert list(history) == list(of_arrays)
    assert bits(once) != bits(expected)


@pytest.mark.parametrize("stop", range(1, 12))
def test_a_stream_is_resumed_to_the_same_bits(tmp_path, stop):
    X, y, _ = small()
    blocks = Blocks(X, y, block_rows=10, n_blocks=3)
    expected, history = fitted(blocks)

    class Save(Callback):
        every_steps = stop

        def on_steps(self, run):
            if run.step == stop:
                run.save(tmp_path / "run")

    fitted(blocks, callbacks=Save())
    net, resumed = fitted(blocks, resume=tmp_path / "run")
    assert bits(net) == bits(expected)
    assert resumed["loss"] == history["loss"]


def test_wrong_streams():
    X, y, _ = small()
    with pytest.raises(TypeError, match="without y, X must be a stream of chunks, got ndarray"):
        fitted(X)
    with pytest.raises(TypeError, match="got int"):
        fitted(3)
    with pytest.raises(TypeError, match=r"chunk 1 is ndarray"):
        fitted([(X, y), X])
    with pytest.raises(ValueError, match=r"chunk 0 of the stream: X has shape"):
        fitted([(X[:, :1], y)])
    with pytest.raises(ValueError, match="the stream has no chunk"):
        fitted([])
    with pytest.raises(ValueError, match="give a function of the epoch's number"):
        fitted(iter([(X, y)]))
    for settings in ({"validation": 0.1}, {"class_weight": "balanced"}, {"sample_weight": y}):
        with pytest.raises(ValueError, match="stream"):
            fitted([(X, y)], **settings)
    with pytest.raises(ValueError, match="LBFGS"):
        fitted([(X, y)], optimizer="lbfgs", batch_size=128, learning_rate=1e-3)


def test_the_model_keeps_what_it_had_before_a_chunk_with_nan(backend):
    X, y, _ = small()
    bad = np.full_like(X, np.nan)
    net = fastnn.MLP((2, 8, 3), backend=backend)
    before = bits(net)
    with pytest.raises(ValueError, match="NaN"):
        net.fit([(X, y), (bad, y)], epochs=1)
    assert bits(net) == before
