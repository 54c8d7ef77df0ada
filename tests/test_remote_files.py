"""Images of a table that are on other machines, read through fsspec."""

import io
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from tfl import datasets
from tfl.datasets import remote_files
from tfl.errors import DatasetError, ExtraError
from tfl.specs import DatasetSpec

fsspec = pytest.importorskip("fsspec")


def make_png(seed):
    pixels = np.random.default_rng(seed).integers(0, 255, (9, 8, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "png")
    return pixels, content.getvalue()


PIXELS, PNGS = zip(*map(make_png, range(6)), strict=True)


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a table of images in two classes by turns, and returns its path as text."""

    def write_table(paths):
        rows = "".join(f'"{path}",{"ab"[number % 2]}\n' for number, path in enumerate(paths))
        (tmp_path / "table.csv").write_text("path,label\n" + rows, encoding="utf-8")
        return str(tmp_path / "table.csv")

    return write_table


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(remote_files, "SECONDS_BEFORE_RETRY", 0)


def open_table(word):
    return datasets.open_dataset(DatasetSpec(word, test_split=""))


def require_images(dataset, uris):
    found = list(dataset.examples("all", 0, len(uris)))
    assert [row.id for row in found] == list(uris)
    assert [row.label for row in found] == [number % 2 for number in range(len(uris))]
    for row, pixels in zip(found, PIXELS, strict=False):
        np.testing.assert_array_equal(row.image, pixels)


# ---- a file system that says nothing of the content


@pytest.fixture
def memory():
    """URIs of six images in fsspec's file system in memory."""
    system = fsspec.filesystem("memory")
    for number, content in enumerate(PNGS):
        system.pipe_file(f"/photos/{number}.png", content)
    yield [f"memory://photos/{number}.png" for number in range(6)]
    system.rm("/photos", recursive=True)


def test_contents_are_hashed_where_nothing_stands_for_them(write, memory, tmp_path):
    word = write(memory)
    dataset = open_table(word)
    require_images(dataset, memory)
    for number, content in enumerate(PNGS):
        (tmp_path / f"{number}.png").write_bytes(content)
    local = "path,label,id\n" + "".join(f"{n}.png,{'ab'[n % 2]},{uri}\n" for n, uri in enumerate(memory))
    (tmp_path / "local.csv").write_text(local, encoding="utf-8")
    assert open_table(str(tmp_path / "local.csv")).version == dataset.version
    fsspec.filesystem("memory").pipe_file("/photos/3.png", PNGS[0])
    with pytest.raises(DatasetError, match=r"memory://photos/3.png has changed since the command began"):
        require_images(dataset, memory)
    assert open_table(word).version != dataset.version


def test_local_and_remote_files_in_one_table(write, memory, tmp_path):
    (tmp_path / "0.png").write_bytes(PNGS[0])
    paths = ["0.png", *memory[1:]]
    require_images(open_table(write(paths)), paths)


def test_missing_and_bad_files(write, memory):
    system = fsspec.filesystem("memory")
    system.rm("/photos/2.png")
    with pytest.raises(DatasetError, match="1 in all:\n  line 4: memory://photos/2.png: there is no such file"):
        open_table(write(memory))
    with pytest.raises(DatasetError, match="line 2: memory://photos: it is a folder"):
        open_table(write(["memory://photos"]))
    system.pipe_file("/photos/2.png", b"no image")
    dataset = open_table(write(memory))
    (bad,) = dataset.known_bad("all", 0, 6)
    assert "memory://photos/2.png is not an image that Pillow can read" in bad.reason
    assert "(line 4 of the table)" in bad.reason
    system.rm("/photos/3.png")
    with pytest.raises(DatasetError, match="there is no memory://photos/3.png any more; give the command again"):
        list(dataset.examples("all", 0, 6))


def test_one_uri_twice(write, memory):
    with pytest.raises(DatasetError, match="images with two labels, 1 in all:\n  'memory://photos/0.png' is 'a'"):
        open_table(write([*memory[:3], memory[0]]))


def test_packages_that_are_missing(write, memory, monkeypatch):
    with pytest.raises(DatasetError, match="unknown://x/0.png cannot be read: Protocol not known: unknown"):
        open_table(write(["unknown://x/0.png"]))
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(ExtraError, match=r"remote needs a package .* pip install '\.\[remote\]'"):
        open_table(write(memory))


# ---- https, which says what stands for the content (here without s)


class Server:
    """Serves the images; `headers` are sent with each, and a request for a name in `failures` fails so many times."""

    def __init__(self):
        self.contents = {f"/{number}.png": content for number, content in enumerate(PNGS)}
        self.headers = {}
        self.failures = Counter()
        self.requests = Counter()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.answer()

            def do_GET(self):
                self.wfile.write(self.answer())

            def answer(self):
                server.requests[self.command] += 1
                content = server.contents.get(self.path, b"")
                status = 200 if content else 404
                if server.failures[self.path] > 0:
                    server.failures[self.path] -= 1
                    status, content = 503, b""
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                for name, value in server.headers.items():
                    self.send_header(name, value.format(self.path))
                self.end_headers()
                return content

            def log_message(self, *arguments):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.http.server_port}"
        self.uris = [self.uri + name for name in self.contents]


@pytest.fixture
def server():
    pytest.importorskip("aiohttp")
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever)
    thread.start()
    yield server
    server.http.shutdown()
    server.http.server_close()
    thread.join()


@pytest.mark.parametrize(
    "headers", [{"ETag": '"{}"'}, {"Last-Modified": "Thu, 26 Nov 2026 10:00:00 GMT"}, {"Content-MD5": "{}"}]
)
def test_nothing_is_downloaded_to_open_a_table(write, server, headers):
    server.headers = headers
    dataset = open_table(write(server.uris))
    assert server.requests == {"HEAD": 6}
    require_images(dataset, server.uris)
    assert server.requests == {"HEAD": 6, "GET": 6}
    assert open_table(write(server.uris)).version == dataset.version
    server.headers = {name: f"{value} now" for name, value in headers.items()}
    assert open_table(write(server.uris)).version != dataset.version


def test_a_size_alone_does_not_stand_for_the_content(write, server):
    dataset = open_table(write(server.uris))
    require_images(dataset, server.uris)
    first = bytearray(PNGS[1])
    first[-1] ^= 1
    server.contents["/1.png"] = bytes(first)
    assert open_table(write(server.uris)).version != dataset.version


def test_a_file_that_is_cut_short_or_changed(write, server):
    server.headers = {"ETag": '"{}"'}
    dataset = open_table(write(server.uris))
    server.contents["/4.png"] += b"more"
    with pytest.raises(DatasetError, match="/4.png has changed since the command began, or was cut short: "):
        require_images(dataset, server.uris)


def test_a_request_that_fails_is_repeated_once(write, server):
    server.headers = {"ETag": '"{}"'}
    server.failures = Counter({"/2.png": 2})  # HEAD and the GET with which fsspec asks again
    dataset = open_table(write(server.uris))
    server.failures = Counter({"/3.png": 1})
    require_images(dataset, server.uris)
    server.failures = Counter({"/3.png": 2})
    with pytest.raises(DatasetError, match="cannot read http://.*/3.png: 503, .*; tried twice; give the command again"):
        require_images(dataset, server.uris)


def test_a_machine_that_does_not_answer_is_no_missing_file(write, server):
    server.failures = Counter({"/2.png": 9})
    with pytest.raises(DatasetError, match="cannot read http://.*/2.png: 503, .*; tried twice"):
        open_table(write(server.uris))
    with pytest.raises(DatasetError, match="cannot read http://127.0.0.1:1/0.png: .*; tried twice"):
        open_table(write(["http://127.0.0.1:1/0.png"]))


def test_a_file_that_the_other_machine_does_not_have(write, server):
    with pytest.raises(DatasetError, match="1 in all:\n  line 8: http://.*/nothing.png: there is no such file"):
        open_table(write([*server.uris, f"{server.uri}/nothing.png"]))
