"""The hash of a stage's program: what changes it, and for which stages."""

import functools
import json
import shutil

import pytest

from sid2core.pipeline import code, dag
from sid2core.pipeline.code import CodeError
from tests.tiny import ROOT
from tools import changes

NAMES = ("sid2core", "stages", "constraints.txt", "dvc.yaml", "params.yaml")


@pytest.fixture(scope="module", autouse=True)
def _each_source_is_parsed_once():
    """A pure function of its arguments; most tests edit one file of two hundred."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code, "parse", functools.cache(code.parse))
        yield


@pytest.fixture(scope="module")
def before():
    """The digest of every stage of the project as it is."""
    return digests(ROOT)


@pytest.fixture
def project(tmp_path):
    """A copy of the project's sources."""
    for name in NAMES:
        source, target = ROOT / name, tmp_path / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    return tmp_path


def digests(root, plugins=()):
    stages, project = dag.read(root / "dvc.yaml"), code.Project(root, plugins)
    versions = code.pinned(root / code.CONSTRAINTS)
    return {
        name: project.program(name, stages, versions).digest
        for name in stages
        if name not in code.WITHOUT_HASH
    }


def changed(root, before, plugins=()):
    after = digests(root, plugins)
    return {name for name, digest in before.items() if digest != after[name]}


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{path} has no {old!r}"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_a_copy_has_the_same_digests(project, before):
    assert digests(project) == before
    assert len(set(before.values())) == len(before), "each stage has a program of its own"


def test_comments_docstrings_and_layout_change_nothing(project, before):
    for path in sorted(project.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        text = text.replace('"""', '"""Changed. ', 1).replace("\n\n\n", "\n\n\n# A comment.\n\n\n")
        path.write_text(text, encoding="utf-8")
    assert changed(project, before) == set()


MODELS = {"train", "train_negative", "guidance_search", "distill", "evaluate"}


@pytest.mark.parametrize(
    ("path", "stages"),
    [
        ("sid2core/distillation/alternating.py", {"plan", "distill"}),
        ("sid2core/training/ema.py", MODELS),
        ("sid2core/models/attention.py", {"plan", "text", "reference", *MODELS}),
        ("sid2core/metrics/frechet.py", {"reference", "guidance_search", "distill", "evaluate"}),
        ("sid2core/data/sources/folders.py", {"prepare"}),
        ("sid2core/report/charts/svg.py", {"report"}),
        ("stages/plan.py", {"plan"}),
        ("sid2core/cli/plan.py", set()),
        ("sid2core/config/params.py", set()),
        ("sid2core/pipeline/progress.py", set()),
    ],
)
def test_an_edit_of_a_formula_changes_exactly_the_stages_that_import_it(
    project, before, path, stages
):
    with (project / path).open("a", encoding="utf-8") as file:
        file.write("\nADDED = 1\n")
    assert changed(project, before) == stages


@pytest.mark.parametrize("old_new", [("2.0 *", "3.0 *"), ("+", "-")])
def test_a_changed_operation_or_number_counts(old_new):
    source = 'def f(x):\n    """Twice x and one."""\n    return 2.0 * x + 1\n'
    assert digest(source) != digest(source.replace(*old_new))


def digest(source):
    return code.parse(source, "sid2core/x.py").digest


def test_the_page_changes_with_its_templates(project, before):
    edit(project / "sid2core/report/templates/page.css", "{", "{ ")
    assert changed(project, before) == {"report"}


def test_a_pinned_version_changes_the_stages_that_import_the_package(project, before):
    edit(project / "constraints.txt", "optax==", "optax==9.")
    assert changed(project, before) == {"reference", "plan", *MODELS}


def test_every_package_that_a_stage_imports_is_pinned():
    stages, pins = dag.read(), code.pinned(ROOT / code.CONSTRAINTS)
    for name in stages:
        packages = code.Project().program(name, stages, pins).packages
        assert ("jax" in packages) or name not in MODELS
        assert None not in packages.values(), (name, packages)


REGISTRY = """
from sid2core.config.registry import Registry
FORMS = Registry("diffusion.loss")
FORMS.register("mine", None, "sid2core.mine:Mine")
OTHERS = Registry("guidance_search")
OTHERS.register("other", None, "sid2core.other:Other")
"""


def test_the_row_of_a_registry_belongs_to_the_stages_that_track_its_parameter(project, before):
    (project / "sid2core/config/forms.py").write_text(REGISTRY)
    (project / "sid2core/mine.py").write_text("class Mine:\n    value = 1\n")
    (project / "sid2core/other.py").write_text("class Other:\n    value = 1\n")
    models = {*MODELS, "analysis"}
    assert changed(project, before) == {*models, "plan"}
    first = digests(project)
    edit(project / "sid2core/mine.py", "1", "2")
    assert changed(project, first) == models
    edit(project / "sid2core/other.py", "1", "2")
    assert {"train", "analysis"} & changed(project, digests(project)) == set()


def test_a_string_that_names_a_module_is_an_import():
    module = code.parse('A = {"x": "sid2core.data.storage.tars:Tar"}\nB = "no: module"\n', "a.py")
    assert "sid2core.data.storage.tars" in module.imports
    assert len(module.imports) == 1


def test_relative_imports_and_imports_in_functions_are_followed():
    source = "def f():\n    from . import near\n    from ..rng import key\n"
    imports = code.parse(source, "sid2core/data/x.py").imports
    assert {"sid2core.data.near", "sid2core.rng", "sid2core.rng.key"} <= imports


def test_plugins_belong_to_every_stage(project, before, monkeypatch):
    (project / "plugins").mkdir()
    (project / "plugins/mine.py").write_text("from plugins import helper\nVALUE = 1\n")
    (project / "plugins/helper.py").write_text("VALUE = 1\n")
    monkeypatch.syspath_prepend(project)
    assert changed(project, before, ["plugins.mine"]) == set(before)
    first = digests(project, ["plugins.mine"])
    edit(project / "plugins/helper.py", "1", "2")
    assert changed(project, first, ["plugins.mine"]) == set(before)
    with pytest.raises(CodeError, match="plugins: found 'nowhere.mine'"):
        code.Project(project, ["nowhere.mine"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("seed: 0\n", ()), ("plugins: []\n", ()), ("plugins: [a, b.c]\n", ("a", "b.c"))],
)
def test_plugins_are_read_without_checking_anything_else(tmp_path, text, expected):
    (tmp_path / "params.yaml").write_text(text)
    assert code.plugins(tmp_path / "params.yaml") == expected


@pytest.mark.parametrize("text", ["plugins: mine\n", "plugins: [1]\n"])
def test_plugins_must_be_a_list_of_names(tmp_path, text):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(CodeError, match="plugins: found"):
        code.plugins(tmp_path / "params.yaml")


def test_changes_names_the_stages_and_the_reasons(project):
    stages, versions = dag.read(), code.pinned(ROOT / code.CONSTRAINTS)
    for name in set(stages) - set(code.WITHOUT_HASH):
        path = project / code.FOLDER / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(code.Project().program(name, stages, versions).to_json()))
    assert changes.changed(project) == {}
    with (project / "sid2core/training/ema.py").open("a", encoding="utf-8") as file:
        file.write("\nADDED = 1\n")
    reason = ["sid2core/training/ema.py"]
    assert changes.changed(project) == dict.fromkeys(MODELS, reason)
