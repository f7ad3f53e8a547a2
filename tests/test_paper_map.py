"""The evidence named in docs/paper-map.md exists: each file, and a test for each word of -k."""

import ast
import re

from tests import tiny

ROWS = re.findall(r"^\|.*\|$", (tiny.ROOT / "docs/paper-map.md").read_text("utf-8"), re.MULTILINE)
NAMED = re.compile(r'`([\w/]+\.py)(?: -k (?:"(\w+(?: or \w+)*)"|(\w+)))?`')


def evidence():
    """Each file with each word of its -k: empty where the whole file is the evidence."""
    return {
        (path if "/" in path else f"tests/diffusion/{path}", word)
        for row in ROWS
        for path, several, one in NAMED.findall(row.split("|")[-2])
        for word in (several or one).split(" or ")
    }


def names_of_tests(path):
    """The names of the test functions of a file."""
    module = ast.parse((tiny.ROOT / path).read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(module) if isinstance(node, ast.FunctionDef)]
    return [node.name for node in functions if node.name.startswith("test_")]


def test_every_row_is_understood():
    """The check below would miss a row that is written in another way."""
    assert len(evidence()) > 30
    for row in ROWS:
        assert row.count(" -k ") == sum(bool(a or b) for _, a, b in NAMED.findall(row)), row


def test_every_row_selects_a_test():
    missing = {
        (path, word)
        for path, word in evidence()
        if not (tiny.ROOT / path).is_file()
        or not any(word in name for name in names_of_tests(path))
    }
    assert missing == set()
