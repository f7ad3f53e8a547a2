"""Writing a preset that was chosen for the user's data, and saying what it costs and why."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.representer import RoundTripRepresenter

from sid2core import atomic
from sid2core.conditioning import UNLABELLED
from sid2core.config import build, presets
from sid2core.config.text import Learned
from sid2core.data.prepare.survey import Survey
from sid2core.models.execution import Remat
from sid2core.models.network import Network
from sid2core.plan import counting, memory
from sid2core.plan.tailored.choice import Choice
from sid2core.plan.tailored.speed import Machine

MARK = "# Written by `sid2 preset --for`; the command may replace this file.\n"
BASE = "digits"
_NAMED = 8


def name_for(path: str) -> str:
    """A preset's name after the last part of a path: ``my-pets`` for ``/data/My pets.zip``."""
    words = re.findall(r"[a-z0-9]+", Path(path).stem.lower())
    return "-".join(words) or "mine"


def check_name(name: str, folder: Path = presets.FOLDER) -> Path:
    """The file of a preset of this name.

    Raises:
        PresetError: the name cannot be a file's, or belongs to a preset that was written by hand.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        msg = f"--name {name!r}: expected letters, digits and hyphens, such as my-pets"
        raise presets.PresetError(msg)
    path = folder / f"{name}.yaml"
    if path.exists() and not path.read_text(encoding="utf-8").startswith(MARK):
        msg = f"{path} was not written by this command; choose another --name"
        raise presets.PresetError(msg)
    return path


def write(path: Path, found: Survey, chosen: Choice, command: str) -> None:
    """Write the preset; ``command`` is what the user typed."""
    examples = chosen.params.train.steps * chosen.params.train.batch_size
    nothing = {"fid": None, "fid_student_16": None, "gflops_forward": None}
    evidence = {
        "title": f"{found.train:,} images at {chosen.params.data.image_size} pixels, for this data",
        "classes": 0 if found.captioned else len(found.class_names),
        "captions": found.captioned,
        "gflops_forward": float(f"{chosen.gflops:.6g}"),
        "parameters": counting.parameters(_network(found, chosen).shapes()),
        "training": {
            "images": examples,
            "zettaflops": float(f"{3 * chosen.gflops * examples / 1e12:.4g}"),
        },
        "published": {**nothing, "source": "not in the paper"},
        "ours": None,
        "hardware": None,
        "command": command,
        "notes": {key: f"ours: {reason}" for key, reason in chosen.reasons.items()},
    }
    text = io.StringIO()
    text.write(MARK)
    yaml = YAML()
    yaml.width, yaml.indent = 96, 2
    yaml.Representer = _Representer
    yaml.dump(_styled({"extends": BASE, "evidence": evidence, "params": chosen.overlay}), text)
    atomic.write_text(path, text.getvalue())


class _Representer(RoundTripRepresenter):
    """Writes null in full; a class of its own, since representers are registered by class."""

    def represent_none(self, data: Any) -> Any:
        return self.represent_scalar("tag:yaml.org,2002:null", "null")


_Representer.add_representer(type(None), _Representer.represent_none)


def _styled(value: Any) -> Any:
    """Copies of all values, lists on one line."""
    if isinstance(value, Mapping):
        return {key: _styled(inner) for key, inner in value.items()}
    if isinstance(value, list):
        copied = CommentedSeq(map(_styled, value))
        copied.fa.set_flow_style()
        return copied
    return value


def lines(found: Survey, machine: Machine, chosen: Choice) -> Iterator[str]:
    """What was found and chosen, for a reader."""
    yield from _data(found)
    yield f"machine: {machine.name}, {machine.rate / 1e9:.3g} GFLOPs a second ({machine.source})"
    yield ""
    params = chosen.params
    values = {
        "data.image_size": params.data.image_size,
        "model": f"{'at most ' * found.captioned}{_parameters(found, chosen):,} parameters",
        "train.steps": f"{params.train.steps:,}",
        "train.batch_size": params.train.batch_size,
        "train.ema_decay": params.train.ema_decay,
        "loader.horizontal_flip": str(params.loader.horizontal_flip).lower(),
        "guidance_search": f"up to {params.guidance_search.samples} samples a setting",
        "distill": f"{params.distill.iterations} iterations",
        "eval": f"{params.eval.samples} images a sampler",
    }
    if found.captioned:
        learned = params.text.encoder.settings
        assert isinstance(learned, Learned)
        values |= {
            "data.captions": params.data.captions,
            "text.encoder": f"learned, a vocabulary of {learned.vocabulary:,}",
            "text.max_tokens": params.text.max_tokens,
            "guidance": params.guidance.weight,
            "eval.prompts": "; ".join(params.eval.prompts or ()) or "none",
        }
    for key, value in values.items():
        yield f"  {key}: {value} ({chosen.reasons[key]})"
    yield ""
    needed = _memory(found, chosen)
    yield f"memory: {needed / 2**30:.1f} GiB of {machine.memory / 2**30:.0f} GiB"
    if needed > machine.memory:
        yield "  that is too much: raise train.accumulation, or set runtime.remat to blocks"
    yield "expected time:"
    for stage, seconds in chosen.budget.seconds.items():
        yield f"  {stage:16}{seconds / 60:6.1f} min"
    yield f"  {'all':16}{chosen.budget.total / 60:6.1f} min"


def _data(found: Survey) -> Iterator[str]:
    names = found.class_names
    shown = ", ".join(names[:_NAMED]) + f" and {len(names) - _NAMED} more" * (len(names) > _NAMED)
    name = found.source["name"]
    held_out = "" if found.eval is None else f", and {found.eval:,} to evaluate with"
    what = "images" if found.frames is None else "videos"
    yield f"data: {found.train:,} {what}{held_out}, read by the source {name}"
    if found.problems:
        yield f"  {found.problems:,} files cannot be used; `dvc repro prepare` lists the reasons"
    if found.undecodable:
        tried = f"{found.undecodable} of {found.tried} {what} that were tried cannot be decoded"
        yield f"  {tried}; `dvc repro prepare` lists the reasons"
    kind = "conditional on" if found.condition else "one class, so the model is unconditional:"
    if found.captioned:
        yield "  conditional on captions"
    elif names == UNLABELLED:
        yield "  no labels, so the model is unconditional"
    else:
        yield f"  {kind} {shown}; the smallest class has {found.smallest_class:,} images"
    yield f"  shorter side {found.side} pixels in the median, {found.channels} channel(s)"


def _network(found: Survey, chosen: Choice) -> Network:
    params = chosen.params
    shape = params.data.shape
    assert shape is not None
    config = build.network(params.model, shape, chosen.condition)
    return Network(config, build.execution(params.runtime))


def _parameters(found: Survey, chosen: Choice) -> int:
    return counting.parameters(_network(found, chosen).shapes())


def _memory(found: Survey, chosen: Choice) -> int:
    """Bytes of a training step."""
    network = _network(found, chosen)
    shapes = network.shapes()
    (one,) = memory.activations(network, [Remat(chosen.params.runtime.remat)])
    part = chosen.params.train.batch_size // chosen.params.train.accumulation
    return memory.state_bytes(shapes) + memory.gradient_bytes(shapes) + part * one.total
