"""The folders that GenEval and DPG-Bench read."""

import json

import numpy as np
import pytest
from PIL import Image

from sid2core.evaluation import prompt_layouts
from sid2core.evaluation.prompts import Prompt, PromptError

GRID = np.random.default_rng(0).integers(0, 256, (2, 5, 6, 4, 3), dtype=np.uint8)


def test_geneval(tmp_path):
    about = {"tag": "two_object", "prompt": "a café"}
    rows = [Prompt("a café", about=about), Prompt("b")]
    prompt_layouts.write(tmp_path / "out", "geneval", rows, GRID)
    found = sorted(path.relative_to(tmp_path / "out").as_posix() for path in tmp_path.rglob("*.*"))
    assert found == [
        f"0000{row}/{name}"
        for row in range(2)
        for name in ("metadata.jsonl", *(f"samples/000{column}.png" for column in range(4)))
    ]
    for row, expected in enumerate((about, {"prompt": "b"})):
        (line,) = (tmp_path / f"out/0000{row}/metadata.jsonl").read_text("utf-8").splitlines()
        assert json.loads(line) == expected
        for column in range(4):
            image = np.asarray(Image.open(tmp_path / f"out/0000{row}/samples/000{column}.png"))
            np.testing.assert_array_equal(image, GRID[row, column])


def test_dpg_bench(tmp_path):
    """Grey images become colour."""
    rows = [Prompt("a", name="stanza10"), Prompt("b")]
    prompt_layouts.write(tmp_path / "out", "dpg", rows, GRID[..., :1])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "00001.png",
        "stanza10.png",
    ]
    found = np.asarray(Image.open(tmp_path / "out" / "stanza10.png"))
    assert found.shape == (12, 8, 3)
    for place, column in (((0, 0), 0), ((0, 4), 1), ((6, 0), 2), ((6, 4), 3)):
        part = found[place[0] : place[0] + 6, place[1] : place[1] + 4]
        np.testing.assert_array_equal(part, np.broadcast_to(GRID[0, column, ..., :1], (6, 4, 3)))


def test_too_few_images_or_a_place_that_is_taken_write_nothing(tmp_path):
    rows = [Prompt("a"), Prompt("b")]
    with pytest.raises(PromptError, match=r"has 3 images; dpg needs 4: set eval.grid_columns"):
        prompt_layouts.write(tmp_path / "out", "dpg", rows, GRID[:, :3])
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    with pytest.raises(PromptError, match="is there already"):
        prompt_layouts.write(tmp_path / "out", "geneval", rows, GRID)
