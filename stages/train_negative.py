"""train_negative: a smaller or less trained model, which autoguidance moves away from."""

from __future__ import annotations

from sid2core.pipeline import launch

if __name__ == "__main__":
    launch.prepare("train_negative")

import logging
from pathlib import Path

from sid2core import atomic, config
from sid2core.config import negative
from sid2core.config.search import TRAINED
from sid2core.pipeline import context, stage

REPORTS = Path("reports/train_negative")
_log = logging.getLogger(__name__)


def main(params: config.Params) -> None:
    """Train it as ``train`` does; without ``train_negative.steps`` write an empty artifact."""
    if params.train_negative.steps is None:
        _write_nothing(params)
        return
    # Imported here: without a training no JAX is needed.
    from stages import train

    if TRAINED not in params.guidance_search.negatives:
        _log.warning("guidance_search.negatives does not name %s: nothing uses the model", TRAINED)
    train.train("train_negative", negative.params_of(params), REPORTS)


def _write_nothing(params: config.Params) -> None:
    """An artifact without files, whose metadata has 0 steps, and empty reports."""
    with context.begin("train_negative", params).create_by_content(()) as draft:
        draft.metadata["steps"] = 0
    atomic.write_text(REPORTS / "curve.csv", "step,loss\n")
    atomic.write_json(REPORTS / "metrics.json", {"steps": 0})


if __name__ == "__main__":
    stage.run("train_negative", main)
