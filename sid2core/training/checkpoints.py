"""Training state on disk: Orbax, atomic, the newest two kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

_KEPT = 2


class Checkpoints:
    """The checkpoints of one run; a write that was cut short is never seen again."""

    def __init__(self, folder: Path):
        options = ocp.CheckpointManagerOptions(
            max_to_keep=_KEPT, create=True, cleanup_tmp_directories=True
        )
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def newest(self) -> int | None:
        """The step of the newest complete checkpoint."""
        return self._manager.latest_step()

    def restore(self, step: int, like: Any) -> Any:
        """The state saved at ``step``, of the shapes and types of ``like``."""
        abstract = jax.tree.map(ocp.tree.to_shape_dtype_struct, like)
        return self._manager.restore(step, args=ocp.args.StandardRestore(abstract))

    def save(self, step: int, state: Any) -> None:
        """Write ``state``; returns once its values are copied, the writing goes on behind."""
        self._manager.save(step, args=ocp.args.StandardSave(state))

    def close(self) -> None:
        """Wait for writes under way."""
        self._manager.wait_until_finished()
        self._manager.close()
