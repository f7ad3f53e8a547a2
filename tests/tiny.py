"""What tests of stages share: a pipeline small enough, and a network that is a formula."""

import copy
import os
from dataclasses import dataclass, field
from pathlib import Path

import jax.numpy as jnp
from ruamel.yaml import YAML

from sid2core import config
from sid2core.conditioning import Condition, ConditionSpec
from sid2core.config import build, presets, yaml_edit
from sid2core.models.network import Network
from sid2core.models.uvit import UViTConfig
from sid2core.training import base
from sid2core.training.initialisation import FROM_SCRATCH
from sid2core.training.mesh import ONE_DEVICE

ROOT = Path(__file__).resolve().parents[1]
PARAMS = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
"""The project's own parameters, as read from YAML."""

_PRESET = presets.read("tiny", ROOT / "conf").params
UNOPTIMISED = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
"""XLA's flags for what is compiled once and run once: all tests have them (conftest.py)."""
OPTIMISED = {"xla_backend_optimization_level": 2, "xla_llvm_disable_expensive_passes": False}
"""``compiler_options`` of the few programs that run long, or are compared to the last digits."""
SECTIONS = _PRESET | {
    "runtime": _PRESET["runtime"]
    # One device, however many there are: what tests of stages compare is its bytes.
    | {"log_every": 5, "checkpoint_every": 10, "mesh": {"data": 1, "fsdp": 1}}
    # Of so little data, most of the time would be that of starting processes.
    | {"workers": 1},
}
"""The preset ``tiny``, logging often enough to be killed between two lines.

Few blocks: what tests of stages wait for is compilation, and it grows with their number.
"""
ONE_BLOCK = {
    "channels": [8],
    "blocks": ["transformer"],
    "encoder_depth": [],
    "decoder_depth": [],
    "temporal_strides": [],
    "dropout": [0.0],
}
"""A section ``model`` for tests that ask only how it is run."""

DISTILLATIONS = {
    "default": {},
    "rollout": {"states": "rollout", "times": "grid", "density": "logsnr", "eta": 0.5}
    | {"dropout": 0.1},
    "parameter_space": {"form": {"name": "parameter_space"}},
}
"""Changes of the section ``distill``, for slow tests of the forms and options."""


def raw(**sections):
    """``params.yaml`` as a mapping, tiny; ``sections`` change single keys of it, at any depth."""
    return copy.deepcopy(yaml_edit.merged(yaml_edit.merged(PARAMS, SECTIONS), sections))


def source(name: str, **keys) -> dict:
    """The section ``data`` for a source, from its own keys and those of the section."""
    own = {key: keys.pop(key) for key in [*keys] if key in config.SOURCES[name].schema.model_fields}
    return {"source": {"name": name, name: own}} | keys


def params(**sections) -> config.Params:
    """The same, checked."""
    return config.parse(raw(**sections))


def write(folder: Path, **sections) -> None:
    """Write ``params.yaml`` into ``folder``."""
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(raw(**sections), file)


def environment(**changes: str) -> dict[str, str]:
    """The environment of a stage run by hand: nothing of the tests' own settings in it."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SID2_", "DVC_", "JAX_", "XLA_"))
    }
    # Unoptimised code compiles in half the time, and runs of it are compared with each other.
    quick = {"XLA_FLAGS": UNOPTIMISED, "JAX_PLATFORMS": "cpu"}
    return kept | quick | {"PYTHONPATH": str(ROOT)} | changes


def snapshot(folder: Path, stage: str) -> dict[str, bytes]:
    """All files that a stage wrote, except those with durations, which differ in each run."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for place in ("artifacts", "reports")
        for path in sorted((folder / place / stage).rglob("*"))
        if path.is_file() and path.name not in ("speed.csv", "cost.csv")
    }


@dataclass(frozen=True)
class Affine(Network):
    """A network that answers scale · z + shift[label], and counts how often it is compiled."""

    config: UViTConfig = UViTConfig(
        image_shape=(4, 4, 1),
        condition=ConditionSpec.of_classes(3),
        patch_size=1,
        channels=(32,),
        blocks=("transformer",),
        encoder_depth=(),
        decoder_depth=(),
        mid_depth=1,
        dropout=(0.0,),
        temporal_strides=(),
        emb_channels=4,
        head_size=4,
        heads=None,
        position="learned",
        film="both",
        order="attention_first",
        text_channels=None,
        compute_dtype="float32",
    )
    traced: list[int] = field(default_factory=list, compare=False)

    def apply(self, params, z, logsnr, condition, dropout_key=None):
        """The network's signature; ``params`` are a number and one number a class and for none."""
        self.traced.append(len(z))
        return params["scale"] * z + params["shift"][condition.label][:, None, None, None]


def labels(values):
    """The condition of classes."""
    return Condition(label=jnp.asarray(values, jnp.int32))


def objective(params, network, frozen=frozenset()):
    """What the stage ``train`` minimises."""
    return base.objective_of(params.diffusion, network, params.train.condition_dropout, frozen)


def base_run(params, network, loader, layout=ONE_DEVICE, start=FROM_SCRATCH):
    """The run of the stage ``train``."""
    bias = build.moving_bias(params.diffusion.loss)
    return base.base_run(
        objective(params, network, start.frozen),
        params.train,
        loader,
        params.seed,
        curves={} if bias is None else {"bias": bias},
        layout=layout,
        start=start.params,
    )


def affine(scale, *shifts):
    """Parameters of :class:`Affine`."""
    return {"scale": jnp.float32(scale), "shift": jnp.array(shifts, jnp.float32)}
