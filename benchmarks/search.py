"""The guidance search: a race beside a grid of the same settings, at equal confidence.

    python -m benchmarks.search [--artifacts artifacts] [--seeds 3] [--samples 2000] [--first 250]

It takes the folder of artifacts of a finished ``dvc repro train``, and searches with the parameters
of ``params.yaml`` unless others are given. Each seed has noise and conditions of its own; the model
is the same. The images of a race are among those of the grid, so they are drawn once.

The race's winner is within the grid's interval where the grid cannot distinguish it from its own
lowest distance.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sid2core.pipeline import launch

if __name__ == "__main__":
    launch.start_again()

import jax

from sid2core import config
from sid2core.config import build
from sid2core.evaluation import race, sample_conditions, sampler_spec
from sid2core.evaluation.drawing import EvaluationRun
from sid2core.evaluation.race import Runner
from sid2core.inference import guidance_search
from sid2core.inference.guidance_search import Setting
from sid2core.inference.model import Trained
from sid2core.inference.search_table import Score
from sid2core.inference.searched import Models
from sid2core.metrics.evaluator import Evaluator
from sid2core.pipeline import artifact
from sid2core.training import mesh

SIZES = ("samples", "first")
RESULT = Path(__file__).parent / "results" / "search.json"


def searched(
    strategy: str, folder: Path, root: Path, params: config.Params, seed: int
) -> tuple[list[Score], int]:
    """The score of each setting, and how many images were drawn, by the search's own functions."""
    settings = params.guidance_search.model_copy(update={"strategy": strategy})
    inputs = {
        name: artifact.load(name, root=root) for name in ("prepare", "text", "reference", "train")
    }
    sharding = mesh.local(params.runtime.mesh).batch
    model = Trained.load(inputs["train"].checked(), build.execution(params.runtime))
    data = sample_conditions.records(inputs, model.shape, sharding)
    condition = sample_conditions.conditions(model.condition, data, settings.samples, seed)
    models, sampling = Models(model), params.sampling
    runners = [
        Runner(one, sampler_spec.searched(models.of(one), sampling, f"setting-{index:04d}"))
        for index, one in enumerate(guidance_search.settings(settings, model.condition, sampling))
    ]
    evaluator = Evaluator.load(inputs["reference"], sharding)
    run = EvaluationRun(
        "guidance_search", folder, evaluator, sampling.batch_size, sharding, settings.first
    )
    return race.run(runners, condition, settings, run, seed)


def outcome(scores: Sequence[Score], images: int, confidence: float) -> dict[str, Any]:
    """What a search cost, and what it chose."""
    verdict = guidance_search.verdict(scores, images, confidence)
    return {
        "images": images,
        "network_evaluations": sum(one.samples * one.nfe for one in scores),
        "winner": asdict(guidance_search.setting_of(verdict["best"])),
        "not_distinguishable": len(verdict["kept"]),
    }


def compared(
    raced: Sequence[Score], images: int, grid: Sequence[Score], all_images: int, confidence: float
) -> dict[str, Any]:
    """A race beside a grid: both outcomes, and where the race's winner stands in the grid."""
    found = {
        "race": outcome(raced, images, confidence),
        "grid": outcome(grid, all_images, confidence),
    }
    winner = Setting(**found["race"]["winner"])
    (place,) = (one for one in grid if guidance_search.setting_of(asdict(one)) == winner)
    evaluations = [found[name]["network_evaluations"] for name in ("race", "grid")]
    return found | {
        "share_of_network_evaluations": round(evaluations[0] / evaluations[1], 4),
        "same_winner": found["race"]["winner"] == found["grid"]["winner"],
        "excess_in_the_grid": [place.excess, place.excess_low, place.excess_high],
        "within_the_grids_interval": place.kept,
    }


def main() -> None:
    """Search, print, and write the result after every seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifacts", type=Path, default=artifact.ROOT)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, help="most images of a setting")
    parser.add_argument("--first", type=int, help="images of a setting in a race's first round")
    parser.add_argument("--result", type=Path, default=RESULT)
    options = parser.parse_args()
    params = config.read()
    settings = params.guidance_search
    sizes = {name: getattr(options, name) or getattr(settings, name) for name in SIZES}
    settings = settings.model_copy(update=sizes)
    params = params.model_copy(update={"guidance_search": settings})
    given = "".join(f" --{name} {value}" for name, value in sizes.items())
    command = f"python -m benchmarks.search --seeds {options.seeds}{given}"
    value: dict[str, Any] = {
        "command": command,
        "commit": subprocess.check_output(["git", "rev-parse", "HEAD"], text=True).strip(),
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "guidance_search": settings.model_dump(mode="json"),
        "results": {},
    }
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as place:
            folder, root = Path(place), options.artifacts
            raced = searched("race", folder, root, params, seed)
            grid = searched("grid", folder, root, params, seed)
        result = compared(*raced, *grid, settings.confidence)
        value["results"][f"seed {seed}"] = result
        print(f"seed {seed}: {json.dumps(result)}", flush=True)
        options.result.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
