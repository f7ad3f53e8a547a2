"""Averages of a trained model's weights other than the one that later stages use."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import jax.numpy as jnp

from sid2core.config.training import Ema
from sid2core.models import network
from sid2core.models.fit import WeightsError
from sid2core.models.network import Network, Parameters
from sid2core.training import ema, reconstruction, snapshots
from sid2core.training.reconstruction import Stored

FAR = 0.05
"""A combined profile that is further from the wanted one than this share of it is warned of."""
_log = logging.getLogger(__name__)


def read(folder: Path, net: Network, average: Ema | None, step: int | None = None) -> Parameters:
    """The weights of an average, as it was kept or from those that were.

    Args:
        folder: ``artifacts/train``.
        net: its network.
        average: None for the one of ``train.ema_decay``. One of ``train.emas`` is read; another
            power function is made from the power functions at the snapshots.
        step: of a snapshot (for a power function any step up to the last); None for the end.

    Raises:
        WeightsError: the average was not kept and cannot be made; what was kept is listed.
    """
    name = None if average is None else ema.name(average)
    file = _file(folder, name, step)
    if file.exists():
        return network.load(folder, weights=file.relative_to(folder).as_posix())[1]
    kept = _stored(folder)
    if average is None or average.kind != "power" or not kept:
        have = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.safetensors"))
        msg = f"{file} does not exist; the training kept {', '.join(have)}"
        cure = "train with it in train.emas and train.snapshots, or with two power functions there"
        raise WeightsError(f"{msg}: {cure}")
    last = max(one.step for one in kept)
    wanted = Stored(last if step is None else step, average.value)
    found = reconstruction.combination([*kept], wanted)
    if found.error > FAR:
        _log.warning(
            "the average of width %g at step %d is made from %d others, and its profile is %.0f %% "
            "off: keep more snapshots, or widths nearer to it",
            *(average.value, wanted.step, len(kept), 100 * found.error),
        )
    arrays = reconstruction.combined([*kept.values()], found.coefficients)
    network.check(arrays, net, f"{folder / snapshots.FOLDER}", f"{folder / network.CONFIG}")
    return {name: jnp.asarray(value) for name, value in arrays.items()}


def _file(folder: Path, name: str | None, step: int | None) -> Path:
    if step is not None:
        return folder / snapshots.FOLDER / snapshots.name(step, name)
    return folder / (network.WEIGHTS if name is None else f"{name}.safetensors")


def _stored(folder: Path) -> dict[Stored, Path]:
    """The power functions at the snapshots."""
    found = {}
    for path in sorted((folder / snapshots.FOLDER).glob("*.safetensors")):
        parts = re.fullmatch(r"(\d+)\.ema_power_(.+)\.safetensors", path.name)
        if parts:
            found[Stored(int(parts[1]), float(parts[2]))] = path
    return found
