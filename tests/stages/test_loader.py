"""What chance does to images is the section ``loader``'s, in both stages that train the model."""

import pytest

from sid2core.data.load.dataset import Dataset
from sid2core.data.load.loader import Loader
from sid2core.pipeline import artifact
from sid2core.training import loop
from stages import distill, train
from tests import tiny


class Asked(Exception):
    """Carries the run that a stage would have trained."""


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("stage", [train, distill])
@pytest.mark.parametrize("prefetch", [0, 2])
def test_batches_are_changed_as_the_parameters_say(monkeypatch, stage, prefetch):
    def fit(run, *_, **__):
        raise Asked(run)

    monkeypatch.setattr(loop, "fit", fit)
    chance = {"horizontal_flip": True, "max_shift": 1}
    params = tiny.params(loader=chance, runtime={"prefetch": prefetch})
    with pytest.raises(Asked) as caught:
        stage.main(params)
    (run,) = caught.value.args
    found = next(run.batches(0))
    first = found if stage is train else found[0]
    dataset = Dataset.open(artifact.load("prepare"), "train")
    size = (params.train if stage is train else params.distill).batch_size
    expected = Loader(dataset, size, params.seed, params.loader).batch(0)
    plain = Loader(dataset, size, params.seed).batch(0)
    assert (first.condition.label == expected.condition.label).all()
    assert (first.examples == expected.examples).all()
    assert (expected.examples != plain.examples).any()
