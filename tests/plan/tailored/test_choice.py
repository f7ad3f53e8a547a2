"""A preset for given data: larger with more time, within the time, and complete."""

from dataclasses import replace

import pytest

from sid2core.config import build, presets, yaml_edit
from sid2core.data.prepare.survey import Survey
from sid2core.plan.tailored import choice, preset_file
from sid2core.plan.tailored.choice import ChoiceError
from sid2core.plan.tailored.speed import Machine, proxy
from tests import tiny

BASE = yaml_edit.merged(tiny.PARAMS, presets.read("digits", tiny.ROOT / "conf").params)
CPU = Machine("cpu", 40e9, 20 * 2**30, "float32", 2, "a test")
GPU = Machine("h100", 1.5e14, 80 * 10**9, "bfloat16", 16, "a test")


def pets(**changes):
    values = {
        "source": {"name": "folder", "folder": {"path": "/pets", "eval_path": None}},
        "train": 3000,
        "eval": None,
        "problems": 2,
        "class_names": ("cat", "dog"),
        "smallest_class": 1200,
        "side": 300,
        "channels": 3,
        "captioned": False,
        "seconds": 0.002,
    }
    return Survey(**(values | changes))


def chosen(machine=CPU, minutes=30, size=None, **changes):
    return choice.choose(pets(**changes), machine, 60 * minutes, BASE, size)


@pytest.mark.parametrize("machine", [CPU, GPU])
@pytest.mark.parametrize("minutes", [30, 120, 1440])
def test_the_expected_time_is_that_which_was_asked_for(machine, minutes):
    made = chosen(machine, minutes, train=1_300_000, seconds=1e-4)
    assert made.budget.total <= 1.1 * 60 * minutes
    assert made.budget.seconds["train"] >= 0.4 * 60 * minutes
    assert made.params.train.steps * made.params.train.batch_size >= 50_000


def test_more_time_and_a_faster_machine_make_larger_images():
    sizes = [chosen(CPU, 30), chosen(CPU, 60 * 24), chosen(GPU, 60), chosen(GPU, 60 * 24)]
    found = [made.params.data.image_size for made in sizes]
    assert found == sorted(found)
    assert found[0] == 32
    assert found[-1] == 256


def test_images_are_never_enlarged():
    assert chosen(GPU, 60 * 24, side=70).params.data.image_size == 64
    assert chosen(GPU, 60 * 24, side=9).params.data.image_size == 16


def test_few_images_are_not_shown_more_often_than_is_of_use():
    made = chosen(GPU, 60 * 24, train=100)
    assert made.params.train.steps * made.params.train.batch_size <= 100 * 2000


def test_pictures_in_colour_are_mirrored_and_dropped_only_if_shown_often():
    often, seldom = chosen(GPU, 60 * 24, train=1000).params, chosen(train=100_000).params
    assert often.loader.horizontal_flip
    assert often.model.dropout[-1] == 0.1
    assert not seldom.loader.horizontal_flip
    assert set(seldom.model.dropout) == {0.0}


def test_unconditional_and_grey_data():
    made = chosen(class_names=("all",), channels=1)
    assert made.params.data.channels == 1
    assert made.params.loader.horizontal_flip is False


def test_a_time_that_is_too_short_is_refused_with_one_that_is_enough():
    with pytest.raises(ChoiceError, match=r"5 minutes are too short.*--time (\d+)m") as caught:
        chosen(minutes=5)
    enough = int(str(caught.value).partition("--time ")[2].partition("m")[0])
    assert chosen(minutes=enough).params.data.image_size == 16


def test_every_reason_is_of_a_key_that_is_set():
    made = chosen()
    assert made.reasons
    for key in made.reasons:
        value = made.overlay
        for part in key.split("."):
            value = value[part]


def test_the_network_that_is_measured_is_one_that_is_recommended():
    made = chosen()
    network = build.network(made.params.model, made.params.data.shape, pets().condition)
    measured = proxy(pets().condition, 3)
    assert replace(network, dropout=measured.dropout) == measured


def test_a_preset_that_is_written_is_read_as_it_was_chosen(tmp_path):
    made = chosen()
    path = preset_file.check_name("pets", tmp_path)
    preset_file.write(path, pets(), made, "sid2 preset pets && dvc repro")
    (tmp_path / "digits.yaml").write_bytes((tiny.ROOT / "conf/digits.yaml").read_bytes())
    read = presets.read("pets", tmp_path)
    params = tmp_path / "params.yaml"
    params.write_bytes((tiny.ROOT / "params.yaml").read_bytes())
    assert presets.change(read, params).params == made.params
    assert read.note("train.steps") == f"ours: {made.reasons['train.steps']}"
    assert preset_file.check_name("pets", tmp_path) == path  # it may be written again


def test_a_preset_that_was_written_by_hand_is_not_replaced(tmp_path):
    (tmp_path / "pets.yaml").write_text("extends: digits\n")
    with pytest.raises(presets.PresetError, match="choose another --name"):
        preset_file.check_name("pets", tmp_path)
    with pytest.raises(presets.PresetError, match="--name"):
        preset_file.check_name("../pets", tmp_path)


@pytest.mark.parametrize(
    ("path", "name"), [("/data/My pets.zip", "my-pets"), ("faces/", "faces"), ("/データ", "mine")]
)
def test_a_preset_is_named_after_its_data(path, name):
    assert preset_file.name_for(path) == name
