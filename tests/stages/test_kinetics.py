"""The preset of Kinetics-600 with toy widths and steps: from video files to the page."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from sid2core import config
from sid2core.config import presets, yaml_edit
from tests import tiny
from tests.data import videos
from tests.stages.dag import STAGES

FRAMES, GIVEN, SIZE = 6, 2, 16


def kinetics(folder):
    """40 files in two splits and classes, of which one is cut off and one is missing."""
    rows = {"train": [], "val": []}
    for index in range(40):
        split, label = (
            ("train", "val")[index % 4 == 3],
            "ab"[index % 2 if index % 4 < 2 else index // 4 % 2],
        )
        name = f"{index:011}_{index:06}_{index + 10:06}.mp4"
        clip = videos.encoded(np.roll(videos.frames(9), index, (1, 2)))
        videos.write(folder, {f"{split}/{label}/{name}": clip[:-200] if index == 4 else clip})
        rows[split].append(f"{label},{index:011},{index},{index + 10},{split}")
    rows["train"].append("a,missing0000,0,10,train")
    for split, lines in rows.items():
        head = "label,youtube_id,time_start,time_end,split"
        (folder / f"{split}.csv").write_text("\n".join([head, *lines]))
    return {
        **{"path": str(folder / "train"), "eval_path": str(folder / "val")},
        **{"csv": [str(folder / f"{split}.csv") for split in rows]},
        **{"frames": FRAMES, "clips_per_video": 2},
    }


@pytest.mark.slow
def test_forty_videos_pass_all_stages(tmp_path, monkeypatch):
    preset = presets.read("kinetics600", tiny.ROOT / "conf").params
    data = tiny.source("kinetics", image_size=SIZE, max_reject_fraction=0.2, **kinetics(tmp_path))
    toy = tiny.SECTIONS | {"data": data | {"given_frames": GIVEN, "shard_records": 16}}
    toy |= {"model": tiny.ONE_BLOCK | {"patch_size": 4}}
    monkeypatch.setattr(tiny, "SECTIONS", yaml_edit.merged(preset, toy))
    monkeypatch.chdir(tmp_path)
    tiny.write(tmp_path)
    shutil.copy(tiny.ROOT / "dvc.yaml", tmp_path)
    for stage in STAGES:
        stage.main(config.read())
    made = json.loads(Path("reports/prepare/metrics.json").read_text())
    assert (made["videos"], made["missing_videos"], made["clips"]) == (40, 1, 78)
    assert made["rejected_clips"] == 2
    assert Path("reports/index.html").is_file()
