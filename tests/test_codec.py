"""Records to and from JSON, strictly."""

import json
from dataclasses import dataclass, field

import pytest

from tfl.errors import SpecError
from tfl.files.codec import decode_record, encode_record, format_record, list_none_fields, read_record


@dataclass(frozen=True)
class Inner:
    size: int
    shares: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 1:
            raise SpecError("size is at least 1")


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    counts: dict[str, int] = field(default_factory=dict)
    rows: list[Inner] = field(default_factory=list)


RECORD = Outer("a", Inner(3, (0.5, 1.0)), {"cat": 2}, [Inner(1)])


def test_a_record_comes_back(tmp_path):
    (tmp_path / "record.json").write_text(format_record(RECORD), encoding="utf-8")
    assert read_record(tmp_path / "record.json", Outer) == RECORD
    assert json.loads(format_record(RECORD)) == encode_record(RECORD)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 1}, r"Expected `str`, got `int` - at `\$\.name`"),
        ({"colour": "red"}, r"unknown field `colour` - at `\$`"),
        ({"inner": {"size": 3, "width": 4}}, r"unknown field `width` - at `\$\.inner`"),
        ({"rows": [{"size": 1}, {"size": 1, "x": 0}]}, r"unknown field `x` - at `\$\.rows\[1\]`"),
        ({"inner": {"size": True}}, r"Expected `int`, got `bool`"),
        ({"inner": {}}, r"missing required field `size`"),
        ({"inner": {"size": "3"}}, r"Expected `int`, got `str`"),
    ],
)
def test_what_is_no_record_is_refused_by_its_path(change, message):
    with pytest.raises(ValueError, match=message):
        decode_record({**encode_record(RECORD), **change}, Outer)


def test_fields_that_were_not_given_are_written():
    record = decode_record({"name": "a", "inner": {"size": 3}}, Outer)
    assert encode_record(record) == {"name": "a", "inner": {"size": 3, "shares": []}, "counts": {}, "rows": []}


def test_numbers_and_names_that_json_cannot_have():
    record = Outer("caf\udce9", Inner(1, (float("nan"), 0.5)))
    assert encode_record(record)["inner"]["shares"] == [None, 0.5]
    assert json.loads(format_record(record))["name"] == "caf\udce9"


@dataclass(frozen=True)
class Sparse:
    loss: float | None = None
    inner: Inner | None = None

    def list_omitted_fields(self) -> list[str]:
        return list_none_fields(self, ("loss", "inner"))


def test_omitted_fields_are_not_written_and_may_be_read():
    assert encode_record([Sparse(), Sparse(loss=0.5)]) == [{}, {"loss": 0.5}]
    assert decode_record({"loss": None, "inner": {"size": 1}}, Sparse) == Sparse(inner=Inner(1))
    with pytest.raises(ValueError, match=r"unknown field `gain` - at `\$`"):
        decode_record({"loss": 0.5, "gain": None}, Sparse)


def test_a_record_s_own_refusal_passes_through():
    with pytest.raises(SpecError, match="at least 1"):
        decode_record({"name": "a", "inner": {"size": 0}}, Outer)
