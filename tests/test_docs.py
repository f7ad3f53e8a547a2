"""The documents name only links, paths, parameters and commands that exist; examples run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from sid2core.cli.main import COMMANDS
from tests import tiny

ROOT = tiny.ROOT
NAMES = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))]
TEXTS = {name: (ROOT / name).read_text("utf-8") for name in NAMES}
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
IMAGE = re.compile(r'!\[[^\]]*\]\(([^)\s]+)\)|src="([^"]+)"')
FOLDERS = ("benchmarks", "conf", "docs", "experiments", "sid2core", "stages", "tests", "tools")
PATH = re.compile(rf"(?<![\w/.-])(?:{'|'.join(FOLDERS)})/[\w./*-]*\w(?:/|\b)")
KEY = re.compile(r"--set-param\s+['\"]?([a-z_0-9.]+)=")
SECTIONS = "data loader reference diffusion model train sampling guidance distill eval runtime"
MENTIONED = re.compile(rf"`((?:{SECTIONS.replace(' ', '|')})\.(?!safetensors)[a-z_0-9.]+)`")
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


@pytest.mark.parametrize("name", NAMES)
def test_paths_exist(name):
    paths = {path.rstrip("/") for code in CODE.findall(TEXTS[name]) for path in PATH.findall(code)}
    assert {path for path in paths if not list(ROOT.glob(path))} == set()


def test_readme_is_short_and_leads_to_every_document():
    readme = TEXTS["README.md"]
    assert readme.count("\n") <= 150
    linked = {target.partition("#")[0] for target in LINK.findall(readme)}
    assert set(NAMES) - {"README.md"} <= linked


PARAMS = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))


def has(path):
    """Whether ``params.yaml`` has the key."""
    found = PARAMS
    for part in path.split("."):
        if not isinstance(found, dict) or part not in found:
            return False
        found = found[part]
    return True


@pytest.mark.parametrize("name", NAMES)
def test_parameters_exist(name):
    keys = set(KEY.findall(TEXTS[name])) | set(MENTIONED.findall(TEXTS[name]))
    assert {key for key in keys if not has(key)} == set()


@pytest.mark.parametrize("name", NAMES)
def test_commands_and_modules_exist(name):
    code = "\n".join(CODE.findall(TEXTS[name]))
    assert set(COMMAND.findall(code)) <= COMMANDS.keys()
    modules = (Path(*module.split(".")) for module in MODULE.findall(code))
    assert {str(one) for one in modules if not (ROOT / one).with_suffix(".py").exists()} == set()
    targets = set(re.findall(r"\bmake ([a-z][a-z-]*)", code))
    rules = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    assert targets <= rules


def test_the_table_of_stages_has_the_sections_that_dvc_tracks():
    text = TEXTS["docs/parameters.md"].partition("## Stages")[2]
    table = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", text, re.M))
    tracked = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    missing = {
        name: absent
        for name in set(table) - {"code", "report"}
        if (
            absent := {
                key
                for key in tracked[name].get("params", ())
                if not {key, key.partition(".")[0]} & set(re.findall(r"`([^`]+)`", table[name]))
            }
        )
    }
    assert missing == {}
    assert set(table) == set(tracked)


EXAMPLES = re.compile(r"```python\n# plugins/(\w+)\.py\n(.*?)```", re.DOTALL)
PROGRAM = """
import sys
import plugins.my_kinds
assert "jax" not in sys.modules, "plugins must not import JAX"

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sid2core import conditioning, config
from sid2core.config.params import Form
from sid2core.diffusion.samplers import Sampler, Step
from sid2core.diffusion.losses import TrainingLoss
from sid2core.metrics.networks.protocol import POOL
from sid2core.text.protocol import TextEncoder, TextEncoderSpec

z, level = jnp.ones((2, 8, 8, 1)), jnp.zeros(2)
sampler = config.Sampler.model_validate({"name": "churn", "churn": {"amount": 0.5}}).build()
assert isinstance(sampler, Sampler)
moved, _ = sampler.step(z, z, sampler.init(z), Step(level, level + 1, z))
assert moved.shape == z.shape

loss = config.Loss.model_validate({"name": "bump", "bump": {"centre": 1.0}}).build(shape=(8, 8, 1))
assert isinstance(loss, TrainingLoss)
assert float(loss.weights(jnp.ones(1), 0)[""][0]) == 1.0

choice = config.Source.model_validate({"name": "stripes", "stripes": {"count": 6}})
source = choice.build(data=None, part="path")
assert {source.read(entry).image.shape for entry in source.index()} == {source.shape}

settings = {"name": "hashed_words", "hashed_words": {"vocabulary": 100, "channels": 6}}
spec = config.Encoder.model_validate(settings).build(max_tokens=8)
encoder = spec.fit([], None)
assert isinstance(spec, TextEncoderSpec) and isinstance(encoder, TextEncoder)
tokens = encoder.tokenize(["a red circle", ""])
vectors = np.asarray(encoder.network()(tokens.ids, tokens.mask))
assert vectors.shape == (2, 8, 6)
assert vectors.any(-1).sum(-1).tolist() == [4, 1]

quadrants = config.EXTRACTORS["quadrants"].resolve().from_settings(None)
features = quadrants.features(np.full((3, 8, 8, 1), 255, np.uint8))
assert features[POOL].tolist() == [[1.0] * 4] * 3

form = {"name": "unweighted"}
matching = Form.model_validate(form).build(states=None, teacher=None)
assert matching.max_weight == 1.0

kind = conditioning.KINDS["brightness"].of_data({})
_, value = kind.read(None, np.arange(3), np.full((3, 8, 8, 1), 255, np.uint8), None)
assert value.tolist() == [1.0] * 3
assert kind.embedding(5, nnx.Rngs(0))(kind.null(3)).shape == (3, 5)
"""


def test_the_examples_of_extending_run(tmp_path):
    """In a process of its own, because what it registers cannot be removed."""
    found = EXAMPLES.findall(TEXTS["docs/extending.md"])
    (tmp_path / "plugins").mkdir()
    for name in {name for name, _ in found}:
        code = "\n".join(text for part, text in found if part == name)
        (tmp_path / "plugins" / f"{name}.py").write_text(code, encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
