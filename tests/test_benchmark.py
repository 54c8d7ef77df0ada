"""The benchmark script goes on where one of its ways fails."""

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def benchmark():
    path = Path(__file__).parents[1] / "scripts" / "benchmark.py"
    spec = importlib.util.spec_from_file_location("benchmark", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmark"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["benchmark"]


def fails(*_):
    raise RuntimeError("cpu_convert can't convert from: f32 precision to:\n dynamic")


def test_a_way_that_cannot_be_made_or_run_is_left_out_with_its_reason(benchmark, capsys):
    makers = {
        "good": lambda: {"good": lambda batch: lambda: None},
        "cannot be made": fails,
        "cannot be run": lambda: {"cannot be run": lambda batch: fails, "neighbour": lambda batch: lambda: None},
    }
    ways, failed = benchmark.working(makers, [0])
    assert list(ways) == ["good", "neighbour"]
    reason = "RuntimeError: cpu_convert can't convert from: f32 precision to: dynamic"
    assert failed == {"cannot be made": reason, "cannot be run": reason}
    assert f"cannot be run is left out: {reason}" in capsys.readouterr().err


def test_a_way_that_fails_later_is_left_out_of_the_table(benchmark):
    calls = []

    def rate_of(way):
        calls.append(way)
        return fails() if way == "b" and calls.count("b") == 2 else 1.0

    failed = {}
    rates = benchmark.timed({"a": "a", "b": "b"}, failed, rate_of)
    assert list(rates) == ["a"]
    assert len(rates["a"]) == benchmark.REPEATS
    assert list(failed) == ["b"]


def test_low_precision_is_measured_where_the_processor_has_it(benchmark, monkeypatch):
    monkeypatch.setattr(benchmark, "_is_processor", lambda: True)
    monkeypatch.setattr("tfl.engine.openvino.supported_dtypes", lambda: ["float32", "bfloat16", "float16"])
    names = list(benchmark.extraction_ways(8))
    assert {"naive keras", "openvino float32", "openvino bfloat16", "tensorflow bfloat16"} <= set(names)
    assert "tensorflow float16" not in names  # it has no kernels for it, and takes minutes
