"""Parameters of the earlier layout: where each key went, and weights made with them."""

import pytest

from sid2core import config
from sid2core.config import ParamsError, legacy
from tests import tiny

SCHEDULE = {
    "name": "cosine_interpolated",
    "noise_res_low": 8,
    "noise_res_high": None,
    "logsnr_min": -10.0,
    "logsnr_max": 10.0,
    "shift": "sid",
}
NULL = dict.fromkeys(("bias", "bias_start", "bias_steps", "levels"))


def refusal(raw):
    with pytest.raises(ParamsError) as caught:
        config.parse(raw)
    heading, *lines = str(caught.value).splitlines()
    assert heading == f"params.yaml is of an earlier layout; {len(lines)} key(s) moved:"
    return [line.strip() for line in lines]


@pytest.mark.parametrize(
    ("section", "flat", "lines"),
    [
        (
            "diffusion",
            {"prediction": "v", "schedule": SCHEDULE, "loss": {"name": "edm"}},
            [
                f"diffusion.schedule.{key} moved to diffusion.schedule.cosine_interpolated.{key}"
                for key in ("noise_res_low", "noise_res_high", "logsnr_min", "logsnr_max", "shift")
            ],
        ),
        (
            "diffusion",
            {"schedule": {"name": "cosine", "logsnr_min": -8.0, "shift": "sid"}},
            [
                "diffusion.schedule.logsnr_min moved to diffusion.schedule.cosine.logsnr_min",
                "diffusion.schedule.shift moved to diffusion.schedule.cosine_interpolated.shift",
            ],
        ),
        (
            "diffusion",
            {"loss": NULL | {"name": "sigmoid", "bias": 4.0}},
            [
                "diffusion.loss.bias moved to diffusion.loss.sigmoid.bias",
                "diffusion.loss.bias_start moved to diffusion.loss.sigmoid.bias_start",
                "diffusion.loss.bias_steps moved to diffusion.loss.sigmoid.bias_steps",
                "diffusion.loss.levels moved to diffusion.loss.power.levels",
            ],
        ),
        (
            "diffusion",
            {"loss": {"name": "power", "bias": 4.0, "levels": 2}},
            [
                "diffusion.loss.bias moved to diffusion.loss.power.bias",
                "diffusion.loss.levels moved to diffusion.loss.power.levels",
            ],
        ),
        (
            "sampling",
            {"sampler": "ddpm", "logvar_fraction": 0.3, "eta": 0.1},
            [
                "sampling.sampler moved to sampling.sampler.name: "
                "found 'ddpm' where a section is expected",
                "sampling.logvar_fraction moved to sampling.sampler.ddpm.logvar_fraction",
                "sampling.eta moved to sampling.sampler.addim.eta",
            ],
        ),
    ],
)
def test_a_key_of_the_earlier_layout_is_refused_with_its_new_place(section, flat, lines):
    assert refusal(tiny.PARAMS | {section: flat}) == lines


@pytest.mark.parametrize("move", legacy.MOVES, ids=lambda move: move.old)
def test_every_old_key_is_refused_with_the_place_of_the_kind_that_has_it(move):
    *parents, last = move.old.split(".")
    for kind in move.kinds or ("",):
        raw = tiny.raw()
        section = raw
        for parent in parents:
            section = section[parent]
        section[last] = None
        if move.kinds:
            choice = raw
            for part in move.kind.removesuffix(".name").split("."):
                choice = choice[part]
            choice["name"] = kind
        assert refusal(raw) == [f"{move.old} moved to {move.new.format(kind)}"]


@pytest.mark.parametrize("place", legacy.NAMES)
def test_a_name_in_the_place_of_a_section_is_refused(place):
    section, key = place.split(".")
    raw = tiny.raw()
    raw[section][key] = "folder"
    assert refusal(raw) == [
        f"{place} moved to {place}.name: found 'folder' where a section is expected"
    ]


def test_the_earlier_data_section_is_refused_with_the_place_of_its_source():
    flat = {"source": "frames", "path": "a", "frames": 3, "labels": None, "workers": 2}
    assert refusal(tiny.PARAMS | {"data": flat}) == [
        "data.source moved to data.source.name: found 'frames' where a section is expected",
        "data.path moved to data.source.frames.path",
        "data.labels moved to data.source.folder.labels",
        "data.frames moved to data.source.frames.frames",
        "data.workers moved to runtime.workers",
    ]


def test_every_new_place_exists():
    """A value that is no value of any key is refused there, not for the key."""
    for move in legacy.MOVES:
        for kind in move.kinds or ("",):
            path = move.new.format(kind)
            section, *rest = path.split(".")
            raw = tiny.raw()
            here = raw[section]
            for part in rest[:-1]:
                here = here[part]
            assert rest[-1] in here, path


@pytest.mark.parametrize(
    ("flat", "nested"),
    [
        (
            NULL | {"name": "sigmoid", "bias": 4.0},
            {
                "name": "sigmoid",
                "sigmoid": {"bias": 4.0, "bias_start": None, "bias_steps": None},
            },
        ),
        (
            {"name": "power", "bias": 1.0, "bias_start": -8.0, "bias_steps": 9, "levels": 2},
            {
                "name": "power",
                "power": {
                    "bias": 1.0,
                    "bias_start": -8.0,
                    "bias_steps": 9,
                    "levels": 2,
                    "normalisation": "sum",
                },
            },
        ),
        (NULL | {"name": "edm"}, {"name": "edm", "edm": {}}),
    ],
)
def test_the_diffusion_section_of_old_weights_is_converted(flat, nested):
    old = {"prediction": "v", "schedule": SCHEDULE, "loss": flat}
    new = legacy.upgraded(old)
    parsed = config.Diffusion.model_validate(new)
    assert parsed.loss.model_dump() == nested
    kind = SCHEDULE["name"]
    fields = {key: value for key, value in SCHEDULE.items() if key != "name"}
    assert parsed.schedule.model_dump() == {"name": kind, kind: fields}
    assert legacy.upgraded(parsed.model_dump()) == parsed.model_dump()


def test_todays_layout_is_left_as_it_is():
    assert list(legacy.moved(tiny.PARAMS)) == []
    assert legacy.upgraded(tiny.PARAMS["diffusion"]) == tiny.PARAMS["diffusion"]
