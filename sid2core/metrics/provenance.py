"""What statistics of features were made from, and which of it two that are compared must share.

A provenance is a flat mapping of JSON values. What decides about a distance:

``extractor``, ``extractor_digest``: the network by name, and the SHA-256 of its weights.
``mode``, ``resize``: how images are brought to the network's size.
``shape``: of the images, [h, w, c].
``crop``: how real images were cut to that shape.
``image_format``: :data:`LOSSLESS`, or the format that lost something on the way.

What describes, and may differ: ``split``, ``data``, and ``declared`` (see there). The number of
images is no entry: it stands beside the statistics. Split and number decide whether two
*distances* may stand side by side; who needs certain ones asks by :func:`check_expected`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from sid2core.metrics.errors import MetricsError

LOSSLESS = "lossless"
"""``image_format`` of uint8 values (samples: ``round(127.5 x + 127.5)``, clipped) kept as such."""
DECLARED = "declared"
"""Names of the entries that a person vouches for, since the file did not tell.

Where it stands, statistics come from outside: of what they do not tell nothing is known.
"""
DESCRIPTIVE = frozenset({"split", "data", DECLARED})
"""Entries that may differ between two statistics that are compared."""
_NEVER_UNKNOWN = frozenset({"extractor", "mode"})


def check_comparable(
    first: Mapping[str, Any], second: Mapping[str, Any], despite: Collection[str] = ()
) -> None:
    """Refuse two provenances that differ in what must agree, but for the entries of ``despite``.

    What one from outside does not tell passes, save for extractor and mode: :func:`unchecked`.

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
    """Entries that only one tells, where one of the two comes from outside."""
    if DECLARED not in first and DECLARED not in second:
        return []
    return [
        name
        for name in _different(first, second)
        if (name not in first or name not in second) and name not in _NEVER_UNKNOWN
    ]


def check_expected(found: Mapping[str, Any], expected: Mapping[str, Any], origin: str) -> None:
    """Refuse what is not as ``expected``, entry by entry.

    Raises:
        MetricsError: names ``origin`` and each entry that differs.
    """
    wrong = [
        f"{name} {found.get(name)!r} (expected {value!r})"
        for name, value in expected.items()
        if found.get(name) != value
    ]
    if wrong:
        msg = f"{origin} has {', '.join(wrong)}: give statistics that were made so"
        raise MetricsError(msg)


def declared(told: Mapping[str, Any], by_person: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """What a file tells, and what a person declares beyond it, marked as such.

    Raises:
        MetricsError: both tell of an entry, differently; or neither names the extractor.
    """
    check_expected(told, {name: by_person[name] for name in by_person if name in told}, origin)
    if "extractor" not in told and "extractor" not in by_person:
        msg = (
            f"{origin} does not say by which extractor it was made, and features of two networks "
            "have no distance: declare it (of published FIDs: --extractor inception --mode tf1)"
        )
        raise MetricsError(msg)
    names = sorted(by_person.keys() - told.keys())
    if "extractor" in told and not names:
        return dict(told)
    return {**by_person, **told, DECLARED: [*told.get(DECLARED, []), *names]}


def _different(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[str]:
    names = (set(first) | set(second)) - DESCRIPTIVE
    return (name for name in sorted(names) if first.get(name) != second.get(name))
