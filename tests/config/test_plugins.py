"""Kinds that modules outside the package register."""

import sys

import pytest

from sid2core import config
from sid2core.config import ParamsError
from tests import tiny

PLUGIN = """
from sid2core import config


class Churn(config.Section):
    amount: config.Fraction


config.{registry}.register("{name}", Churn, "builtins:dict")
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Write ``plugins/<name>.py`` into the folder where the program runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "plugins").mkdir()

    def write(name, text):
        sys.modules.pop("plugins", None)
        (tmp_path / "plugins" / f"{name}.py").write_text(text, encoding="utf-8")
        return f"plugins.{name}"

    yield write
    for name in [name for name in sys.modules if name.partition(".")[0] == "plugins"]:
        del sys.modules[name]


@pytest.fixture
def registries(monkeypatch):
    """Registries whose additions are forgotten after the test."""
    for registry in (config.SAMPLERS, config.LOSSES):
        monkeypatch.setattr(registry, "_kinds", dict(registry._kinds))


@pytest.mark.parametrize(
    ("registry", "section", "choice"),
    [("SAMPLERS", "sampling", "sampler"), ("LOSSES", "diffusion", "loss")],
)
def test_a_kind_of_a_plugin_is_checked_like_the_others(
    plugin, registries, registry, section, choice
):
    name = plugin(f"of_{choice}", PLUGIN.format(registry=registry, name="churn"))
    raw = tiny.raw(
        plugins=[name], **{section: {choice: {"name": "churn", "churn": {"amount": 0.3}}}}
    )
    parsed = getattr(getattr(config.parse(raw), section), choice)
    assert parsed.model_dump() == {"name": "churn", "churn": {"amount": 0.3}}
    raw[section][choice]["churn"]["amount"] = 2.0
    with pytest.raises(ParamsError, match=rf"{section}\.{choice}\.churn\.amount: found 2\.0"):
        config.parse(raw)


@pytest.mark.parametrize(
    ("text", "reason"), [(None, "ModuleNotFoundError"), ("1 / 0", "ZeroDivisionError")]
)
def test_a_plugin_that_cannot_be_imported_is_named_with_the_reason(plugin, text, reason):
    name = "plugins.absent" if text is None else plugin("broken", text)
    with pytest.raises(ParamsError, match=rf"^plugins: cannot import '{name}' .*{reason}"):
        config.parse(tiny.raw(plugins=[name]))


@pytest.mark.parametrize("plugins", ["mine", [3], None])
def test_plugins_that_are_no_list_of_names_are_refused(plugins):
    with pytest.raises(ParamsError, match=r"plugins(\.0)?: found"):
        config.parse(tiny.raw(plugins=plugins))
