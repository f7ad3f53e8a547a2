"""The grammar of ``eval.prompts``."""

import pytest

from sid2core.evaluation import prompts
from sid2core.evaluation.prompts import Prompt, PromptError, parse, read
from tests.refusals import refused

FIGURE_18 = "{A strawberry elephant|A corgi wearing a hat} in a {lush forest|busy street}"


def texts(line):
    return [one.text for one in parse(line)]


def test_alternatives_make_their_product_the_last_group_fastest():
    assert texts(FIGURE_18) == [
        "A strawberry elephant in a lush forest",
        "A strawberry elephant in a busy street",
        "A corgi wearing a hat in a lush forest",
        "A corgi wearing a hat in a busy street",
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a red circle", ["a red circle"]),
        ("", [""]),
        ("a {|very }big {dog}", ["a big dog", "a very big dog"]),
        ("{a|b}{c|d}", ["ac", "ad", "bc", "bd"]),
        ("this|that", ["this|that"]),
        (r"\{a\|b\} {c\|d|\\}", ["{a|b} c|d", "{a|b} \\"]),
        (r"x \--n y", ["x --n y"]),
        ("anti--dote -- no", None),
        ("قطة {حمراء|زرقاء} 🐈", ["قطة حمراء 🐈", "قطة زرقاء 🐈"]),
        ("<b>bold</b> & co", ["<b>bold</b> & co"]),
    ],
)
def test_texts(line, expected):
    if expected is None:
        with pytest.raises(PromptError, match=r"^eval.prompts: unknown option --; expected --n"):
            parse(line)
    else:
        assert texts(line) == expected


def test_options_hold_for_all_of_a_lines_prompts():
    line = "{a|b} cat --n dark, blurry --d 7 --s 20 --l 2.5"
    expected = [Prompt(text, "dark, blurry", 7, 20, 2.5) for text in ("a cat", "b cat")]
    assert parse(line) == expected
    assert parse("a --l 0 --n") == [Prompt("a", "", guidance=0.0)]
    assert parse("--d 3") == [Prompt("", seed=3)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a {b|c", r"a brace is not closed; add }"),
        ("a b} c", r"found } and expected an opening brace before it"),
        ("{a{b}}", r"found { and expected a closing brace"),
        ("a --w 32", r"unknown option --w; expected --n, --d, --s, --l"),
        ("a --d 1 --d 2", r"--d is given twice"),
        ("a --d -1", r"--d is '-1'; expected a whole number from 0 to 2147483647"),
        ("a --s 0", r"--s is '0'; expected a whole number from 1"),
        ("a --s many", r"--s is 'many'"),
        ("a --l nan", r"--l is 'nan'; expected a number of 0 or more"),
        ("a --l", r"--l is ''"),
        ("a --n {x|y}", r"--n is '\{x\|y\}'; expected a text without alternatives"),
        ("a\\b", r"found a backslash before 'b'; it may stand before one of"),
        ("a\\", r"found a backslash at the end"),
        ("{a|b}" * 12, r"found 4096 combinations; expected at most 2048"),
    ],
)
def test_a_malformed_line_is_refused_with_its_place(line, reason):
    with pytest.raises(PromptError, match=rf"^eval\.prompts\.1: {reason}"):
        read(["fine", line])


def test_a_list_a_product_or_a_file(tmp_path):
    assert read(None) == ()
    assert read(["a", ""]) == (Prompt("a"), Prompt(""))
    assert [one.text for one in read("{a|b}")] == ["a", "b"]
    path = tmp_path / "prompts.txt"
    path.write_text("\ufeff# of the docs\n\n  a cat --d 2\r\n\\# {1|2}\n", encoding="utf-8")
    assert read(str(path)) == (Prompt("a cat", seed=2), Prompt("# 1"), Prompt("# 2"))
    path.write_text("a\n\nb --x\n", encoding="utf-8")
    with pytest.raises(PromptError, match=r"prompts.txt, line 3: unknown option --x"):
        read(str(path))


def test_a_file_that_is_missing_empty_or_no_text_is_refused(tmp_path):
    with pytest.raises(PromptError, match=r"^eval.prompts: .*missing.txt cannot be read"):
        read(str(tmp_path / "missing.txt"))
    with refused(PromptError, "a red circle cannot be read", "for a single prompt: [a red circle]"):
        read("a red circle")
    path = tmp_path / "prompts.txt"
    path.write_text("# nothing\n", encoding="utf-8")
    with pytest.raises(PromptError, match="found no prompt in"):
        read(str(path))
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PromptError, match=r"it is not UTF-8 text"):
        read(str(path))


def test_the_prompts_of_geneval_and_of_dpg_bench_are_plain_text(tmp_path):
    path, folder = tmp_path / "evaluation_metadata.jsonl", tmp_path / "prompts"
    path.write_text('{"tag": "colors", "prompt": "a {red} cat --n dog"}\n\n{"prompt": "b"}\n')
    about = {"tag": "colors", "prompt": "a {red} cat --n dog"}
    assert read(str(path)) == (
        Prompt("a {red} cat --n dog", about=about),
        Prompt("b", about={"prompt": "b"}),
    )
    folder.mkdir()
    for name in ("stanza10", "COCO 1"):
        (folder / f"{name}.txt").write_text(f"a {name} | {{x}}\n")
    assert read(str(folder)) == (
        Prompt("a COCO 1 | {x}", name="COCO 1"),
        Prompt("a stanza10 | {x}", name="stanza10"),
    )
    for line, reason in (("{", "it is not JSON"), ('{"text": 1}', "no text under the key prompt")):
        path.write_text(f'{{"prompt": "a"}}\n{line}\n')
        with pytest.raises(PromptError, match=rf"jsonl, line 2: .*{reason}"):
            read(str(path))


def test_captions_are_the_first_lines_of_a_file(tmp_path):
    path = tmp_path / "captions.txt"
    path.write_text("a cat\n\n{b} --n c\r\nd\n", encoding="utf-8")
    assert prompts.captions(str(path), 2) == ["a cat", "{b} --n c"]
    with pytest.raises(PromptError, match=r"^eval.captions: .* has 3 captions, .* is 4; add"):
        prompts.captions(str(path), 4)
    with pytest.raises(PromptError, match=r"^eval.captions: .*missing cannot be read"):
        prompts.captions(str(tmp_path / "missing"), 1)


def test_too_many_rows_are_refused():
    with pytest.raises(PromptError, match=r"^eval.prompts.2048: found more than 2048 rows"):
        read(["a"] * (prompts.MOST + 1))
