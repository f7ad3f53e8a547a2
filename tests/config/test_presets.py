import io
import json
import re
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from sid2core import config
from sid2core.conditioning import ConditionSpec
from sid2core.config import ParamsError, build, presets, yaml_edit
from sid2core.config.presets import PresetError
from sid2core.models import cost
from sid2core.models.network import Network
from sid2core.plan import captions
from tests import tiny
from tests.refusals import refused

CONF = tiny.ROOT / "conf"
COMMITTED = (tiny.ROOT / "params.yaml").read_text(encoding="utf-8")
NAMES = presets.names(CONF)
FILES = sorted(CONF.rglob("*.yaml"))
RESOLVED = json.loads((Path(__file__).parent / "resolved_presets.json").read_text("utf-8"))
SECTIONS = {
    *("data", "loader", "text", "reference", "diffusion", "model", "train"),
    *("train_negative", "sampling"),
    *("guidance", "guidance_search", "distill", "eval", "runtime"),
}
QUICK = {"digits", "shapes", "shapes-text", "tiny", "imagenet128-flop-heavy"}


def preset(name):
    return presets.read(name, CONF)


def notes_of(path):
    """The notes of a file and of those that it extends."""
    file = yaml_edit.load(path.read_text(encoding="utf-8"))
    base = file.get("extends")
    inherited = notes_of(CONF / f"{base}.yaml") if base else {}
    return inherited | file["evidence"]["notes"]


@pytest.fixture
def params(tmp_path):
    """A copy of the committed parameters."""
    path = tmp_path / "params.yaml"
    path.write_text(COMMITTED, encoding="utf-8")
    return path


@pytest.fixture
def own(tmp_path):
    """Make a preset of one's own from ``digits``: its text after a replacement, once read."""

    def make(old, new):
        text = (CONF / "digits.yaml").read_text(encoding="utf-8")
        assert old in text
        (tmp_path / "conf").mkdir()
        (tmp_path / "conf" / "own.yaml").write_text(text.replace(old, new, 1), encoding="utf-8")
        return presets.read("own", tmp_path / "conf")

    return make


def apply(name, path):
    change = presets.change(preset(name), path)
    change.write()
    return change


def comments(text):
    """Every comment with the key that it stands before."""
    return re.findall(r"^( *#.*)\n(?:\s*(?:#.*)?\n)*( *\w+:)?", text, re.MULTILINE)


# What the files hold


def test_the_scales_that_are_there():
    sizes = (
        f"imagenet{size}-{kind}" for size in (128, 256, 512) for kind in ("flop-heavy", "small")
    )
    texts = {"emoji", "gpic256", "shapes-text", "text512"}
    images = {*sizes, "imagenet64", "digits", "shapes", "tiny"}
    assert {*images, *texts, "kinetics600"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_sets_the_same_keys(name):
    """Those of whole sections, so that nothing of an earlier preset is left."""
    expected = {
        key
        for key, _ in yaml_edit.leaves(tiny.PARAMS)
        if key.partition(".")[0] in SECTIONS - {"runtime"}
    } | {"runtime.remat"}
    assert {key for key, _ in yaml_edit.leaves(preset(name).params)} == expected


@pytest.mark.parametrize("name", NAMES)
def test_the_resolved_parameters_are_those_of_the_committed_table(name):
    """Without the kinds that are not chosen; other sections are not set by presets."""
    dumped = parsed(name).model_dump()
    chosen = {section: dumped[section] for section in SECTIONS - {"runtime"}}
    chosen["runtime"] = {"remat": dumped["runtime"]["remat"]}
    assert dict(yaml_edit.leaves(chosen)) == RESOLVED[name]


@pytest.mark.parametrize("name", NAMES)
def test_every_value_says_how_it_is_known(name):
    one = preset(name)
    assert [key for key, _ in yaml_edit.leaves(one.params) if one.note(key) is None] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_file_that_sets_a_value_explains_it_and_no_note_is_idle(path):
    """So no note of a base is about a value that it does not know."""
    file = yaml_edit.load(path.read_text(encoding="utf-8"))
    own, every = file["evidence"]["notes"], notes_of(path)
    for key, _ in yaml_edit.leaves(file["params"]):
        sections = [key.rsplit(".", depth)[0] for depth in range(key.count(".") + 1)]
        assert next(one for one in sections if one in every) in own, key
    every = [key for key, _ in yaml_edit.leaves(preset("digits").params)]
    for note in own:
        assert [key for key in every if key == note or key.startswith(f"{note}.")], note


def test_a_note_of_a_key_goes_before_that_of_its_section():
    one = preset("imagenet256-small")
    assert one.note("sampling.steps").startswith("stated: DDPM, 512 steps")
    assert one.note("sampling.sampler.addim.eta").startswith("ours: ")
    assert one.note("train.optimiser.adam_b1") == one.note("train.steps")
    assert one.note("seed") is None


@pytest.mark.parametrize(
    ("size", "bias", "interval"),
    [(128, 0.0, [0.0, 5.0]), (256, -1.0, [-1.5, 5.0]), (512, -3.0, [-3.0, 5.0])],
)
@pytest.mark.parametrize("kind", ["small", "flop-heavy"])
def test_the_published_settings_by_resolution(size, bias, interval, kind):
    values = preset(f"imagenet{size}-{kind}").params
    assert values["data"]["image_size"] == size
    assert values["diffusion"]["loss"]["sigmoid"]["bias"] == bias
    assert interval in values["guidance_search"]["intervals"]
    assert 1.0 in values["guidance_search"]["weights"]
    sampling = values["sampling"]
    assert (sampling["sampler"]["name"], sampling["steps"]) == ("ddpm", 512)
    assert sampling["sampler"]["ddpm"] == {"logvar_fraction": 0.3}


# What the network of a preset costs


def parsed(name):
    return presets.change(preset(name), tiny.ROOT / "params.yaml").params


def network(name):
    values = parsed(name)
    evidence = preset(name).evidence
    spec = ConditionSpec.of_classes(evidence.classes) if evidence.classes else ConditionSpec()
    kind = captions.expected_kind(values.text) if evidence.captions else None
    shape = values.data.shape
    spec = spec.with_text(kind).with_given(values.data.given_frames, shape)
    return build.network(values.model, shape, spec)


@pytest.mark.parametrize("name", NAMES)
def test_the_cost_is_what_the_evidence_says(name):
    evidence, gflops = preset(name).evidence, cost.forward_gflops(network(name))
    assert evidence.gflops_forward == pytest.approx(gflops, rel=1e-5)
    if evidence.published.gflops_forward is not None:
        within = 0.01 if name == "kinetics600" else 1e-3
        assert gflops == pytest.approx(evidence.published.gflops_forward, rel=within)


@pytest.mark.parametrize(
    "name",
    [
        # Tracing a large network takes seconds.
        pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)
        for name in NAMES
    ],
)
def test_the_parameters_are_as_many_as_the_evidence_says(name):
    shapes = Network(network(name)).shapes().values()
    assert preset(name).evidence.parameters == sum(shape.size for shape in shapes)


@pytest.mark.parametrize("name", NAMES)
def test_the_noise_only_grows_in_time(name):
    values = parsed(name)
    assert build.noise_schedule(values.diffusion.schedule, values.data.shape[-3])


@pytest.mark.parametrize("name", NAMES)
def test_training_takes_what_the_evidence_says(name):
    one = preset(name)
    train, training = one.params["train"], one.evidence.training
    assert training.images == train["steps"] * train["batch_size"]
    flops = one.evidence.gflops_forward * 1e9 * cost.FORWARDS_PER_TRAINING_STEP * training.images
    assert training.zettaflops == pytest.approx(flops / 1e21, rel=1e-3)


def test_the_published_figures():
    fids = {name: preset(name).evidence.published.fid for name in NAMES}
    assert {name: fid for name, fid in fids.items() if fid is not None} == {
        "imagenet64": 1.25,
        "imagenet128-small": 1.50,
        "imagenet256-small": 1.73,
        "imagenet256-flop-heavy": 1.38,
        "imagenet512-small": 2.19,
        "imagenet512-flop-heavy": 1.48,
    }
    assert preset("imagenet512-flop-heavy").evidence.published.fid_student_16 == 1.50
    assert preset("imagenet64").evidence.published.fid_student_8 == 1.24
    gpic = preset("gpic256").evidence.published
    assert (gpic.fd_dinov2, gpic.fd_dinov2_real) == (76.25, 7.44)


# What applying one does


def test_digits_is_what_is_committed(params):
    change = apply("digits", params)
    assert change.differences == ()
    assert change.after == change.before == COMMITTED


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_passes_the_check_and_keeps_comments_and_order(name, params):
    change = apply(name, params)
    assert params.read_text(encoding="utf-8") == change.after
    assert comments(change.after) == comments(COMMITTED)
    merged = yaml_edit.merged(tiny.PARAMS, preset(name).params)
    assert change.params == config.parse(merged)
    assert yaml_edit.load(change.after) == merged
    written = [key for key, _ in yaml_edit.leaves(yaml_edit.load(change.after))]
    assert written == [key for key, _ in yaml_edit.leaves(tiny.PARAMS)]
    blocks = re.sub("#.*|'.*'|\".*\"", "", change.after).replace("plugins: []", "")
    assert not re.search(r"[\[{]", blocks)


@pytest.mark.parametrize("name", NAMES)
def test_twice_is_once_and_digits_leads_back(name, params):
    once = apply(name, params).after
    again = apply(name, params)
    assert (again.after, again.differences) == (once, ())
    apply("digits", params)
    assert params.read_text(encoding="utf-8") == COMMITTED


def test_nothing_of_an_earlier_preset_is_left(params):
    direct = apply("kinetics600", params).after
    for name in ("imagenet128-flop-heavy", "tiny", "imagenet512-small", "kinetics600"):
        apply(name, params)
    assert params.read_text(encoding="utf-8") == direct


def test_what_no_preset_sets_stays(params):
    params.write_text(COMMITTED.replace("seed: 0", "seed: 7  # mine"), encoding="utf-8")
    assert "\nseed: 7  # mine\n" in apply("imagenet256-small", params).after


def test_a_file_that_dvc_has_rewritten_is_put_in_order(params):
    """``dvc exp run --set-param`` dumps the file anew: null as nothing, lists further left."""
    yaml, dumped = YAML(), io.StringIO()
    yaml.dump(yaml.load(COMMITTED), dumped)
    assert "  path:\n" in dumped.getvalue()
    params.write_text(dumped.getvalue(), encoding="utf-8")
    after = apply("digits", params).after
    end = "# The low-bit view"  # which no preset sets
    assert after.partition(end)[0] == COMMITTED.partition(end)[0]
    assert comments(after) == comments(COMMITTED)


def test_the_difference_names_every_value(params):
    differences = presets.change(preset("imagenet512-flop-heavy"), params).differences
    assert "data.source.name: digits -> folder" in differences
    assert "data.image_size: null -> 512" in differences
    assert "model.channels: [32, 64] -> [128, 256, 512, 1024]" in differences
    assert "distill.optimiser.learning_rate: 0.0003 -> 1.0e-05" in differences
    assert not [line for line in differences if line.startswith("diffusion.prediction")]


def test_a_change_that_is_not_written_writes_nothing(params):
    presets.change(preset("tiny"), params)
    assert params.read_text(encoding="utf-8") == COMMITTED
    assert [path.name for path in params.parent.iterdir()] == ["params.yaml"]


# What is refused


def test_an_unknown_name_is_refused_with_the_nearest_and_all():
    with pytest.raises(PresetError) as caught:
        preset("imagenet512-flopheavy")
    message = str(caught.value)
    assert "'imagenet512-flopheavy'; the nearest is imagenet512-flop-heavy" in message
    assert all(name in message for name in NAMES)


def test_a_name_is_no_path():
    with pytest.raises(PresetError, match="no preset '../params'"):
        preset("../params")


def test_elsewhere_the_cure_is_named(tmp_path):
    with pytest.raises(PresetError, match="run from the project's root"):
        presets.names(tmp_path / "conf")
    with pytest.raises(PresetError, match="params.yaml not found"):
        presets.change(preset("tiny"), tmp_path / "params.yaml")


def test_a_base_is_not_a_preset():
    assert not {path.stem for path in (CONF / "bases").glob("*.yaml")} & set(NAMES)


@pytest.mark.parametrize(
    ("extends", "words"),
    [
        ("absent", "own.yaml extends absent, but there is no"),
        ("own", "own.yaml extends own, which extends it"),
        ("bases/other", "other.yaml is not a preset: evidence: Field required"),
    ],
)
def test_a_base_that_cannot_be_used_is_named(tmp_path, extends, words):
    text = (CONF / "digits.yaml").read_text(encoding="utf-8")
    (tmp_path / "bases").mkdir()
    (tmp_path / "bases/other.yaml").write_text("params: {}\n", encoding="utf-8")
    (tmp_path / "own.yaml").write_text(f"extends: {extends}\n{text}", encoding="utf-8")
    with pytest.raises(PresetError, match=re.escape(words)):
        presets.read("own", tmp_path)


def test_the_differences_of_the_nearest_file_win(tmp_path):
    digits = (CONF / "digits.yaml").read_text(encoding="utf-8")
    (tmp_path / "digits.yaml").write_text(digits, encoding="utf-8")
    (tmp_path / "bases").mkdir()
    base = "extends: digits\nevidence: {notes: {train: 'ours: long'}}\nparams:\n"
    base += "  train: {steps: 7, batch_size: 6}\n"
    (tmp_path / "bases/long.yaml").write_text(base, encoding="utf-8")
    head, notes = digits.partition("params:")[0], "    train.steps: 'ours: longer'\n"
    head = re.sub(r"(?s)(  notes:\n).*", rf"\1{notes}", head)
    own = f"extends: bases/long\n{head}params:\n  train: {{steps: 8}}\n"
    (tmp_path / "own.yaml").write_text(own, encoding="utf-8")
    read = presets.read("own", tmp_path)
    assert (read.params["train"]["steps"], read.params["train"]["batch_size"]) == (8, 6)
    assert read.params["model"] == preset("digits").params["model"]
    assert (read.note("train.steps"), read.note("train.batch_size")) == (
        "ours: longer",
        "ours: long",
    )


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("  classes: 10\n", "", "evidence.classes: Field required"),
        ("  classes: 10\n", "  klasses: 10\n", "evidence.klasses: Extra inputs"),
        ("params:\n", "values:\n", "params: Field required"),
        ("ours: a small classifier", "mine: a small classifier", "notes.reference must begin"),
        ("  hardware: two CPU cores", "  hardware: null", "ours and hardware go together"),
        ("evidence:\n", "evidence: [\n", "cannot be read: not valid YAML"),
    ],
)
def test_a_malformed_file_is_refused_by_name(old, new, words, own):
    with refused(PresetError, "own.yaml", words):
        own(old, new)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("    mid_depth: 4\n", "    mid_depht: 4\n", "model.mid_depht: unknown key; the nearest"),
        ("    mid_depth: 4\n", "    mid_depth: 0\n", "model.mid_depth: found 0 (int)"),
        ("channels: [32, 64]\n    blocks", "channels: [32]\n    blocks", "blocks has 2 entries"),
        ("  guidance:\n", "  guidence:\n", "guidence: unknown key; the nearest known one"),
    ],
)
def test_values_that_fail_the_check_leave_the_file_untouched(old, new, words, own, params):
    with refused(ParamsError, "own.yaml", words):
        presets.change(own(old, new), params)
    assert params.read_text(encoding="utf-8") == COMMITTED


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("  patch_size: 1\n", "", "no key model.patch_size"),
        ("seed: 0\n", "seed: [\n", "not valid YAML"),
    ],
)
def test_parameters_that_cannot_be_edited_are_left_as_they_are(old, new, words, params):
    broken = COMMITTED.replace(old, new, 1)
    params.write_text(broken, encoding="utf-8")
    with pytest.raises(PresetError, match=words):
        apply("tiny", params)
    assert params.read_text(encoding="utf-8") == broken


def test_a_mistake_elsewhere_in_the_parameters_is_found_too(params):
    params.write_text(COMMITTED.replace("seed: 0", "seed: none"), encoding="utf-8")
    with pytest.raises(ParamsError, match="seed: found 'none'"):
        apply("tiny", params)


def test_presets_are_looked_for_beside_the_parameters(tmp_path, monkeypatch, params):
    shutil.copytree(CONF, tmp_path / "conf")
    monkeypatch.chdir(tmp_path)
    assert presets.names() == NAMES
    presets.change(presets.read("tiny")).write()
    assert yaml_edit.load(params.read_text(encoding="utf-8"))["train"]["steps"] == 30
