"""prepare: list the source, split it, write Parquet shards image by image."""

from __future__ import annotations

from sid2core.pipeline import launch

if __name__ == "__main__":
    launch.prepare("prepare")

import logging
from pathlib import Path

from sid2core import config
from sid2core.data.prepare import listing, overview, preparation
from sid2core.data.prepare.workers import Workers
from sid2core.pipeline import context, stage, workdir

REPORTS = Path("reports/prepare")
KEPT = ("seed", "data.crop")
"""Parameters that later stages may read; the files and the metadata say all else."""
_log = logging.getLogger(__name__)


def main(params: config.Params) -> None:
    """Write ``artifacts/prepare``, its metrics, tables and the contact sheet."""
    data, runtime = params.data, params.runtime
    pool = Workers(runtime.workers, runtime.dask_address)
    parts = listing.parts(data, params.seed)
    _log.info("entries by class\n%s", overview.table(parts))
    job = context.begin("prepare", params)
    stamps = [part.source.stamp() for part in parts]
    with workdir.claim("prepare", {**job.made_by, "stamps": stamps}) as folder:
        preparation.write(parts, folder, data, pool)
        if [part.source.stamp() for part in parts] != stamps:
            _log.warning(
                "the data changed while they were read: new files are missing, and changed ones "
                "may be of either state; give the same command again once the data are complete"
            )
        with job.create_by_content(KEPT, REPORTS / "source.json") as draft:
            for part in parts:
                preparation.place(part, folder, draft.folder)
            rejects = [reject for part in parts for reject in part.rejects]
            preparation.write_rejects(draft.path(preparation.REJECTS), rejects)
            draft.metadata |= overview.metadata(parts, draft.folder)
            overview.write(REPORTS, parts, draft.folder)
    if found := draft.metadata.get("captions"):
        _log.info("%s", overview.caption_counts(found))
    if rejects:
        _log.warning("%d set aside: %s", len(rejects), listing.summary(rejects))


if __name__ == "__main__":
    stage.run("prepare", main)
