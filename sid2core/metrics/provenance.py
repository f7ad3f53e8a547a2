"""The provenance of feature statistics, and the rules by which two may be compared.

A provenance is a flat mapping of JSON values. These entries must agree:

``extractor``, ``extractor_digest``: the network by name, and the SHA-256 of its weights.
``mode``, ``resize``: how images are resized for the network.
``shape``: of the images, [h, w, c].
``crop``: how real images were cropped to that shape.
``image_format``: :data:`LOSSLESS`, or the lossy format that the images passed through.
``frame_stride``, ``frames_per_second``: which frames of video files make a clip; a rate of None is
the file's own.

``real_clips``: which clips of each video the real set has, where both sets are real.

These may differ: ``split``, ``data`` and ``declared``. The number of images is stored beside the
statistics, not in the provenance. Two *distances* are comparable only for equal splits and numbers;
a caller that needs particular ones uses :func:`check_expected`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from sid2core.metrics.errors import MetricsError

LOSSLESS = "lossless"
"""``image_format`` of uint8 values (samples: ``round(127.5 x + 127.5)``, clipped) kept as such."""
DECLARED = "declared"
"""Names of the entries that the user declared because the file lacks them.

Statistics with this entry come from outside; other missing entries are unknown.
"""
DESCRIPTIVE = frozenset({"split", "data", DECLARED})
"""Entries that may differ between two statistics that are compared."""
_OF_REAL = frozenset({"real_clips"})
"""Entries of real sets alone; samples have none."""
_NEVER_UNKNOWN = frozenset({"extractor", "mode"})


def check_comparable(
    first: Mapping[str, Any], second: Mapping[str, Any], despite: Collection[str] = ()
) -> None:
    """Check that two provenances agree, except in the entries of ``despite``.

    Entries that one from outside lacks are ignored, except extractor and mode: :func:`unchecked`.

    Raises:
        MetricsError: names each entry that differs.
    """
    unknown = {*unchecked(first, second), *despite}
    wrong = [
        f"{name} ({first.get(name)!r} against {second.get(name)!r})"
        for name in _different(first, second)
        if name not in unknown
    ]
    if wrong:
        msg = (
            f"statistics cannot be compared, they differ in {', '.join(wrong)}: "
            "make both with one extractor and the same settings"
        )
        raise MetricsError(msg)


def unchecked(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Entries that only one of the two has, if one of them comes from outside."""
    if DECLARED not in first and DECLARED not in second:
        return []
    return [
        name
        for name in _different(first, second)
        if (name not in first or name not in second) and name not in _NEVER_UNKNOWN
    ]


def check_expected(actual: Mapping[str, Any], expected: Mapping[str, Any], origin: str) -> None:
    """Check that a provenance has the ``expected`` entries.

    Raises:
        MetricsError: names ``origin`` and each entry that differs.
    """
    wrong = [
        f"{name} {actual.get(name)!r} (expected {value!r})"
        for name, value in expected.items()
        if actual.get(name) != value
    ]
    if wrong:
        msg = f"{origin} has {', '.join(wrong)}: supply statistics with the expected values"
        raise MetricsError(msg)


def declared(stored: Mapping[str, Any], by_user: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """The provenance in a file, completed by the entries that the user declares.

    Raises:
        MetricsError: an entry of both differs; or neither names the extractor.
    """
    check_expected(stored, {name: by_user[name] for name in by_user if name in stored}, origin)
    if "extractor" not in stored and "extractor" not in by_user:
        msg = (
            f"{origin} does not say by which extractor it was made, and features of two networks "
            "have no distance: declare it (of published FIDs: --extractor inception --mode tf1)"
        )
        raise MetricsError(msg)
    names = sorted(by_user.keys() - stored.keys())
    if "extractor" in stored and not names:
        return dict(stored)
    return {**by_user, **stored, DECLARED: [*stored.get(DECLARED, []), *names]}


def _different(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[str]:
    names = (set(first) | set(second)) - DESCRIPTIVE
    names -= {name for name in _OF_REAL if name not in first or name not in second}
    return (name for name in sorted(names) if first.get(name) != second.get(name))
