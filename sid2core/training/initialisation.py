"""Where training begins: at fresh parameters, or at those of an earlier model; what stays fixed."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sid2core import config
from sid2core.models import fit, network
from sid2core.models.network import Network, Parameters
from sid2core.pipeline import artifact


@dataclass(frozen=True, eq=False)
class Start:
    """The beginning of a training run.

    Attributes:
        params: the first parameters; fresh ones without.
        frozen: names of the parameters that stay as they are.
        metadata: what the manifest says of it: the SHA-256 of the weights and the images they were
            for, how many parameters are frozen. They are part of what shapes the result.
    """

    params: Parameters | None = None
    frozen: frozenset[str] = frozenset()
    metadata: Mapping[str, Any] = field(default_factory=dict)


FROM_SCRATCH = Start()


def read(settings: config.Train, prediction: str, target: Network) -> Start:
    """The beginning that ``train.init_from`` and ``train.freeze`` ask for.

    Position embeddings are resized where the earlier model was for images of another size.

    Args:
        settings: the section ``train``.
        prediction: what the output of ``target`` means (``diffusion.prediction``).
        target: the network to be trained.

    Raises:
        ParamsError: there is no such model, or its output means something else; a pattern names no
            parameter, or together they name all.
        WeightsError: the model is damaged, or differs by more than the size of its images.
    """
    shapes = target.shapes()
    frozen = _matching(settings.freeze or [], shapes)
    metadata: dict[str, Any] = {}
    if frozen:
        metadata["frozen_parameters"] = sum(shapes[name].size for name in frozen)
    if settings.init_from is None:
        return Start(None, frozen, metadata)
    folder = Path(settings.init_from)
    _check_there(folder)
    source, weights, settings_then = network.load(folder)
    _check_prediction(folder, settings_then.get("diffusion", {}).get("prediction"), prediction)
    metadata["init_from"] = {
        "sha256": artifact.sha256(folder / network.WEIGHTS),
        "image_shape": list(source.config.image_shape),
    }
    return Start(fit.resized(weights, source.config, target.config), frozen, metadata)


def _matching(patterns: Sequence[str], names: Collection[str]) -> frozenset[str]:
    frozen: set[str] = set()
    for pattern in patterns:
        found = fnmatch.filter(names, pattern)
        if not found:
            parts = sorted({name.split("/", 1)[0] for name in names})
            msg = (
                f"train.freeze: {pattern!r} matches no parameter; names begin with "
                f"{', '.join(parts)}, as in {next(iter(names))!r}, and * stands for any characters"
            )
            raise config.ParamsError(msg)
        frozen |= set(found)
    if len(frozen) == len(names):
        msg = f"train.freeze: {list(patterns)} match every parameter, so nothing is left to train"
        raise config.ParamsError(msg)
    return frozenset(frozen)


def _check_there(folder: Path) -> None:
    absent = [one for one in (network.WEIGHTS, network.CONFIG) if not (folder / one).is_file()]
    if absent:
        msg = (
            f"train.init_from: {folder.absolute()} has no {' and no '.join(absent)}; give a folder "
            "like artifacts/train of an earlier run, but a copy of it elsewhere: DVC removes "
            "artifacts/train itself before it trains"
        )
        raise config.ParamsError(msg)


def _check_prediction(folder: Path, found: str | None, expected: str) -> None:
    if found not in (None, expected):
        msg = (
            f"train.init_from: the model in {folder} predicts {found}, but diffusion.prediction "
            f"is {expected}; set it to {found}"
        )
        raise config.ParamsError(msg)
