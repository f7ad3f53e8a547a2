"""What sections must have in common: each problem is named by its key, before any work starts."""

import math

import numpy as np
import pytest

from sid2core import config
from sid2core.config import ParamsError, build, checks, presets
from sid2core.diffusion.schedule import CosineInterpolated
from tests import tiny
from tests.refusals import refused


def problems(**sections):
    """The lines of the refusal, without the heading."""
    with pytest.raises(ParamsError) as caught:
        checks.check(tiny.params(**sections))
    heading, *lines = str(caught.value).splitlines()
    assert heading == f"params.yaml has {len(lines)} problem(s):"
    return [line.strip() for line in lines]


CLIPS = tiny.source("frames", path="nowhere", frames=5, frame_stride=1, image_size=8, channels=1)


@pytest.mark.parametrize("name", presets.names(tiny.ROOT / "conf"))
def test_every_preset_passes(name):
    assert presets.change(presets.read(name, tiny.ROOT / "conf"), tiny.ROOT / "params.yaml")


def test_a_preset_that_cannot_work_with_other_keys_changes_nothing(tmp_path):
    params, preset = tmp_path / "params.yaml", presets.read("tiny", tiny.ROOT / "conf")
    tiny.write(tmp_path, runtime={"attention": "cudnn"})
    before = params.read_bytes()
    with refused(ParamsError, f"{params} with {preset.path}", "runtime.attention: found cudnn"):
        presets.change(preset, params)
    assert params.read_bytes() == before


@pytest.mark.parametrize(
    ("sections", "key", "words"),
    [
        (
            {"model": {"patch_size": 8}},
            "model.patch_size",
            "sides that divide by 16; images are 8 × 8",
        ),
        (
            {"data": tiny.source("shapes", count=9, image_size=[32, 30])},
            "model.patch_size",
            "sides that divide by 4; images are 32 × 30",
        ),
        (
            {"data": CLIPS, "model": {"temporal_strides": [2]}},
            "model.temporal_strides",
            "frames that divide by 2; clips have 5 frames",
        ),
        (
            {"model": {"temporal_strides": [2]}},
            "model.temporal_strides",
            "images have no frames: change them to 1",
        ),
        (
            {"diffusion": {"loss": {"name": "power", "power": {"levels": 4}}}},
            "diffusion.loss.power.levels",
            "found 4; expected at most 3 for images of 8 × 8",
        ),
        (
            {"diffusion": {"schedule": {"cosine_interpolated": {"noise_res_low": 40_000}}}},
            "diffusion.schedule.cosine_interpolated.noise_res_low",
            "log-SNR would rise",
        ),
        (
            {"guidance_search": {"intervals": [[-3.0, 5.0], [12.0, 14.0]]}},
            "guidance_search.intervals.1",
            "found [12.0, 14.0]; expected an interval that overlaps the schedule's log-SNR, "
            "-10.00 to 10.00",
        ),
        (
            {"guidance_search": {"negatives": ["unconditional", 400]}},
            "guidance_search.negatives.1",
            "found step 400; expected a step of train.snapshots, None",
        ),
        (
            {"guidance_search": {"negatives": ["train_negative"]}},
            "guidance_search.negatives.0",
            "found train_negative, but train_negative.steps is null",
        ),
        (
            {
                "train_negative": {"steps": 9, "batch_size": 8},
                "train": {"accumulation": 4},
                "runtime": {"mesh": {"data": 4, "fsdp": 1}},
            },
            "train.accumulation",
            "parts of 2 images; expected parts that divide over the 4 devices of runtime.mesh: "
            "lower it, or raise train_negative.batch_size",
        ),
        (
            {
                "runtime": {"attention": "cudnn"},
                "model": {"compute_dtype": "bfloat16"},
                "train_negative": {"steps": 9, "model": {"head_size": 4}},
            },
            "runtime.attention",
            "not 4: set it to auto, or change train_negative.model.head_size",
        ),
        (
            {"guidance_search": {"negatives": [20, 30]}, "train": {"snapshots": [20, 30]}},
            "guidance_search.negatives.1",
            "step 30, the last one of the training",
        ),
        (
            {"guidance_search": {"budget": 59}},
            "guidance_search.budget",
            "expected at least 60, 12 images of each of 5 settings: raise it, lower "
            "guidance_search.first",
        ),
        (
            {"guidance_search": {"budget": 100, "strategy": "grid"}},
            "guidance_search.budget",
            "expected at least 120, 24 images of each of 5 settings",
        ),
        (
            {"guidance_search": {"averages": ["usual", {"kind": "power", "value": 0.1}]}},
            "guidance_search.averages.1",
            "found power 0.1; expected one of train.emas",
        ),
        ({"loader": {"max_shift": 8}}, "loader.max_shift", "less than the 8 pixels"),
        ({"reference": {"max_shift": 9}}, "reference.max_shift", "less than the 8 pixels"),
        (
            {"data": {"shard_records": 100, "row_group_records": 200}},
            "data.row_group_records",
            "expected at most shard_records, 100",
        ),
        (
            {"train": {"accumulation": 8}, "runtime": {"mesh": {"data": 4, "fsdp": 1}}},
            "train.accumulation",
            "parts of 2 images; expected parts that divide over the 4 devices",
        ),
        (
            {"distill": {"accumulation": 8}, "runtime": {"mesh": {"data": 2, "fsdp": 2}}},
            "distill.accumulation",
            "lower it, or raise distill.batch_size",
        ),
        (
            {"runtime": {"profile": [5, 31]}, "distill": {"iterations": 9}},
            "runtime.profile",
            "found [5, 31]; expected steps up to 30, the larger of train.steps and "
            "distill.iterations: lower it",
        ),
        (
            {"runtime": {"attention": "cudnn"}},
            "runtime.attention",
            "needs model.compute_dtype bfloat16, not float32",
        ),
        (
            {
                "runtime": {"attention": "cudnn"},
                "model": {"compute_dtype": "bfloat16", "head_size": 4},
            },
            "runtime.attention",
            "heads of a multiple of 8 up to 128 channels, not 4",
        ),
    ],
)
def test_sections_that_do_not_fit_are_refused_by_key_with_the_cure(sections, key, words):
    (line,) = problems(**sections)
    assert line.startswith(f"{key}: found ")
    assert words in line


def test_a_negative_that_does_not_fit_is_refused_with_the_rest():
    sections = {"train_negative": {"steps": 9, "model": {"channels": [8]}}}
    (line,) = problems(**sections)
    assert line.startswith("train_negative.model: blocks has 2 entries")


def test_a_negative_may_be_trained_that_the_search_does_not_use():
    checks.check(tiny.params(train_negative={"steps": 9}))


def test_all_problems_are_listed():
    lines = problems(model={"patch_size": 8}, loader={"max_shift": 8})
    assert [line.partition(":")[0] for line in lines] == ["model.patch_size", "loader.max_shift"]


def test_a_size_that_only_the_source_knows_is_not_checked(monkeypatch):
    class Own(config.Section):
        pass

    monkeypatch.setattr(config.SOURCES, "_kinds", dict(config.SOURCES._kinds))
    config.SOURCES.register("own", Own, dict)
    data = {"source": {"name": "own"}}
    checks.check(tiny.params(data=data, model={"patch_size": 8}))


@pytest.mark.parametrize("shift", ["sid", "listing"])
@pytest.mark.parametrize("low", [8, 32, 300, 600, 20_000, 40_000])
@pytest.mark.parametrize("size", [8, 64, 512])
def test_schedules_are_refused_exactly_where_the_schedule_itself_refuses(shift, low, size):
    fields = {"logsnr_min": -10.0, "logsnr_max": 10.0, "noise_res_low": low}
    fields |= {"noise_res_high": None, "shift": shift}
    kind = "cosine_interpolated"
    choice = config.Schedule.model_validate({"name": kind, kind: fields})
    if choice.settings.rises(size):
        with pytest.raises(ParamsError, match="would not be monotone"):
            build.noise_schedule(choice, size)
    else:
        made = build.noise_schedule(choice, size)
        assert isinstance(made, CosineInterpolated)
        ends = made.logsnr_exact(np.array([0.0, 1.0]))
        assert choice.settings.ends(size) == pytest.approx(ends.tolist())


def test_the_plain_cosine_has_its_own_ends():
    choice = {"name": "cosine", "cosine": {"logsnr_min": -8.0, "logsnr_max": 9.0}}
    settings = config.Schedule.model_validate(choice).settings
    assert settings.ends(512) == (9.0, -8.0)
    assert math.isclose(settings.ends(8)[0], 9.0)


def test_a_window_of_clips_is_the_shape_that_is_checked():
    clips = {"data": tiny.source("moving_digits", count=9, frames=7, image_size=16)}
    model = {"model": {"temporal_strides": [2]}}
    with refused(ParamsError, "model.temporal_strides", "clips have 7 frames"):
        checks.check(tiny.params(**clips, **model))
    checks.check(tiny.params(**clips, **model, loader={"clip_frames": 4}))
    with refused(ParamsError, "loader.clip_frames", "clips have 7 frames: set it to null"):
        checks.check(tiny.params(**clips, loader={"clip_frames": 8}))


@pytest.mark.parametrize(("frames", "words"), [(12, "have 12 frames"), (None, "are images")])
def test_extractors_of_clips_need_clips_that_are_long_enough(frames, words):
    data = tiny.source("shapes", count=9, unseen_pairs=0.0, frames=frames, image_size=16)
    extractors = {name: {"weights": "i3d.pt"} for name in ("i3d", "i3d_k600")}
    with refused(ParamsError, "eval.extractors.i3d_k600.weights", words) as caught:
        checks.check(tiny.params(data=data, eval={"extractors": extractors}))
    assert ("eval.extractors.i3d.weights" in str(caught.value)) == (frames is None)


@pytest.mark.parametrize(
    ("rates", "unlabelled", "key"),
    [
        ({"condition_dropout": 0.0}, True, "train.condition_dropout"),
        ({"given_dropout": 0.0}, False, "train.given_dropout"),
        ({"condition_dropout": 0.0, "given_dropout": 0.1}, False, "train.condition_dropout"),
        ({"condition_dropout": 0.0, "given_dropout": 0.1}, True, None),
    ],
)
def test_guidance_needs_given_frames_that_are_dropped(rates, unlabelled, key):
    source = tiny.source("moving_digits", count=9, frames=7, image_size=16)
    data = source | {"given_frames": 2, "unlabelled": unlabelled}
    sections = {"data": data, "train": rates}
    if key is None:
        checks.check(tiny.params(**sections))
        return
    with refused(ParamsError, key, "the null condition", "is then never trained"):
        checks.check(tiny.params(**sections))
    sections["train"] = rates | {"snapshots": [10]}
    without = {"guidance": {"weight": 0.0}, "guidance_search": {"negatives": [10]}}
    checks.check(tiny.params(**sections, **without))
