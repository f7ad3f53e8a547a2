"""The page's grid of prompts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sid2core.evaluation import prompts
from sid2core.evaluation.prompts import Prompt
from sid2core.report import page
from sid2core.report.prompts import shortened
from sid2core.report.read import inputs, prompt_files
from sid2core.report.read.files import InputError
from tests.report import synthetic
from tests.report.test_images import decode
from tests.report.test_page import BREAKOUT, HOSTILE, Document, uris

ROWS = (
    Prompt("a red circle", negative="blurry", seed=7, steps=20, guidance=2.5),
    Prompt(HOSTILE),
    Prompt(BREAKOUT),
    Prompt("قطة حمراء 🐈"),
    Prompt(""),
    Prompt("x" * 10_000),
)


def test_rows_are_prompts_and_cells_are_the_stored_images(tmp_path: Path) -> None:
    root = synthetic.write(tmp_path, replace(synthetic.World(), prompts=ROWS))
    document = Document(page.build(inputs.read(synthetic.params(), root)))
    words = document.words("samples")
    assert "Each row is a prompt, each of its 3 columns a seed" in words
    assert "a red circle not: blurry, first seed 7, 20 steps, guidance 2.5" in words
    for text in (HOSTILE, BREAKOUT, ROWS[3].text, "(empty)", f"{'x' * 300}…"):
        assert " ".join(text.split()) in words
    assert not list(document.all("script"))
    assert all("onerror" not in attributes for _, attributes, _ in document.tags)
    assert "x" * 301 not in words
    found = uris(document, "samples")[-2 * len(ROWS) :]
    with np.load(root / "artifacts/evaluate" / prompts.FILE) as stored:
        for index, uri in enumerate(found):
            grid = stored[("interval", "student_8")[index % 2]]
            strip = decode(uri)[..., :1]
            cells = np.stack([strip[:, 9 * column : 9 * column + 8] for column in range(3)])
            np.testing.assert_array_equal(cells, grid[index // 2])


def test_a_long_prompt_is_cut() -> None:
    assert shortened("y" * 300) == "y" * 300
    assert shortened("y" * 301) == "y" * 300 + "…"


def test_a_grid_that_does_not_fit_its_rows_is_refused(tmp_path: Path) -> None:
    root = synthetic.write(tmp_path, replace(synthetic.World(), prompts=ROWS))
    found = inputs.read(synthetic.params(), root)
    with pytest.raises(
        InputError, match=r"prompts.npz is malformed: .*expected uint8 \[6, columns, 9"
    ):
        prompt_files.read(found.evaluate, (9, 9, 1))
