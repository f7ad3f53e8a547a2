"""The models of a setting of the guidance search: the average it draws from, and its negative."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from sid2core import checksums
from sid2core.conditioning import ConditionSpec
from sid2core.config.search import NULL, TRAINED
from sid2core.diffusion.guidance import Guidance
from sid2core.diffusion.samplers import Sampler
from sid2core.inference import averages
from sid2core.inference.guidance_search import Setting, sampler_of
from sid2core.inference.model import Trained
from sid2core.inference.negatives import WorseModel
from sid2core.models import network
from sid2core.models.fit import WeightsError
from sid2core.pipeline.artifact import Artifact


@dataclass(frozen=True, eq=False)
class Searched:
    """What draws the images of a setting."""

    model: Trained
    guidance: Guidance
    worse: WorseModel | None = None
    """The negative of autoguidance."""
    sampler: Sampler | None = None
    """None for that of ``sampling``, as the next one."""
    steps: int | None = None


class Models:
    """The models of all settings; each is read once."""

    def __init__(self, model: Trained, trained: Artifact | None = None) -> None:
        """From the base model, which has the negative prompt already.

        ``trained`` is the artifact of ``train_negative``; without it no setting may name that.
        """
        self._averages, self._worse = {"": model}, dict[str, WorseModel]()
        self._model, self._trained = model, trained

    def of(self, setting: Setting) -> Searched:
        """What draws the images of ``setting``.

        Raises:
            WeightsError: an average, a snapshot or a folder's model is missing, or the other model
                is of other images or conditions.
        """
        return Searched(
            self._average(setting),
            setting.guidance,
            None if setting.weight == 0.0 or setting.negative == NULL else self._other(setting),
            None if setting.sampler is None else sampler_of(setting.sampler).build(),
            setting.steps,
        )

    def _average(self, setting: Setting) -> Trained:
        name = "" if setting.ema is None else setting.average
        if name not in self._averages:
            params = averages.read(self._model.folder, self._model.denoiser.network, setting.ema)
            self._averages[name] = replace(self._model, params=params)
        return self._averages[name]

    def _other(self, setting: Setting) -> WorseModel:
        name, model = setting.negative, self._model
        if name not in self._worse:
            step = name.removeprefix("step ")
            if step != name:
                net = model.denoiser.network
                params = averages.read(model.folder, net, None, int(step))
                self._worse[name] = WorseModel(model.denoiser, params)
            else:
                other = other_model(self._folder(name), model)
                self._worse[name] = WorseModel(other.denoiser, other.params)
        return self._worse[name]

    def _folder(self, name: str) -> Path:
        if name == TRAINED and self._trained is not None:
            return self._trained.checked()
        return Path(name)


def other_model(folder: Path, model: Trained) -> Trained:
    """The model in another folder, if it takes what ``model`` takes; with its negative prompt.

    Raises:
        WeightsError: it does not, or the folder has no readable model.
    """
    other = Trained.load(folder, model.denoiser.network.execution)
    for name, found, expected in (
        ("image_shape", other.shape.image_shape, model.shape.image_shape),
        ("condition", other.condition, _trained_on(model)),
    ):
        if found != expected:
            msg = (
                f"{folder}: {name} is {found}, that of the base model {expected}; expected the "
                "same images and conditions: name a model that was trained on the same data"
            )
            raise WeightsError(msg)
    return other.with_condition(model.condition)


def _trained_on(model: Trained) -> ConditionSpec:
    """The condition without a negative prompt."""
    stored = model.config.get("condition")
    return model.condition if stored is None else ConditionSpec.from_json(stored)


def weights_of(settings: list[Setting]) -> dict[str, str]:
    """The SHA-256 of the weights in each folder that is a negative.

    Raises:
        WeightsError: there are no weights in such a folder.
    """
    negatives = {one.negative for one in settings} - {NULL, TRAINED}
    folders = {name for name in negatives if not name.startswith("step ")}
    return hashes_of(folders, "guidance_search.negatives")


def hashes_of(folders: Iterable[str], key: str) -> dict[str, str]:
    """The SHA-256 of the weights in each folder that the user names: DVC does not watch it.

    Raises:
        WeightsError: there are no weights in such a folder of the parameter ``key``.
    """
    found = {}
    for name in sorted(folders):
        path = Path(name) / network.WEIGHTS
        if not path.is_file():
            msg = f"{key}: {path} does not exist; expected a model's folder"
            raise WeightsError(msg)
        found[name] = checksums.sha256(path)
    return found
