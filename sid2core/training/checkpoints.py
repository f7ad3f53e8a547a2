"""Training state on disk: Orbax, written behind the training's back, whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as managers

from sid2core import config

_PENDING = "pending"


class Checkpoints:
    """The checkpoints of one run; a write that was cut short is never seen again.

    The newest ``runtime.keep_checkpoints`` stay, and beyond them one of each
    ``runtime.keep_hours``.
    """

    def __init__(self, folder: Path, runtime: config.Runtime):
        policies: list[managers.PreservationPolicy] = [managers.LatestN(runtime.keep_checkpoints)]
        if runtime.keep_hours is not None:
            policies.append(managers.EveryNSeconds(round(3600 * runtime.keep_hours)))
        options = ocp.CheckpointManagerOptions(
            preservation_policy=managers.AnyPreservationPolicy(policies),
            create=True,
            cleanup_tmp_directories=True,
        )
        self._manager = ocp.CheckpointManager(
            folder.absolute(), options=options, item_handlers=ocp.StandardCheckpointHandler()
        )

    def newest(self) -> int | None:
        """The step of the newest checkpoint that is whole, or being written."""
        return self._manager.latest_step()

    def settled(self) -> int | None:
        """The same, once it is whole."""
        self._manager.wait_until_finished()
        return self.newest()

    def restore(self, step: int, like: Any) -> tuple[Any, list[dict[str, Any]]]:
        """The state saved at ``step``, shaped and typed as ``like``, and what was pending."""
        abstract = jax.tree.map(ocp.tree.to_shape_dtype_struct, like)
        state = self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        return state, self._manager.metadata(step).custom_metadata[_PENDING]

    def save(self, step: int, state: Any, pending: Sequence[Mapping[str, Any]]) -> None:
        """Write ``state`` and ``pending``, the scalars of steps that no row of the log has yet.

        Returns once the values are copied; the writing goes on behind. What went wrong with an
        earlier write is raised here.
        """
        self._manager.save(
            step, args=ocp.args.StandardSave(state), custom_metadata={_PENDING: list(pending)}
        )

    def close(self) -> None:
        """Wait for writes under way."""
        self._manager.close()
