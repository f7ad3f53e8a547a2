import json
import subprocess

import pytest

from sid2core import checksums
from tests.damage import DAMAGES


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "one.json"
    checksums.write_json(path, {"a": 1, "b": [1.5, None]})
    return path


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "folder"
    (path / "inner").mkdir(parents=True)
    (path / "a.bin").write_bytes(bytes(range(256)))
    (path / "inner" / "b ü.txt").write_text("text")
    checksums.seal(path)
    return path


def test_what_was_sealed_is_whole(file, folder, caplog):
    assert checksums.whole(file)
    assert checksums.whole(folder)
    assert checksums.read_json(file) == {"a": 1, "b": [1.5, None]}
    assert caplog.text == ""


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["one.json", "one.json.sha256"])
def test_a_damaged_file_is_reported_in_one_line_and_not_read(file, caplog, damage, name):
    damage(file.with_name(name))
    assert checksums.read_json(file) is None
    (record,) = caplog.records
    assert f"{file} is damaged" in record.getMessage()
    assert "\n" not in record.getMessage()


@pytest.mark.parametrize("damage", [*DAMAGES, lambda path: path.unlink()])
@pytest.mark.parametrize("name", ["a.bin", "inner/b ü.txt", "SHA256SUMS"])
def test_damage_anywhere_in_a_folder_is_found(folder, damage, name):
    damage(folder / name)
    assert not checksums.whole(folder)


def test_a_file_too_many_is_found(folder):
    (folder / "inner" / "c").write_text("")
    assert not checksums.whole(folder)


def test_every_flipped_bit_is_found(file):
    content = file.read_bytes()
    for bit in range(8 * len(content)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        file.write_bytes(changed)
        assert checksums.read_json(file) is None
    file.write_bytes(content)
    assert checksums.read_json(file) == json.loads(content)


def test_unfinished_work_is_not_whole_and_not_called_damaged(tmp_path, caplog):
    (tmp_path / "one.json").write_text("{}")
    assert checksums.read_json(tmp_path / "one.json") is None
    assert checksums.read_json(tmp_path / "absent.json") is None
    assert caplog.text == ""


def test_a_sealed_folder_may_be_moved_and_sealed_again(folder):
    moved = folder.rename(folder.with_name("moved"))
    assert checksums.whole(moved)
    (moved / "a.bin").write_bytes(b"other")
    checksums.seal(moved)
    assert checksums.whole(moved)


def test_common_tools_read_the_checksums(file, folder):
    for place, name in ((file.parent, "one.json.sha256"), (folder, "SHA256SUMS")):
        command = ["sha256sum", "--check", "--quiet", name]
        assert subprocess.run(command, cwd=place, capture_output=True).returncode == 0
