"""`tfl engines` and `--compute-dtype auto`: what this machine offers, measured."""

import json
import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import write_npz
from test_engine import HAS_OPENVINO
from test_terminal import MAIN

from tfl import engine
from tfl.backbones import build_backbone
from tfl.cache import open_cache
from tfl.engine import measuring, survey
from tfl.engine.measuring import MeasuredWay, Rounds, Way, measure_ways
from tfl.engine.survey import DTYPES, Survey, generate_images, survey_engines
from tfl.engine.workload import Workload
from tfl.errors import BackboneError, SpecError
from tfl.extraction import costs
from tfl.extraction.precompute import precompute
from tfl.machine import memory
from tfl.reports.engines import ENGINE_COLUMNS, format_heading, format_notes, tabulate_engines
from tfl.specs import FeatureSpec

QUICK = Rounds(least=2, most=3, seconds=0.0)


@pytest.fixture
def workload(tiny_backbone, features):
    return Workload(features, generate_images(12), 8, (12, 12))


def test_every_engine_in_every_dtype_has_a_rate_or_an_obstacle(tiny_backbone, features):
    found = survey_engines(features, 8, QUICK)
    ways = {(way.engine, way.compute_dtype): way for way in found.ways}
    assert set(ways) == {(name, dtype) for name in engine.ENGINES for dtype in DTYPES}
    assert len(found.ways) == len(ways)
    for way in ways.values():
        assert (way.images_per_second is None) == bool(way.obstacle)
        assert len(way.rates) == (0 if way.obstacle else 2)
    assert ways["tensorflow", "float32"].num_images == 64
    assert "KERAS_BACKEND=jax" in ways["jax", "float32"].obstacle
    assert ways["tensorflow", "int8"].obstacle == "it does not compute in int8"
    assert found.default in ("openvino", "tensorflow")
    lines = [*format_heading(found), *format_notes(found)]
    assert max(map(len, lines)) < 80
    assert sum(1 for _ in tabulate_engines(found)) == sum(not way.obstacle for way in ways.values())


@pytest.mark.skipif(not HAS_OPENVINO, reason="needs openvino")
def test_int8_is_calibrated_on_a_few_images_and_its_seconds_are_said(workload):
    pytest.importorskip("nncf")
    float32, int8 = measure_ways(workload, [Way("openvino", "float32"), Way("openvino", "int8")], QUICK)
    assert int8.obstacle == ""
    assert int8.images_per_second > 0
    assert int8.calibration_seconds > 0
    assert float32.calibration_seconds is None


def test_a_way_that_fails_is_a_row_and_no_crash(workload, monkeypatch):
    compile_model = measuring.Workload.compile

    def fail(self, name, compute_dtype, batch_size):
        if compute_dtype == "bfloat16":
            raise RuntimeError("no kernel\nand more")
        return compile_model(self, name, compute_dtype, batch_size)

    monkeypatch.setattr(measuring.Workload, "compile", fail)
    ways = [Way("tensorflow", "float32"), Way("tensorflow", "bfloat16")]
    float32, bfloat16 = measure_ways(workload, ways, QUICK)
    assert float32.images_per_second > 0
    assert (bfloat16.obstacle, bfloat16.rates) == ("failed: RuntimeError: no kernel", ())


def test_a_dtype_without_kernels_is_measured_on_single_images(workload, monkeypatch):
    monkeypatch.setattr(measuring, "list_native_dtypes", list)
    monkeypatch.setattr(measuring, "SLOW_BATCH_SECONDS", 0.0)
    (way,) = measure_ways(workload, [Way("tensorflow", "float16")], QUICK)
    assert way.num_images == len(way.rates) == 2


def test_a_backbone_that_cannot_be_is_refused(tiny_backbone, features):
    with pytest.raises(BackboneError, match="at least 8x8"):
        survey_engines(replace(features, image_size=4), 8, QUICK)


def test_images_are_repeated_where_there_are_too_few(features):
    images = generate_images(12)[:3]
    taken = Workload(features, images, 8).take(5, 2)
    np.testing.assert_array_equal(np.stack(taken), np.stack([images[index] for index in (2, 0, 1, 2, 0)]))


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone measures it")
def test_the_peak_of_memory_is_that_since_the_reset():
    held = np.ones(30_000_000, np.uint8)
    del held
    before = memory.reset_peak()
    if before is None:
        pytest.skip("this kernel does not forget the peak")
    assert memory.read_peak() < before + 20_000_000
    held = np.ones(50_000_000, np.uint8)
    del held
    assert memory.read_peak() > before + 40_000_000


def test_no_peak_where_the_system_has_none(tmp_path):
    assert memory.reset_peak(tmp_path) is None
    assert memory.read_peak(tmp_path) is None


def made_survey(**changes):
    ways = (
        MeasuredWay("openvino", "int8", "", 300.0, (290.0, 300.0, 310.0), 96, 40_000_000, 1.0, 9.0),
        MeasuredWay("openvino", "float32", "", 50.0, (40.0, 50.0, 60.0), 96, None, 2.0),
        MeasuredWay("jax", "int8", "it does not compute in int8"),
        MeasuredWay("torch", "int8", "it does not compute in int8"),
    )
    values = {"device": "CPU x86_64", "instructions": ("avx2",), "threads": 2, "versions": {}, "batch_size": 32}
    return Survey(**values, features=FeatureSpec(), default="openvino", ways=ways, **changes)


def test_the_table_says_what_to_take_and_why_not_the_others():
    rows = [[cell.strip() for cell in row] for row in tabulate_engines(made_survey())]
    assert rows == [
        ["openvino", "int8", "300.0", "290.0 to 310.0", "6.00", "40 MB", "1.0 s"],
        ["openvino", "float32", "50.0", "40.0 to 60.0", "1.00", "not known", "2.0 s"],
    ]
    assert all(len(row) == len(ENGINE_COLUMNS) for row in rows)
    notes = " ".join(" ".join(format_notes(made_survey())).split())
    assert "takes openvino in float32 unless told: --compute-dtype int8 is 6.0 times as fast" in notes
    assert "after a calibration of about 9 s, once" in notes
    assert "jax int8; torch int8: it does not compute in int8" in notes


def test_int8_needs_its_packages(monkeypatch):
    monkeypatch.setattr(survey, "find_obstacle", lambda name, dtype: "")
    monkeypatch.setattr(survey, "find_quantizing_obstacle", lambda: "nncf must be installed")
    assert survey.find_way_obstacle(Way("openvino", "int8")) == "nncf must be installed"
    assert survey.find_way_obstacle(Way("openvino", "float32")) == ""


@pytest.fixture
def told(caplog):
    """The lines that are logged."""
    caplog.set_level(logging.INFO, logger="tfl")
    return caplog


def test_auto_says_what_each_dtype_costs_and_takes_float32(tiny_backbone, features, dataset, settings, told):
    typed = replace(features, compute_dtype="auto")
    path = precompute(typed, dataset, settings)
    (line,) = [record.getMessage() for record in told.records if "for 110 images" in record.getMessage()]
    for dtype in ("float32", "bfloat16", "float16"):
        assert f"{dtype}: about " in line
    assert "int8" not in line  # the engine is TensorFlow
    assert "measured on 64 images with tensorflow; float32 is taken" in line
    assert open_cache(path).spec.features.compute_dtype == "float32"
    told.clear()
    assert precompute(typed, dataset, settings) == path
    assert precompute(features, dataset, settings) == path
    assert not [record for record in told.records if "about" in record.getMessage()]


def test_rows_that_are_copied_cost_nothing_in_float32(tiny_backbone, features, dataset, settings, told):
    precompute(features, dataset, settings)
    precompute(replace(features, compute_dtype="auto"), dataset, settings, views=("original", "hflip"))
    assert "for 220 images (110 of them copied in float32), measured on 64 images" in told.text
    rates = [MeasuredWay("tensorflow", dtype, images_per_second=10.0) for dtype in ("float32", "bfloat16")]
    assert [costs.Job(220, 110).estimate_seconds(way) for way in rates] == [11.0, 22.0]


@pytest.mark.skipif(not HAS_OPENVINO, reason="needs openvino")
def test_auto_has_a_number_for_every_dtype_of_openvino(tiny_backbone, features, dataset, settings, told):
    pytest.importorskip("nncf")
    able = [*engine.openvino.supported_dtypes(), *(["int8"] if engine.openvino.has_int8_instructions() else [])]
    typed = replace(features, compute_dtype="auto")
    precompute(typed, dataset, replace(settings, engine="auto"), views=("original", "hflip"))
    (line,) = [record.getMessage() for record in told.records if "for 220 images" in record.getMessage()]
    assert [dtype for dtype in able if f"{dtype}: about " not in line] == []
    assert ("s of calibration)" in line) == ("int8" in able)
    assert not list(settings.cache_dir.glob("*.int8.zip")), "what is measured is not kept"


def test_without_training_images_int8_is_not_offered(tiny_backbone, features, dataset, settings, told):
    typed = replace(features, compute_dtype="auto")
    precompute(typed, replace(dataset, train_split=""), replace(settings, engine="auto", allow_missing_classes=True))
    assert "int8" not in told.text.partition("for 40 images")[0]


def test_other_users_of_a_spec_refuse_auto(tiny_backbone, features):
    typed = replace(features, compute_dtype="auto")
    assert not typed.is_resolved
    with pytest.raises(SpecError, match="auto is for `tfl precompute` alone; expected one of float32, bfloat16"):
        build_backbone(typed)


HINT = "this processor also computes in bfloat16 and int8, often several times as fast: `tfl engines` measures it"


@pytest.mark.parametrize(
    ("name", "is_missing", "native", "dtype", "count", "hint"),
    [
        ("openvino", False, ["bfloat16", "float16", "int8"], "float32", 50, HINT),
        ("tensorflow", True, ["bfloat16", "int8"], "float32", 50, f"with OpenVINO (pip install '.[openvino]') {HINT}"),
        ("tensorflow", False, ["bfloat16", "int8"], "float32", 50, ""),
        ("openvino", False, [], "float32", 50, ""),
        ("openvino", False, ["bfloat16", "int8"], "float32", 200, ""),
        ("openvino", False, ["bfloat16", "int8"], "bfloat16", 50, ""),
    ],
)
def test_the_hint_before_a_long_job(request, features, told, monkeypatch, name, is_missing, native, dtype, count, hint):
    from types import SimpleNamespace as Namespace

    monkeypatch.setattr(costs, "LONG_JOB", count)
    monkeypatch.setattr(costs, "list_native_dtypes", lambda: native)
    monkeypatch.setattr(engine.openvino, "lacks_only_package", lambda: is_missing)
    monkeypatch.setattr(engine.openvino, "find_obstacle", lambda dtype: "")
    unfinished = Namespace(missing=lambda: [Namespace(num_rows=60)], making=Namespace(engine=name))
    plan = Namespace(unfinished=unfinished, spec=Namespace(views=("original",)), settings=Namespace(engine="auto"))
    costs.log_costs(plan, replace(features, compute_dtype=dtype), Namespace(count_rows=lambda view: 0))
    assert [record.getMessage() for record in told.records] == ([hint] if hint else [])


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.2, "1 s"), (9.4, "9 s"), (119, "119 s"), (240, "4 min"), (7200, "2 h"), (7000, "117 min")]
)
def test_durations_in_one_unit(seconds, shown):
    assert costs._round_duration(seconds) == shown


def run_tfl(*arguments, cwd):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", MAIN, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=environment)


SMALL = ["--backbone", "mobilenetv3small", "--image-size", "32", "--batch-size", "16"]


def test_the_commands(tmp_path):
    made = run_tfl("engines", *SMALL, "--json", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    found = json.loads(made.stdout)
    assert {way["engine"] for way in found["ways"]} == set(engine.ENGINES)
    assert all(way["images_per_second"] or way["obstacle"] for way in found["ways"])
    write_npz(tmp_path / "colours.npz", train=120, test=40)
    auto = ["precompute", "--dataset", "colours.npz", *SMALL, "--weights", "random", "--compute-dtype", "auto"]
    done = run_tfl(*auto, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (path,) = done.stdout.splitlines()
    assert (tmp_path / path).exists()
    assert "float32: about" in done.stderr
    assert "for 160 images, measured on 64 images" in done.stderr
    assert sum("about" in line for line in done.stderr.splitlines()) == 1
    refused = run_tfl("engines", "--batch-size", "-1", cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
