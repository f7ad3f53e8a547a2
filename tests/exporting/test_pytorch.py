"""The folder for diffusers: its network, its tokens, and its pipeline in another process."""

import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sid2core.exporting import cases, folder, pytorch  # noqa: E402
from sid2core.exporting.files import tokens  # noqa: E402
from sid2core.exporting.files.model import ResidualUViT  # noqa: E402
from sid2core.exporting.formats import FILES  # noqa: E402
from sid2core.inference import requested  # noqa: E402
from tests.exporting import models  # noqa: E402
from tests.exporting.test_folder import written  # noqa: E402

PROMPTS = ["a red ring", "", "two blue rings on a red ground that is much too long"]
MADE = [models.of_classes, models.unconditional, models.of_clips, models.of_text]
ASKED = """
import torch
from diffusers import DiffusionPipeline

class Program:
    def __init__(self, folder):
        self.pipeline = DiffusionPipeline.from_pretrained(
            folder, custom_pipeline=str(folder), trust_remote_code=True
        )
    def draw(self, noise):
        asked = {"prompt": ["a red ring", "two blue rings"], "class_labels": "dog"}
        return self.pipeline(
            **asked, num_inference_steps=len(noise), noise=noise, output_type="np"
        ).images

load = Program
"""


@pytest.mark.parametrize("made", MADE)
def test_the_network_of_the_folder_gives_what_ours_gives(made, tmp_path):
    exported = models.exported(made(tmp_path / "model"))
    place = written(exported, tmp_path / "out")
    net = ResidualUViT.from_pretrained(place / pytorch.NETWORK)
    inputs = cases.network_inputs(exported)
    with torch.no_grad():
        found = net(**{name: torch.tensor(one) for name, one in inputs.items()}).numpy()
    expected = cases.network_output(exported, inputs)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_tokens_are_ours(tmp_path):
    exported = models.exported(models.of_text(tmp_path / "model"))
    place = written(exported, tmp_path / "out")
    ids, mask = tokens.Tokens.from_pretrained(place / "tokenizer")(PROMPTS, 8)
    expected = exported.trained.prompts().encoder.tokenize(PROMPTS)
    np.testing.assert_array_equal(ids, expected.ids)
    np.testing.assert_array_equal(mask, expected.mask)


@pytest.mark.slow
@pytest.mark.parametrize("made", MADE)
def test_the_pipeline_draws_the_same_from_the_same_noise(made, tmp_path):
    exported = models.exported(
        made(tmp_path / "model"), sampler=requested.sampler_named("heun"), steps=3
    )
    differences = dict(folder.write(exported, "torch", tmp_path / "out"))
    assert set(differences) == {"network", "draw"}


@pytest.mark.slow
def test_prompts_and_class_names_are_understood(tmp_path):
    exported = models.exported(models.of_text(tmp_path / "model"), guidance=0.5, steps=3)
    written(exported, tmp_path / "out")
    inputs = cases.drawing_inputs(exported, free=True)
    condition = exported.trained.prompts().conditions_of(
        ["a red ring", "two blue rings"], exported.trained.condition
    )
    asked = condition._replace(label=np.array([1, 1], np.int32))
    expected = cases.drawing(exported, inputs | cases.arrays(asked))
    np.savez(tmp_path / "inputs.npz", **{"draw/noise": inputs["noise"]})
    (tmp_path / "program.py").write_text(ASKED, "utf-8")
    command = [sys.executable, "-I", FILES / "check.py", "program.py", "out", "inputs.npz"]
    subprocess.run([*command, "found.npz", *pytorch.ABSENT], cwd=tmp_path, check=True)
    found = 2.0 * np.load(tmp_path / "found.npz")["draw"] - 1.0
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
