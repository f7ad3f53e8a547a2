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
