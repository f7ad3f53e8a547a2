"""A network as a pure function of its parameters, and its files.

Parameters are a flat dictionary name → array (``"encoder/0/blocks/1/conv_in/kernel"``): a plain
pytree that dispatches fast, saves as safetensors as it stands, and shows in an overview.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from safetensors import SafetensorError
from safetensors.numpy import load_file
from safetensors.numpy import save as to_bytes

from sid2core import atomic, stand_ins
from sid2core.conditioning import Condition, ConditionError, ConditionSpec
from sid2core.models.architecture import UViTConfig
from sid2core.models.dropout import DropoutKey
from sid2core.models.execution import DEFAULT, Execution
from sid2core.models.fit import WeightsError, difference
from sid2core.models.rngs import Rngs
from sid2core.models.uvit import ResidualUViT
from sid2core.typing import Array, LogSnr, Samples

WEIGHTS, CONFIG = "model.safetensors", "config.json"
FORMAT = 2
"""Of ``config.json``. Format 1 has ``num_classes`` in ``network`` and no ``condition``."""
_LATER: Mapping[str, Any] = {
    "temporal_strides": None,
    "heads": None,
    "position": "learned",
    "film": "both",
    "order": "attention_first",
    "text_channels": None,
    "text_positions": True,
    "text_pooled": True,
    "compute_dtype": "float32",
}
"""Values of fields that a ``config.json`` may lack, because they came later."""

Parameters = dict[str, Array]
"""Flat name → array."""


@dataclass(frozen=True)
class Network:
    """The Residual U-ViT of ``config``, without its parameters, computed as ``execution`` says."""

    config: UViTConfig
    execution: Execution = DEFAULT

    def init(self, key: Array) -> Parameters:
        """Fresh parameters, float32."""
        return _flatten(nnx.state(self._module(key), nnx.Param))

    def shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of the parameters, without allocating any."""
        return dict(_shapes(self))

    def apply(
        self,
        params: Mapping[str, Array],
        z: Samples,
        logsnr: LogSnr,
        condition: Condition,
        dropout_key: DropoutKey | None = None,
    ) -> Samples:
        """The network's output for noisy examples; arguments as :class:`ResidualUViT`'s."""
        abstract = nnx.eval_shape(lambda: self._module(jax.random.key(0)))
        graph, state = nnx.split(abstract, nnx.Param)
        flat = {path: params["/".join(map(str, path))] for path, _ in nnx.to_flat_state(state)}
        pure = nnx.to_pure_dict(state)
        nnx.replace_by_pure_dict(state, _nest(flat, pure))
        return nnx.merge(graph, state)(z, logsnr, condition, dropout_key)

    def _module(self, key: Array) -> ResidualUViT:
        return ResidualUViT(self.config, self.execution, Rngs(key))


@functools.lru_cache(maxsize=16)
def _shapes(network: Network) -> dict[str, jax.ShapeDtypeStruct]:
    return jax.eval_shape(lambda: network.init(jax.random.key(0)))


def _flatten(state: nnx.State) -> Parameters:
    return {"/".join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(state)}


def _nest(flat: Mapping[tuple[Any, ...], Array], like: Any, path: tuple[Any, ...] = ()) -> Any:
    if isinstance(like, dict):
        return {name: _nest(flat, value, (*path, name)) for name, value in like.items()}
    return flat[path]


def save(
    folder: Path, network: Network, params: Mapping[str, ArrayLike], extra: Mapping[str, Any]
) -> None:
    """Write ``model.safetensors`` and ``config.json``; ``extra`` joins the configuration.

    The same parameters give the same bytes.
    """
    save_weights(folder / WEIGHTS, params)
    fields = {one: value for one, value in vars(network.config).items() if one != "condition"}
    condition = network.config.condition.to_json()
    config = {"format": FORMAT, "network": fields, "condition": condition, **extra}
    atomic.write_json(folder / CONFIG, config)


def save_weights(path: Path, params: Mapping[str, ArrayLike]) -> None:
    """Write safetensors; the same parameters give the same bytes."""
    arrays = {name: np.ascontiguousarray(params[name]) for name in sorted(params)}
    atomic.write_bytes(path, to_bytes(arrays))


def load(
    folder: Path, execution: Execution = DEFAULT, weights: str = WEIGHTS
) -> tuple[Network, Parameters, dict[str, Any]]:
    """Read what :func:`save` wrote: network, parameters, whole configuration.

    Args:
        folder: where it was written.
        execution: how the network is to be computed here.
        weights: another file of its weights, such as a further average.

    Raises:
        WeightsError: a file is missing or damaged, or a shape is not the configuration's; the
            first difference and the key behind it are named.
    """
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        cure = "; run `dvc repro` to make it" if _in_project(folder) else ""
        msg = f"folder {folder.absolute()} {found} (current folder {Path.cwd()}){cure}"
        raise WeightsError(msg)
    for name in (CONFIG, weights):
        stand_ins.check_file(folder / name, WeightsError)
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if config["format"] > FORMAT:
            msg = f"{folder / CONFIG} has format {config['format']}, expected {FORMAT} or less"
            raise WeightsError(f"{msg}: a newer version of this project wrote it; use that version")
        network = Network(shape_of(config), execution)
        arrays = load_file(folder / weights)
    except ConditionError as error:
        msg = f"{folder / CONFIG}: {error}"
        raise WeightsError(msg) from None
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        cure = "run `dvc repro` to make" if _in_project(folder) else "copy"
        msg = f"{folder} holds no readable model ({error}); {cure} it again"
        raise WeightsError(msg) from None
    check(arrays, network, f"{folder / weights}", f"{CONFIG} beside it")
    return network, {name: jax.numpy.asarray(value) for name, value in arrays.items()}, config


def _in_project(folder: Path) -> bool:
    """Whether the folder is below a DVC project, which can make it again."""
    return any((above / "dvc.yaml").is_file() for above in folder.absolute().parents)


def shape_of(config: Mapping[str, Any]) -> UViTConfig:
    """The network of a ``config.json`` of any format so far."""
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in {**_LATER, **config["network"]}.items()
    }
    if fields["temporal_strides"] is None:
        fields["temporal_strides"] = (1,) * len(fields["encoder_depth"])
    if "num_classes" in fields:
        spec = ConditionSpec.of_classes(fields.pop("num_classes"))
    else:
        spec = ConditionSpec.from_json(config["condition"])
    return UViTConfig(condition=spec, **fields)


def check(arrays: Mapping[str, Any], network: Network, origin: str, source: str) -> None:
    """Refuse weights that are not the network's.

    Raises:
        WeightsError: with the first difference, and the configuration key behind it.
    """
    found = {name: tuple(value.shape) for name, value in arrays.items()}
    expected = {name: tuple(value.shape) for name, value in network.shapes().items()}
    wrong = difference(found, expected)
    if wrong:
        msg = f"{origin} {wrong} in {source}: the weights are of another network"
        raise WeightsError(msg)
