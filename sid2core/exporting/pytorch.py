"""PyTorch: a folder as diffusers loads it, whose network is a module in one file.

model_index.json  pipeline.py  sampling.py     the pipeline
unet/             config.json  model.py  diffusion_pytorch_model.safetensors
tokenizer/        of models that take text
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from sid2core import atomic
from sid2core.exporting import names
from sid2core.exporting.exported import Exported
from sid2core.exporting.formats import FILES
from sid2core.exporting.names import Arrays, Shape
from sid2core.models.fit import WeightsError

SUMMARY = "a PyTorch module with safetensors, in the folder layout of diffusers"
LIBRARY = "diffusers"
PACKAGES = ("torch", "diffusers")
ABSENT = ("jax", "jaxlib", "flax", "sid2core", "transformers", "torchvision")
"""Diffusers can do without the last two; where they are broken, it cannot be imported with them."""
PROGRAM = FILES / "torch_program.py"
FREE = True
NETWORK = "unet"
WEIGHTS = "diffusion_pytorch_model.safetensors"


def use(exported: Exported) -> str:
    """How to draw, in Markdown."""
    condition, about, load = exported.trained.condition, [], ""
    if condition.text is not None:
        about.append('prompt=["a text", "another text"]')
        if not condition.text.learned:
            load = ", text_encoder=T5EncoderModel.from_pretrained(T5)"
    elif condition.given is not None:
        about.append("given=frames")
    elif condition.label is not None:
        about.append(f"class_labels={[*exported.class_names[:2]] or [0, 1]}")
    lines = [
        "from diffusers import DiffusionPipeline",
        "",
        f'pipeline = DiffusionPipeline.from_pretrained(".", trust_remote_code=True{load})',
        f"images = pipeline({', '.join([*about, 'batch_size=2'])}).images",
    ]
    if load:
        lines.insert(1, "from transformers import T5EncoderModel")
    if condition.given is not None:
        shape = list(condition.given.shape)
        lines.insert(1, f"frames = ...  # the first frames, uint8 {shape}")
    return "```python\n" + "\n".join(lines) + "\n```\n"


def write(exported: Exported, folder: Path) -> None:
    """Write the folder."""
    place = folder / NETWORK
    place.mkdir()
    shape = exported.trained.shape
    fields = {name: value for name, value in vars(shape).items() if name != "condition"}
    config = {
        "network": fields,
        "condition": shape.condition.to_json(),
        "sampling": exported.settings,
    }
    atomic.write_json(place / "config.json", config)
    save_file(names.all_to_torch(exported.trained.params), place / WEIGHTS)
    shutil.copy(FILES / "model.py", place)
    for name in ("pipeline.py", "sampling.py"):
        shutil.copy(FILES / name, folder)
    index: dict[str, list[str | None]] = {
        "_class_name": ["pipeline", "SiD2Pipeline"],
        NETWORK: ["model", "ResidualUViT"],
        "tokenizer": [None, None],
        "text_encoder": [None, None],
    }
    if shape.condition.text is not None:
        shutil.copy(FILES / "tokens.py", folder / "tokenizer")
        index["tokenizer"] = ["tokens", "Tokens"]
    atomic.write_json(folder / "model_index.json", index)


def read(folder: Path, shapes: Mapping[str, Shape]) -> Arrays:
    """The weights, as the project names and lays them out."""
    path = folder / NETWORK / WEIGHTS
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        msg = f"{path} cannot be read ({error}); export the model again"
        raise WeightsError(msg) from None
    theirs = {name: np.shape(value) for name, value in found.items()}
    wrong = names.difference(theirs, names.torch_shapes(shapes))
    if wrong:
        raise WeightsError(f"{path} {wrong}: the weights are of another network")
    return names.from_torch(found, shapes)
