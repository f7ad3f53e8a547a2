"""What a training step sends between eight devices, read from its compiled program."""

import math
from collections import Counter
from dataclasses import replace
from functools import partial

import jax
import optax
import pytest

from sid2core import config
from sid2core.models.execution import Execution, Remat
from sid2core.models.network import Network
from sid2core.training import base, mesh
from tests import programs, tiny
from tests.programs import CONFIG, gathers

BATCH = 16


def compiled(network, data, fsdp, accumulation=1):
    """A step with plain gradient descent: an optimiser's moments add nothing that is sent."""
    where = mesh.layout(config.Mesh(data=data, fsdp=fsdp))
    settings = {"objective": tiny.objective(tiny.params(), network), "chain": optax.sgd(0.1)}
    settings |= {"ema_decay": 0.9, "parts": accumulation, "layout": where}

    def first():
        return base.initial_state(network.init(jax.random.key(0)), settings["chain"])

    batch = programs.batch(network.config, BATCH * accumulation, where)
    key = jax.eval_shape(lambda: jax.random.key(0))
    step = where.compiled(partial(base.update, **settings), first)
    return programs.compiled(step.lower(where.abstract(first), batch, key))


def assert_gathered(text, expected):
    """Nothing else is gathered; a bias may be gathered less often: no gradient needs it."""
    found = Counter({one: n for one, n in programs.sent(text).items() if one.kind == "all-gather"})
    assert found <= expected
    assert set(found) == set(expected)
    assert all(len(one.shape) == 1 for one in expected - found)


def reductions(text):
    """How many arrays of each size are summed over devices; numbers for the log left out."""
    found = Counter()
    for one, count in programs.sent(text).items():
        if one.kind == "all-reduce" and one.shape:
            found[math.prod(one.shape)] += count
    return found


def in_blocks_twice(name):
    """For the forward pass and for the backward pass."""
    return 2 if "/blocks/" in name else 1


QUICK = replace(CONFIG, encoder_depth=(0,))
"""Without ResBlocks: it compiles in half the time."""
SLOW = [(CONFIG, remat) for remat in Remat if remat is not Remat.FULL]


@pytest.mark.parametrize(
    ("shape", "remat"),
    [(QUICK, Remat.BLOCKS), *(pytest.param(*one, marks=pytest.mark.slow) for one in SLOW)],
)
def test_weights_are_gathered_where_they_are_used_in_the_type_of_their_layer(shape, remat):
    network = Network(shape, Execution(remat))
    found = compiled(network, 1, 8)
    assert set(programs.operations(found.final)) == {"all-gather", "all-reduce"}
    assert_gathered(found.partitioned, gathers(network, in_blocks_twice))
    assert reductions(found.partitioned) == Counter(one.size for one in network.shapes().values())
    blocks = Counter()
    for name, one in network.shapes().items():
        if "/blocks/" in name:
            level, rest = name.split("/blocks/")
            blocks[level, rest.split("/")[0]] += one.size
    assert programs.most_gathered(found.final) < max(blocks.values()) / 2


@pytest.mark.slow
def test_blocks_in_a_loop_gather_their_weights_within_it():
    """Once in the text, for all blocks; so with a batch in parts, which is a loop around it."""
    network = Network(CONFIG, Execution(scan_blocks=2))
    found = compiled(network, 1, 8, accumulation=2)
    assert set(programs.operations(found.final)) == {"all-gather", "all-reduce"}
    expected = gathers(network, lambda name: 0 if "/blocks/1/" in name else in_blocks_twice(name))
    assert_gathered(found.partitioned, expected)


@pytest.mark.slow
def test_plain_data_parallelism_sums_gradients_once_and_gathers_nothing():
    found = compiled(Network(CONFIG), 8, 1)
    assert programs.operations(found.final) == {"all-reduce": 1}
