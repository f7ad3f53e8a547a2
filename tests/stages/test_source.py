import json
import subprocess
import sys

import pytest

from sid2core.data.errors import DataError
from sid2core.data.prepare import fingerprint
from stages import source
from tests import tiny


@pytest.fixture
def pets(tmp_path, monkeypatch):
    """A project whose source is the folder that is returned."""
    folder = tmp_path / "pets"
    folder.mkdir()
    (folder / "1.txt").write_text("a cat", encoding="utf-8")
    configured(tmp_path, folder)
    monkeypatch.chdir(tmp_path)
    return folder


def configured(project, path):
    tiny.write(project, data=tiny.source("folder", path=str(path), image_size=8, channels=3))


def run():
    source.main(fingerprint.built_in())
    return source.FINGERPRINT.read_bytes()


def test_the_file_changes_when_the_source_does(pets):
    first = run()
    assert run() == first
    (pets / "1.txt").write_text("a dog, asleep", encoding="utf-8")
    assert run() != first
    assert json.loads(first)["source"]["folder"]["path"] == str(pets)


def test_changed_prompts_are_seen_and_leave_the_data_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid").mkdir()
    files = [tmp_path / "prompts.txt", tmp_path / "grid/1.txt"]
    for path, named in zip(files, ("prompts.txt", "grid"), strict=True):
        path.write_text("a cat\n", encoding="utf-8")
        tiny.write(tmp_path, eval={"prompts": named})
        data, first = run(), source.PROMPTS.read_bytes()
        assert list(json.loads(first)) == ["eval.prompts"]
        path.write_text("a dog\n", encoding="utf-8")
        assert run() == data
        assert source.PROMPTS.read_bytes() != first
    tiny.write(tmp_path, eval={"prompts": "{a cat|a dog} here"})
    run()
    assert json.loads(source.PROMPTS.read_bytes()) == {}


def test_recorded_data_that_are_away_count_as_unchanged(pets, caplog):
    first = run()
    pets.rename(pets.with_name("away"))
    assert run() == first
    assert f"{pets} not found" in caplog.text
    assert "Until then the data count as unchanged" in caplog.text
    pets.mkdir()  # where a disk would be mounted
    assert run() == first


@pytest.mark.parametrize("recorded", [None, "{", "[]", '{"source": {"name": "digits"}}'])
def test_without_such_a_record_data_that_are_away_are_an_error(pets, recorded):
    if recorded is not None:
        source.FINGERPRINT.parent.mkdir()
        source.FINGERPRINT.write_text(recorded, encoding="utf-8")
    pets.rename(pets.with_name("away"))
    with pytest.raises(DataError, match=r"data\.source\.folder\.path .* not found"):
        run()


def test_another_path_without_data_is_an_error(pets):
    run()
    configured(pets.parent, pets.with_name("mistyped"))
    with pytest.raises(DataError, match="mistyped not found"):
        run()


def test_of_a_built_in_source_the_name_is_written_and_little_is_imported(tmp_path):
    tiny.write(tmp_path)
    program = (
        "import runpy, sys; runpy.run_module('stages.source', run_name='__main__'); "
        "print(*{'jax', 'numpy', 'pydantic', 'fsspec', 'psutil'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=tiny.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == ""
    made = json.loads((tmp_path / source.FINGERPRINT).read_text(encoding="utf-8"))
    assert made == {"source": {"name": "digits"}}
