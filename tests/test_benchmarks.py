"""The benchmarks' command lines, the record that they write, and that one way that fails stops no other."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "scripts" / "benchmarks"
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if "tyro.cli(" in path.read_text(encoding="utf-8"))
FRAMEWORKS = {"keras", "tensorflow", "jax", "torch", "sklearn", "openvino"}
# The script's folder is the first on its path, as it is when it is run.
HELP = """
import runpy, sys
sys.path.insert(0, sys.argv[1])
sys.argv = [sys.argv[2], "--help"]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    print(*sorted({name.split(".")[0] for name in sys.modules}))
    raise
"""


@pytest.fixture(scope="module", autouse=True)
def _scripts_on_path():
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


@pytest.fixture
def result():
    from record import new_result

    seconds = {"a": [1.0, 2.0], "b": [2.0, 2.5]}
    return new_result("Which is faster?", {"seconds": seconds}, ["numpy", "no such library"], settings={"rows": 3})


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_each_script_answers_help_without_a_framework(path):
    command = [sys.executable, "-c", HELP, str(FOLDER), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert "--out" in done.stdout
    assert not FRAMEWORKS & set(done.stdout.splitlines()[-1].split())


def test_each_script_writes_a_result_of_its_name():
    for path in SCRIPTS:
        assert f'RESULTS / "{path.stem}.json"' in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "results").glob("*.json")), ids=lambda path: path.stem)
def test_stored_results_are_readable(path):
    from record import read_result

    assert read_result(path).question


def test_a_result_is_read_as_it_was_written(result, tmp_path):
    from record import read_result, write_result

    write_result(tmp_path / "results" / "x.json", result)
    found = read_result(tmp_path / "results" / "x.json")
    assert found == result
    assert found.n == 2
    assert found.hardware.cores >= 1
    assert {"python", "tfl", "numpy"} == set(found.versions)


def test_a_number_as_a_key_becomes_a_text(result, tmp_path):
    from record import read_result, write_result

    write_result(tmp_path / "x.json", replace(result, settings={"calls": {1: 8}}))
    assert read_result(tmp_path / "x.json").settings == {"calls": {"1": 8}}


def test_peak_memory_of_a_command():
    from measure import peak_bytes_of

    assert peak_bytes_of([sys.executable, "-c", "x = bytearray(200_000_000)"]) > 200_000_000
    with pytest.raises(RuntimeError, match="ended with 3: no room"):
        peak_bytes_of([sys.executable, "-c", "import sys; print('no room', file=sys.stderr); sys.exit(3)"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"speed": 1}, "unknown field `speed`"),
        ({"hardware": {"cpu": "x"}}, "processor"),
        ({"results": {"seconds": {"a": ["fast"]}}}, r"Expected `float`, got `str` .*results"),
        ({"results": {"seconds": {"a": []}}}, "has no number"),
        ({"n": 5}, "n is 5, and the longest list in results has 2"),
    ],
)
def test_what_is_no_result_is_refused(result, tmp_path, change, reason):
    from record import read_result, write_result

    path = tmp_path / "x.json"
    write_result(path, result)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=f"x.json is no result of a benchmark: .*{reason}"):
        read_result(path)


def test_a_missing_field_is_refused(result, tmp_path):
    from record import read_result, write_result

    path = tmp_path / "x.json"
    write_result(path, result)
    values = json.loads(path.read_text())
    del values["versions"]
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match="versions"):
        read_result(path)


def test_n_is_the_most_repeats(result):
    with pytest.raises(ValueError, match="n is 1"):
        replace(result, n=1)


def fails(*_):
    raise RuntimeError("cpu_convert can't convert from: f32 precision to:\n dynamic")


def test_a_way_that_cannot_be_made_or_run_is_left_out_with_its_reason(capsys):
    import extraction

    makers = {
        "good": lambda: {"good": lambda batch: lambda: None},
        "cannot be made": fails,
        "cannot be run": lambda: {
            "cannot be run": lambda batch: fails,
            "neighbour": lambda batch: lambda: None,
        },
    }
    failed = {}
    ways = extraction.working_ways(makers, [0], failed)
    assert list(ways) == ["good", "neighbour"]
    reason = "RuntimeError: cpu_convert can't convert from: f32 precision to: dynamic"
    assert failed == {"cannot be made": reason, "cannot be run": reason}
    assert f"cannot be run is left out: {reason}" in capsys.readouterr().err


def test_a_way_that_fails_later_is_left_out_of_the_table():
    from measure import measure_in_turns

    calls = []

    def measure(way):
        calls.append(way)
        return fails() if way == "b" and calls.count("b") == 2 else 1.0

    failed = {}
    found = measure_in_turns({"a": lambda: measure("a"), "b": lambda: measure("b")}, 3, failed)
    assert found == {"a": [1.0, 1.0, 1.0]}
    assert list(failed) == ["b"]
    assert calls == ["a", "b", "a", "b", "a"]


def test_a_failure_is_raised_where_every_way_is_needed():
    from measure import time_in_turns

    with pytest.raises(RuntimeError, match="cpu_convert"):
        time_in_turns({"a": fails}, 1)


def test_low_precision_is_measured_where_the_processor_has_it(monkeypatch):
    import ways

    monkeypatch.setattr(ways, "is_processor", lambda: True)
    monkeypatch.setattr("tfl.engine.openvino.supported_dtypes", lambda: ["float32", "bfloat16", "float16"])
    names = list(ways.makers_of_all(ways.Network(), 8))
    assert {"naive keras", "openvino float32", "openvino bfloat16", "tensorflow bfloat16"} <= set(names)
    assert "tensorflow float16" not in names  # it has no kernels for it, and takes minutes


def test_a_fresh_process_has_its_own_memory_and_variables():
    from measure import call_in_fresh_process, own_peak_bytes

    assert 0 < call_in_fresh_process(own_peak_bytes) < own_peak_bytes()
    with pytest.raises(ValueError, match="no number"):
        call_in_fresh_process(int, "no number")


def test_the_stages_of_a_command_are_seen_in_its_folder(tmp_path):
    from watching import watch_precompute

    program = f"""
import pathlib, time
folder = pathlib.Path({str(tmp_path)!r}, "x.h5.partial")
folder.mkdir()
for name in ("manifest.json", "train-0.shard", "train-1.shard", "test-0.shard"):
    (folder / name).touch()
    time.sleep(0.1)
(folder.parent / "x.h5").touch()
time.sleep(0.1)
"""
    timeline = watch_precompute([sys.executable, "-c", program], tmp_path, {})
    counts = [count for _, count in timeline.shards]
    assert counts == sorted(set(counts)), "a busy machine may miss one of them"
    assert counts[-1] == 3
    moments = [timeline.manifest, *(moment for moment, _ in timeline.shards), timeline.file, timeline.seconds]
    assert moments == sorted(moments)


def test_the_stages_of_a_timeline():
    from watching import Timeline

    timeline = Timeline(10.0, manifest=4.0, shards=[(6.0, 1), (7.0, 2), (8.0, 3)], file=9.0)
    assert list(timeline.stages().values()) == [4.0, 2.0, 2.0, 1.0, 1.0]
    assert timeline.images_per_second(300) == 100
    assert Timeline(10.0, manifest=4.0, shards=[(6.0, 1)]).stages() == {}, "there is no finished file"
    assert Timeline(10.0, shards=[(6.0, 1)]).images_per_second(300) is None


def test_a_command_is_killed_at_a_shard(tmp_path):
    from watching import watch_precompute

    folder = tmp_path / "x.h5.partial"
    program = (
        f"import pathlib, time; p = pathlib.Path({str(folder)!r}); p.mkdir(); (p / 'a.shard').touch(); time.sleep(60)"
    )
    timeline = watch_precompute([sys.executable, "-c", program], tmp_path, {}, kill_at_shards=1)
    assert timeline.was_killed
    assert timeline.stages() == {}


def test_a_command_that_fails_says_why(tmp_path):
    from watching import watch_precompute

    with pytest.raises(RuntimeError, match="ended with 3: no GPU"):
        watch_precompute(
            [sys.executable, "-c", "import sys; print('no GPU', file=sys.stderr); sys.exit(3)"],
            tmp_path,
            {},
        )


def test_the_commands_rate_is_compared_with_the_bare_forward_pass():
    import gpu

    findings = gpu.Findings()
    findings.add("command_images_per_second", "warm", 90.0, 92.0, 80.0)
    assert gpu.compare_command_with_bare(findings) == {}
    findings.add_all("bare_images_per_second", {"jax bfloat16": [100.0, 120.0, 80.0], "jax float32": [10.0]})
    assert gpu.compare_command_with_bare(findings) == {"warm": 0.9}


def test_more_images_take_longer():
    from measure import rate_between

    assert rate_between({100: 3.0, 1100: 13.0}) == 100
    with pytest.raises(ValueError, match="1100 images took 0.50 s less than 100"):
        rate_between({100: 3.0, 1100: 2.5})


def test_a_part_that_fails_is_noted_and_the_next_one_begins(tmp_path, monkeypatch):
    import gpu
    from record import read_result

    monkeypatch.setattr(gpu.Bench, "measure_command", fails)
    monkeypatch.setattr(gpu.Bench, "measure_resuming", lambda bench: bench.findings.add("seconds", "resumed", 1.0))
    out = tmp_path / "gpu.json"
    options = gpu.Options(gpu.Size(dataset="x.npz"), only=("command", "resume"), out=out)
    gpu.measure_parts(options, tmp_path)
    found = read_result(out)
    assert found.results == {"seconds": {"resumed": [1.0]}}
    assert list(found.failed) == ["command"]


def test_pairs_of_the_same_turn_are_compared():
    import whole_command

    seconds = {"float32": [30.0, 40.0], "bfloat16": [15.0, 10.0], "int8, warm": [10.0, 10.0]}
    assert whole_command.compare_ways(seconds) == {
        "bfloat16 over float32": [2.0, 4.0],
        "int8, warm over float32": [3.0, 4.0],
    }


def test_a_command_that_is_timed_again_has_no_cache_but_its_network(tmp_path, monkeypatch):
    import whole_command

    seen = []

    def run(command, variables):
        cache_dir = Path(command[command.index("--cache-dir") + 1])
        seen.append(sorted(path.name for path in cache_dir.glob("*")))
        assert Path(variables["TFL_HOME"]).is_dir()
        cache_dir.mkdir(exist_ok=True)
        for name in ("x.h5", "x.int8.zip"):
            (cache_dir / name).touch()

    monkeypatch.setattr(whole_command, "run_command", run)
    measures = whole_command.Bench("cifar10", ("train[:5]", "test[:1]"), 32, tmp_path).list_measures()
    for way in ("float32", "int8, cold", "int8, warm"):
        assert measures[way]() >= 0
    assert seen == [[], [], ["x.int8.zip"]]


def test_every_way_to_calibrate_has_a_name_of_its_own():
    import calibration

    names = [variant.name for variant in calibration.list_variants()]
    assert len(set(names)) == len(names) == 10
    assert {"32 images", "320 images, biases corrected", "128 images, PERFORMANCE"} <= set(names)


def test_nncf_is_told_to_quantise_in_another_way(monkeypatch):
    nncf = pytest.importorskip("nncf")
    import calibration

    seen = {}
    monkeypatch.setattr(nncf, "quantize", lambda *arguments, **options: seen.update(options))
    original = nncf.quantize
    variant = calibration.Variant(32, is_corrected=True, preset="PERFORMANCE", is_overflow_fixed=True)
    with calibration.changed_method(variant):
        nncf.quantize("model", "images", preset="MIXED", subset_size=4)
    assert nncf.quantize is original
    assert seen["subset_size"] == 4
    assert seen["preset"] == nncf.QuantizationPreset.PERFORMANCE
    assert not seen["advanced_parameters"].disable_bias_correction
    assert seen["advanced_parameters"].overflow_fix == nncf.OverflowFix.ENABLE


@pytest.fixture
def cache(tiny_backbone, features, dataset, settings):
    from tfl.extraction.precompute import precompute

    return precompute(features, dataset, settings, views=("original", "hflip"))


def test_compact_rows_are_those_that_are_trained_on(cache):
    import frozen_features
    import numpy as np

    from tfl.cache import open_cache
    from tfl.heads.rows import read_rows, split_rows
    from tfl.specs.training import Selection

    opened = open_cache(cache)
    usual = split_rows(read_rows(opened, "train", Selection()), 0.2, 3, opened.class_names)
    compact = frozen_features.CompactRows(opened, 0.2, 3)
    for rows, expected in zip(compact.select(()), usual, strict=True):
        np.testing.assert_array_equal(rows.labels, expected.labels)
        np.testing.assert_array_equal(rows.features, expected.features)
    np.testing.assert_array_equal(compact.val_labels, usual[1].labels)
    (fitting, *_) = compact.select(("hflip",))
    np.testing.assert_array_equal(fitting.views[0], usual[0].views[1])


def test_candidates_on_frozen_features_are_chosen_on_validation_rows(cache, tmp_path, monkeypatch):
    import frozen_features
    from record import read_result

    candidates = {
        "ridge": frozen_features.Candidate("ridge", {}),
        "mlp": frozen_features.Candidate("mlp", {"hidden": (4,), "epochs": 2}, ("original",)),
    }
    monkeypatch.setattr(frozen_features, "CANDIDATES", candidates)
    out = tmp_path / "found.json"
    frozen_features.main(cache, out=out)
    found = read_result(out)
    assert set(found.results["val_accuracy"]) == {"ridge", "mlp", "ridge + mlp"}
    (chosen,) = found.results["accuracy"]
    accuracies = {name: numbers[0] for name, numbers in found.results["val_accuracy"].items()}
    assert accuracies[chosen] == max(accuracies.values())
    assert found.findings["test_rows"] == 40
    assert found.results["accuracy"][chosen][0] > 0.6


def test_no_candidate_is_begun_after_the_time(cache, tmp_path):
    import frozen_features

    bench = frozen_features.Bench(cache, 0.2, 0, tmp_path / "found.json")
    bench.search_all(["ridge, 2 views", "mlp 512 x 4, 20 epochs"], seconds=0.0)
    assert list(bench.fitted) == ["ridge, 2 views"]


def test_every_candidate_is_a_recipe_with_settings_that_it_takes():
    import frozen_features

    from tfl.heads import RECIPES

    for candidate in frozen_features.CANDIDATES.values():
        assert RECIPES[candidate.recipe](**candidate.settings)


def test_heads_are_compared_on_the_same_rows(cache):
    import heads

    bench = heads.Bench(cache)
    for name, fit in (("keras", bench.fit_keras), ("scikit-learn", bench.fit_scikit_learn)):
        assert bench.time(name, fit) > 0
    assert bench.accuracies["keras"] >= 0, "so few rows teach it nothing"
    assert bench.accuracies["scikit-learn"] > 0.6
    assert bench.chosen["scikit-learn"]["l2"] in bench.penalties
