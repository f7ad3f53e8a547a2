import pytest

from sid2core.errors import Sid2Error, few, message, printable
from sid2core.pipeline import stage


def test_control_characters_are_escaped():
    text = "a\nb\x1b[31m\r\u202e\udcff é ‐ 猫 🐱"
    assert printable(text) == r"a\nb\x1b[31m\r\u202e\udcff é ‐ 猫 🐱"


def test_lists_are_cut_after_a_few_names():
    assert few([]) == ""
    assert few(["a", "b\n", 3]) == r"a, b\n, 3"
    assert few(map(str, range(9))) == "0, 1, 2, 3, 4, …"
    assert len(few(["x" * 1000])) == 80


def test_what_a_stage_prints_keeps_line_ends_and_no_other_control_characters(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("logging.basicConfig", lambda **options: None)  # it outlives the test
    error = Sid2Error("two keys:\n  a\x1b[2J\tb")
    assert message(error) == "two keys:\n  a\\x1b[2J\\tb"

    def fails(params):
        raise error

    with pytest.raises(SystemExit, match=r"^prepare: two keys:\n  a\\x1b\[2J\\tb$"):
        stage.run("prepare", fails, read=dict)
