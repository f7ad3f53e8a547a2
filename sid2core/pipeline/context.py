"""What a stage works with: its tracked parameters and its input artifacts, from ``dvc.yaml``.

A stage names neither by hand, so that its manifest records exactly what DVC tracks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sid2core import atomic, config
from sid2core.pipeline import artifact, dag
from sid2core.pipeline.artifact import Artifact, Draft


@dataclass(frozen=True)
class Context:
    """One run of a stage.

    Attributes:
        stage: its name.
        made_by: the parameters that ``dvc.yaml`` tracks for it, nested as in ``params.yaml``.
        inputs: the artifacts among its dependencies, by stage. Their manifests were checked against
            each other; a file's content is checked when its path is asked for.
    """

    stage: str
    made_by: Mapping[str, Any]
    inputs: Mapping[str, Artifact]

    @contextmanager
    def create(self) -> Iterator[Draft]:
        """:func:`sid2core.pipeline.artifact.create` for this stage, its parameters and inputs."""
        with artifact.create(self.stage, self.made_by, self.inputs) as draft:
            yield draft

    @contextmanager
    def create_by_content(
        self, keys: tuple[str, ...], record: Path | None = None
    ) -> Iterator[Draft]:
        """The same with the parameters ``keys`` alone; all of them go into the file ``record``.

        So the artifact is a function of these, its files and its metadata. Parameters that change
        none of them, such as the location of the data, leave its digest as it is.
        """
        kept = dag.tracked(keys, self.made_by)
        with artifact.create(self.stage, kept, self.inputs) as draft:
            yield draft
        if record is not None:
            atomic.write_json(record, {"params": dict(self.made_by)})


def begin(stage: str, params: config.Params) -> Context:
    """The context of ``stage``: reads ``dvc.yaml`` and loads all inputs.

    Raises:
        DagError: ``dvc.yaml`` has no such stage, or tracks a parameter that does not exist.
        ArtifactError: an input is missing or damaged, or was not made from the others.
    """
    stages = dag.read()
    declared = dag.stage(stage, stages)
    made_by = dag.tracked(declared.params, params.model_dump())
    inputs: dict[str, Artifact] = {}

    def load(name: str) -> None:
        if name not in inputs:
            origins = [one for one in stages[name].inputs if one in declared.inputs]
            for origin in origins:
                load(origin)
            inputs[name] = artifact.load(name)
            artifact.check_origins(inputs[name], {one: inputs[one] for one in origins})

    for name in declared.inputs:
        load(name)
    return Context(stage, made_by, inputs)
