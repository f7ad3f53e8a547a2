"""The train stage with networks that the embedded default does not use, and drawing from them."""

import json

import jax
import numpy as np
import pytest

from sid2core.diffusion.clipping import StaticClip
from sid2core.diffusion.guidance import NoGuidance
from sid2core.diffusion.samplers import DDIM
from sid2core.inference.generator import Generator
from sid2core.inference.model import Trained
from sid2core.models.execution import Execution
from sid2core.pipeline import artifact
from stages import prepare, text, train
from tests import tiny

VARIANTS = {
    "bfloat16, rope, parallel, deep": {
        "model": tiny.ONE_BLOCK
        | {
            "compute_dtype": "bfloat16",
            "position": "rope",
            "film": "mlp",
            "order": "parallel",
            "mid_depth": 3,
        },
        "runtime": {"remat": "full", "scan_blocks": 2},
    },
    "asymmetric, patch 2, heads": {
        "model": {
            "patch_size": 2,
            "encoder_depth": [0],
            "decoder_depth": [2],
            "head_size": None,
            "heads": 2,
            "order": "mlp_first",
            "film": "attention",
        },
        "runtime": {"remat": "blocks", "attention": "recomputed"},
    },
}


@pytest.mark.parametrize(
    "name",
    [
        "bfloat16, rope, parallel, deep",
        pytest.param("asymmetric, patch 2, heads", marks=pytest.mark.slow),
    ],
)
def test_a_variant_trains_and_draws(name, tmp_path, monkeypatch):
    for variable in ("SID2_WORK", "SID2_FRESH", "DVC_ROOT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    params = tiny.params(train={"steps": 10}, **VARIANTS[name])
    prepare.main(params)
    text.main(params)
    # JAX's own attention, differentiated, raises half precision where it is lowered, not called.
    with jax.numpy_dtype_promotion("standard"):
        train.main(params)
    made = artifact.load("train")
    written = json.loads(made.path("config.json").read_text())
    for key, value in VARIANTS[name]["model"].items():
        assert written["network"][key] == value, key
    trained = Trained.load(made.folder, Execution())
    method = trained.method(DDIM(), NoGuidance(), 4, clip_x=StaticClip())
    numbers = np.arange(6)
    images = Generator(method, trained.params, 6).images(
        jax.random.key(0), numbers, tiny.labels(numbers)
    )
    assert images.shape == (6, 8, 8, 1)
    assert images.dtype == np.uint8
    assert images.std() > 0
