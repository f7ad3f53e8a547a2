"""Opens the source that the parameters name: a row of :data:`sid2core.config.SOURCES`.

A source alone knows its images' size, channels and classes. Everything after it takes them from the
source's own ``shape`` and ``class_names``.
"""

from __future__ import annotations

from sid2core import config
from sid2core.data.sources.protocol import Source


def opened(data: config.Data) -> tuple[Source, Source | None]:
    """The source of the train split, and that of the eval split.

    The latter is None where both come from the first, by ``data.train_fraction``.

    Raises:
        DataError: there is nothing where the parameters say.
    """
    train: Source = data.source.build(data=data, part="path")
    if getattr(data.source.settings, "eval_path", None) is None:
        return train, None
    return train, data.source.build(data=data, part="eval_path")
