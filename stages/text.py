"""text: captions to tokens, or to the vectors of a frozen encoder, aligned with the rows."""

from __future__ import annotations

from sid2core.pipeline import launch

if __name__ == "__main__":
    launch.prepare("text")

import logging

from sid2core import config
from sid2core.pipeline import context, stage
from sid2core.pipeline.context import Context

_log = logging.getLogger(__name__)


def main(params: config.Params) -> None:
    """Write ``artifacts/text``; data without captions have the metadata ``text: null``."""
    job = context.begin("text", params)
    if job.inputs["prepare"].metadata.get("captioned", False):
        _encode(params, job)
        return
    with job.create_by_content(()) as draft:
        draft.metadata["text"] = None


def _encode(params: config.Params, job: Context) -> None:
    # Imported here: data without captions need no JAX.
    import jax

    from sid2core.data.load.dataset import Dataset
    from sid2core.pipeline import progress
    from sid2core.text import writing
    from sid2core.text.frozen import Embed
    from sid2core.text.writing import Captions
    from sid2core.training import cluster, mesh

    cluster.join(params.runtime.launcher)
    prepare = job.inputs["prepare"]
    with cluster.claim("text", job.made_by, **job.inputs) as folder:
        splits = {name: Dataset.open(prepare, name).captions for name in prepare.metadata["splits"]}
        captions = Captions.collected(splits)
        if cluster.first():
            writing.fitted(params.text, captions.of("train"), folder)
        cluster.wait("text: the encoder is ready")
        encoder = writing.fitted(params.text, (), folder)
        stored = encoder.frozen and params.text.cache
        embed = Embed(encoder, mesh.local(params.runtime.mesh).batch) if stored else None
        own = range(captions.chunks)[jax.process_index() :: jax.process_count()]
        with progress.bar(len(own), "text", "chunk", shown=cluster.first()) as bar:
            for number in own:
                writing.write_chunk(folder, number, captions.chunk(number), encoder, embed)
                bar.update()
        cluster.wait("text: all chunks are written")
        if not cluster.first():
            return
        if full := writing.full(captions, folder, encoder):
            _log.warning(
                "%d of %d distinct captions have text.max_tokens = %d tokens or more, and "
                "are cut there; a larger value keeps more of them",
                full,
                len(captions.distinct),
                encoder.max_tokens,
            )
        with job.create_by_content(()) as draft:
            writing.place(captions, folder, draft.folder)
            draft.metadata["text"] = writing.metadata(captions, encoder, embed)


if __name__ == "__main__":
    stage.run("text", main)
