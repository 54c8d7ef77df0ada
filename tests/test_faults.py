"""The tables of faults and of reliability in the docs name tests that exist."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGES = [TESTS.parent / "docs" / name for name in ("faults.md", "reliability.md")]
TABLES = "".join(page.read_text(encoding="utf-8") for page in PAGES)
NAMED = sorted(set(re.findall(r"`(test_\w+\.py)(?:::(test_\w+))?`", TABLES)))


def functions_of(path):
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_the_tables_name_tests():
    assert len(NAMED) > 60


@pytest.mark.parametrize(("file", "function"), NAMED, ids=lambda name: name)
def test_every_test_of_the_tables_exists(file, function):
    assert (TESTS / file).is_file()
    assert not function or function in functions_of(TESTS / file)
