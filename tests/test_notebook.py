"""The cells of ``docs/notebook.ipynb`` run in order, for a model of images and one of clips."""

import json

import pytest

from sid2core.conditioning import ConditionSpec
from tests import tiny
from tests.inference import continuing, drawing


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["images", "clips"])
def test_the_notebook_runs(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "artifacts" / "train"
    if kind == "images":
        drawing.saved(folder, ConditionSpec.of_classes(3, ("cat", "dog", "house")))
    else:
        continuing.saved(folder)
    notebook = json.loads((tiny.ROOT / "docs/notebook.ipynb").read_text(encoding="utf-8"))
    names: dict[str, object] = {}
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            code = compile("".join(cell["source"]), f"cell {number}", "exec")
            exec(code, names)
    assert names["images"].shape[0] in (2, 4)
