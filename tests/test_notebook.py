"""The notebook of the docs: it runs from its first cell to its last, and does what it says."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs" / "notebook.ipynb"
SECONDS = 600  # for one cell; on two processors the whole notebook takes about a minute


def read_notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def print_of(cell):
    """The text that a cell has written to standard output, and its last value."""
    printed = [output["text"] for output in cell.outputs if output.get("name") == "stdout"]
    values = [output["data"]["text/plain"] for output in cell.outputs if output.output_type == "execute_result"]
    return "".join(printed + values)


def test_it_is_stored_without_outputs():
    """Numbers in the docs come from stored results; what the notebook prints is made where it is run."""
    notebook = read_notebook()
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in code] == [[] for _ in code]
    assert {cell.execution_count for cell in code} == {None}


@pytest.mark.real
def test_it_goes_from_photos_to_a_model_that_predicts(tmp_path):
    notebook = read_notebook()
    NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": str(tmp_path)}}).execute()
    photos, cache, trained, predicted, search = (print_of(c) for c in notebook.cells if c.cell_type == "code")
    assert all(name in photos for name in ("photos/airplane", "photos/frog", "photos/truck"))
    assert len(list((tmp_path / "photos").rglob("*.png"))) == 180
    assert "resnet50-64" in cache
    share, count = map(int, re.match(r"(\d+)% of (\d+) test photos", trained).groups())
    assert 20 <= count <= 52, "about a fifth of 180"
    assert share >= 80
    answers = re.findall(r"photos/(\w+)/\d+\.png: (\w+) \(\d+%\)", predicted)
    assert len(answers) == 3
    assert sum(folder == answer for folder, answer in answers) >= 2
    assert list((tmp_path / "model").rglob("tfl.json"))
    assert int(re.search(r"(\d+)%", search)[1]) >= 80
    assert "array(['airplane', 'airplane', 'airplane']" in search
