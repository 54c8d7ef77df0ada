"""The table of faults in the docs names tests that exist."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
TABLE = (TESTS.parent / "docs" / "faults.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(test_\w+\.py)(?:::(test_\w+))?`", TABLE)))


def functions_of(path):
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_the_table_names_tests():
    assert len(NAMED) > 60


@pytest.mark.parametrize(("file", "function"), NAMED, ids=lambda name: name)
def test_every_test_of_the_table_exists(file, function):
    assert (TESTS / file).is_file()
    assert not function or function in functions_of(TESTS / file)
