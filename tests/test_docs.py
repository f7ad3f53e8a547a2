"""The documents name only links, commands and modules that exist."""

import re
from pathlib import Path

import pytest

from sid2core.cli.main import COMMANDS
from tests import tiny

ROOT = tiny.ROOT
NAMES = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))]
TEXTS = {name: (ROOT / name).read_text("utf-8") for name in NAMES}
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
IMAGE = re.compile(r'!\[[^\]]*\]\(([^)\s]+)\)|src="([^"]+)"')
COMMAND = re.compile(r"\bsid2 ([a-z]+)")
MODULE = re.compile(r"python -m ((?:benchmarks|stages)\.[a-z_]+)")


def anchors(text):
    """GitHub's anchors of all headings: lower case, no punctuation, hyphens for spaces."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.M)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


def broken(name, target):
    """Whether a link in the document ``name`` leads nowhere."""
    path, _, anchor = target.partition("#")
    place = (ROOT / name).parent / path if path else ROOT / name
    return not place.exists() or (
        bool(anchor) and anchor not in anchors(place.read_text(encoding="utf-8"))
    )


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name):
    targets = LINK.findall(CODE.sub("", TEXTS[name]))
    targets += [one or other for one, other in IMAGE.findall(TEXTS[name])]
    inside = [one for one in targets if "://" not in one]
    assert [one for one in inside if broken(name, one)] == []


def test_a_broken_link_is_found():
    assert broken("README.md", "docs/nowhere.md")
    assert broken("README.md", "docs/data.md#nowhere")
    assert not broken("docs/data.md", "../README.md#two-commands")


def test_readme_is_short_and_leads_to_every_document():
    readme = TEXTS["README.md"]
    assert readme.count("\n") <= 150
    linked = {target.partition("#")[0] for target in LINK.findall(readme)}
    assert set(NAMES) - {"README.md"} <= linked


@pytest.mark.parametrize("name", NAMES)
def test_commands_and_modules_exist(name):
    code = "\n".join(CODE.findall(TEXTS[name]))
    assert set(COMMAND.findall(code)) <= {command.name for command in COMMANDS}
    modules = (Path(*module.split(".")) for module in MODULE.findall(code))
    assert {str(one) for one in modules if not (ROOT / one).with_suffix(".py").exists()} == set()
    targets = set(re.findall(r"\bmake ([a-z][a-z-]*)", code))
    rules = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    assert targets <= rules
