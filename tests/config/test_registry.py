"""Choices of ``params.yaml``: dynamic validation, errors that name kinds, dumps of one kind."""

from typing import Any, ClassVar, Literal

import pytest
from pydantic import ValidationError

from sid2core.config import explain
from sid2core.config.registry import Choice, FromFields, Kinds, Registry
from sid2core.config.section import Finite, ParamsError, Positive, Section

LOSSES = Registry("diffusion.loss")
EXTRACTORS = Registry("eval.extractors")


class Sigmoid(Section):
    bias: Finite
    shape: Literal["flat", "steep"]


class Power(Section):
    bias: Finite
    levels: Positive


class Nothing(Section):
    pass


class Inception(Section):
    weights: str
    mode: Literal["tf1", "torch"]
    statistics: str | None


def made(settings: Section, **context: Any) -> tuple[Section, dict[str, Any]]:
    return settings, context


def refusing(settings: Section) -> None:
    raise ValueError(f"levels {settings.levels} is too many; lower it to 2")


LOSSES.register("sigmoid", Sigmoid, made)
LOSSES.register("power", Power, refusing)
LOSSES.register("edm", Nothing, "collections:OrderedDict.fromkeys")
EXTRACTORS.register("inception", Inception, made)
EXTRACTORS.register("dinov2", Nothing, made)


class Loss(Choice):
    registry: ClassVar[Registry] = LOSSES


class Extractors(Kinds):
    registry: ClassVar[Registry] = EXTRACTORS


class Diffusion(Section):
    loss: Loss


class Eval(Section):
    extractors: Extractors


class Root(Section):
    diffusion: Diffusion
    eval: Eval


SIGMOID = {"bias": 4.0, "shape": "flat"}


def parse(loss, extractors=None):
    return Root.model_validate(
        {"diffusion": {"loss": loss}, "eval": {"extractors": extractors or {}}}
    )


def refusal(loss, extractors=None):
    with pytest.raises(ValidationError) as caught:
        parse(loss, extractors)
    return [line.strip() for line in explain.lines(Root, caught.value)]


def test_one_key_selects_a_kind_and_only_that_kind_is_dumped():
    everything = {"sigmoid": SIGMOID, "power": {"bias": 1.0, "levels": 2}, "edm": {}}
    for name, settings in everything.items():
        root = parse({"name": name, **everything})
        assert root.diffusion.loss.name == name
        assert root.diffusion.loss.settings.model_dump() == settings
        assert root.model_dump()["diffusion"] == {"loss": {"name": name, name: settings}}
        assert Root.model_validate(root.model_dump()) == root
        assert hash(root.diffusion) == hash(Root.model_validate(root.model_dump()).diffusion)


def test_a_kind_without_parameters_needs_no_sub_section():
    assert parse({"name": "edm"}) == parse({"name": "edm", "edm": {}})
    assert parse({"name": "edm", "edm": None}).model_dump()["diffusion"]["loss"]["edm"] == {}


def test_a_kind_that_is_not_chosen_may_be_incomplete():
    loss = {"name": "edm", "sigmoid": {"bias": None}, "power": None}
    assert parse(loss).diffusion.loss.name == "edm"


def test_targets_are_called_with_settings_and_context():
    loss = parse({"name": "sigmoid", "sigmoid": SIGMOID}).diffusion.loss
    assert loss.build(height=8) == (Sigmoid(**SIGMOID), {"height": 8})
    assert parse({"name": "edm"}).diffusion.loss.build(value=3) == {}


def test_a_target_may_take_the_fields_one_by_one():
    registry = Registry("a")
    registry.register("kind", Power, FromFields("builtins:dict"))
    made = registry["kind"].resolve()(Power(bias=1.0, levels=2), size=8)
    assert made == {"bias": 1.0, "levels": 2, "size": 8}


def test_a_target_that_refuses_its_settings_is_a_params_error_with_the_key():
    loss = parse({"name": "power", "power": {"bias": 0.0, "levels": 9}}).diffusion.loss
    with pytest.raises(ParamsError, match=r"^diffusion\.loss\.power: levels 9 is too many; lower"):
        loss.build()


@pytest.mark.parametrize("target", ["sid2core.nowhere:make", "sid2core.rng:nothing"])
def test_a_target_that_does_not_exist_is_named(target):
    registry = Registry("a")
    registry.register("kind", Nothing, target)
    with pytest.raises(ParamsError, match=f"^cannot import '{target}'"):
        registry["kind"].resolve()


@pytest.mark.parametrize(
    ("loss", "lines"),
    [
        (
            {"name": "edmm"},
            [
                "diffusion.loss.name: no kind 'edmm'; the nearest is edm "
                "(there are: sigmoid, power, edm)"
            ],
        ),
        (
            {"sigmoid": SIGMOID},
            ["diffusion.loss.name: missing; expected one of sigmoid, power, edm"],
        ),
        (
            {"name": "edm", "edm": {"bias": 1.0}},
            ["diffusion.loss.edm.bias: unknown key; bias belongs to sigmoid and power"],
        ),
        (
            {"name": "edm", "edm": {"colour": 1.0}},
            ["diffusion.loss.edm.colour: unknown key; edm has no parameters"],
        ),
        (
            {"name": "edm", "bias": 1.0},
            ["diffusion.loss.bias: unknown key; bias belongs to sigmoid and power"],
        ),
        (
            {"name": "edm", "sigmod": SIGMOID},
            [
                "diffusion.loss.sigmod: unknown key; no kind 'sigmod'; the nearest is sigmoid "
                "(there are: sigmoid, power, edm)"
            ],
        ),
        (
            {"name": "edm", "power": {"level": 2}},
            [
                "diffusion.loss.power.level: unknown key; "
                "the nearest known one is diffusion.loss.power.levels (integer)"
            ],
        ),
        (
            {"name": "sigmoid", "sigmoid": {"bias": "low"}},
            [
                "diffusion.loss.sigmoid.bias: found 'low' (str); expected number: "
                "input should be a valid number",
                "diffusion.loss.sigmoid.shape: missing; expected one of flat, steep",
            ],
        ),
        (
            {"name": "sigmoid", "sigmoid": {"bias": None, "shape": "flat"}},
            [
                "diffusion.loss.sigmoid.bias: found None (NoneType); expected number: "
                "input should be a valid number"
            ],
        ),
        (
            {"name": "sigmoid"},
            [
                "diffusion.loss.sigmoid.bias: missing; expected number",
                "diffusion.loss.sigmoid.shape: missing; expected one of flat, steep",
            ],
        ),
        (
            {"name": "edm", "power": {"levels": 0}},
            [
                "diffusion.loss.power.levels: found 0 (int); expected integer: "
                "input should be greater than 0"
            ],
        ),
    ],
)
def test_each_problem_is_named_by_its_key_with_the_cure(loss, lines):
    assert refusal(loss) == lines


def test_a_choice_that_is_not_a_section_says_what_it_needs():
    (line,) = refusal("edm")
    expected = "a section with name, one of sigmoid, power, edm"
    assert line.startswith(f"diffusion.loss: found 'edm' (str); expected {expected}: ")


INCEPTION = {"weights": "w.pth", "mode": "tf1", "statistics": None}


def test_kinds_that_are_given_are_kept_in_the_registrys_order():
    given = {"dinov2": {}, "inception": INCEPTION}
    kinds = parse({"name": "edm"}, given).eval.extractors
    assert list(kinds.chosen) == ["inception", "dinov2"]
    assert kinds.model_dump() == given


@pytest.mark.parametrize("unused", [None, {}, INCEPTION | {"weights": None}])
def test_a_kind_without_what_it_needs_is_not_used(unused):
    extractors = parse({"name": "edm"}, {"inception": unused, "dinov2": None}).eval.extractors
    assert extractors.chosen == {}
    assert extractors.model_dump() == {}


@pytest.mark.parametrize(
    ("extractors", "line"),
    [
        (
            {"inception": {"weights": None, "mode": "tf2", "statistics": None}},
            "eval.extractors.inception.mode: found 'tf2' (str); expected one of tf1, torch: ",
        ),
        (
            {"dinov2": {"mode": "tf1"}},
            "eval.extractors.dinov2.mode: unknown key; mode belongs to inception",
        ),
        (
            {"inception": INCEPTION | {"weights": None, "statistics": "s.npz"}},
            "eval.extractors.inception.statistics: found 's.npz', which has no effect without "
            "weights; set weights, or statistics to null",
        ),
        (
            {"incepton": INCEPTION},
            "eval.extractors.incepton: unknown key; no kind 'incepton'; the nearest is inception ",
        ),
    ],
)
def test_problems_of_kinds_are_named(extractors, line):
    assert refusal({"name": "edm"}, extractors)[-1].startswith(line)


def test_a_kind_registered_later_is_validated_like_the_others():
    registry = Registry("later")

    class Later(Choice):
        pass

    Later.registry = registry

    class Parameters(Section):
        choice: Later

    registry.register("first", Nothing, made)
    with pytest.raises(ValidationError, match="no kind 'second'"):
        Parameters.model_validate({"choice": {"name": "second"}})
    registry.register("second", Power, made)
    settings = {"bias": 1.0, "levels": 3}
    parsed = Parameters.model_validate({"choice": {"name": "second", "second": settings}})
    assert parsed.choice.settings == Power(**settings)


def test_a_name_is_taken_once_unless_the_row_is_the_same():
    registry = Registry("a")
    registry.register("kind", Nothing, made)
    registry.register("kind", Nothing, made)
    with pytest.raises(ValueError, match="'kind' is registered already"):
        registry.register("kind", Power, made)


@pytest.mark.parametrize("name", ["name", "two words", ""])
def test_a_name_that_cannot_be_a_key_is_refused(name):
    with pytest.raises(ValueError, match="cannot be the name of a kind"):
        Registry("a").register(name, Nothing, made)


def test_a_schema_that_is_not_a_section_is_refused(unchecked):
    with pytest.raises(TypeError, match=r"must derive from config\.Section"):
        Registry("a").register("kind", dict, made)


def test_a_lookup_of_an_unknown_kind_names_the_nearest():
    with pytest.raises(
        ParamsError, match=r"^diffusion\.loss: no kind 'pow'; the nearest is power "
    ):
        LOSSES["pow"]
