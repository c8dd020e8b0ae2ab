"""Model files: round trip, all-or-nothing writing, and what is refused when reading."""

import json
import os
import pickle
import stat
import threading

import numpy as np
import pytest
from model_files import record_of, with_checksum
from safetensors.numpy import load_file, save, save_file

import fastnn
from fastnn import container, files
from fastnn.network import ACTIVATIONS, OUTPUTS

X = np.random.default_rng(0).normal(size=(5, 3))


def trained(backend="auto", **settings):
    net = fastnn.MLP((3, 4, 2), backend=backend, **settings)
    net.fit(X, [0, 1, 1, 0, 1], epochs=3)
    return net


def rewritten(path, tensors=None, drop=(), **record):
    """The file with other tensors or parts of the record (None removes one), signed."""
    changed = record_of(path.read_bytes()) | record
    new = {name: value for name, value in changed.items() if value is not None}
    kept = {name: array for name, array in load_file(path).items() if name not in drop}
    content = save(kept | (tensors or {}), {files.FORMAT: json.dumps(new)})
    path.write_bytes(with_checksum(content))
    return path


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.safetensors"
    trained().save(path)
    return path


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_round_trip(backend, dtype, tmp_path, activation, output):
    net = fastnn.MLP((3, 4, 2, 2), activation, output, dtype=dtype, seed=7, backend=backend)
    net.save(tmp_path / "net")
    other = fastnn.load(tmp_path / "net", backend=backend, n_threads=1)
    assert other.network == net.network
    assert (other.seed, other.backend, other.n_threads) == (7, net.backend, 1)
    for a, b in zip(net.weights + net.biases, other.weights + other.biases, strict=True):
        assert a.tobytes() == b.tobytes()
    np.testing.assert_array_equal(net.forward(X), other.forward(X))


def test_a_loaded_model_goes_on_as_the_saved_one_would(backend, tmp_path):
    net = trained(backend, dtype="float64", seed=3)
    net.save(tmp_path / "net")
    other = fastnn.load(tmp_path / "net", backend=backend)
    assert other.epochs_trained == 3
    for model in (net, other):
        model.fit(X, [0, 1, 1, 0, 1], epochs=2, batch_size=2)
    for a, b in zip(net.weights, other.weights, strict=True):
        assert a.tobytes() == b.tobytes()


def test_the_file_is_plain_safetensors(path):
    tensors = load_file(path)
    assert {name: array.shape for name, array in tensors.items()} == {
        "layer1.weight": (4, 3),
        "layer1.bias": (4,),
        "layer2.weight": (2, 4),
        "layer2.bias": (2,),
    }


def test_paths_as_text_and_in_other_folders(tmp_path, monkeypatch):
    net = trained()
    net.save(str(tmp_path / "a"))
    monkeypatch.chdir(tmp_path)
    net.save("b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with pytest.raises(FileNotFoundError):
        net.save(tmp_path / "nowhere" / "c")
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_saving_follows_a_symbolic_link(path, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(path)
    net = trained(seed=5)
    net.save(link)
    assert link.is_symlink()
    np.testing.assert_array_equal(fastnn.load(path).weights[0], net.weights[0])


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        trained().save(tmp_path / "net")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "net").stat().st_mode) == 0o640


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_interrupted_save_leaves_the_old_file_and_nothing_else(
    path, tmp_path, monkeypatch, function, error
):
    old = path.read_bytes()

    def fail(*_):
        raise error("no space left")

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(error, match="no space left"):
        trained(seed=9).save(path)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == [path.name]


def test_content_is_on_disk_before_the_name_changes(path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        function = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *args, f=function, n=name: (calls.append(n), f(*args))[1]
        )
    trained().save(path)
    assert calls == ["fsync", "replace", "fsync"]


# ---- what is refused ----


def refused(path, message):
    with pytest.raises(fastnn.ModelFileError, match=message) as error:
        fastnn.load(path)
    assert isinstance(error.value, ValueError)
    assert str(path) in str(error.value)


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        fastnn.load(tmp_path / "nothing")


def test_truncated_at_every_length(path):
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        refused(path, "not a model file" if length < 8 else "is truncated")


def test_trailing_bytes(path):
    path.write_bytes(path.read_bytes() + b"\0")
    refused(path, "has trailing bytes")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04" + bytes(100),
        b"\x93NUMPY\x01\x00v\x00" + bytes(200),
        bytes(100),
        b"\xff" * 100,
        pickle.dumps({"weights": list(range(100))}),
        (100).to_bytes(8, "little") + b"x" * 100,
        (100).to_bytes(8, "little") + b"{" * 100,
        (2**40).to_bytes(8, "little") + b"{}",
        (4).to_bytes(8, "little") + b"[[]]",
        (100_000).to_bytes(8, "little") + b'{"a":' + b"[" * 99_995,
    ],
    ids=range(11),
)
def test_foreign_files(path, content):
    path.write_bytes(content)
    refused(path, "not a model file")


def test_a_header_length_beyond_the_bound_is_not_read(path):
    path.write_bytes((container.MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b"{}")
    refused(path, "no safetensors header")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"fastnn": "{}"}])
def test_safetensors_of_others(path, metadata):
    save_file({"layer1.weight": np.ones((2, 2))}, path, metadata)
    refused(path, "fastnn did not write")


@pytest.mark.parametrize("version", [4, 10, 10**30])
def test_newer_format(path, version):
    refused(rewritten(path, format_version=version), "format version .*reads up to 3; update")


@pytest.mark.parametrize("version", [None, "1", 1.0, 0, -1, [1], True])
def test_senseless_format_version(path, version):
    refused(rewritten(path, format_version=version), "no format_version")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "1", "{}", '{"a": 1, "a": 2}', "[" * 100_000, "1" * 10_000]
)
def test_senseless_record(path, text):
    path.write_bytes(with_checksum(save(load_file(path), {files.FORMAT: text})))
    refused(path, "its record (is not|has no format_version)")


ARCHITECTURE = {
    "layer_sizes": [3, 4, 2],
    "activations": ["relu"],
    "output": "softmax",
    "dtype": "float32",
}


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (None, "architecture"),
        ([], "architecture"),
        ({}, "architecture"),
        ("text", "architecture"),
        (ARCHITECTURE | {"output": "linear"}, "architecture: unknown output 'linear'"),
        (ARCHITECTURE | {"output": None}, "architecture: unknown output None"),
        (ARCHITECTURE | {"activations": ["swish"]}, "architecture: unknown activation"),
        (ARCHITECTURE | {"activations": 3}, "architecture: activations are 3"),
        (ARCHITECTURE | {"activations": "relu"}, "architecture: activations are 'relu'"),
        (ARCHITECTURE | {"layer_sizes": [3, True, 2]}, "architecture: layer_sizes are"),
        (ARCHITECTURE | {"layer_sizes": [3, 2**62, 2]}, "architecture: layer_sizes are"),
        (ARCHITECTURE | {"dtype": "f4"}, "architecture: unknown dtype 'f4'"),
        (ARCHITECTURE | {"initializer": "auto"}, "architecture lacks .*has unknown .*initializer"),
        (ARCHITECTURE | {"layer_sizes": [3]}, "architecture: layer_sizes must"),
        (ARCHITECTURE | {"layer_sizes": [3, -4, 2]}, "architecture: layer_sizes are"),
        (ARCHITECTURE | {"layer_sizes": "3, 4, 2"}, "architecture: layer_sizes are"),
        (ARCHITECTURE | {"dtype": "int8"}, "architecture: unknown dtype"),
        (ARCHITECTURE | {"layer_sizes": [3, 5, 2]}, r"layer1.weight is float32 \(4, 3\)"),
        (ARCHITECTURE | {"layer_sizes": [3, 4, 2, 10**12], "activations": ["relu"] * 2}, "missing"),
        (ARCHITECTURE | {"layer_sizes": [10**12, 4, 2]}, "layer1.weight is float32"),
        (ARCHITECTURE | {"dtype": "float64"}, "is float32 .* not float64"),
        (ARCHITECTURE | {"layer_sizes": [3, 4], "activations": []}, "unknown layer2.bias"),
    ],
    ids=range(22),
)
def test_wrong_architecture(path, architecture, message):
    refused(rewritten(path, architecture=architecture), message)


@pytest.mark.parametrize(
    "training",
    [None, "", [], {}, {"seed": -1, "epochs_trained": 0}, {"seed": 0, "epochs_trained": "3"}],
    ids=str,
)
def test_wrong_training_record(path, training):
    refused(rewritten(path, training=training), "training")


def test_a_missing_and_an_unknown_tensor(path):
    refused(rewritten(path, drop=["layer2.bias"]), "missing layer2.bias")
    trained().save(path)
    refused(rewritten(path, {"layer3.weight": np.ones((2, 2))}), "unknown layer3.weight")


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32"])
def test_a_tensor_of_another_dtype(path, dtype):
    refused(rewritten(path, {"layer1.bias": np.zeros(4, dtype)}), "layer1.bias.* is ")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite(path, bad):
    array = np.full((4, 3), bad, dtype=np.float32)
    refused(rewritten(path, {"layer1.weight": array}), "weights contain NaN or infinity")


def test_every_single_damaged_byte_is_refused(path):
    content = path.read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0x55
        path.write_bytes(damaged)
        with pytest.raises(fastnn.ModelFileError):
            fastnn.load(path)


def test_an_unknown_backend_is_told_when_loading(path):
    with pytest.raises(ValueError, match="unknown backend"):
        fastnn.load(path, backend="torch")


def test_a_model_may_be_saved_while_it_gets_new_weights(path):
    """The file is of one moment."""
    net = trained()
    flats = [np.full(net.network.n_parameters, k, net.network.dtype) for k in range(200)]
    net._take(flats[0])
    thread = threading.Thread(target=lambda: [net._take(flat) for flat in flats])
    thread.start()
    for _ in range(20):
        net.save(path)
        other = fastnn.load(path)
        assert len(np.unique([array.flat[0] for array in other.weights + other.biases])) == 1
    thread.join()


def test_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "not a regular file")
    refused(tmp_path, "not a regular file")
