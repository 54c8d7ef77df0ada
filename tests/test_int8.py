"""int8: one quantised network beside the caches that it computes, found again, handed on, or refused with a reason."""

import hashlib
import json
import logging
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import tiny
from conftest import WITHOUT_TENSORFLOW, write_npz
from lab import arrays

from tfl import backbones, datasets, engine
from tfl.backbones import quantized
from tfl.backbones.quantized import open_quantized
from tfl.cache import inspect, open_cache, remove_network
from tfl.cli.commands.caches import Caches
from tfl.datasets import BadImage, Dataset, Example, sample_by_class
from tfl.datasets.sampling import choose_by_class
from tfl.engine import engines, int8, quantizing
from tfl.engine.openvino import OPENVINO
from tfl.errors import BackboneError, CacheError, DatasetError, ExtraError, TflError
from tfl.extraction import quantization
from tfl.extraction.precompute import precompute
from tfl.files import trust
from tfl.files.codec import decode_record
from tfl.reports.caches import format_cache
from tfl.specs import VIEWS, DatasetSpec, FeatureSpec, Settings

pytestmark = pytest.mark.usefixtures("tiny_backbone")

RNG = np.random.default_rng(0)
WIDE = {"layers": ("relu1", "last"), "pooling": ("avg", "max")}


@pytest.fixture
def features():
    return FeatureSpec(backbone="tiny", weights="random", image_size=12, compute_dtype="int8")


@pytest.fixture
def settings(tmp_path):
    """`openvino` is typed: it computes in int8 on processors without the instructions too."""
    return Settings(engine="openvino", cache_dir=tmp_path / "cache", batch_size=8, shard_rows=16)


def networks_in(folder):
    return sorted(folder.glob("*.int8.zip"))


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The folder of a cache in int8, made once; tests copy it."""
    folder = tmp_path_factory.mktemp("int8")
    write_npz(folder / "colours.npz", train=70, test=40)
    with tiny.registered():
        spec = FeatureSpec(backbone="tiny", weights="random", image_size=12, compute_dtype="int8", **WIDE)
        settings = Settings(engine="openvino", cache_dir=folder / "cache", batch_size=8, shard_rows=16)
        precompute(spec, DatasetSpec(str(folder / "colours.npz")), settings)
    return folder / "cache"


@pytest.fixture
def network(made, tmp_path):
    """A quantised network that lies in no cache's folder; of two layers, pooled in two ways."""
    (path,) = networks_in(made)
    return Path(shutil.copy(path, tmp_path / "elsewhere.zip"))


@pytest.fixture
def no_quantizing(monkeypatch):
    """Let a test fail where a network would be quantised."""
    forbid_quantizing(monkeypatch)


def forbid_quantizing(monkeypatch):
    monkeypatch.setattr(quantization, "quantize", lambda *_: pytest.fail("a network was quantised"))


# ---- one file, found again


def test_the_same_file_twice(features, dataset, settings):
    paths = [precompute(features, dataset, replace(settings, cache_dir=settings.cache_dir / name)) for name in "ab"]
    first, second = (networks_in(path.parent) for path in paths)
    assert first[0].name == second[0].name
    assert first[0].read_bytes() == second[0].read_bytes()
    assert arrays(paths[0]) == arrays(paths[1])
    assert paths[0].name == paths[1].name
    found = open_quantized(first[0])
    spec = open_cache(paths[0]).spec.features
    assert spec.quantized_network == found.digest
    assert first[0].name == f"tiny-12-{found.digest.removeprefix('sha256:')[:12]}.int8.zip"
    assert (found.origin.num_images, found.origin.split) == (64, "train[0:70]")
    assert found.origin.list_differences(spec) == []


def test_the_same_file_in_another_process(features, dataset, settings, tmp_path):
    """OpenVINO numbers nodes by a counter of the process: it must not enter the bytes."""
    precompute(features, dataset, settings)
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import tiny
from tfl.extraction.precompute import precompute
from tfl.specs import DatasetSpec, FeatureSpec, Settings
with tiny.registered():
    features = FeatureSpec(backbone="tiny", weights="random", image_size=12, compute_dtype="int8")
    settings = Settings(engine="openvino", cache_dir={str(tmp_path / "other")!r}, batch_size=8, shard_rows=16)
    precompute(features, DatasetSpec({dataset.dataset!r}), settings)
print("imported:", *(name for name in ("nncf", "openvino_telemetry", "torch") if name in sys.modules))
"""
    without_torch = WITHOUT_TENSORFLOW.replace('"tensorflow", "tensorflow_datasets"', '"torch", "torchvision"')
    command = [sys.executable, "-c", without_torch + program]  # NNCF imports PyTorch if it is there
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["imported:", "nncf"], "nothing else prints to stdout, and nobody is told of it"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "colours.npz", "other"]
    assert [path.read_bytes() for path in networks_in(tmp_path / "other")] == [
        path.read_bytes() for path in networks_in(settings.cache_dir)
    ]


def test_a_second_precompute_finds_it(features, dataset, settings, monkeypatch, caplog):
    path = precompute(features, dataset, settings)
    forbid_quantizing(monkeypatch)
    caplog.set_level(logging.INFO)
    assert precompute(features, dataset, settings) == path
    (network,) = networks_in(settings.cache_dir)
    assert f"int8: {network} computes the features" in caplog.text


def test_other_views_take_the_same_network_and_copy_the_first(features, dataset, settings, monkeypatch):
    donor = open_cache(precompute(features, dataset, settings))
    forbid_quantizing(monkeypatch)
    cache = open_cache(precompute(features, dataset, settings, views=("original", "hflip", "crop5")))
    assert cache.spec.features == donor.spec.features
    assert cache.provenance.values["images_computed"] == 2 * 110
    (copied,) = cache.provenance.values["copied"]
    assert (copied["fingerprint"], copied["images"]) == (donor.spec.fingerprint, 110)
    np.testing.assert_array_equal(cache.read("test").features, donor.read("test").features)


def test_later_rows_take_the_same_network(features, settings, tmp_path, monkeypatch):
    path = write_npz(tmp_path / "colours.npz", train=70, test=40)
    few = DatasetSpec(str(path), test_split="test[:9]")
    donor = open_cache(precompute(features, few, settings))
    forbid_quantizing(monkeypatch)
    cache = open_cache(precompute(features, replace(few, test_split="test"), settings))
    assert cache.spec.features == donor.spec.features
    assert cache.provenance.values["images_computed"] == 31


def test_another_training_split_makes_another_network(features, dataset, settings):
    precompute(features, dataset, settings)
    precompute(features, replace(dataset, train_split="train[:40]"), settings)
    splits = sorted(open_quantized(path).origin.split for path in networks_in(settings.cache_dir))
    assert splits == ["train[0:40]", "train[0:70]"]


@pytest.mark.parametrize(
    "fewer",
    [
        {"layers": ("last",)},
        {"layers": ("last", "relu1"), "pooling": ("max", "avg")},
        {"layers": ("relu1",), "pooling": ("max",)},
    ],
)
def test_a_network_of_more_layers_gives_columns(features, dataset, settings, network, fewer, no_quantizing):
    """Named, it computes fewer layers and poolings, in any order: the columns of the cache that it was made for."""
    wide = open_cache(precompute(replace(features, **WIDE, quantized_network=str(network)), dataset, settings))
    narrow = replace(features, quantized_network=str(network), **fewer)
    alone = replace(settings, cache_dir=settings.cache_dir / "alone")  # nothing to copy from
    cache = open_cache(precompute(narrow, dataset, alone))
    assert cache.spec.features.quantized_network == wide.spec.features.quantized_network
    columns = backbones.build_backbone(replace(features, **WIDE)).locate_columns(wide.spec.features)
    pairs = [(layer, pooling) for layer in narrow.layers for pooling in narrow.pooling]
    expected = np.concatenate([wide.read("test").features[:, columns[pair]] for pair in pairs], axis=1)
    np.testing.assert_array_equal(cache.read("test").features, expected)
    copying = open_cache(precompute(narrow, dataset, settings))
    np.testing.assert_array_equal(copying.read("test").features, expected)
    assert copying.provenance.values["images_computed"] == 0


def test_a_network_of_the_very_layers_goes_before_one_of_more(features, dataset, settings, monkeypatch):
    """A finished cache is found again after one of more layers was made beside it, whatever the digests."""
    narrow = precompute(features, dataset, settings)
    wide = precompute(replace(features, **WIDE), dataset, settings)
    assert len(networks_in(settings.cache_dir)) == 2
    assert precompute(features, dataset, settings) == narrow
    assert precompute(replace(features, **WIDE), dataset, settings) == wide


def test_a_file_from_elsewhere_is_copied_beside_the_cache(features, dataset, settings, network, no_quantizing):
    named = replace(features, quantized_network=str(network))
    cache = open_cache(precompute(named, dataset, settings))
    (placed,) = networks_in(settings.cache_dir)
    assert placed.read_bytes() == network.read_bytes()
    assert cache.spec.features.quantized_network == open_quantized(placed).digest
    network.unlink()
    assert precompute(features, dataset, settings) == cache.path, "and is found there without being named"


class Killed(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize("batches", [0, 5])
def test_a_killed_run_goes_on_to_the_same_bytes(features, dataset, settings, monkeypatch, batches):
    whole = precompute(features, dataset, replace(settings, cache_dir=settings.cache_dir / "whole"))
    start, calls = engine.Forward.start, []

    def kill_after(self, images, view):
        calls.append(view)
        if len(calls) > batches:
            raise Killed
        return start(self, images, view)

    monkeypatch.setattr(engine.Forward, "start", kill_after)
    with pytest.raises(Killed):
        precompute(features, dataset, settings)
    monkeypatch.setattr(engine.Forward, "start", start)
    forbid_quantizing(monkeypatch)
    assert arrays(precompute(features, dataset, settings)) == arrays(whole)


KILLING = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import tiny
from lab import forked
from tfl.extraction import quantization
from tfl.extraction.precompute import precompute
from tfl.files import trust
from tfl.specs import DatasetSpec, FeatureSpec, Settings

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def work(name, owner, attribute):
    setattr(owner, attribute, die)
    features = FeatureSpec(backbone="tiny", weights="random", image_size=12, compute_dtype="int8")
    settings = Settings(engine="openvino", cache_dir=Path(sys.argv[3]) / name, batch_size=8, shard_rows=16)
    precompute(features, DatasetSpec(sys.argv[2]), settings)

STEPS = {"before": (quantization, "write_whole"), "writing": (Path, "replace"), "after": (trust, "mark_own")}
with tiny.registered():
    for name, step in STEPS.items():
        _, status = os.waitpid(forked(lambda: work(name, *step)), 0)
        assert status == signal.SIGKILL, (name, status)
"""


def test_a_run_killed_while_its_network_is_written(features, dataset, settings, tmp_path):
    """No file under the name, or a whole one; and the same command goes on."""
    tests = str(Path(__file__).parent)
    command = [sys.executable, "-c", KILLING, tests, dataset.dataset, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    whole = precompute(features, dataset, settings)
    (network,) = networks_in(settings.cache_dir)
    for name, count in (("before", 0), ("writing", 0), ("after", 1)):
        folder = tmp_path / name
        found = networks_in(folder)
        assert [path.read_bytes() for path in found] == [network.read_bytes()] * count
        assert arrays(precompute(features, dataset, replace(settings, cache_dir=folder))) == arrays(whole)


# ---- files that are refused, or passed over


def repack(path, compression=zipfile.ZIP_STORED, extra=(), without=(), **changed):
    """Write a quantised network's file anew, with fields of its origin changed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist() if name not in without}
    if changed:
        members[quantized.ORIGIN] = json.dumps(json.loads(members[quantized.ORIGIN]) | changed).encode()
    members |= dict(extra)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[content.index(b"FakeQuantize")] ^= 1
    path.write_bytes(content)


BAD = {
    "absent": (Path.unlink, "cannot be read"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "cannot be read"),
    "empty": (lambda path: path.write_bytes(b""), "is not a quantised network that .*: File is not a zip file"),
    "cut off": (cut, "is not a quantised network that"),
    "no archive": (lambda path: path.write_bytes(b"PK\3\4" + bytes(500)), "is not a quantised network that"),
    "compressed": (lambda path: repack(path, zipfile.ZIP_DEFLATED), "a member is compressed; expected none"),
    "one member more": (
        lambda path: repack(path, extra=[("../evil", b"")]),
        r"it holds .*evil.*; expected network\.xml, network\.bin, origin\.json",
    ),
    "one member less": (lambda path: repack(path, without=["network.bin"]), "it holds network.xml, origin.json; exp"),
    "no JSON": (lambda path: repack(path, extra=[("origin.json", b"{")]), "is not a quantised network that"),
    "a large origin": (
        lambda path: repack(path, extra=[("origin.json", b" " * (1 << 20) + b"{}")]),
        "origin.json has more than 1,048,576 bytes",
    ),
    "another format": (lambda path: repack(path, format=2), "its format is 2; expected 1"),
    "a field of another type": (lambda path: repack(path, image_size="12"), "image_size"),
    "an unknown field": (lambda path: repack(path, colour="red"), "colour"),
}


@pytest.mark.parametrize(("damage", "message"), BAD.values(), ids=BAD)
def test_files_that_are_no_quantised_network_are_refused(features, dataset, settings, network, damage, message):
    damage(network)
    with pytest.raises(BackboneError, match=message) as refused:
        precompute(replace(features, quantized_network=str(network)), dataset, settings)
    assert str(network) in str(refused.value)
    assert not list(settings.cache_dir.glob("*")), "and nothing is left beside the caches"


def test_a_damaged_network_within_a_whole_archive_is_refused(features, dataset, settings, network):
    repack(network, extra=[("network.xml", b"<net>")])
    with pytest.raises(BackboneError, match="OpenVINO cannot read the quantised network"):
        precompute(replace(features, quantized_network=str(network)), dataset, settings)


def test_a_flipped_bit_is_refused(features, dataset, settings, network):
    flip_a_bit(network)
    with pytest.raises(BackboneError, match="is damaged|Bad CRC"):
        precompute(replace(features, quantized_network=str(network)), dataset, settings)


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"backbone": "resnet50"}, "backbone: resnet50 in the file, tiny requested"),
        ({"weights": "sha256:ab"}, "weights: sha256:ab in the file, sha256:"),
        ({"image_size": 16}, "image_size: 16 in the file, 12 requested"),
        ({"layers": ["relu1"]}, "layers: relu1 in the file, last requested"),
        ({"pooling": ["max"]}, "pooling: max in the file, avg requested"),
        ({"revision": 9}, "revision: 9 in the file, "),
    ],
)
def test_another_backbones_network_is_refused(features, dataset, settings, network, changed, line):
    repack(network, **changed)
    with pytest.raises(BackboneError, match="cannot compute these features") as refused:
        precompute(replace(features, quantized_network=str(network)), dataset, settings)
    assert f"  {line}" in str(refused.value)


def test_bad_files_beside_the_cache_are_passed_over(features, dataset, settings, network, caplog):
    """Found, not named: a warning, and a network of one's own."""
    settings.cache_dir.mkdir()
    damaged = settings.cache_dir / "tiny-12-0123456789ab.int8.zip"
    damaged.write_bytes(b"PK")
    trust.mark_own(damaged)
    stranger = Path(shutil.copy(network, settings.cache_dir / "tiny-12-00112233aabb.int8.zip"))
    before = stranger.read_bytes()
    cache = open_cache(precompute(features, dataset, settings))
    assert f"{stranger} was not made by this user's tfl; name it to use it: --quantized-network {stranger}" in (
        caplog.text
    )
    assert f"{damaged} is not a quantised network that" in caplog.text
    assert (damaged.read_bytes(), stranger.read_bytes()) == (b"PK", before)
    assert cache.spec.features.quantized_network != open_quantized(stranger).digest


def test_another_file_under_the_name_is_refused(features, dataset, settings, network):
    """The name has 12 digits of the digest; the file may be another all the same."""
    named = replace(features, quantized_network=str(network))
    digest = open_quantized(network).digest
    settings.cache_dir.mkdir()
    other = settings.cache_dir / quantized.name_file(backbones.build_backbone(features).spec, digest)
    shutil.copy(network, other)
    repack(other, seed=5)
    with pytest.raises(BackboneError, match=f"{other} is not the file {network}, .*remove {other}"):
        precompute(named, dataset, settings)


def test_a_network_that_changes_while_it_is_used_is_refused(network):
    opened = open_quantized(network)
    repack(network, seed=5)
    with pytest.raises(BackboneError, match="has changed while it was used; give the command again"):
        opened.read_graph()


# ---- machines and options that are refused


@pytest.mark.parametrize(("able", "instead"), [(["float32"], "float32"), (["float32", "bfloat16"], "bfloat16")])
def test_a_processor_without_the_instructions_is_told_what_to_take(
    features, dataset, settings, monkeypatch, able, instead
):
    monkeypatch.setattr(engines, "has_int8_instructions", lambda: False)
    monkeypatch.setattr(engines, "supported_dtypes", lambda: able)
    with pytest.raises(
        TflError, match=f"none of the instructions for int8 .*take --compute-dtype {instead}, or --engine"
    ):
        precompute(features, dataset, replace(settings, engine="auto"))
    assert engine.resolve_engine("openvino", "int8") == "openvino"
    monkeypatch.setattr(engines, "has_int8_instructions", lambda: True)
    assert engine.resolve_engine("auto", "int8") == "openvino"


@pytest.mark.parametrize(
    ("listed", "is_able"),
    [
        (["avx", "avx2", "fma"], False),
        (["avx", "avx2", "avx_vnni"], True),
        (["avx512f", "avx", "avx512_vnni"], True),
        (["asimd"], False),
        (["asimd", "asimddp"], True),
        (["arm"], True),  # the name of a processor: its instructions are not known
        ([], True),
    ],
)
def test_instructions_for_int8(monkeypatch, listed, is_able):
    monkeypatch.setattr(engine.openvino, "list_instruction_sets", lambda: listed)
    assert engine.openvino.has_int8_instructions() is is_able


@pytest.mark.parametrize("option", ["keras", "torch.compile"])
def test_other_engines_are_refused(features, dataset, settings, option):
    with pytest.raises(TflError, match=f"int8 runs in openvino alone, got --engine {option}; leave --engine out"):
        precompute(features, dataset, replace(settings, engine=option))


def test_other_backends_are_refused(monkeypatch):
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    with pytest.raises(TflError, match="int8 needs openvino: .* KERAS_BACKEND is jax; or take --comp"):
        engine.resolve_engine("auto", "int8")


def test_without_openvino_it_is_refused(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    with pytest.raises(TflError, match=r"int8 needs openvino: it is not installed; pip install '\.\[int8\]'"):
        engine.resolve_engine("auto", "int8")


def test_nncf_is_needed_only_to_make_a_network(features, dataset, settings, network, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(ExtraError, match=r"int8 needs a package .*pip install '\.\[int8\]'"):
        precompute(features, dataset, settings)
    precompute(replace(features, quantized_network=str(network)), dataset, settings)


def test_without_a_training_split_there_is_nothing_to_calibrate_on(features, dataset, settings, network):
    testing = replace(dataset, train_split="")
    with pytest.raises(DatasetError, match="no --train-split; name the quantised network .*--quantized-network FILE"):
        precompute(features, testing, settings)
    precompute(replace(features, quantized_network=str(network)), testing, settings)


def test_an_unsupported_network_says_what_to_take(features, dataset, settings, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no such layer\nand more")

    _, nncf = quantizing.import_packages()
    monkeypatch.setattr(nncf, "quantize", fail)
    with pytest.raises(BackboneError, match="quantised: no such layer; take --compute-dtype bfloat16 or float32"):
        precompute(features, dataset, settings)


# ---- the features


def distance(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.fixture
def built(features, network):
    """A function from fields of the spec to a backbone in int8."""

    def build(**changes):
        spec = replace(features, **WIDE, **changes)
        return backbones.build_backbone(spec).use_quantized(open_quantized(network))

    return build


@pytest.mark.parametrize("resize_mode", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos3", "lanczos5"])
def test_resizing_inside_agrees_with_two_steps(built, interpolation, antialias, resize_mode):
    """Bilinear pixels are the same but for the last bits.

    The other kernels' differ by a hundred-thousandth, and a pixel half-way between two of the 256
    levels of the first activation is then rounded to the other.
    """
    images = list(RNG.integers(0, 255, (7, 10, 9, 3), dtype=np.uint8))
    backbone = built(interpolation=interpolation, antialias=antialias, resize_mode=resize_mode)
    assert int8.can_compile_images(backbone, (10, 9))
    inside, outside = engine.Forward(backbone, 8, "openvino", (10, 9)), engine.Forward(backbone, 8, "openvino")
    tolerance = 1e-5 if interpolation == "bilinear" else 0.01
    worst = 0
    for view in VIEWS:
        found = inside.features(images, view)
        assert (found.shape, found.dtype) == ((7, 22), np.float32)
        worst = max(worst, distance(found, outside.features(images, view)))
    assert worst < tolerance


def test_resizing_stays_outside_where_it_must(built):
    assert not int8.can_compile_images(built(), None)
    assert not int8.can_compile_images(built(), (10, 13)), "larger than the network's own"
    assert not int8.can_compile_images(built(interpolation="nearest"), (10, 9))
    assert int8.can_compile_images(built(), (12, 12))
    plain = backbones.build_backbone(FeatureSpec(backbone="tiny", weights="random", image_size=12))
    assert not int8.can_compile_images(plain, (10, 9))


@pytest.mark.parametrize("image_shape", [None, (10, 9)])
def test_features_are_near_those_of_float32(built, image_shape):
    images = list(RNG.integers(0, 255, (7, 10, 9, 3), dtype=np.uint8))
    backbone = built()
    exact = backbone.model.predict(np.stack(images), verbose=0)
    found = engine.Forward(backbone, 8, "openvino", image_shape).features(images)
    assert 1e-5 < distance(found, exact) < 0.05


@pytest.mark.parametrize("image_shape", [None, (10, 9)])
def test_batches_are_padded(built, image_shape):
    images = list(RNG.integers(0, 255, (7, 10, 9, 3), dtype=np.uint8))
    whole = engine.Forward(built(), 7, "openvino", image_shape).features(images)
    forward = engine.Forward(built(), 4, "openvino", image_shape)
    first = forward.features(images[:4])
    kept = first.copy()
    np.testing.assert_allclose(np.concatenate([first, forward.features(images[4:])]), whole, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(first, kept)


def test_images_of_varying_size(features, folder, settings):
    """A folder's images: each is resized alone, and the network runs on the batch."""
    cache = open_cache(precompute(features, DatasetSpec(str(folder)), settings))
    (network,) = networks_in(settings.cache_dir)
    backbone = backbones.build_backbone(features).use_quantized(open_quantized(network))
    found = cache.read("test")
    for row, name in zip(found.features, found.ids, strict=True):
        alone = engine.Forward(backbone, 1, "openvino").features([datasets.read_image(folder / name.decode())])
        assert distance(row, alone[0]) < 1e-4


def test_a_cache_of_int8_has_the_networks_features(features, dataset, settings, network):
    cache = open_cache(precompute(replace(features, quantized_network=str(network)), dataset, settings))
    backbone = backbones.build_backbone(features).use_quantized(open_quantized(network))
    examples = list(datasets.open_dataset(dataset).examples("test", 0, 40))
    expected = engine.Forward(backbone, 40, "openvino").features([example.image for example in examples])
    assert distance(cache.read("test").features, expected) < 1e-5
    assert cache.provenance.values["engine"] == "openvino"
    assert OPENVINO.dtypes[-1] == "int8"


# ---- the sample that is calibrated on


class Numbers(Dataset):
    """Images that are their row's number; some bad, and labels that are known before or are not."""

    name, version, class_names = "numbers", "1", ("a", "b", "c")

    def __init__(self, labels, bad=(), is_labelled=True):
        self._labels, self._bad, self._is_labelled = np.asarray(labels), set(bad), is_labelled
        self.num_rows = {"train": len(labels)}

    def examples(self, split, start, stop):
        for row in range(start, stop):
            if row in self._bad:
                yield BadImage(str(row), "bad")
            else:
                yield Example(np.full((1, 1, 3), row % 256, np.uint8), int(self._labels[row]), str(row))

    def labels(self, split):
        return self._labels if self._is_labelled else None


def counts_of(examples):
    return np.unique([example.label for example in examples], return_counts=True)[1].tolist()


@pytest.mark.parametrize("is_labelled", [True, False])
def test_the_sample_has_every_class_and_is_stable(is_labelled):
    dataset = Numbers(np.random.default_rng(3).integers(0, 3, 900), bad=range(0, 900, 7), is_labelled=is_labelled)
    found = sample_by_class(dataset, "train", 30, 0)
    assert counts_of(found) == [10, 10, 10]
    ids = [int(example.id) for example in found]
    assert ids == sorted(set(ids)), "each once, in stored order"
    assert not any(id_ % 7 == 0 for id_ in ids)
    assert [example.id for example in sample_by_class(dataset, "train", 30, 0)] == [str(id_) for id_ in ids]
    assert [example.id for example in sample_by_class(dataset, "train", 30, 1)] != [str(id_) for id_ in ids]


def test_rare_classes_are_taken_whole():
    dataset = Numbers([0] * 500 + [1] * 3 + [2] * 500)
    assert counts_of(sample_by_class(dataset, "train", 41, 0)) == [19, 3, 19]


@pytest.mark.parametrize("is_labelled", [True, False])
def test_a_small_split_is_taken_whole(is_labelled):
    dataset = Numbers([0, 1, 2, 0, 1], bad=[1], is_labelled=is_labelled)
    assert [example.id for example in sample_by_class(dataset, "train", 30, 0)] == ["0", "2", "3", "4"]
    assert [example.id for example in sample_by_class(dataset, "train[1:4]", 30, 0)] == ["2", "3"]


def test_rows_stored_by_class_are_all_reached():
    """Labels come with the images: a few stretches, evenly over the split, are read."""
    dataset = Numbers(np.repeat([0, 1, 2], 1000), is_labelled=False)
    assert len(counts_of(sample_by_class(dataset, "train", 30, 0))) == 3


def test_labels_that_are_unknown_count_as_a_class():
    assert len(sample_by_class(Numbers([-1] * 50), "train", 8, 0)) == 8


def test_choosing_by_class():
    labels = np.array([0, 0, 0, 0, 1, 2, 2])
    chosen = choose_by_class(labels, 5, np.random.default_rng(0))
    assert chosen == sorted(chosen)
    assert np.bincount(labels[chosen]).tolist() == [2, 1, 2]
    assert choose_by_class(labels, 99, np.random.default_rng(0)) == list(range(7))
    assert choose_by_class(np.array([], np.int64), 3, np.random.default_rng(0)) == []


# ---- what is said of it


def test_an_int8_cache_is_described(features, dataset, settings, network):
    path = precompute(replace(features, quantized_network=str(network)), dataset, settings)
    opened = open_quantized(network)
    found = inspect(path)
    assert found.provenance["quantized_network"]["split"] == "train[0:70]"
    assert decode_record(found.provenance["quantized_network"], quantized.QuantizationOrigin) == opened.origin
    assert f"quantized_network {opened.digest}" in "\n".join(format_cache(found))


def test_caches_of_other_dtypes_have_no_network(features, dataset, settings):
    cache = open_cache(precompute(replace(features, compute_dtype="float32"), dataset, settings))
    assert "quantized_network" not in cache.provenance.values
    assert "quantized_network" not in cache.spec.to_json()
    assert networks_in(settings.cache_dir) == []


def rewrite_spec(path, change):
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        spec = json.loads(file.attrs["spec"])
        change(spec["features"])
        text = json.dumps(spec, sort_keys=True, separators=(",", ":")).encode()
        file.attrs["spec"] = np.bytes_(text)
        file.attrs["fingerprint"] = np.bytes_(hashlib.sha256(text).hexdigest())


SPECS = {
    "no network": lambda spec: spec.pop("quantized_network"),
    "an empty network": lambda spec: spec.update(quantized_network=""),
    "a network of another dtype": lambda spec: spec.update(compute_dtype="float32"),
    "a path": lambda spec: spec.update(quantized_network="a.int8.zip"),
    "auto": lambda spec: (spec.pop("quantized_network"), spec.update(compute_dtype="auto")),
}


@pytest.mark.parametrize("change", SPECS.values(), ids=SPECS)
def test_caches_that_break_the_format_are_refused(made, tmp_path, change):
    (path,) = made.glob("*.h5")
    copy = Path(shutil.copy(path, tmp_path / path.name))
    rewrite_spec(copy, change)
    with pytest.raises(CacheError):
        open_cache(copy)


def test_networks_are_listed_and_removed(features, dataset, settings, made, tmp_path, capsys):
    folder = shutil.copytree(made, tmp_path / "copy")
    (used,), (cache,) = networks_in(folder), folder.glob("*.h5")
    unused = Path(shutil.copy(used, folder / "tiny-12-0123456789ab.int8.zip"))
    repack(unused, seed=5)
    Caches(cache_dir=folder).run()
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["quantised", "network", "bytes", "computes"]
    assert lines[3].split() == [unused.name, f"{unused.stat().st_size:,}", "no", "cache"]
    assert lines[4].split() == [used.name, f"{used.stat().st_size:,}", cache.name]
    with pytest.raises(CacheError, match=f"{used} is needed .* {cache.name}, .*; remove the cache first"):
        Caches(cache_dir=folder, remove=(used,)).run()
    for other in (cache, folder, folder / "none.int8.zip"):
        with pytest.raises(CacheError, match=f"quantised networks are removed, files .*; got {other}"):
            remove_network(other)
    Caches(cache_dir=folder, remove=(unused,)).run()
    assert networks_in(folder) == [used]
    capsys.readouterr()
    Caches(cache_dir=folder, as_json=True).run()
    assert [each["name"] for each in json.loads(capsys.readouterr().out)] == [cache.name]
    cache.unlink()
    remove_network(used)
    assert list(folder.iterdir()) == []


def test_a_network_of_an_unfinished_cache_stays(features, dataset, settings, monkeypatch):
    start, calls = engine.Forward.start, []

    def kill_after(self, images, view):
        calls.append(view)
        if len(calls) > 6:
            raise Killed
        return start(self, images, view)

    monkeypatch.setattr(engine.Forward, "start", kill_after)
    with pytest.raises(Killed):
        precompute(features, dataset, settings)
    (network,) = networks_in(settings.cache_dir)
    with pytest.raises(CacheError, match=r"needed to compute more rows of .*\.h5\.partial"):
        remove_network(network)
