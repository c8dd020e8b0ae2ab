"""Tables from .npz and .csv: what is a class, what is a value, what is refused, standardizing."""

from __future__ import annotations

import numpy as np
import pytest
from test_idx import idx_bytes

import fastnn
from fastnn import tabular


def table_of(tmp_path, text, task="auto", test_fraction=0.25, seed=0):
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8")
    return tabular.read_table(path, task, test_fraction, seed)


def all_rows(table):
    """(features, target) of the whole table, sorted."""
    X = np.concatenate([table.X_train, table.X_test])
    y = np.concatenate([table.y_train, table.y_test])
    return sorted(zip(X.tolist(), y.tolist(), strict=True))


TARGETS = {
    "integers": (["3", "7", "3", "-1"], ["-1", "3", "7"], [1, 2, 1, 0]),
    "text": (["b", "a", "b", "c"], ["a", "b", "c"], [1, 0, 1, 2]),
    "text and numbers": (["b", "1", "2.5", "b"], ["1", "2.5", "b"], [2, 0, 1, 2]),
    "decimal numbers": (["1.5", "2", "1e3", "0"], None, [1.5, 2.0, 1000.0, 0.0]),
    "whole decimal numbers": (["1.0", "2.0", "3.0", "4.0"], None, [1.0, 2.0, 3.0, 4.0]),
}


@pytest.mark.parametrize("kind", TARGETS)
def test_target_decides_between_classes_and_values(tmp_path, kind):
    labels, classes, expected = TARGETS[kind]
    table = table_of(tmp_path, "".join(f"{i},{-i},{label}\n" for i, label in enumerate(labels)))
    assert table.classes == classes
    assert all_rows(table) == [([i, -i], y) for i, y in enumerate(expected)]
    assert table.y_train.dtype == (np.float64 if classes is None else np.int64)


def test_task_overrules_the_target(tmp_path):
    integers = "0,3\n1,7\n2,3\n3,9\n"
    assert table_of(tmp_path, integers, task="regression").classes is None
    decimals = integers.replace("3\n", "3.5\n")
    classes = table_of(tmp_path, decimals, task="classification").classes
    assert classes == ["3.5", "7.0", "9.0"]


HEADERS = {
    "none": "",
    "text": "width,height,kind\n",
    "quoted": '"width, in cm","height","kind"\n',
    "byte order mark": "\ufeffwidth,height,kind\n",
    "numbers over the features": "0,1,target\n",
}


@pytest.mark.parametrize("header", HEADERS)
def test_header_is_found(tmp_path, header):
    table = table_of(tmp_path, HEADERS[header] + "1,2,0\n3,4,1\n5,6,1\n")
    assert all_rows(table) == [([1, 2], 0), ([3, 4], 1), ([5, 6], 1)]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_separators_and_line_ends(tmp_path, separator, end):
    rows = [["1", "2.5", "a"], ["3", "4", "b"]]
    table = table_of(tmp_path, end.join(separator.join(row) for row in rows))
    assert all_rows(table) == [([1, 2.5], 0), ([3, 4], 1)]


@pytest.mark.parametrize(("fraction", "n_test"), [(0.2, 20), (0.001, 1), (0.999, 99)])
def test_division_is_seeded_and_complete(tmp_path, fraction, n_test):
    text = "".join(f"{i},{i % 2}\n" for i in range(100))
    first = table_of(tmp_path, text, test_fraction=fraction, seed=5)
    again = table_of(tmp_path, text, test_fraction=fraction, seed=5)
    other = table_of(tmp_path, text, test_fraction=fraction, seed=6)
    assert len(first.X_test) == n_test
    assert len(all_rows(first)) == 100
    assert first.X_test.tolist() == again.X_test.tolist()
    assert first.X_test.tolist() != other.X_test.tolist()


HOSTILE_CSV = {
    "empty": ("", "no rows"),
    "only a header": ("a,b,c\n", "no rows"),
    "one column": ("1\n2\n", "one column"),
    "ragged": ("1,2,0\n1,0\n", "line 2 has 2 fields, not 3"),
    "too long": ("1,2,0\n1,2,3,0\n", "line 2 has 4 fields, not 3"),
    "text among numbers": ("1,2,0\n1,x,0\n", "line 2: could not convert string to float: 'x'"),
    "missing value": ("a,b,c\n1,,0\n1,2,1\n", "line 2: could not convert"),
    "missing value in the first line": ("1,,0\n1,2,1\n", "line 1: could not convert"),
    "missing target": ("1,2,0\n1,2,\n", "line 2: the target is empty"),
    "one class": ("1,a\n2,a\n", "1 different values"),
    "one row": ("1,2,0.5\n", "1 rows"),
    "second header": ("a,b\n1,2\na,b\n", "line 3: could not convert"),
}


@pytest.mark.parametrize("case", HOSTILE_CSV)
def test_csv_that_cannot_be_read_is_refused(tmp_path, case):
    text, message = HOSTILE_CSV[case]
    with pytest.raises(ValueError, match=message) as error:
        table_of(tmp_path, text)
    assert str(error.value).startswith(str(tmp_path / "table.csv"))


def test_bytes_that_are_not_text_are_refused(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(b"\xff\xfe1,2\n")
    with pytest.raises(ValueError, match="codec can't decode"):
        tabular.read_table(path, "auto", 0.2, 0)


X4 = np.arange(8, dtype=np.float32).reshape(4, 2)


def npz_of(tmp_path, **arrays):
    np.savez(tmp_path / "table.npz", **arrays)
    return tabular.read_table(tmp_path / "table.npz", "auto", 0.25, 0)


def test_npz_divided_already(tmp_path):
    images = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    table = npz_of(tmp_path, X_train=images, y_train=["b", "a"], X_test=images[:1], y_test=["b"])
    assert table.classes == ["a", "b"]
    assert table.X_train.dtype == np.uint8
    assert table.X_train.tolist() == images.reshape(2, 9).tolist()
    assert (table.y_train.tolist(), table.y_test.tolist()) == ([1, 0], [1])


def test_npz_to_be_divided(tmp_path):
    table = npz_of(tmp_path, X=X4, y=np.array([2, 5, 5, 2], dtype=np.uint8))
    assert table.classes == ["2", "5"]
    assert len(table.X_test) == 1
    assert all_rows(table) == [([0, 1], 0), ([2, 3], 1), ([4, 5], 1), ([6, 7], 0)]


def test_npz_with_several_targets(tmp_path):
    table = npz_of(tmp_path, X=X4, y=X4 / 2)
    assert table.classes is None
    assert table.y_train.shape == (3, 2)


Y4 = np.array([0, 1, 0, 1])

HOSTILE_NPZ = {
    "nothing": ({}, "no array X; .* found nothing"),
    "no y": ({"X": X4}, "no array y"),
    "no X_test": ({"X_train": X4, "y_train": Y4, "y_test": Y4}, "no array X_test"),
    "unequal lengths": ({"X": X4, "y": Y4[:3]}, r"X has shape \(4, 2\) but y has shape \(3,\)"),
    "widths differ": (
        {"X_train": X4, "y_train": Y4, "X_test": X4[:, :1], "y_test": Y4},
        "X_test has shape",
    ),
    "targets differ": (
        {"X_train": X4, "y_train": Y4, "X_test": X4, "y_test": np.eye(4)},
        "y_test has shape",
    ),
    "X of one dimension": ({"X": X4[:, 0], "y": Y4}, "expected .n, n_features."),
    "X of text": ({"X": X4.astype(str), "y": Y4}, "expected numbers"),
    "X complex": ({"X": X4 * 1j, "y": Y4}, "expected numbers"),
    "y complex": ({"X": X4, "y": Y4 * 1j}, "expected numbers or text"),
    "labels of two dimensions": ({"X": X4, "y": np.eye(4, dtype=int)}, "class labels of shape"),
    "objects": ({"X": X4.astype(object), "y": Y4}, "Object arrays cannot be loaded"),
}


@pytest.mark.parametrize("case", HOSTILE_NPZ)
def test_npz_that_cannot_be_read_is_refused(tmp_path, case):
    arrays, message = HOSTILE_NPZ[case]
    with pytest.raises(ValueError, match=message):
        npz_of(tmp_path, **arrays)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"some text", b"\x80\x04N."])
def test_file_that_is_no_npz_is_refused(tmp_path, content):
    path = tmp_path / "table.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"not an \.npz file"):
        tabular.read_table(path, "auto", 0.2, 0)


def test_damaged_npz_is_refused(tmp_path):
    path = tmp_path / "table.npz"
    np.savez_compressed(path, X=np.random.default_rng(0).random((50, 4)), y=np.zeros(50))
    data = bytearray(path.read_bytes())
    data[100:400] = bytes(300)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=str(path)):
        tabular.read_table(path, "auto", 0.2, 0)


# ---- standardizing


def make_table(n_outputs=None):
    rng = np.random.default_rng(0)
    X = rng.normal([10.0, -300.0, 0.01, 7.0], [3.0, 50.0, 0.001, 0.0], (60, 4))
    if n_outputs is None:
        y = (X[:, 0] > 10).astype(np.int64)
        return tabular.Table(X[:40], y[:40], X[40:], y[40:], ["no", "yes"])
    y = rng.normal(5000, 100, (60, n_outputs)) if n_outputs > 1 else rng.normal(5000, 100, 60)
    return tabular.Table(X[:40], y[:40], X[40:], y[40:], None)


@pytest.mark.parametrize("n_outputs", [None, 1, 3])
def test_scaling_makes_means_zero_and_deviations_one(n_outputs):
    table = make_table(n_outputs)
    X, y = tabular.Scaling.of(table).apply(table.X_train, table.y_train, "float64")
    np.testing.assert_allclose(X.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(X.std(axis=0), [1, 1, 1, 0], atol=1e-12)
    if n_outputs is None:
        assert y is table.y_train
    else:
        np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(y.std(axis=0), 1, atol=1e-12)


@pytest.mark.parametrize("hidden", [(), (5,), (5, 4)])
@pytest.mark.parametrize("n_outputs", [None, 1, 3])
def test_folded_network_gives_what_the_scaled_one_gave(n_outputs, hidden):
    table = make_table(n_outputs)
    scaling = tabular.Scaling.of(table)
    output = "softmax" if n_outputs is None else "identity"
    sizes = (4, *hidden, n_outputs or 2)
    net = fastnn.MLP(sizes, "tanh", output, dtype="float64", backend="numpy")
    scaled, _ = scaling.apply(table.X_test, table.y_test, "float64")
    expected = net.forward(scaled)
    if scaling.y is not None:
        expected = expected * scaling.y[1] + scaling.y[0]
    scaling.fold_into(net)
    np.testing.assert_allclose(net.forward(table.X_test), expected, rtol=1e-10)


def test_bytes_are_not_scaled():
    table = make_table()
    table.X_train = np.arange(8, dtype=np.uint8).reshape(4, 2)
    scaling = tabular.Scaling.of(table)
    assert scaling.x is None
    assert scaling.apply(table.X_train, table.y_train, "float32")[0] is table.X_train


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scaling_names_the_column_that_is_not_finite(value):
    table = make_table()
    table.X_train[3, 2] = value
    with pytest.raises(ValueError, match=r"features contain NaN, .* \(column 3\)"):
        tabular.Scaling.of(table)


# ---- features to predict from


def test_features_from_every_kind_of_file(tmp_path):
    X = np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.save(tmp_path / "a.npy", X)
    np.savez(tmp_path / "b.npz", X=X)
    np.savez(tmp_path / "c.npz", X_train=X[:1], X_test=X)
    (tmp_path / "d-idx3-ubyte").write_bytes(idx_bytes(X.reshape(3, 2, 2)))
    np.savetxt(tmp_path / "e.csv", X, delimiter=",")
    np.savetxt(tmp_path / "f.csv", np.c_[X, [7, 8, 9]], delimiter=",", header="a,b,c,d,y")
    (tmp_path / "g.csv").write_text("".join(",".join(map(str, row)) + ",\n" for row in X.tolist()))
    for path in sorted(tmp_path.iterdir()):
        found = tabular.read_features(path, 4)
        assert found.tolist() == X.tolist(), path.name


def test_features_that_cannot_be_read_are_refused(tmp_path):
    for name, content in [("a.npy", b"no"), ("b.npz", b"no"), ("c-idx3", b"no"), ("d.csv", b"")]:
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ValueError, match=name):
            tabular.read_features(path, 4)
