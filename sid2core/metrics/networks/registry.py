"""The feature extractors of a run: from its parameters, and from the reference artifact.

There is always the data set's own classifier. Further ones are active through ``eval.extractors``.
They are saved in the reference artifact, and later stages load them from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from jax.sharding import NamedSharding

from sid2core import config
from sid2core.config.evaluation import CLIP, EXTRACTORS, OWN
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.networks.own import OwnExtractor
from sid2core.metrics.networks.protocol import ExtractorKind, FeatureExtractor, Files
from sid2core.pipeline.artifact import Artifact, Draft


def supplied(
    settings: config.Extractors, sharding: NamedSharding | None = None
) -> list[FeatureExtractor]:
    """The active extractors of ``eval.extractors``, their weights verified.

    Raises:
        MetricsError: a weight file is missing or not the expected one; the message names it.
    """
    return [_kind(name).from_settings(one, sharding) for name, one in settings.active.items()]


def primary(settings: config.Eval) -> str:
    """The name of the extractor that the guidance search and the distillation are scored by."""
    found = [OWN, *(name for name in settings.extractors.active if name != CLIP)]
    return settings.primary_extractor or found[-1]


def save(draft: Draft, extractors: Sequence[FeatureExtractor], primary: str) -> None:
    """Write the extractors and their names into the reference artifact."""
    for extractor in extractors:
        extractor.save(_places(draft, extractor.name))
    draft.metadata |= {
        "extractors": [extractor.name for extractor in extractors],
        "primary_extractor": primary,
    }


def load(
    reference: Artifact, sharding: NamedSharding | None = None
) -> tuple[list[FeatureExtractor], str]:
    """All extractors of the reference artifact, the data set's own first, and the primary's name.

    Raises:
        MetricsError: the files of one are damaged, or an earlier version wrote them.
    """
    names = _listed(reference)
    extractors: list[FeatureExtractor] = [OwnExtractor.load(_files(reference, OWN), sharding)]
    for name in names:
        if name != OWN:
            extractors.append(_kind(name).load(_files(reference, name), sharding))
    return extractors, reference.metadata["primary_extractor"]


def own(reference: Artifact) -> OwnExtractor:
    """The data set's own extractor, of the reference artifact."""
    _listed(reference)
    return OwnExtractor.load(_files(reference, OWN))


def _listed(reference: Artifact) -> list[str]:
    """The names of the extractors in the artifact."""
    if "extractors" not in reference.metadata:
        msg = (
            f"{reference.folder} was made by an earlier version of this project; make it again: "
            "dvc repro --force --single-item reference"
        )
        raise MetricsError(msg)
    return list(reference.metadata["extractors"])


def _places(draft: Draft, name: str) -> Files:
    return lambda file: draft.path(f"{name}/{file}")


def _files(reference: Artifact, name: str) -> Files:
    return lambda file: reference.path(f"{name}/{file}")


def _kind(name: str) -> ExtractorKind:
    return cast("ExtractorKind", EXTRACTORS[name].resolve())
