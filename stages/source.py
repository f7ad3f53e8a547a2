"""source: fingerprints of the files that the parameters name; it runs at every `dvc repro`."""

from __future__ import annotations

from sid2core.pipeline import launch

if __name__ == "__main__":
    launch.prepare("source")

import json
import logging
from pathlib import Path
from typing import Any

from sid2core import atomic
from sid2core.data.prepare import fingerprint
from sid2core.pipeline import stage

FINGERPRINT, PROMPTS = Path("artifacts/source.json"), Path("artifacts/prompts.json")
_log = logging.getLogger(__name__)


def main(built_in: str | None) -> None:
    """Write ``artifacts/source.json`` for `prepare` and ``artifacts/prompts.json`` for `evaluate`.

    Files that were recorded and cannot be listed now (another machine, a disk that is not mounted,
    data deleted after `prepare`) count as unchanged: what was made of them stays in use.
    """
    atomic.write_json(PROMPTS, fingerprint.prompt_files())
    if built_in is not None:
        atomic.write_json(FINGERPRINT, {"source": {"name": built_in}})
        return

    from sid2core import config  # only here: see fingerprint.built_in
    from sid2core.data.errors import DataError

    data = config.read().data
    source = data.source.model_dump()
    try:
        found = {"source": source, "stamps": fingerprint.stamps(data)}
    except DataError as error:
        if _recorded().get("source") != source:
            raise
        _log.warning("%s. Until then the data count as unchanged.", error)
    else:
        atomic.write_json(FINGERPRINT, found)


def _recorded() -> dict[str, Any]:
    """What an earlier run wrote; DVC keeps it, because ``dvc.yaml`` says `persist`."""
    try:
        found = json.loads(FINGERPRINT.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


if __name__ == "__main__":
    stage.run("source", main, read=fingerprint.built_in)
