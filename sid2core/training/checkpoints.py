"""Training state on disk: Orbax, written in the background, each checkpoint with its checksums.

The checksums of a checkpoint are written before Orbax gives its folder the final name, so every
folder of that name is sealed. Only whole checkpoints are continued from; a damaged one is removed,
and the one before is used.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as managers

from sid2core import atomic, checksums, config
from sid2core.training import cluster

_UNFINISHED = ".orbax-checkpoint-tmp"
_STATE, _SAVED_LOG = "default", "log.json"
_log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run; a damaged or unfinished one is never read.

    The newest ``runtime.keep_checkpoints`` stay, and beyond them one of each
    ``runtime.keep_hours``.
    """

    def __init__(self, folder: Path, runtime: config.Runtime, before: int | None = None):
        """Open the folder; checkpoints of the step ``before`` and later are removed."""
        policies: list[managers.PreservationPolicy] = [managers.LatestN(runtime.keep_checkpoints)]
        if runtime.keep_hours is not None:
            policies.append(managers.EveryNSeconds(round(3600 * runtime.keep_hours)))
        options = ocp.CheckpointManagerOptions(
            preservation_policy=managers.AnyPreservationPolicy(policies),
            create=True,
            cleanup_tmp_directories=True,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
        )
        self._folder = folder.absolute()
        self._logs: dict[int, Mapping[str, Any]] = {}
        if cluster.first():
            self._remove_damaged(before)
        if jax.process_count() > 1:
            cluster.wait("checkpoints are verified")
        self._manager = ocp.CheckpointManager(
            self._folder, options=options, item_handlers=ocp.StandardCheckpointHandler()
        )

    def steps(self) -> list[int]:
        """The steps of all checkpoints, in order, once the last one is written."""
        self._manager.wait_until_finished()
        return sorted(self._manager.all_steps())

    def newest(self) -> int | None:
        """The step of the newest checkpoint that is whole, or being written."""
        return self._manager.latest_step()

    def whole(self, step: int) -> bool:
        """Whether the checkpoint of ``step`` matches its checksums."""
        return _whole(self._folder / str(step))

    def restore(self, step: int, like: Any) -> tuple[Any, dict[str, Any]]:
        """The state saved at ``step``, shaped and typed as ``like``, and the log saved with it."""
        abstract = jax.tree.map(ocp.tree.to_shape_dtype_struct, like)
        state = self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        return state, checksums.read_json(self._folder / str(step) / _SAVED_LOG)

    def save(self, step: int, state: Any, log: Mapping[str, Any]) -> None:
        """Write ``state`` and the log, as JSON values.

        Returns once the values are copied; they are written in the background. What went wrong
        with an earlier write is raised here.
        """
        self._logs[step] = log
        self._manager.save(step, args=ocp.args.StandardSave(state))

    def close(self) -> None:
        """Wait for writes under way."""
        self._manager.close()

    def _seal(self) -> None:
        """Seal the checkpoint that is complete but for its name; Orbax writes one at a time."""
        if cluster.first():
            for step in [*self._logs]:
                for folder in self._folder.glob(f"{step}{_UNFINISHED}*"):
                    text = json.dumps(self._logs.pop(step))  # with NaN: no update counted
                    atomic.write_text(folder / _SAVED_LOG, text)
                    checksums.seal(folder / _SAVED_LOG)
                    checksums.seal(folder / _STATE)

    def _remove_damaged(self, before: int | None) -> None:
        """Remove checkpoints from the newest on, until one is whole; Orbax would refuse to save."""
        folders = [path for path in self._folder.glob("*") if path.name.isdigit()]
        for path in sorted(folders, key=lambda path: int(path.name), reverse=True):
            late = before is not None and int(path.name) >= before
            if not late and _whole(path):
                return
            _log.warning("the checkpoint of step %s is removed; the one before is used", path.name)
            shutil.rmtree(path)


def _whole(checkpoint: Path) -> bool:
    """Orbax writes the files beside these two after they are sealed; a restart needs none."""
    return checksums.whole(checkpoint / _SAVED_LOG) and checksums.whole(checkpoint / _STATE)
