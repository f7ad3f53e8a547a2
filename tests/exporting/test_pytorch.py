"""The folder for diffusers: its network, its tokens, and its pipeline in another process."""

import os
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
MADE = [
    models.of_classes,
    models.unconditional,
    models.of_clips,
    models.of_text,
    models.of_frozen_text,
]
PROGRAM = """
import torch
from diffusers import DiffusionPipeline

class Encoder(torch.nn.Embedding):
    device = torch.device("cpu")
    def forward(self, ids, mask):
        found = super().forward(ids)
        return type("Output", (), {{"last_hidden_state": found}})

class Program:
    def __init__(self, folder):
        self.pipeline = DiffusionPipeline.from_pretrained(
            folder, custom_pipeline=str(folder), trust_remote_code=True, {loaded}
        )
    def draw(self, noise):
        how = {{"num_inference_steps": len(noise), "noise": noise, "output_type": "np"}}
        return 2.0 * self.pipeline({asked}, **how).images - 1.0

load = Program
"""


def drawn(exported, place, asked, loaded=""):
    """What the pipeline draws in another process, from the noise of the case, in [-1, 1]."""
    written(exported, place / "out")
    noise = cases.drawing_inputs(exported, free=True)["noise"]
    np.savez(place / "inputs.npz", **{"draw/noise": noise})
    (place / "program.py").write_text(PROGRAM.format(asked=asked, loaded=loaded), "utf-8")
    command = [sys.executable, "-I", FILES / "check.py", "program.py", "out", "inputs.npz"]
    environment = os.environ | {"HF_HOME": str(place), "HF_HUB_OFFLINE": "1"}
    subprocess.run([*command, "found.npz", *pytorch.ABSENT], cwd=place, env=environment, check=True)
    return np.load(place / "found.npz")["draw"]


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
    texts = ["a red ring", "two blue rings"]
    asked = exported.trained.prompts().conditions_of(texts, exported.trained.condition)
    asked = asked._replace(label=np.array([1, 1], np.int32))
    inputs = cases.drawing_inputs(exported, free=True)
    expected = cases.drawing(exported, inputs | cases.arrays(asked))
    found = drawn(exported, tmp_path, f"prompt={texts}, class_labels='dog'")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_a_t5_of_the_user_encodes_prompts(tmp_path):
    exported = models.exported(models.of_frozen_text(tmp_path / "model"), guidance=0.5, steps=3)
    ids, mask = np.array([[4, 5, 1, 0, 0], [3, 2, 5, 1, 0]]), np.arange(5) < [[3], [4]]
    table = np.random.default_rng(0).normal(size=(6, 7)).astype(np.float32)
    vectors = np.where(mask[..., None], table[ids], 0.0).astype(np.float16)
    condition = {"text": vectors.astype(np.float32), "text_mask": mask}
    expected = cases.drawing(exported, cases.drawing_inputs(exported, free=True) | condition)
    loaded = f"text_encoder=Encoder.from_pretrained(torch.tensor({table.tolist()}))"
    found = drawn(exported, tmp_path, 'prompt=["red ring", "a blue ring"]', loaded)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_clips_begin_with_the_given_frames(tmp_path):
    exported = models.exported(models.of_clips(tmp_path / "model"), guidance=0.5, steps=2)
    frames = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 1), np.uint8)
    asked = f"given=torch.tensor({frames.tolist()}), batch_size=2"
    found = drawn(exported, tmp_path, asked)
    given = {"given": np.stack([frames] * 2), "labels": np.array([0, 1], np.int32)}
    expected = cases.drawing(exported, cases.drawing_inputs(exported, free=True) | given)
    np.testing.assert_allclose(found[:, :1], given["given"] / 127.5 - 1.0, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found[:, 1:], expected, rtol=0, atol=1e-4)
