import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from sid2core.models import cost
from sid2core.models.execution import Execution, Remat
from sid2core.models.network import Network
from sid2core.plan import memory
from tests import programs
from tests.models import configs

CONFIG = configs.tiny(
    image_shape=(16, 16, 3),
    channels=(8, 16),
    head_size=8,
    encoder_depth=(1,),
    decoder_depth=(1,),
    mid_depth=3,
)
DEEPER = replace(CONFIG, mid_depth=4)
"""With one more Transformer block."""


@functools.cache
def needed(remat, config=CONFIG, **execution):
    (found,) = memory.activations(Network(config, Execution(**execution)), [remat])
    return found


def of_one_more_block(remat):
    """The bytes that it keeps."""
    return needed(remat, DEEPER).kept - needed(remat).kept


def test_state_has_four_numbers_per_parameter_and_gradients_one():
    shapes = Network(CONFIG).shapes()
    count = sum(value.size for value in jax.jit(Network(CONFIG).init)(jax.random.key(0)).values())
    assert memory.state_bytes(shapes) == 16 * count
    assert memory.gradient_bytes(shapes) == 4 * count


def test_recomputing_trades_memory_for_forwards():
    rows = {remat: needed(remat) for remat in Remat}
    none, blocks, full = rows[Remat.NONE], rows[Remat.BLOCKS], rows[Remat.FULL]
    products, offload = rows[Remat.PRODUCTS], rows[Remat.OFFLOAD]
    assert offload.kept < full.kept < blocks.kept < products.kept < none.kept
    assert none.working == 0
    assert 0 < blocks.working < full.working
    assert full.total < none.total
    again = cost.attention_gflops(CONFIG) / cost.forward_gflops(CONFIG)
    assert [row.forwards for row in rows.values()] == [1, 1 + again, 2, 2, 3]


def test_inputs_of_blocks_move_to_the_host():
    """Of two ResBlocks and three Transformer blocks, in float32."""
    rows = {remat: needed(remat) for remat in Remat}
    inputs = 4 * (2 * 8 * 8 * 8 + 3 * 4 * 4 * 16)
    assert rows[Remat.OFFLOAD].host == inputs
    assert rows[Remat.BLOCKS].kept - rows[Remat.OFFLOAD].kept == inputs
    assert {row.host for remat, row in rows.items() if remat is not Remat.OFFLOAD} == {0}


def test_results_of_products_are_kept():
    """Of one block: q, k and v, attention, its projection, and the MLP's two."""
    more = of_one_more_block(Remat.PRODUCTS) - of_one_more_block(Remat.BLOCKS)
    assert more == 4 * 16 * 16 * (3 + 1 + 1 + 4)


def test_blocks_keep_their_inputs():
    """One more block keeps one more input; its index does not depend on the batch."""
    height, width = CONFIG.grid(1)
    assert of_one_more_block(Remat.BLOCKS) == 4 * height * width * CONFIG.channels[1]


@pytest.mark.slow
def test_only_xla_attention_keeps_its_matrix():
    wide = configs.tiny(image_shape=(32, 32, 3), patch_size=1)
    kept = {one: needed(Remat.NONE, wide, attention=one).kept for one in ("xla", "recomputed")}
    tokens = 16 * 16
    matrix = 4 * tokens**2 * (wide.channels[1] // wide.head_size)
    assert kept["xla"] - kept["recomputed"] > matrix


@pytest.mark.slow
@pytest.mark.parametrize("remat", [Remat.NONE, Remat.PRODUCTS, Remat.BLOCKS, Remat.FULL])
def test_memory_is_close_to_what_xla_allocates(remat):
    """Within a factor of 1.5 of XLA's program, for blocks in loops on this backend.

    Written out, XLA's scheduler on CPU computes several blocks again before it needs them.
    """
    config = replace(CONFIG, mid_depth=8)
    network = Network(config, Execution(remat, scan_blocks=1))

    def temporary(batch):
        inputs = configs.inputs(config, batch)

        def loss(weights, key):
            return jnp.mean(jnp.square(network.apply(weights, *inputs, key)))

        lowered = jax.jit(jax.grad(loss)).lower(network.shapes(), jax.random.key(0))
        compiled = lowered.compile(compiler_options=programs.SCHEDULER)
        return compiled.memory_analysis().temp_size_in_bytes

    found = (temporary(64) - temporary(32)) / 32
    (estimate,) = memory.activations(network, [remat])
    assert 1 / 1.5 < found / estimate.total < 1.5
