from sid2core.errors import few, printable


def test_control_characters_are_escaped():
    text = "a\nb\x1b[31m\r\u202e\udcff é ‐ 猫 🐱"
    assert printable(text) == r"a\nb\x1b[31m\r\u202e\udcff é ‐ 猫 🐱"


def test_lists_are_cut_after_a_few_names():
    assert few([]) == ""
    assert few(["a", "b\n", 3]) == r"a, b\n, 3"
    assert few(map(str, range(9))) == "0, 1, 2, 3, 4, …"
    assert len(few(["x" * 1000])) == 80
