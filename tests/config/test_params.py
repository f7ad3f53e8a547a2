import copy
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sid2core import config
from sid2core.config import ParamsError, yaml_edit
from tests import tiny

TEXT = (tiny.ROOT / "params.yaml").read_text(encoding="utf-8")


def with_value(path, value):
    """The project's parameters with one key, ``a.b.c``, set."""
    raw = copy.deepcopy(tiny.PARAMS)
    *parents, last = path.split(".")
    section = raw
    for parent in parents:
        section = section[parent]
    section[last] = value
    return raw


def refusal(raw):
    """The lines of the error, without the heading."""
    with pytest.raises(ParamsError) as caught:
        config.parse(raw)
    heading, *lines = str(caught.value).splitlines()
    assert heading == f"params.yaml has {len(lines)} problem(s):"
    return [line.strip() for line in lines]


def leaves(value, path=()):
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, (*path, name))
    else:
        yield ".".join(path)


LEAVES = sorted(leaves(tiny.PARAMS))
CHOSEN = sorted(leaves(config.parse(tiny.PARAMS).model_dump()))
"""Without the keys of kinds that are not chosen."""


def test_the_projects_own_parameters_are_read_as_they_stand():
    dumped = config.read(tiny.ROOT / "params.yaml").model_dump()
    merged = yaml_edit.merged(tiny.PARAMS, dumped)
    assert dict(yaml_edit.leaves(merged)) == dict(yaml_edit.leaves(tiny.PARAMS))
    assert config.parse(dumped).model_dump() == dumped


ILL_TYPED = [
    ("seed", "0", "integer"),
    ("train.steps", "100", "integer"),
    ("train.steps", 100.0, "integer"),
    ("train.steps", True, "integer"),
    ("train.steps", None, "integer"),
    ("train.ema_decay", "0.9", "number"),
    ("train.ema_decay", True, "number"),
    ("train.ema_decay", None, "number"),
    ("train.optimiser.learning_rate", [0.1], "number"),
    ("loader.horizontal_flip", 1, "true or false"),
    ("loader.horizontal_flip", "yes", "true or false"),
    ("report.title", 3, "text"),
    ("diffusion.prediction", "w", "one of v, eps, x"),
    ("model.patch_size", 3, "one of 1, 2, 4, 8"),
    ("diffusion.schedule.cosine_interpolated.noise_res_high", "8", "integer or null"),
    ("diffusion.schedule.cosine_interpolated.noise_res_high", 8.5, "integer or null"),
    ("data", None, "a section"),
    ("diffusion.schedule", ["cosine"], "a section with name, one of cosine_interpolated, cosine"),
    ("model.channels", 32, "list of integer"),
    ("distill.steps", 8, "list of integer"),
]


@pytest.mark.parametrize(
    ("key", "value", "neutral"),
    [
        ("label_column", "label", "null"),
        ("image_column", "image", "null"),
        ("unlabelled", True, "false"),
    ],
)
def test_built_in_data_take_no_columns(key, value, neutral):
    (line,) = refusal(with_value(f"data.{key}", value))
    assert f"source digits does not take {key}; set {key} to {neutral}" in line


@pytest.mark.parametrize("value", [{"red|blue": None}, {"a": "b"}, 3, [], ["a", {"b": "c"}]])
def test_what_describes_no_prompts_is_refused_with_the_three_ways_to_write_them(value):
    (line,) = refusal(with_value("eval.prompts", value))
    assert line == (
        f"eval.prompts: found {value!r} ({type(value).__name__}); expected a list of prompts, the "
        'path of a text file, one prompt with alternatives such as "a {red|blue} circle" (braces '
        "need quotation marks), or null"
    )


def test_home_folders_in_paths_are_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    data = tiny.source("folder", path="~/pets", labels="~/a.csv", image_size=4, channels=3)
    weights = {"extractors": {"inception": {"weights": "~/w.npz"}}}
    params = tiny.params(data=data, train={"init_from": "~/model"}, eval=weights)
    settings = params.data.source.settings
    assert (settings.path, settings.labels) == ("/home/me/pets", "/home/me/a.csv")
    assert params.train.init_from == "/home/me/model"
    assert params.eval.extractors.chosen["inception"].weights == "/home/me/w.npz"
    address = tiny.params(data=tiny.source("folder", path="s3://b/~x", image_size=4, channels=3))
    assert address.data.source.settings.path == "s3://b/~x"


@pytest.mark.parametrize(("path", "value", "expected"), ILL_TYPED)
def test_an_ill_typed_value_is_refused_with_its_key_and_type(path, value, expected):
    (line,) = refusal(with_value(path, value))
    assert line.startswith(f"{path}: found {value!r} ({type(value).__name__}); expected {expected}")


@pytest.mark.parametrize(
    ("path", "value", "key", "expected"),
    [
        ("model.channels", [32, "64"], "model.channels.1", "list of integer"),
        ("model.blocks", ["res", "attn"], "model.blocks.1", "list of one of res, transformer"),
        ("model.dropout", [0.0, 1.0], "model.dropout.1", "list of number"),
        (
            "guidance_search.intervals",
            [[-3.0, 5.0], [1.0]],
            "guidance_search.intervals.1",
            "list of list of number",
        ),
        (
            "guidance_search.intervals",
            [["low", 5.0]],
            "guidance_search.intervals.0.0",
            "list of list of number",
        ),
    ],
)
def test_an_entry_of_a_list_is_named_by_its_place(path, value, key, expected):
    (line,) = refusal(with_value(path, value))
    assert re.match(rf"{re.escape(key)}: found .*; expected {expected}", line)


@pytest.mark.parametrize(
    ("value", "key", "reason"),
    [
        ("big", "data.image_size", "a valid integer"),
        (2.5, "data.image_size", "a valid integer"),
        (0, "data.image_size", "greater than 0"),
        ([64], "data.image_size", "at least 2 items"),
        ([64, 0], "data.image_size.1", "greater than 0"),
        (["64", 64], "data.image_size.0", "a valid integer"),
    ],
)
def test_a_key_of_several_types_has_one_problem_and_all_its_types(value, key, reason):
    (line,) = refusal(with_value("data.image_size", value))
    assert line.startswith(f"{key}: found ")
    assert "; expected integer or list of integer or null: " in line
    assert reason in line


def test_many_problems_are_counted_and_the_first_named():
    with pytest.raises(ParamsError) as caught:
        config.parse(with_value("model.channels", ["wide"] * 300))
    heading, *lines = str(caught.value).splitlines()
    assert heading == "params.yaml has 300 problem(s):"
    assert lines[0].strip().startswith("model.channels.0: found 'wide'")
    assert lines[20:] == ["  ... and 280 more"]


def test_a_long_value_and_a_long_key_are_shortened():
    (line,) = refusal(with_value("report.title", ["x" * 4_000_000]))
    assert len(line) < 400
    (line,) = refusal(with_value("y" * 1_000_000, 1))
    assert len(line) < 400


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", -1),
        ("seed", 2**32),
        ("train.steps", 0),
        ("train.steps", 2**31),
        ("distill.iterations", 2**31),
        ("distill.eta", 1.5),
        ("distill.dropout", 1.0),
        ("runtime.keep_checkpoints", 1),
        ("runtime.profile", [10]),
        ("train.ema_decay", 1.0),
        ("train.ema_decay", -0.1),
        ("train.condition_dropout", 1.0),
        ("train.optimiser.learning_rate", 0.0),
        ("train.optimiser.learning_rate", math.nan),
        ("train.optimiser.clip_norm", math.inf),
        ("train.optimiser.warmup_steps", -1),
        ("data.train_fraction", 0.0),
        ("data.train_fraction", 1.0),
        ("sampling.sampler.ddpm.logvar_fraction", 1.5),
        ("sampling.sampler.addim.eta", -0.1),
        ("diffusion.loss.sigmoid.bias", math.nan),
        ("guidance.weight", -1.0),
        ("guidance_search.weights", []),
        ("guidance_search.samplers", []),
        ("guidance_search.first", 3),
        ("distill.steps", []),
        ("report.title", ""),
    ],
)
def test_a_value_out_of_range_is_refused(path, value):
    (line,) = refusal(with_value(path, value))
    assert line.startswith(f"{path}: found {value!r}")
    assert "expected" in line


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("sampling.sampler.ddpm.logvar_fraction", 0.0),
        ("sampling.sampler.ddpm.logvar_fraction", 1.0),
        ("seed", 2**32 - 1),
        ("train.steps", 2**31 - 1),
        ("eval.keep", 5000),  # as many as there are
        ("train.optimiser.warmup_steps", 0),
        ("guidance.weight", 0.0),
        ("guidance_search.intervals", []),
        ("train.optimiser.learning_rate", 1),
    ],
)
def test_the_ends_of_a_range_and_a_whole_number_for_a_number_are_taken(path, value):
    config.parse(with_value(path, value))


DECAY, WIDE = {"kind": "decay", "value": 0.99}, {"kind": "power", "value": 0.3}


@pytest.mark.parametrize(
    ("path", "value", "key", "words"),
    [
        (
            "diffusion.schedule.cosine_interpolated.logsnr_min",
            10.0,
            "diffusion.schedule.cosine_interpolated",
            "below logsnr_max 10.0",
        ),
        ("model.blocks", ["res"], "model", "blocks has 1 entries; 2 channels need 2"),
        ("model.encoder_depth", [2, 2], "model", "encoder_depth has 2 entries; 2 channels need 1"),
        ("model.decoder_depth", [], "model", "decoder_depth has 0 entries; 2 channels need 1"),
        ("model.dropout", [0.1], "model", "dropout has 1 entries; 2 channels need 2"),
        ("model.head_size", 48, "model", "head_size 48 must divide 64 channels"),
        ("model.emb_channels", 127, "model", "emb_channels is 127; expected an even number"),
        ("distill.steps", [8, 8], "distill", "steps repeats an entry"),
        ("distill.accumulation", 7, "distill", "accumulation 7 must divide batch_size 64"),
        ("train.accumulation", 7, "train", "accumulation 7 must divide batch_size 64"),
        ("train.emas", [DECAY, DECAY], "train", "emas repeats an entry: decay 0.99, decay 0.99"),
        ("train.emas", [DECAY, WIDE], "train.emas.1", "power 0.3 is wider than the plain aver"),
        ("train.optimiser.weight_decay", 0.1, "train.optimiser", "adam has no use for weight_dec"),
        ("train.optimiser.name", "adamw", "train.optimiser", "adamw needs weight_decay, found nu"),
        ("distill.optimiser.name", "muon", "distill.optimiser", "muon needs weight_decay, found"),
        ("runtime.mesh", {"data": -1, "fsdp": -1}, "runtime.mesh", "or -1 for one of them"),
        ("runtime.mesh", {"data": 0, "fsdp": 1}, "runtime.mesh", "data 0 and fsdp 1"),
        ("runtime.profile", [20, 20], "runtime", "profile [20, 20] has no step; expected [start"),
        ("guidance_search.weights", [0.5, 0.5], "guidance_search", "weights repeats an entry"),
        ("guidance_search.negatives", [400, 400], "guidance_search", "negatives repeats an entry"),
        ("guidance_search.intervals", [[5.0, 5.0]], "guidance_search", "[5.0, 5.0] is empty"),
        ("guidance_search.samplers", ["heun", "heun"], "guidance_search", "samplers repeats an en"),
        (
            "guidance_search.samplers",
            ["hoin"],
            "guidance_search.samplers.0.name",
            "nearest is heun",
        ),
        ("guidance_search.steps", [8, 8], "guidance_search", "steps repeats an entry: 8, 8"),
        (
            "guidance_search.intervals",
            [[1.0, 5.0], [1.0, 5.0]],
            "guidance_search",
            "intervals repeats an entry",
        ),
    ],
)
def test_keys_that_do_not_go_together_are_refused_by_their_section(path, value, key, words):
    (line,) = refusal(with_value(path, value))
    assert line.startswith(f"{key}: ")
    assert words in line


def test_rotary_positions_need_heads_of_an_even_size():
    model = {"position": "rope", "head_size": None, "heads": 64}
    with pytest.raises(ParamsError, match=r"model: position rope needs heads of an even size, fou"):
        tiny.params(model=model | {"channels": [8, 64]})


def with_kind(place, name, **given):
    """The project's parameters with another kind at ``place``, its sub-section as given."""
    return with_value(place, {"name": name, name: given})


STILL = {"bias_start": None, "bias_steps": None}
MOVING = {"bias_start": -8.0, "bias_steps": 100_000}
KINDS = [
    ("diffusion.loss", "sigmoid", {"bias": -3.0} | STILL),
    ("diffusion.loss", "sigmoid", {"bias": -3.0} | MOVING),
    ("diffusion.loss", "power", {"bias": -3.0, "levels": 2, "normalisation": "mean"} | STILL),
    ("diffusion.loss", "power", {"bias": 0.0, "levels": 0, "normalisation": "sum"} | MOVING),
    *(("diffusion.loss", name, {}) for name in ("edm", "edm_monotonic", "elbo", "low_bit")),
    ("diffusion.schedule", "cosine", {"logsnr_min": -8.0, "logsnr_max": 9.0}),
    ("sampling.sampler", "addim", {"eta": 0.2}),
    *(("sampling.sampler", name, {}) for name in ("ddim", "dpm_solver", "heun")),
]


@pytest.mark.parametrize(("place", "name", "given"), KINDS)
def test_a_kind_is_taken_with_what_it_needs(place, name, given):
    section, choice = place.split(".")
    parsed = config.parse(with_kind(place, name, **given)).model_dump()
    assert parsed[section][choice] == {"name": name, name: given}


@pytest.mark.parametrize("place", sorted({place for place, *_ in KINDS}))
def test_one_key_selects_a_kind(place):
    """Of what params.yaml holds already; nothing has to be removed or set to null."""
    section, choice = place.split(".")
    for name in getattr(getattr(config.parse(tiny.PARAMS), section), choice).registry:
        chosen = getattr(config.parse(with_value(f"{place}.name", name)), section)
        dumped = chosen.model_dump()[choice]
        assert dumped == {"name": name, name: tiny.PARAMS[section][choice].get(name, {})}


@pytest.mark.parametrize(
    ("place", "name", "given", "line"),
    [
        ("diffusion.loss", "sigmoid", STILL, "sigmoid.bias: missing; expected number"),
        (
            "diffusion.loss",
            "sigmoid",
            {"bias": 4.0} | STILL | {"bias_start": -8.0},
            "sigmoid: bias_start is -8.0 and bias_steps None; give both, or null for both",
        ),
        (
            "diffusion.loss",
            "power",
            {"bias": 4.0, "levels": 1, "normalisation": "mean"} | STILL | {"bias_steps": 9},
            "power: bias_start is None and bias_steps 9; give both, or null for both",
        ),
        (
            "diffusion.loss",
            "sigmoid",
            {"bias": 4.0, "levels": 2} | STILL,
            "sigmoid.levels: unknown key; levels belongs to power",
        ),
        *(
            (
                "diffusion.loss",
                name,
                {"bias": 2.0},
                f"{name}.bias: unknown key; bias belongs to sigmoid and power",
            )
            for name in ("edm", "edm_monotonic", "elbo", "low_bit")
        ),
        (
            "diffusion.schedule",
            "cosine",
            {"logsnr_min": -10.0, "logsnr_max": 10.0, "noise_res_low": 32},
            "cosine.noise_res_low: unknown key; noise_res_low belongs to cosine_interpolated",
        ),
        (
            "sampling.sampler",
            "ddim",
            {"eta": 0.1},
            "ddim.eta: unknown key; eta belongs to addim",
        ),
    ],
)
def test_a_kind_without_what_it_needs_or_with_what_it_does_not_is_refused(place, name, given, line):
    assert refusal(with_kind(place, name, **given)) == [f"{place}.{line}"]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("sigmoid.bias", "low", "number"),
        ("sigmoid.bias_start", math.inf, "number or null"),
        ("sigmoid.bias_steps", 0, "integer or null"),
        ("sigmoid.bias_steps", 1e5, "integer or null"),
        ("power.levels", -1, "integer"),
        ("power.levels", 1.5, "integer"),
    ],
)
def test_a_value_that_is_none_of_a_loss_is_refused(key, value, expected):
    """Of a kind that is not chosen too."""
    (line,) = refusal(with_value(f"diffusion.loss.{key}", value))
    assert line.startswith(f"diffusion.loss.{key}: found {value!r} ")
    assert f"expected {expected}: " in line


def test_an_unknown_kind_is_refused_with_the_nearest_and_all():
    (line,) = refusal(with_value("diffusion.loss.name", "sigmod"))
    kinds = "sigmoid, power, edm, edm_monotonic, elbo, low_bit"
    assert line == (
        f"diffusion.loss.name: no kind 'sigmod'; the nearest is sigmoid (there are: {kinds})"
    )


@pytest.mark.parametrize(
    ("path", "nearest", "expected"),
    [
        ("train.optimiser.learningrate", "train.optimiser.learning_rate", "number"),
        ("model.chanels", "model.channels", "list of integer"),
        (
            "diffusion.schedule.cosine_interpolated.noise_high",
            "diffusion.schedule.cosine_interpolated.noise_res_high",
            "integer or null",
        ),
        ("distil", "distill", "a section"),
        (
            "sampling.sampeler",
            "sampling.sampler",
            "a section with name, one of ddpm, addim, ddim, dpm_solver, heun",
        ),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(path, nearest, expected):
    (line,) = refusal(with_value(path, 1))
    assert line == f"{path}: unknown key; the nearest known one is {nearest} ({expected})"


def test_a_missing_key_is_named_with_its_type():
    raw = copy.deepcopy(tiny.PARAMS)
    del raw["train"]["optimiser"]["adam_b1"], raw["eval"]
    assert refusal(raw) == [
        "train.optimiser.adam_b1: missing; expected number",
        "eval: missing; expected a section",
    ]


def test_every_problem_is_listed_at_once():
    raw = with_value("train.steps", "many")
    raw["train"]["stesp"], raw["seed"] = 1, -1
    assert {line.split(":")[0] for line in refusal(raw)} == {"seed", "train.steps", "train.stesp"}


@pytest.mark.parametrize("path", CHOSEN)
def test_every_key_is_needed_and_known(path):
    *parents, last = path.split(".")
    raw = copy.deepcopy(tiny.PARAMS)
    section = raw
    for parent in parents:
        section = section[parent]
    value = section.pop(last)
    (line,) = refusal(raw)
    assert line.startswith(f"{path}: missing; expected ")
    section[f"{last}_"] = value
    unknown = next(line for line in refusal(raw) if line.startswith(f"{path}_"))
    assert f"the nearest known one is {path} (" in unknown or "no kind 'name_'" in unknown


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@given(st.sampled_from(LEAVES), ANYTHING)
def test_whatever_stands_at_a_key_is_taken_or_refused_by_its_name(path, value):
    try:
        config.parse(with_value(path, value))
    except ParamsError as error:
        message = str(error)
        assert path in message or f"{path.rpartition('.')[0]}: " in message


@given(ANYTHING)
def test_whatever_the_file_holds_is_refused_in_words(value):
    with pytest.raises(ParamsError, match=r"params\.yaml has \d+ problem"):
        config.parse(value)


def test_parameters_cannot_be_changed():
    params = tiny.params()
    with pytest.raises(ValueError, match="frozen"):
        params.train.steps = 3
