"""Files of other versions of fastnn: read, or refused with the reason."""

import json

import pytest
from data.make_model_files import ARGUMENTS, FOLDER, X, Y, digest, followers, network
from model_files import joined, record_of, signed

import fastnn
from fastnn import files

NAMES = sorted(path.stem for path in FOLDER.glob("*.sha256"))
FILES = sorted(FOLDER.glob("*.fastnn"))
assert len(FILES) == 2 * len(NAMES) >= 4


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_of_earlier_versions(path, tally, compiled_backend):
    """A model and a checkpoint of every released version are read to the bits they were written."""
    net = fastnn.load(path, backend=compiled_backend)
    name = path.stem.rpartition("-")[0]
    assert digest(net) == (FOLDER / f"{name}.sha256").read_text().strip()
    assert (net.network, net.seed, net.epochs_trained) == (network().network, 5, 3)
    tally("files")


@pytest.mark.compiled
@pytest.mark.parametrize("name", NAMES)
def test_checkpoints_of_earlier_versions(name, tally):
    """A run goes on from a checkpoint of every released version as if never interrupted."""
    resumed, whole = network(), network()
    checkpoint = FOLDER / f"{name}-checkpoint.fastnn"
    resumed.fit(X, Y, epochs=5, **ARGUMENTS, callbacks=followers(), resume=checkpoint)
    whole.fit(X, Y, epochs=5, **ARGUMENTS, callbacks=followers())
    assert digest(resumed) == digest(whole)
    assert resumed.history["loss"] == whole.history["loss"]
    tally("files")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_from_the_future(path, tmp_path, tally):
    """A file of a later format is refused with its version and the advice to update."""
    for version in (files.FORMAT_VERSION + 1, 100):
        record = record_of(path.read_bytes()) | {"format_version": version, "new": {}}
        tensors = {"novel": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}
        later = {"sha256": "0" * 64, "new": "x", "fastnn-mlp": json.dumps(record)}
        target = tmp_path / "later"
        target.write_bytes(signed(joined({"__metadata__": later} | tensors, b"")))
        with pytest.raises(fastnn.ModelFileError, match=f"format version {version}.*update fastnn"):
            fastnn.load(target)
        tally("files")


def test_the_format_does_not_change_unnoticed(tmp_path, monkeypatch):
    """What is written is, byte for byte, what the last released version wrote."""
    monkeypatch.setattr(fastnn, "__version__", "0.1.0", raising=False)
    released = FOLDER / "0.1.0-model.fastnn"
    fastnn.load(released).save(tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == released.read_bytes()
