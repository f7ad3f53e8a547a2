"""code: a hash of each stage's program, on which the stage depends in place of its modules."""

from __future__ import annotations

from sid2core.pipeline import launch

if __name__ == "__main__":
    launch.prepare("code")

import logging
from collections import ChainMap

from sid2core import atomic
from sid2core.pipeline import code, dag, stage

_log = logging.getLogger(__name__)


def main(plugins: tuple[str, ...]) -> None:
    """Write ``artifacts/code/<stage>.json``.

    Packages count by the version that ``constraints.txt`` pins, which is the same on every machine
    and which DVC tracks; one that it does not pin counts by its installed version.
    """
    stages, project = dag.read(), code.Project(plugins=plugins)
    pins, installed = code.pinned(dag.PROJECT / code.CONSTRAINTS), code.installed()
    used = set[str]()
    for name in stages:
        if name not in code.WITHOUT_HASH:
            program = project.program(name, stages, ChainMap(pins, installed))
            atomic.write_json(code.FOLDER / f"{name}.json", program.to_json())
            used |= set(program.packages)
    for name in sorted(used):
        there, pin = (versions.get(code.normal(name)) for versions in (installed, pins))
        if pin is not None and there not in (None, pin):  # an extra may be absent
            _log.warning(
                "%s %s is installed, %s pins %s: results may differ; run `make setup`",
                *(name, there, code.CONSTRAINTS, pin),
            )


if __name__ == "__main__":
    stage.run("code", main, read=code.plugins)
