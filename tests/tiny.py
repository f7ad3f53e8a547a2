"""A pipeline small enough for tests: every stage's parameters, and a folder to run them in."""

import copy
import shutil
from pathlib import Path

from ruamel.yaml import YAML

from sid2core import config

ROOT = Path(__file__).resolve().parents[1]
PARAMS = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
"""The project's own parameters, as read from YAML."""

MODEL = {
    "patch_size": 2,
    "channels": [8, 16],
    "blocks": ["res", "transformer"],
    "encoder_depth": [0],
    "decoder_depth": [0],
    "mid_depth": 1,
    "dropout": [0.0, 0.1],
    "emb_channels": 16,
    "head_size": 8,
}
"""Few blocks: what tests of stages wait for is compilation, and it grows with their number."""
SECTIONS = {
    "reference": {"channels": [8], "feature_size": 6, "steps": 10, "batch_size": 16},
    "model": MODEL,
    "train": {"steps": 30, "batch_size": 16, "ema_decay": 0.9},
    "sampling": {"steps": 4, "batch_size": 16},
    "guidance_search": {
        "weights": [0.5, 2.0],
        "intervals": [[-3.0, 5.0]],
        "samples": 24,
        "repeats": 2,
    },
    "distill": {"steps": [2], "iterations": 10, "batch_size": 16, "score_samples": 24},
    "eval": {"samples": 40, "keep": 30, "grid_columns": 3, "chunk_size": 16},
    "runtime": {"log_every": 5, "checkpoint_every": 10},
}


def raw(**sections):
    """``params.yaml`` as a mapping, tiny; ``sections`` change single keys of it."""
    value = copy.deepcopy(PARAMS)
    for changes in (SECTIONS, sections):
        for name, change in changes.items():
            if isinstance(change, dict):
                value[name] |= copy.deepcopy(change)
            else:
                value[name] = change
    return value


def params(**sections) -> config.Params:
    """The same, checked."""
    return config.parse(raw(**sections))


def write(folder: Path, **sections) -> None:
    """Write ``params.yaml`` into ``folder``."""
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(raw(**sections), file)


def copied(source: Path, target: Path) -> Path:
    """A project folder's artifacts, reports and parameters, to be harmed."""
    return Path(shutil.copytree(source, target, dirs_exist_ok=True))
