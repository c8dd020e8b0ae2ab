"""The loaders: the bundled digits, the places where data is looked for, downloads."""

from __future__ import annotations

import gzip
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from test_idx import idx_bytes

from fastnn import datasets

pytestmark = pytest.mark.usefixtures("inflater")

LOADERS = {"mnist": datasets.load_mnist, "fashion-mnist": datasets.load_fashion_mnist}


def make_contents(n_train=30, n_test=20):
    """The four files of a small data set, in the order of datasets.FILES."""
    rng = np.random.default_rng(0)
    contents = []
    for n in (n_train, n_test):
        contents.append(idx_bytes(rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)))
        contents.append(idx_bytes(rng.integers(0, 10, n, dtype=np.uint8)))
    return contents


def write_contents(folder, contents, suffix=".gz"):
    folder.mkdir(parents=True)
    for name, content in zip(datasets.FILES, contents, strict=True):
        data = gzip.compress(content) if suffix else content
        (folder / f"{name}{suffix}").write_bytes(data)


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No data anywhere: an empty cache, no FASTNN_DATA, no Debian package."""
    monkeypatch.delenv("FASTNN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets, "SYSTEM_FOLDER", tmp_path / "system")
    return tmp_path


# ---- the bundled digits


def test_bundled_digits_have_documented_shapes_and_types():
    X_train, y_train, X_test, y_test = datasets.load_digits_subset()
    assert (X_train.shape, X_train.dtype) == ((5000, 784), np.uint8)
    assert (X_test.shape, X_test.dtype) == ((1000, 784), np.uint8)
    assert (y_train.shape, y_train.dtype) == ((5000,), np.int64)
    assert (y_test.shape, y_test.dtype) == ((1000,), np.int64)
    assert X_train.max() == X_test.max() == 255
    assert X_train.min() == X_test.min() == 0


def test_bundled_digits_keep_the_shares_of_mnist():
    _, y_train, _, y_test = datasets.load_digits_subset()
    mnist_train = np.array([5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949])
    mnist_test = np.array([980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009])
    assert np.abs(np.bincount(y_train) - mnist_train * 5000 / 60000).max() < 1
    assert np.abs(np.bincount(y_test) - mnist_test * 1000 / 10000).max() < 1


def test_bundled_digits_are_distinct_images():
    X_train, _, X_test, _ = datasets.load_digits_subset()
    X = np.concatenate([X_train, X_test])
    assert len({row.tobytes() for row in X}) == 6000


# ---- where data is looked for


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("place", ["FASTNN_DATA", "cache", "system"])
@pytest.mark.parametrize("name", LOADERS)
def test_loaders_find_data_in_every_place(nowhere, monkeypatch, name, place, suffix):
    contents = make_contents()
    folder = {"FASTNN_DATA": nowhere / "mine", "cache": nowhere / "cache" / "fastnn",
              "system": nowhere / "system"}[place]  # fmt: skip
    write_contents(folder / name, contents, suffix)
    monkeypatch.setenv("FASTNN_DATA", str(nowhere / "mine"))
    X_train, y_train, X_test, y_test = LOADERS[name](download=False)
    assert X_train.tobytes() == contents[0][16:]
    assert y_train.tolist() == list(contents[1][8:])
    assert X_test.tobytes() == contents[2][16:]
    assert y_test.tolist() == list(contents[3][8:])
    assert X_train.dtype == X_test.dtype == np.uint8
    assert y_train.dtype == y_test.dtype == np.int64


def test_fastnn_data_comes_before_the_cache_and_that_before_the_system(nowhere, monkeypatch):
    monkeypatch.setenv("FASTNN_DATA", str(nowhere / "mine"))
    sizes = []
    for n, folder in [(1, "system"), (2, "cache/fastnn"), (3, "mine")]:
        write_contents(nowhere / folder / "mnist", make_contents(n_train=n))
        sizes.append(len(datasets.load_mnist(download=False)[0]))
    assert sizes == [1, 2, 3]


def test_incomplete_folder_is_passed_over(nowhere, monkeypatch):
    monkeypatch.setenv("FASTNN_DATA", str(nowhere / "mine"))
    write_contents(nowhere / "mine" / "mnist", make_contents(n_train=7))
    (nowhere / "mine" / "mnist" / f"{datasets.FILES[3]}.gz").unlink()
    write_contents(nowhere / "system" / "mnist", make_contents(n_train=9))
    assert len(datasets.load_mnist(download=False)[0]) == 9


@pytest.mark.parametrize("name", LOADERS)
def test_error_names_every_place_and_the_way_out(nowhere, monkeypatch, name):
    monkeypatch.setenv("FASTNN_DATA", str(nowhere / "mine"))
    with pytest.raises(FileNotFoundError) as error:
        LOADERS[name](download=False)
    message = str(error.value)
    for folder in ("mine", "cache/fastnn", "system"):
        assert str(nowhere / folder / name) in message
    assert "set FASTNN_DATA" in message
    assert all(file_name in message for file_name in datasets.FILES)


MISFITS = {
    "labels of another length": (1, np.zeros(29, np.uint8), "29 labels for 30 images"),
    "label 10": (1, np.full(30, 10, np.uint8), "label 10"),
    "labels of two dimensions": (1, np.zeros((30, 1), np.uint8), "expected uint8"),
    "labels of another type": (1, np.zeros(30, np.int32), "expected uint8"),
    "images of another size": (
        0,
        np.zeros((30, 32, 32), np.uint8),
        r"expected uint8 \(n, 28, 28\)",
    ),
    "images of another type": (2, np.zeros((20, 28, 28), np.float32), r"float32 array"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_loaders_refuse_files_that_do_not_fit(nowhere, case):
    index, array, message = MISFITS[case]
    contents = make_contents()
    contents[index] = idx_bytes(array)
    write_contents(nowhere / "system" / "mnist", contents)
    with pytest.raises(ValueError, match=message):
        datasets.load_mnist()


# ---- downloads, from servers on this machine


class Server:
    """A mirror: `files` maps a path to its bytes, or to (bytes sent, length promised)."""

    def __init__(self, files):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler):
                self.requests.append(handler.path)
                if handler.path not in files:
                    handler.send_error(404)
                    return
                answer = files[handler.path]
                data, length = answer if isinstance(answer, tuple) else (answer, len(answer))
                handler.send_response(200)
                handler.send_header("Content-Length", str(length))
                handler.end_headers()
                handler.wfile.write(data)

            def log_message(handler, *args):
                pass

        self.requests = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self):
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()


@pytest.fixture
def mirrors(nowhere, monkeypatch):
    """Call with two dicts of files; gives the two servers, installed as mirrors of "mnist"."""
    servers = []

    def start(*all_files):
        servers.extend(Server(files) for files in all_files)
        monkeypatch.setitem(datasets.MIRRORS, "mnist", tuple(server.url for server in servers))
        return tuple(servers)

    monkeypatch.setitem(
        datasets.SHA256,
        "mnist",
        tuple(hashlib.sha256(content).hexdigest() for content in make_contents()),
    )
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield start
    for server in servers:
        server.close()


def good_files():
    return {
        f"/{name}.gz": gzip.compress(content)
        for name, content in zip(datasets.FILES, make_contents(), strict=True)
    }


def cached_files(nowhere):
    folder = nowhere / "cache" / "fastnn" / "mnist"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


COMPLETE = sorted(f"{name}.gz" for name in datasets.FILES)


def test_download_from_the_first_mirror_and_then_from_the_cache(nowhere, mirrors):
    first, second = mirrors(good_files(), good_files())
    downloaded = datasets.load_mnist()
    assert first.requests == [f"/{name}.gz" for name in datasets.FILES]
    assert cached_files(nowhere) == COMPLETE
    again = datasets.load_mnist()
    assert len(first.requests) == 4
    assert second.requests == []
    assert downloaded[0].tobytes() == make_contents()[0][16:]
    for array, same in zip(downloaded, again, strict=True):
        np.testing.assert_array_equal(array, same)


def with_first(change):
    files = good_files()
    first = f"/{datasets.FILES[0]}.gz"
    files[first] = change(files[first])
    return files


OTHER_CONTENT = gzip.compress(make_contents(n_train=31)[0])

BROKEN = {
    "missing": (dict, "404"),
    "connection lost": (lambda: with_first(lambda data: (data[:1000], len(data))), "truncated"),
    "truncated": (lambda: with_first(lambda data: data[:1000]), "truncated"),
    "empty": (lambda: with_first(lambda data: b""), "truncated"),
    "a web page": (lambda: with_first(lambda data: b"<html>log in</html>"), "damaged"),
    "other content": (lambda: with_first(lambda data: OTHER_CONTENT), "SHA-256"),
    "damaged": (lambda: with_first(lambda data: data[:-8] + bytes(8)), "damaged"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_download_moves_on_to_the_next_mirror(nowhere, mirrors, case):
    mirrors(BROKEN[case][0](), good_files())
    X_train = datasets.load_mnist()[0]
    assert X_train.shape == (30, 784)
    assert cached_files(nowhere) == COMPLETE


@pytest.mark.parametrize("case", BROKEN)
def test_broken_download_from_all_mirrors_leaves_nothing_behind(nowhere, mirrors, case):
    make_files, reason = BROKEN[case]
    servers = mirrors(make_files(), make_files())
    with pytest.raises(FileNotFoundError) as error:
        datasets.load_mnist()
    message = str(error.value)
    assert cached_files(nowhere) == []
    assert all(f"{server.url}{datasets.FILES[0]}.gz" in message for server in servers)
    assert reason in message
    assert "set FASTNN_DATA" in message


def test_mirrors_that_are_down_are_named(nowhere, mirrors):
    servers = mirrors(good_files(), good_files())
    urls = [server.url for server in servers]
    for server in servers:
        server.close()
    with pytest.raises(FileNotFoundError) as error:
        datasets.load_mnist()
    assert all(url in str(error.value) for url in urls)
    assert cached_files(nowhere) == []


def test_second_mirror_serves_when_the_first_is_down(nowhere, mirrors):
    down, up = mirrors(good_files(), good_files())
    down.close()
    assert datasets.load_mnist()[1].shape == (30,)
    assert down.requests == []
    assert len(up.requests) == 4


def test_verified_files_are_kept_and_only_the_rest_is_fetched_later(nowhere, mirrors):
    last = f"/{datasets.FILES[3]}.gz"
    files = good_files()
    content = files.pop(last)
    server, _ = mirrors(files, {})
    with pytest.raises(FileNotFoundError):
        datasets.load_mnist()
    assert cached_files(nowhere) == sorted(f"{name}.gz" for name in datasets.FILES[:3])
    files[last] = content
    server.requests.clear()
    assert datasets.load_mnist()[3].shape == (20,)
    assert server.requests == [last]


def test_endless_download_is_cut_off(nowhere, mirrors, monkeypatch):
    monkeypatch.setattr(datasets, "DOWNLOAD_LIMIT", 1000)
    mirrors(good_files(), good_files())
    with pytest.raises(FileNotFoundError, match="more than 1000 bytes"):
        datasets.load_mnist()
    assert cached_files(nowhere) == []


def test_interrupted_download_leaves_nothing_behind(nowhere, mirrors, monkeypatch):
    def interrupt(file):
        raise KeyboardInterrupt

    monkeypatch.setattr(datasets, "_sha256_of_content", interrupt)
    mirrors(good_files(), good_files())
    with pytest.raises(KeyboardInterrupt):
        datasets.load_mnist()
    assert cached_files(nowhere) == []


def test_cache_that_cannot_be_written_is_an_error_that_says_so(nowhere, mirrors):
    (nowhere / "cache").write_text("a file where a folder should be")
    mirrors(good_files(), good_files())
    with pytest.raises(FileNotFoundError, match="Not a directory"):
        datasets.load_mnist()


def test_no_download_when_told_not_to(nowhere, mirrors):
    servers = mirrors(good_files(), good_files())
    with pytest.raises(FileNotFoundError):
        datasets.load_mnist(download=False)
    assert [server.requests for server in servers] == [[], []]


def test_every_data_set_has_two_mirrors_and_a_checksum_per_file():
    assert datasets.MIRRORS.keys() == datasets.SHA256.keys() == LOADERS.keys()
    for name in LOADERS:
        assert len(datasets.MIRRORS[name]) == 2
        assert all(url.endswith("/") for url in datasets.MIRRORS[name])
        assert len(set(datasets.SHA256[name])) == len(datasets.FILES)
