"""The samplers of the base model that ``evaluate`` shows."""

from sid2core.diffusion.guidance import ConstantGuidance, NoGuidance
from sid2core.diffusion.samplers import DDIM, DDPM
from sid2core.evaluation import sampler_spec
from sid2core.inference.model import Trained
from sid2core.inference.searched import Searched
from sid2core.models import network
from tests import tiny
from tests.inference.test_averages import DIFFUSION, NET, WEIGHTS

SAMPLING = tiny.params().sampling


def test_found_settings_are_drawn_with_their_own_sampler_and_the_guided_one_is_last(tmp_path):
    network.save(tmp_path, NET, WEIGHTS, {"diffusion": DIFFUSION})
    model = Trained.load(tmp_path)
    guided = Searched(model, ConstantGuidance(2.0))
    winner = Searched(model, NoGuidance(), sampler=DDIM(), steps=8)
    shown = sampler_spec.evaluated(model, SAMPLING, 0.5, guided, winner)
    assert [one.name for one in shown] == ["base", "constant", "winner", "searched"]
    methods = {one.name: one.method for one in shown}
    assert (methods["winner"].sampler, methods["winner"].steps) == (DDIM(), 8)
    assert isinstance(methods["searched"].sampler, DDPM)
    assert methods["searched"].steps == SAMPLING.steps
    few = sampler_spec.evaluated(model, SAMPLING, 0.5, Searched(model, NoGuidance()))
    assert [one.name for one in few] == ["base", "constant"]
