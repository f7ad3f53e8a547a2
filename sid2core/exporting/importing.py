"""An export's weights back in a folder of this project."""

from __future__ import annotations

import shutil
from pathlib import Path

from sid2core import atomic
from sid2core.exporting import folder, formats
from sid2core.exporting.exported import ExportError
from sid2core.models import network
from sid2core.models.network import Network
from sid2core.text.prompts import FOLDER as ENCODER


def write(source: Path, target: Path) -> None:
    """Make a folder of weights from an export; they may have been trained on elsewhere.

    Args:
        source: what `sid2 export` wrote.
        target: a new folder, or an empty one.

    Raises:
        ExportError: the source is no export, or the target exists.
        WeightsError: the weights are missing, damaged or of another network.
    """
    described = folder.read(source)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        msg = f"--to: {target} exists; expected a new folder: name another"
        raise ExportError(msg)
    form = formats.of_name(described["format"], installed=False)
    with atomic.unfinished(target) as place:
        place.mkdir()
        atomic.write_json(place / network.CONFIG, described["config"])
        net = Network(network.shape_of(described["config"]))
        shapes = {name: one.shape for name, one in net.shapes().items()}
        network.save_weights(place / network.WEIGHTS, form.read(source, shapes))
        if (source / folder.TOKENIZER).is_dir():
            own = shutil.ignore_patterns("*.py")  # the format's
            shutil.copytree(source / folder.TOKENIZER, place / ENCODER, ignore=own)
        atomic.put(place, target)
