import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from threading import Event

import h5py
import numpy as np
import pytest
from conftest import write_npz
from lab import arrays

from tfl import datasets, engine
from tfl.backbones import backbone
from tfl.cache import Cache, PartialCache, inspect, open_cache
from tfl.errors import BackboneError, CacheError, DatasetError, SpecError
from tfl.extraction.precompute import precompute
from tfl.files import trust
from tfl.machine import batching
from tfl.reports.caches import format_cache
from tfl.specs import DatasetSpec

pytestmark = pytest.mark.usefixtures("tiny_backbone")


def assert_same(path, other):
    ours, theirs = arrays(path), arrays(other)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        assert array == theirs[name], name


def test_rows_are_the_datasets_images(features, dataset, settings):
    cache = open_cache(precompute(features, dataset, settings))
    built, source = backbone.build_backbone(features), datasets.open_dataset(dataset)
    for role in ("train", "test"):
        examples = list(source.examples(role, 0, source.num_rows[role]))
        found = cache.read(role)
        expected = built.model.predict(np.stack([example.image for example in examples]), verbose=0)
        np.testing.assert_allclose(found.features, expected, rtol=1e-4, atol=1e-6)
        assert found.labels.tolist() == [example.label for example in examples]
        assert found.ids.tolist() == [example.id.encode() for example in examples]
    assert cache.class_names == ("red", "green", "blue")


def test_folder_of_images_of_differing_sizes(features, folder, settings):
    cache = open_cache(precompute(features, DatasetSpec(dataset=str(folder)), settings))
    built = backbone.build_backbone(features)
    found = cache.read("test")
    for feature, id_ in zip(found.features, found.ids, strict=True):
        image = datasets.read_image(folder / id_.decode())
        np.testing.assert_allclose(feature, np.asarray(built.model(image[None]))[0], rtol=1e-4, atol=1e-6)
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_finished_file_is_returned_and_not_touched(features, dataset, settings):
    path = precompute(features, dataset, settings)
    before = path.stat()
    assert precompute(features, dataset, settings) == path
    assert path.stat().st_mtime_ns == before.st_mtime_ns


class Killed(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize(
    ("batches", "engine_name"), [(0, "keras"), (1, "keras"), (2, "keras"), (5, "auto"), (13, "keras")]
)
def test_a_killed_run_goes_on_to_the_same_bytes(features, dataset, settings, monkeypatch, batches, engine_name):
    settings = replace(settings, engine=engine_name)
    whole = precompute(features, dataset, replace(settings, cache_dir=settings.cache_dir / "whole"))
    run_model = engine.Forward.start
    calls = []

    def kill_after(self, images, view):
        calls.append(len(images))
        if len(calls) > batches:
            raise Killed
        return run_model(self, images, view)

    monkeypatch.setattr(engine.Forward, "start", kill_after)
    with pytest.raises(Killed):
        precompute(features, dataset, settings)
    assert not list(settings.cache_dir.glob("*.h5"))
    finished = len(list(settings.cache_dir.glob("*.partial/*.shard")))
    calls.clear()
    monkeypatch.setattr(engine.Forward, "start", lambda *a: calls.append(1) or run_model(*a))
    again = precompute(features, dataset, settings)
    assert len(calls) == 14 - (0, 0, 2, 4, 13)[(0, 1, 2, 5, 13).index(batches)]  # nothing finished is run again
    assert_same(again, whole)
    assert finished == (0, 0, 1, 2, 7)[(0, 1, 2, 5, 13).index(batches)]  # shards of two batches; train's last of one
    assert open_cache(again).provenance.values["images_computed"] == 110  # of both processes together
    assert not list(settings.cache_dir.glob("*.partial"))


def test_a_damaged_shard_is_made_again(features, dataset, settings, monkeypatch, caplog):
    write = PartialCache.write

    def damage_first(self, shard, *rest):
        write(self, shard, *rest)
        path = self._path_of(shard)
        if shard[:2] == ("train", 16) and not caplog.text:
            path.write_bytes(path.read_bytes()[:-40])

    monkeypatch.setattr(PartialCache, "write", damage_first)
    path = precompute(features, dataset, settings)
    assert "train-000000016.shard is damaged" in caplog.text
    assert_same(path, precompute(features, dataset, replace(settings, cache_dir=settings.cache_dir / "whole")))


def test_rows_of_another_cache_are_copied_by_id(features, dataset, settings, caplog):
    caplog.set_level("INFO")
    fewer = replace(dataset, train_split="train[:30]", test_split="test[:7]")
    donor = open_cache(precompute(features, fewer, replace(settings, batch_size=4)))
    path = precompute(features, dataset, settings)
    cache = open_cache(path)
    origin = {"fingerprint": donor.spec.fingerprint, "engine": "tensorflow", "batch_size": 4}
    assert cache.provenance.values["copied"] == [{**origin, "images": 37}]
    shown = "\n".join(format_cache(inspect(path)))
    assert f"copied (fingerprint {donor.spec.fingerprint} engine tensorflow batch_size 4 images 37)" in shown
    assert "copied" not in donor.provenance.values
    assert cache.provenance.values["images_computed"] == 110 - 37
    assert "holds are copied, not computed again" in caplog.text
    alone = open_cache(precompute(features, dataset, replace(settings, cache_dir=settings.cache_dir / "alone")))
    for role in ("train", "test"):
        ours, expected = cache.read(role), alone.read(role)
        np.testing.assert_allclose(ours.features, expected.features, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(ours.ids, expected.ids)
        np.testing.assert_array_equal(ours.labels, expected.labels)


def poisoned(path):
    """A stranger's file: whole, verified, of the same spec but for the rows, and with features of its own."""
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        features = np.full_like(file["train/features"][:], 77.0)
        file["train/features"][:] = features
        digests = json.loads(file.attrs["digests"])
        digests["train/features"] = "sha256:" + hashlib.sha256(features.tobytes()).hexdigest()
        file.attrs["digests"] = np.bytes_(json.dumps(digests))


def test_rows_of_a_strangers_cache_are_not_copied(features, dataset, settings, caplog):
    donor = precompute(features, replace(dataset, train_split="train[:30]"), settings)
    poisoned(donor)
    stranger = donor.with_name("stranger-" + donor.name)
    stranger.write_bytes(donor.read_bytes())
    donor.unlink()
    assert open_cache(stranger).read("train").features[0, 0] == 77.0, "it is read where it is asked for"
    path = precompute(features, dataset, settings)
    assert open_cache(path).provenance.values["images_computed"] == 110
    assert "copied" not in open_cache(path).provenance.values
    (line,) = (record.message for record in caplog.records if str(stranger) in record.message)
    assert line.startswith(f"no rows are copied from {stranger}: it was not made by this user's tfl")
    assert "Nothing needs to be done; remove the file if it is not wanted" in line
    assert_same(path, precompute(features, dataset, replace(settings, cache_dir=settings.cache_dir / "whole")))


def test_rows_of_ones_own_cache_are_copied_after_it_was_moved(features, dataset, settings):
    donor = precompute(features, replace(dataset, train_split="train[:30]"), settings)
    donor.rename(donor.with_name("kept-" + donor.name))
    cache = open_cache(precompute(features, dataset, settings))
    assert cache.provenance.values["images_computed"] == 110 - 70


@pytest.mark.parametrize(("compute_dtype", "num_computed"), [("float32", 40), ("bfloat16", 110)])
def test_rows_that_another_engine_rounded_are_not_copied(
    compute_dtype, num_computed, features, dataset, settings, monkeypatch
):
    features = replace(features, compute_dtype=compute_dtype)
    monkeypatch.setitem(engine.ENGINES, "another", replace(engine.ENGINES["tensorflow"], name="another"))
    with monkeypatch.context() as patch:
        patch.setattr(engine, "resolve_engine", lambda *_: "another")
        precompute(features, replace(dataset, train_split="train[:30]"), settings)
    cache = open_cache(precompute(features, dataset, settings))
    assert cache.provenance.values["images_computed"] == num_computed


VIEWS = ("original", "hflip", "crop4")


@pytest.fixture
def computed(monkeypatch):
    """How many images went through the backbone, by view."""
    run_model, counts = engine.Forward.start, Counter()

    def counted(self, images, view):
        counts[view] += len(images)
        return run_model(self, images, view)

    monkeypatch.setattr(engine.Forward, "start", counted)
    return counts


def assert_views_are_the_models(cache, features, dataset):
    built, source = backbone.build_backbone(features), datasets.open_dataset(dataset)
    for role in ("train", "test"):
        images = np.stack([example.image for example in source.examples(role, 0, source.num_rows[role])])
        for view in cache.views:
            expected = built.network.predict(built.build_views((view,)).predict(images, verbose=0), verbose=0)
            np.testing.assert_allclose(cache.read_view(role, view), expected, rtol=1e-4, atol=1e-6)


def test_every_view_of_every_image(features, dataset, settings, computed):
    seen = []
    path = precompute(features, dataset, settings, lambda progress: seen.append(replace(progress)), VIEWS)
    cache = open_cache(path)
    assert cache.views == VIEWS
    assert_views_are_the_models(cache, features, dataset)
    assert computed == dict.fromkeys(VIEWS, 110)
    assert (seen[-1].finished, seen[-1].total, seen[-1].computed) == (330, 330, 330)
    assert cache.provenance.values["images_computed"] == 330
    assert precompute(features, dataset, settings, views=("original", "crop4", "hflip")) == path  # in any order


def test_a_view_added_later_costs_that_view_alone(features, dataset, settings, computed, caplog):
    caplog.set_level("INFO")
    plain = open_cache(precompute(features, dataset, settings))
    computed.clear()
    cache = open_cache(precompute(features, dataset, settings, views=("original", "hflip")))
    assert computed == {"hflip": 110}
    assert "views: original on disk, original hflip requested" in caplog.text
    for role in ("train", "test"):
        np.testing.assert_array_equal(cache.read(role).features, plain.read(role).features)
    assert_views_are_the_models(cache, features, dataset)


def test_each_view_comes_from_a_cache_that_has_it(features, dataset, settings, computed):
    fewer = replace(dataset, train_split="train[:30]", test_split="")
    precompute(features, dataset, settings)
    precompute(features, fewer, settings, views=("original", "hflip"))
    computed.clear()
    seen = []
    path = precompute(features, dataset, settings, lambda progress: seen.append(progress.finished), VIEWS)
    assert computed == {"hflip": 80, "crop4": 110}
    assert seen[-1] == 330
    assert_views_are_the_models(open_cache(path), features, dataset)


def test_a_cache_of_more_views_gives_its_rows_and_does_not_serve_silently(features, dataset, settings, computed):
    richer = precompute(features, dataset, settings, views=VIEWS)
    computed.clear()
    path = precompute(features, dataset, settings)
    assert path != richer
    assert not computed
    assert open_cache(path).views == ("original",)
    assert_same(path, precompute(features, dataset, replace(settings, cache_dir=settings.cache_dir / "alone")))


@pytest.mark.parametrize("batches", [1, 5, 20])
def test_a_killed_run_of_views_goes_on_to_the_same_bytes(features, dataset, settings, monkeypatch, batches):
    whole = precompute(features, dataset, replace(settings, cache_dir=settings.cache_dir / "whole"), views=VIEWS)
    run_model, calls = engine.Forward.start, []

    def kill_after(self, images, view):
        calls.append(view)
        if len(calls) > batches:
            raise Killed
        return run_model(self, images, view)

    monkeypatch.setattr(engine.Forward, "start", kill_after)
    with pytest.raises(Killed):
        precompute(features, dataset, settings, views=VIEWS)
    monkeypatch.undo()
    assert_same(precompute(features, dataset, settings, views=VIEWS), whole)


def test_views_of_a_folder_with_a_bad_image(features, folder, settings):
    damage_inside(folder / "train" / "dog" / "3.png")
    seen = []
    path = precompute(
        features,
        DatasetSpec(str(folder)),
        replace(settings, on_bad_image="skip"),
        lambda progress: seen.append((progress.finished, progress.total)),
        ("original", "hflip"),
    )
    assert open_cache(path).read_view("train", "hflip").shape == (11, 5)
    assert seen[-1] == (36, 36)


def test_odd_views_cost_no_download(features, settings, monkeypatch):
    monkeypatch.setattr(datasets, "open_dataset", lambda spec, *bound: pytest.fail("opened"))
    with pytest.raises(SpecError, match="got hflip; try --views original hflip"):
        precompute(features, DatasetSpec(), settings, views=("hflip",))


RICH = {"layers": ("relu1", "last"), "pooling": ("max", "avg")}


@pytest.mark.parametrize(
    "wanted",
    [{}, {"layers": ("relu1",), "pooling": ("max",)}, {"layers": ("last", "relu1"), "pooling": ("avg", "max")}],
    ids=["last avg", "relu1 max", "all in another order"],
)
def test_columns_of_a_richer_cache_are_copied(features, dataset, settings, computed, caplog, wanted):
    caplog.set_level("INFO")
    wanted = replace(features, **wanted)
    precompute(replace(features, **RICH), dataset, settings, views=VIEWS)
    computed.clear()
    cache = open_cache(precompute(wanted, dataset, settings, views=VIEWS))
    assert not computed
    assert "columns of the rows that " in caplog.text
    alone = precompute(wanted, dataset, replace(settings, cache_dir=settings.cache_dir / "alone"), views=VIEWS)
    for role in ("train", "test"):
        for view in VIEWS:
            expected = open_cache(alone).read_view(role, view)
            np.testing.assert_allclose(cache.read_view(role, view), expected, rtol=1e-6, atol=1e-7)


def test_columns_that_a_cache_does_not_hold_are_computed(features, dataset, settings, computed):
    for poorer in ({"pooling": ("max",)}, {"layers": ("relu1",)}, {"image_size": 13, **RICH}):
        precompute(replace(features, **poorer), dataset, settings)
    computed.clear()
    precompute(features, dataset, settings)
    assert computed == {"original": 110}


def test_a_cache_of_the_same_features_comes_before_a_richer_one(features, dataset, settings, computed, monkeypatch):
    precompute(replace(features, **RICH), dataset, settings)
    precompute(features, replace(dataset, test_split=""), settings)
    computed.clear()
    read_rows, read = Cache.read_rows, set()

    def noted(self, role, rows, view="original"):
        read.add((role, self.num_features))
        return read_rows(self, role, rows, view)

    monkeypatch.setattr(Cache, "read_rows", noted)
    precompute(features, dataset, settings)
    assert not computed
    assert read == {("train", 5), ("test", 22)}


@pytest.mark.parametrize("claim", [{"layers": ("no_such",)}, {"layers": ("last", "relu1"), "pooling": ("avg", "max")}])
def test_a_cache_whose_width_is_not_its_specs_gives_nothing(features, dataset, settings, computed, claim):
    """Of a stranger: other layers in the spec than its rows are of."""
    cache = open_cache(precompute(features, dataset, settings))
    spec = replace(cache.spec, features=replace(cache.spec.features, **claim))
    with h5py.File(cache.path, "r+", libver=("v110", "v110")) as file:
        file.attrs["spec"], file.attrs["fingerprint"] = np.bytes_(spec.to_json()), np.bytes_(spec.fingerprint)
    cache.path.rename(cache.path.with_name("colours-tiny-12-claim.h5"))
    trust.mark_own(cache.path.with_name("colours-tiny-12-claim.h5"))  # else it is not looked at
    assert open_cache(cache.path.with_name("colours-tiny-12-claim.h5")).spec == spec
    computed.clear()
    precompute(features, dataset, settings)
    assert computed == {"original": 110}


def test_rows_of_other_images_under_the_same_ids_are_not_copied(features, dataset, settings, tmp_path):
    precompute(features, dataset, settings)
    (tmp_path / "other").mkdir()
    other = DatasetSpec(dataset=str(write_npz(tmp_path / "other" / "colours.npz", seed=9, train=70, test=40)))
    cache = open_cache(precompute(features, other, settings))
    assert cache.provenance.values["images_computed"] == 110


class Twin(datasets.NpzDataset):
    """A dataset with a version number, as TFDS has, and ids that another one of the same number has as well."""

    version = "3.0.2"

    def _identify(self):
        return self.path.stem, "3.0.2"


def test_rows_of_another_dataset_of_the_same_version_are_not_copied(features, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "open_dataset", lambda spec, *bound: Twin(Path(spec.dataset)))
    for seed, name in enumerate(("cifar10", "cifar100")):
        path = write_npz(tmp_path / f"{name}.npz", seed, train=70, test=40)
        cache = open_cache(precompute(features, DatasetSpec(dataset=str(path)), settings))
        assert cache.provenance.values["images_computed"] == 110


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("label", -1, "has label -1; expected 0 to 2"), ("id", "x", "'x' appears in two rows")],
)
def test_odd_rows_are_named_before_they_are_computed(features, dataset, settings, monkeypatch, field, value, message):
    read = datasets.read_rows
    monkeypatch.setattr(datasets, "read_rows", lambda *a: (example._replace(**{field: value}) for example in read(*a)))
    with pytest.raises(DatasetError, match=message):
        precompute(features, dataset, settings)


def test_a_misspelt_backbone_costs_no_download(features, settings, monkeypatch):
    monkeypatch.setattr(datasets, "open_dataset", lambda spec, *bound: pytest.fail("opened"))
    with pytest.raises(BackboneError, match="there is no backbone 'resnet5O'"):
        precompute(replace(features, backbone="resnet5O"), DatasetSpec(), settings)


def test_the_nearest_relative_is_named(features, dataset, settings, caplog):
    caplog.set_level("INFO")
    precompute(features, dataset, settings)
    precompute(replace(features, image_size=16), dataset, settings)
    assert "cannot be reused as it is:\n  image_size: 12 on disk, 16 requested" in caplog.text


@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_batches_ahead_leave_the_same_bytes(features, dataset, settings, monkeypatch, ahead):
    plain = precompute(features, dataset, replace(settings, cache_dir=settings.cache_dir / "plain"), views=VIEWS)
    run_model, on_their_way, most = engine.Forward.start, [], []

    def watched(self, images, view):
        wait = run_model(self, images, view)
        on_their_way.append(len(images))
        most.append(len(on_their_way))
        return lambda: (on_their_way.pop(), wait())[1]

    monkeypatch.setattr(engine.Forward, "start", watched)
    monkeypatch.setattr(engine, "has_accelerator", lambda: True)
    monkeypatch.setattr("tfl.extraction.extraction.BATCHES_AHEAD", ahead)
    assert_same(precompute(features, dataset, settings, views=VIEWS), plain)
    assert max(most) == ahead + 1
    assert not on_their_way


def test_what_fails_ahead_leaves_the_shards_before(features, dataset, settings, monkeypatch):
    run_model, calls = engine.Forward.start, []

    def killed_while_waited_for(self, images, view):
        wait = run_model(self, images, view)
        calls.append(view)

        def killed():
            raise Killed

        return killed if len(calls) == 6 else wait

    monkeypatch.setattr(engine.Forward, "start", killed_while_waited_for)
    monkeypatch.setattr(engine, "has_accelerator", lambda: True)
    with pytest.raises(Killed):
        precompute(features, dataset, settings)
    assert len(calls) == 8  # two of them ahead of the one that failed
    assert len(list(settings.cache_dir.glob("*.partial/*.shard"))) == 2  # of two batches each
    monkeypatch.setattr(engine.Forward, "start", run_model)
    whole = precompute(features, dataset, replace(settings, cache_dir=settings.cache_dir / "whole"))
    assert_same(precompute(features, dataset, settings), whole)


def test_float16_that_overflows_names_the_image(features, dataset, settings, monkeypatch):
    run_model = engine.Forward.start

    def huge(self, images, view):
        out = run_model(self, images, view)().copy()
        out[3, 1] = 70_000
        return lambda: out

    monkeypatch.setattr(engine.Forward, "start", huge)
    with pytest.raises(CacheError, match="image 'train_00003' hold 70000.0, which float16 cannot store"):
        precompute(replace(features, feature_dtype="float16"), dataset, settings)


def test_nan_names_the_image(features, dataset, settings, monkeypatch):
    monkeypatch.setattr(engine.Forward, "start", lambda *a: lambda: np.full((len(a[1]), 5), np.nan, "f4"))
    with pytest.raises(CacheError, match="image 'train_00000' hold nan"):
        precompute(features, dataset, settings)


def test_float16_features_are_the_rounded_ones(features, dataset, settings):
    wide = open_cache(precompute(features, dataset, settings)).read("test").features
    narrow = open_cache(precompute(replace(features, feature_dtype="float16"), dataset, settings)).read("test").features
    np.testing.assert_array_equal(narrow, wide.astype(np.float16))


def test_progress_counts_every_image(features, dataset, settings):
    seen = []
    precompute(features, dataset, settings, lambda progress: seen.append((progress.finished, progress.total)))
    assert seen[-1] == (110, 110)
    assert [finished for finished, _ in seen] == sorted(finished for finished, _ in seen)


def test_out_of_memory_halves_the_batch_and_makes_the_shard_again(features, dataset, settings, monkeypatch, caplog):
    run_model, sizes = engine.Forward.start, []

    def little_memory(self, images, view):
        sizes.append(self._batch_size)
        if len(sizes) > 3 and self._batch_size > 2:
            raise MemoryError("no room")
        return run_model(self, images, view)

    monkeypatch.setattr(engine.Forward, "start", little_memory)
    settings = replace(settings, batch_size=0)
    monkeypatch.setattr(engine, "default_batch_size", lambda shard_rows: 8)
    seen = []
    cache = open_cache(precompute(features, dataset, settings, lambda progress: seen.append(progress.finished)))
    assert sizes[:7] == [8, 8, 8, 8, 4, 2, 2]  # the first shard of two batches is finished, the second is made again
    assert "out of memory with batches of 8, continuing with 4: no room" in caplog.text
    assert (cache.provenance.values["batch_size"], cache.provenance.values["earlier_batch_sizes"]) == (2, [8, 4])
    assert seen[-1] == 110
    monkeypatch.setattr(engine.Forward, "start", run_model)
    whole = open_cache(precompute(features, dataset, replace(settings, cache_dir=settings.cache_dir / "whole")))
    assert "earlier_batch_sizes" not in whole.provenance.values
    np.testing.assert_allclose(cache.read("train").features, whole.read("train").features, rtol=1e-4, atol=1e-6)


def test_the_same_command_goes_on_with_the_batch_size_of_the_finished_shards(features, dataset, settings, monkeypatch):
    run_model, sizes = engine.Forward.start, []

    def killed(self, images, view):
        sizes.append(self._batch_size)
        if len(sizes) > 5:
            raise Killed
        return run_model(self, images, view)

    monkeypatch.setattr(engine.Forward, "start", killed)
    with pytest.raises(Killed):
        precompute(features, dataset, settings)
    monkeypatch.setattr(engine.Forward, "start", lambda *a: sizes.append(a[0]._batch_size) or run_model(*a))
    with pytest.raises(CacheError, match="batch_size: 8 in the folder, 4 now"):
        precompute(features, dataset, replace(settings, batch_size=4))
    precompute(features, dataset, replace(settings, batch_size=0))
    assert set(sizes) == {8}


@pytest.mark.parametrize("batches", [0, 3], ids=["before the first shard", "after it"])
def test_the_same_command_goes_on_with_the_batch_size_that_memory_left(
    features, dataset, settings, monkeypatch, batches
):
    run_model, sizes = engine.Forward.start, []

    def little_memory(self, images, view):
        sizes.append(self._batch_size)
        if len(sizes) > batches + 6:
            raise Killed
        if len(sizes) > batches and self._batch_size > 4:
            raise MemoryError
        return run_model(self, images, view)

    monkeypatch.setattr(engine.Forward, "start", little_memory)
    with pytest.raises(Killed):
        precompute(features, dataset, settings)  # with 8
    assert len(list(settings.cache_dir.glob("*.partial/*.shard"))) >= 1
    monkeypatch.setattr(engine.Forward, "start", lambda *a: sizes.append(a[0]._batch_size) or run_model(*a))
    sizes.clear()
    with pytest.raises(CacheError, match="batch_size: 4 in the folder, 16 now"):
        precompute(features, dataset, replace(settings, batch_size=16))
    provenance = open_cache(precompute(features, dataset, settings)).provenance.values
    assert set(sizes) == {4}
    assert (provenance["requested_batch_size"], provenance["batch_size"]) == (8, 4)
    assert provenance["earlier_batch_sizes"] == ([8] if batches else [])


@pytest.mark.parametrize("max_bytes", [0, 8 * 800], ids=["all of them", "some"])
@pytest.mark.parametrize("is_mixed", [True, False], ids=["differing sizes", "one size"])
def test_large_images_wait_as_the_network_is_shown_them(
    features, folder, dataset, settings, monkeypatch, is_mixed, max_bytes
):
    dataset = DatasetSpec(str(folder)) if is_mixed else dataset
    whole, views = replace(settings, cache_dir=settings.cache_dir / "whole"), ("original", "hflip")
    expected = precompute(features, dataset, whole, views=views)
    run_model, sizes = engine.Forward.start, []

    def noted(self, images, view):
        sizes.extend(image.nbytes for image in images if image.dtype == np.uint8)
        return run_model(self, images, view)

    monkeypatch.setattr(engine.Forward, "start", noted)
    monkeypatch.setattr(batching, "MAX_BATCH_BYTES", max_bytes)
    assert_same(precompute(features, dataset, settings, views=views), expected)
    assert all(size <= max_bytes // 8 for size in sizes)


def test_an_image_too_large_for_memory_is_named(features, folder, settings, monkeypatch, caplog):
    from PIL import ImageOps

    transpose = ImageOps.exif_transpose

    def little_memory(*arguments):
        if not hasattr(arguments[0], "size") or arguments[0].size == (20, 15):
            raise MemoryError
        return transpose(*arguments)

    monkeypatch.setattr(ImageOps, "exif_transpose", little_memory)
    with pytest.raises(DatasetError, match=r"too little memory to read pets: the image .*train/cat/3\.png takes"):
        precompute(features, DatasetSpec(str(folder)), settings)
    monkeypatch.setattr(ImageOps, "exif_transpose", transpose)
    monkeypatch.setattr(batching, "MAX_BATCH_BYTES", 8 * 900)
    monkeypatch.setattr(engine.Forward, "presented", little_memory)
    with pytest.raises(DatasetError, match=r"image 'train/cat/4\.png' alone, of 20 x 16 pixels"):
        precompute(features, DatasetSpec(str(folder)), settings)
    assert "continuing with" not in caplog.text


def test_the_next_shard_is_read_and_made_while_one_is_written(features, dataset, settings, monkeypatch):
    read, write, run_model = datasets.read_rows, PartialCache.write, engine.Forward.start
    reached = {step: Event() for step in ("second read", "second made")}
    calls = []

    def rows(source, split, start, stop):
        for row, image in enumerate(read(source, split, start, stop), start):
            if row == 16:
                reached["second read"].set()
            yield image

    def features_of(self, images, view):
        calls.append(len(images))
        if len(calls) == 2:
            assert reached["second read"].wait(20)
        if len(calls) == 3:
            reached["second made"].set()
        return run_model(self, images, view)

    def written(self, shard, *rest):
        assert reached["second made"].wait(20)
        write(self, shard, *rest)

    monkeypatch.setattr(datasets, "read_rows", rows)
    monkeypatch.setattr(engine.Forward, "start", features_of)
    monkeypatch.setattr(PartialCache, "write", written)
    precompute(features, dataset, settings)


def test_shards_that_follow_one_another_are_read_in_one_go(features, dataset, settings, monkeypatch):
    read, finish, asked = datasets.read_rows, PartialCache.finish, []

    def rows(source, split, start, stop):
        asked.append((start, stop))
        return read(source, split, start, stop)

    monkeypatch.setattr(datasets, "read_rows", rows)
    with monkeypatch.context() as patch:
        patch.setattr(PartialCache, "finish", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            precompute(features, dataset, settings)
    assert asked == [(0, 70), (0, 40)]
    for name in ("train-000000016", "train-000000032", "train-000000064", "test-000000000"):
        next(settings.cache_dir.glob(f"*.partial/{name}.shard")).unlink()
    del asked[:]
    monkeypatch.setattr(PartialCache, "finish", finish)
    precompute(features, dataset, settings)
    assert asked == [(16, 48), (64, 70), (0, 16)]


def test_an_error_of_the_writing_thread_ends_the_command(features, dataset, settings, monkeypatch):
    write = PartialCache.write

    def full(self, shard, *rest):
        if shard == ("test", 32, 40):  # the last one
            raise CacheError("the disk has no room")
        write(self, shard, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(PartialCache, "write", full)
        with pytest.raises(CacheError, match="the disk has no room"):
            precompute(features, dataset, settings)
    assert len(list(settings.cache_dir.glob("*.partial/*.shard"))) == 7
    assert open_cache(precompute(features, dataset, settings)).provenance.values["images_computed"] == 110


def test_batches_are_of_a_size_that_the_devices_share_evenly(features, dataset, settings, monkeypatch):
    monkeypatch.setattr(engine.devices, "count_devices", lambda: 3)
    run_model, sizes = engine.Forward.start, []

    def little_memory(self, images, view):
        sizes.append(self._batch_size)
        if self._batch_size > 3:
            raise MemoryError
        return run_model(self, images, view)

    monkeypatch.setattr(engine.Forward, "start", little_memory)
    provenance = open_cache(precompute(features, dataset, replace(settings, batch_size=11))).provenance.values
    assert list(dict.fromkeys(sizes)) == [12, 6, 3]
    assert provenance["batch_size"] == 3

    def no_memory(self, images, view):
        raise MemoryError("for one image of each device")

    monkeypatch.setattr(engine.Forward, "start", no_memory)
    with pytest.raises(MemoryError, match="for one image of each device"):
        precompute(features, dataset, replace(settings, cache_dir=settings.cache_dir / "other"))


def test_another_processor_does_not_go_on(features, dataset, settings, monkeypatch):
    monkeypatch.setattr(engine.provenance, "list_instruction_sets", lambda: ["avx", "avx512f"])
    with monkeypatch.context() as patch:
        patch.setattr("tfl.cache.PartialCache.finish", lambda self, *described: pytest.fail("killed here"))
        with pytest.raises(pytest.fail.Exception):
            precompute(features, dataset, settings)
    monkeypatch.setattr(engine.provenance, "list_instruction_sets", lambda: ["avx"])
    with pytest.raises(CacheError, match="device: CPU .* avx avx512f in the folder, CPU .* avx now"):
        precompute(features, dataset, settings)


def test_another_environment_does_not_go_on(features, dataset, settings, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("tfl.cache.PartialCache.finish", lambda self, *described: pytest.fail("killed here"))
        patch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
        with pytest.raises(pytest.fail.Exception):
            precompute(features, dataset, settings)
    with pytest.raises(CacheError, match="the environment's ONEDNN_MAX_CPU_ISA: AVX2 in the folder, not set now"):
        precompute(features, dataset, settings)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    path = precompute(features, dataset, settings)
    assert open_cache(path).provenance.values["environment"]["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    assert "environment (ONEDNN_MAX_CPU_ISA AVX2)" in "\n".join(format_cache(inspect(path)))


def test_class_names_that_no_cache_can_hold_are_refused_before_any_image(features, dataset, settings, monkeypatch):
    monkeypatch.setattr("tfl.cache.schema.MAX_TEXT_BYTES", 20)
    monkeypatch.setattr(engine.Forward, "start", lambda *a: pytest.fail("computed"))
    with pytest.raises(CacheError, match="the (spec|class_names) of this cache would take .* at most 20: "):
        precompute(features, dataset, settings)
    assert not settings.cache_dir.exists()


def test_two_shards_exchanged_are_made_again(features, dataset, settings, monkeypatch, caplog):
    finish = PartialCache.finish

    def exchange_first(self, *described):
        if not caplog.text:
            first, second = (self.folder / f"train-{start:09d}.shard" for start in (0, 16))
            content = first.read_bytes()
            first.write_bytes(second.read_bytes())
            second.write_bytes(content)
        return finish(self, *described)

    monkeypatch.setattr(PartialCache, "finish", exchange_first)
    path = precompute(features, dataset, settings)
    assert caplog.text.count("is damaged: it holds train rows") == 2
    assert_same(path, precompute(features, dataset, replace(settings, cache_dir=settings.cache_dir / "whole")))


def test_provenance_says_what_made_it(features, dataset, settings):
    provenance = open_cache(precompute(features, dataset, settings)).provenance.values
    assert provenance["engine"] == "tensorflow"
    assert (provenance["batch_size"], provenance["shard_rows"]) == (8, 16)
    assert provenance["typed"] == {"weights": "random", "dataset": str(Path(dataset.dataset))}
    assert provenance["images_per_second"] > 0


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-30])


def damage_inside(path):
    """The end stays whole, so that only decoding finds it."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def test_a_bad_image_is_named_before_anything_is_computed(features, folder, settings, monkeypatch):
    from tfl.extraction import precompute as module

    monkeypatch.setattr(module, "build_backbone", lambda spec: pytest.fail("built"))
    for name in ("cat/1.png", "dog/3.png"):
        cut_short(folder / "train" / name)
    with pytest.raises(DatasetError, match="2 of the images cannot be used:\n.*cat/1.png.*\n.*dog/3.png") as error:
        precompute(features, DatasetSpec(str(folder)), settings)
    assert "or leave them out: --on-bad-image skip" in str(error.value)
    assert not settings.cache_dir.exists()


def test_bad_images_that_no_role_uses_do_not_matter(features, folder, settings):
    cut_short(folder / "train" / "dog" / "5.png")
    dataset = DatasetSpec(str(folder), train_split="train[:11]")
    assert open_cache(precompute(features, dataset, settings)).num_rows == {"train": 11, "test": 6}


@pytest.mark.parametrize("damage", [cut_short, damage_inside])
def test_bad_images_can_be_left_out_and_are_listed(features, folder, settings, damage, caplog):
    caplog.set_level("INFO")
    whole = open_cache(precompute(features, DatasetSpec(str(folder)), settings)).read("train")
    damage(folder / "train" / "dog" / "3.png")
    path = precompute(features, DatasetSpec(str(folder)), replace(settings, on_bad_image="skip"))
    cache = open_cache(path)
    rows = cache.read("train")
    kept = whole.ids != b"train/dog/3.png"
    assert rows.ids.tolist() == whole.ids[kept].tolist()
    assert rows.labels.tolist() == whole.labels[kept].tolist()
    np.testing.assert_allclose(rows.features, whole.features[kept], rtol=1e-4, atol=1e-6)
    (skipped,) = cache.provenance.values["skipped"]
    assert skipped["id"] == "train/dog/3.png"
    assert "cannot decode the image" in skipped["reason"]
    assert "left out: cannot decode the image" in caplog.text
    precompute(features, DatasetSpec(str(folder)), replace(settings, on_bad_image="skip"))
    assert "already there: " in caplog.text
    assert "(1 bad images were left out)" in caplog.text
    with pytest.raises(DatasetError, match="1 of the images cannot be used:"):
        precompute(features, DatasetSpec(str(folder)), settings)


def test_a_bad_image_found_late_keeps_what_is_finished(features, folder, settings, monkeypatch):
    damage_inside(folder / "train" / "dog" / "4.png")
    settings = replace(settings, batch_size=2, shard_rows=2)
    with pytest.raises(DatasetError, match="dog/4.png"):
        precompute(features, DatasetSpec(str(folder)), settings)
    assert len(list(settings.cache_dir.glob("*.partial/*.shard"))) == 5
    run_model, calls = engine.Forward.start, []
    monkeypatch.setattr(engine.Forward, "start", lambda *a: calls.append(1) or run_model(*a))
    cache = open_cache(precompute(features, DatasetSpec(str(folder)), replace(settings, on_bad_image="skip")))
    assert len(calls) == 4  # one shard of the train rows, three of the test rows
    assert cache.num_rows == {"train": 11, "test": 6}


def test_images_that_an_earlier_process_left_out_are_refused_by_one_that_may_not(
    features, folder, settings, monkeypatch
):
    damage_inside(folder / "train" / "cat" / "0.png")
    monkeypatch.setattr("tfl.cache.PartialCache.finish", lambda self, *described: pytest.fail("killed here"))
    with pytest.raises(pytest.fail.Exception):
        precompute(features, DatasetSpec(str(folder)), replace(settings, on_bad_image="skip"))
    with pytest.raises(DatasetError, match="1 of the images cannot be used:\n.*cat/0.png"):
        precompute(features, DatasetSpec(str(folder)), settings)


def test_a_role_without_a_usable_image_is_an_error(features, folder, settings):
    for path in (folder / "test").rglob("*.png"):
        path.write_text("no image")
    with pytest.raises(CacheError, match="all images of the test rows were left out: .*is not an image that Pillow"):
        precompute(features, DatasetSpec(str(folder)), replace(settings, on_bad_image="skip"))


def image_replaced(folder):
    (folder / "train" / "cat" / "0.png").write_bytes((folder / "train" / "cat" / "1.png").read_bytes())


def image_added(folder):
    (folder / "train" / "cat" / "9.png").write_bytes((folder / "train" / "cat" / "1.png").read_bytes())


def class_renamed(folder):
    for split in ("train", "test"):
        (folder / split / "cat").rename(folder / split / "lynx")


@pytest.mark.parametrize("change", [image_replaced, image_added, class_renamed])
def test_a_changed_folder_is_another_dataset(features, folder, settings, caplog, change):
    caplog.set_level("INFO")
    before = precompute(features, DatasetSpec(str(folder)), settings)
    change(folder)
    after = precompute(features, DatasetSpec(str(folder)), settings)
    assert after != before
    assert "cannot be reused as it is:\n  " in caplog.text
    assert "version: sha256:" in caplog.text
    assert open_cache(after).provenance.values["images_computed"] == sum(open_cache(after).num_rows.values())
    with pytest.raises(
        CacheError, match="(?s)made under another spec\n.*version: sha256:.* on disk, sha256:.* requested"
    ):
        open_cache(before, expected=open_cache(after).spec)


def test_an_id_longer_than_the_format_allows(features, dataset, settings, monkeypatch):
    read = datasets.read_rows
    monkeypatch.setattr(datasets, "read_rows", lambda *a: (row._replace(id="x" * 5000) for row in read(*a)))
    with pytest.raises(DatasetError, match="has 5000 bytes; at most 4096 are stored"):
        precompute(features, dataset, settings)


def test_a_disk_that_damages_every_shard_ends_the_command(features, dataset, settings, monkeypatch):
    write = PartialCache.write

    def damage(self, shard, *rest):
        write(self, shard, *rest)
        self._path_of(shard).write_bytes(b"damaged")

    monkeypatch.setattr(PartialCache, "write", damage)
    with pytest.raises(CacheError, match="shard .* is damaged"):
        precompute(features, dataset, settings)


def test_many_damaged_shards_are_made_again_in_one_run(features, dataset, settings, monkeypatch, caplog):
    write, damaged = PartialCache.write, set()

    def damage_once(self, shard, *rest):
        write(self, shard, *rest)
        if shard not in damaged:
            damaged.add(shard)
            self._path_of(shard).write_bytes(b"damaged")

    monkeypatch.setattr(PartialCache, "write", damage_once)
    path = precompute(features, dataset, settings)
    assert caplog.text.count("it is computed again") == len(damaged) == 8
    monkeypatch.undo()
    with h5py.File(path) as file:
        assert len(file["train/labels"]) == 70


def test_an_image_that_changes_during_the_run_ends_it(features, folder, settings, monkeypatch):
    run_model = engine.Forward.start

    def change(self, images, view):
        image_replaced(folder)
        (folder / "test" / "dog" / "2.png").write_bytes((folder / "test" / "dog" / "1.png").read_bytes())
        return run_model(self, images, view)

    monkeypatch.setattr(engine.Forward, "start", change)
    with pytest.raises(DatasetError, match="dog/2.png has changed since the command began; give the command again"):
        precompute(features, DatasetSpec(str(folder)), replace(settings, shard_rows=4, on_bad_image="skip"))


def test_only_files_that_may_donate_rows_are_looked_through(features, dataset, settings, monkeypatch):
    path = precompute(features, dataset, settings)
    for name in ("colours-tiny-12-copy.h5", "colours-tiny-64-copy.h5"):
        path.with_name(name).write_bytes(path.read_bytes())
    path.unlink()
    examined, examine = [], trust.find_problems
    monkeypatch.setattr(trust, "find_problems", lambda kind, path: examined.append(path.name) or examine(kind, path))
    cache = open_cache(precompute(features, dataset, settings))
    assert examined == ["colours-tiny-12-copy.h5"]
    assert cache.provenance.values["images_computed"] == 110


# --- splits that lose classes


def labelled(path, names="abc", **labels):
    """An .npz file whose splits have these labels."""
    arrays = {"class_names": np.array(list(names))}
    rng = np.random.default_rng(0)
    for split, of_split in labels.items():
        arrays |= {f"{split}_labels": np.array(of_split)}
        arrays |= {f"{split}_images": rng.integers(0, 256, (len(of_split), 8, 8, 3), np.uint8)}
    np.savez(path, **arrays)
    val, test = (split if split in labels else "" for split in ("val", "test"))
    return DatasetSpec(str(path), val_split=val, test_split=test)


LOST = {
    "test": (
        {"train": [0, 1, 0, 1], "test": [0, 2, 1, 2, 2]},
        r"test has rows of classes without a training row, which no head gets right: c \(3 rows\)",
    ),
    "val": (
        {"train": [0, 1, 0, 1], "val": [0, 2], "test": [0, 1]},
        r"val has rows of classes without a training row, which no head gets right: c \(1 row\)",
    ),
    "a test of one class": ({"train": [0, 1, 2], "test": [1, 1, 1]}, r"all test rows are of one class: b \(3 rows\)"),
    "training of one class": ({"train": [1, 1]}, r"all train rows are of one class: b \(2 rows\)"),
}


@pytest.mark.parametrize("kind", LOST)
def test_splits_that_lose_classes_are_refused_before_anything_is_computed(
    kind, features, settings, tmp_path, monkeypatch, caplog
):
    labels, message = LOST[kind]
    spec = labelled(tmp_path / "a.npz", **labels)
    with monkeypatch.context() as patch:
        patch.setattr("tfl.extraction.precompute.build_backbone", lambda features: pytest.fail("the backbone is built"))
        with pytest.raises(DatasetError, match=f"{message}\n.*'train\\[:50%\\]'.*--allow-missing-classes"):
            precompute(features, spec, settings)
    assert not settings.cache_dir.exists()
    cache = open_cache(precompute(features, spec, replace(settings, allow_missing_classes=True)))
    assert cache.read_labels("train").tolist() == labels["train"]
    assert message.replace("\\", "") in caplog.text


@pytest.mark.parametrize(
    "labels",
    [
        {"train": [0, 1, 2], "test": [0, 1]},
        {"train": [0, 1], "test": [0, 1]},
        {"train": [0, 1, 2], "val": [2, 2], "test": [0, 1, 2]},
    ],
)
def test_classes_without_test_rows_are_no_fault(labels, features, settings, tmp_path, caplog):
    assert precompute(features, labelled(tmp_path / "a.npz", **labels), settings).exists()
    assert "lose classes" not in caplog.text


def test_rows_that_stand_class_by_class_lose_classes_in_a_slice(features, settings, tmp_path, folder):
    """Rows of an .npz file are cut as they stand; a folder's images are not, and keep their classes."""
    sorted_ = labelled(tmp_path / "a.npz", train=[0, 0, 1, 1, 2, 2], test=[0, 1, 2])
    with pytest.raises(DatasetError, match=r"without a training row, which no head gets right: c \(1 row\)"):
        precompute(features, replace(sorted_, train_split="train[:50%]"), settings)
    with pytest.raises(DatasetError, match=r"all train rows are of one class: cat \(5 rows\)"):
        precompute(features, DatasetSpec(str(folder), "train[0:5]"), settings)
    cache = open_cache(precompute(features, DatasetSpec(str(folder), "train[:60%]"), settings))
    assert set(cache.read_labels("train").tolist()) == {0, 1}
    again = DatasetSpec(str(folder), cache.spec.dataset.train_split)
    assert precompute(features, again, settings) == cache.path


def test_halves_of_a_folder_are_copied_into_the_whole(features, settings, folder):
    halves = DatasetSpec(str(folder), "train[:60%]", "train[60%:]")
    held = open_cache(precompute(features, halves, settings))
    ids = [id_ for role in ("train", "val") for id_ in held.read_ids(role).tolist()]
    whole = open_cache(precompute(features, DatasetSpec(str(folder)), settings))
    assert sorted(ids) == sorted(whole.read_ids("train").tolist())
    assert whole.provenance.values["images_computed"] == 0


class Unlabelled(datasets.Dataset):
    """A dataset that knows its labels only with its images, as TFDS does."""

    def __init__(self, source):
        self.name, self.version, self.class_names = source.name, source.version, source.class_names
        self.num_rows, self.examples, self.known_bad = source.num_rows, source.examples, source.known_bad


def test_labels_that_come_with_the_images_are_looked_at_before_the_merge(features, settings, tmp_path, monkeypatch):
    """The shards are kept: with the flag the same command goes on and computes nothing again."""
    opened = datasets.open_dataset
    monkeypatch.setattr(datasets, "open_dataset", lambda spec, *bound: Unlabelled(opened(spec)))
    spec = labelled(tmp_path / "a.npz", train=[0, 1] * 20, test=[2, 1, 0])
    with pytest.raises(DatasetError, match=r"which no head gets right: c \(1 row\)"):
        precompute(features, spec, settings)
    monkeypatch.setattr("tfl.extraction.extraction.Extraction._compute_shard", lambda *_: pytest.fail("computed again"))
    cache = open_cache(precompute(features, spec, replace(settings, allow_missing_classes=True)))
    assert cache.num_rows == {"train": 40, "test": 3}


def test_a_class_whose_images_are_all_left_out_is_looked_at_before_the_merge(features, settings, folder, caplog):
    for path in (folder / "train" / "dog").iterdir():  # begin and end are whole: the damage is found when it is read
        content, middle = path.read_bytes(), path.stat().st_size // 2
        path.write_bytes(content[: middle - 20] + bytes(40) + content[middle + 20 :])
    skipping = replace(settings, on_bad_image="skip")
    with pytest.raises(DatasetError, match=r"all train rows are of one class: cat \(6 rows\)\n.*dog \(3 rows\)"):
        precompute(features, DatasetSpec(str(folder)), skipping)


def test_the_flag_decides_no_fingerprint(features, dataset, settings):
    path = precompute(features, dataset, settings)
    assert precompute(features, dataset, replace(settings, allow_missing_classes=True)) == path
