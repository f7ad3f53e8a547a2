"""The file of parameters: numbers, damage, a missing file, and what reading it imports."""

import json
import re
import subprocess
import sys

import pytest

from sid2core import config
from sid2core.config import ParamsError
from tests import tiny
from tests.refusals import refused

TEXT = (tiny.ROOT / "params.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("number", ["1e-05", "1e-5", "1.0e-05", "0.00001", "1E-05"])
def test_tiny_numbers_are_floats_however_they_are_written(tmp_path, number):
    path = tmp_path / "params.yaml"
    text, count = re.subn(r"(?m)^(    learning_rate:).*", rf"\1 {number}", TEXT)
    assert count == 2
    path.write_text(text, encoding="utf-8")
    params = config.read(path)
    assert params.train.optimiser.learning_rate == params.distill.optimiser.learning_rate == 1e-5


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"seed: [1,", "cannot be used: not valid YAML"),
        (b"seed: 0\nseed: 1\n", "cannot be used: not valid YAML"),
        (
            b"seed: \xff\xfe\n",
            "cannot be used: it is not UTF-8 (invalid start byte at byte 6); save it",
        ),
        (b"", "(the whole file): found None (NoneType); expected a section"),
        (b"- 1\n- 2\n", "(the whole file): found [1, 2] (list); expected a section"),
        (b"just text\n", "(the whole file): found 'just text' (str); expected a section"),
        (b"1: 2\n", "1: "),
    ],
)
def test_a_file_that_is_no_mapping_of_parameters_is_refused(tmp_path, content, words):
    path = tmp_path / "other.yaml"
    path.write_bytes(content)
    with refused(ParamsError, path, words):
        config.read(path)


def test_a_missing_file_is_reported_with_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with refused(
        ParamsError, f"params.yaml not found in {tmp_path}", "run from the project's root"
    ):
        config.read()


def test_reading_imports_neither_jax_nor_pandas():
    code = (
        "import json, sys; from sid2core import config; config.read(); "
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tiny.ROOT, capture_output=True, text=True, check=True
    )
    loaded = json.loads(done.stdout)
    assert "pydantic" in loaded
    assert not {"jax", "flax", "pandas", "matplotlib", "sklearn"} & set(loaded)
