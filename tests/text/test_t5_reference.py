"""The encoder and the tokenizer of T5 beside those of transformers."""

import functools
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sid2core.models.text import t5
from sid2core.text import t5_tokenizer
from tests.metrics import fid_peers
from tests.text import tiny_t5


@pytest.fixture(scope="module")
def transformers():
    fid_peers.admit_torchvision()
    import transformers

    return transformers


def peer(transformers, gated):
    """T5EncoderModel with the weights of ``tiny_t5``."""
    import torch

    sizes = tiny_t5.SIZES | {"feed_forward_proj": "gated-gelu" if gated else "relu"}
    model = transformers.T5EncoderModel(transformers.T5Config(**sizes)).eval()
    state = {name: torch.tensor(one) for name, one in tiny_t5.weights(gated).items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert (set(missing), unexpected) == ({"encoder.embed_tokens.weight"}, [])
    model.encoder.embed_tokens = model.shared
    return model


@functools.cache
def ours(gated):
    weights = tiny_t5.weights(gated)
    encoder = t5.load(tiny_t5.config(gated), "float32", lambda name: jnp.asarray(weights[name]))
    graph, state = nnx.split(encoder)
    run = jax.jit(lambda *args: nnx.merge(graph, state)(*args))
    return lambda ids, mask: np.asarray(run(jnp.asarray(ids, jnp.int32), jnp.asarray(mask)))


def difference(transformers, gated, lengths):
    """The largest difference of valid vectors as a share of the largest value."""
    import torch

    total = max(lengths)
    ids = np.random.default_rng(total).integers(2, 200, (len(lengths), total))
    mask = np.arange(total) < np.array(lengths)[:, None]
    with torch.no_grad():
        expected = peer(transformers, gated)(
            input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask, dtype=torch.int64)
        ).last_hidden_state.numpy()
    found = ours(gated)(ids, mask)
    assert (found[~mask] == 0).all()
    return np.abs(found - expected)[mask].max() / np.abs(expected[mask]).max()


@pytest.mark.parametrize("gated", [True, False])
def test_vectors_of_short_texts(transformers, gated):
    assert difference(transformers, gated, [9, 1, 5]) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("length", [1, 2, 7, 8, 33, 64, 127, 200, 512])
def test_vectors_of_texts_up_to_512_tokens(transformers, gated, length):
    assert difference(transformers, gated, [length]) < 1e-5
    assert difference(transformers, gated, [length, (length + 1) // 2, 1]) < 1e-5


@pytest.mark.parametrize(("buckets", "distance"), [(32, 128), (8, 20)])
def test_buckets_of_relative_positions(transformers, buckets, distance):
    import torch

    attention = transformers.models.t5.modeling_t5.T5Attention
    positions = np.arange(600)[None] - np.arange(600)[:, None]
    expected = attention._relative_position_bucket(
        torch.tensor(positions), num_buckets=buckets, max_distance=distance
    )
    assert (t5.relative_buckets(600, buckets, distance) == expected.numpy()).all()


def strange(count):
    """Texts of controls, spaces, combining marks, emoji, unassigned code points."""
    generator = random.Random(1)
    pool = [
        *"abcxyz  \t\n\r\0\x01\x7f\x85<>/&▁_",
        *"\u00a0\u200b\u3000\u2003\u2028\ufeff\u202e\u200d",
    ]
    pool += [
        *"\u0301\u0327\u1100\u1161\u11a8ﬁ½①éĳǅ…﷽㍿שלام日本ไทย한\ufffd\ufe0f👩🏽🇫🇷",
        "\U0010ffff",
    ]
    names = [*tiny_t5.WORDS, "</s>", "<pad>", "<unk>", "<extra_id_3>", "▁red", " "]
    beyond = [*range(0x20, 0xD800), *range(0xE000, 0x110000)]
    for index in range(count):
        match index % 3:
            case 0:
                yield "".join(map(chr, generator.choices(range(0x3000), k=generator.randrange(40))))
            case 1:
                yield "".join(generator.choices(pool, k=generator.randrange(30)))
            case _:
                words = [generator.choice(names) for _ in range(generator.randrange(12))]
                yield " ".join([*words, *map(chr, generator.choices(beyond, k=2))])


def test_ids_of_strange_texts(transformers, tmp_path):
    texts = ["", " ", "red circle", "x" * 10_000, *strange(1000)]
    (tmp_path / "spiece.model").write_bytes(tiny_t5.spiece())
    reference = transformers.T5Tokenizer.from_pretrained(str(tmp_path))
    expected = reference(texts).input_ids
    reference.save_pretrained(str(tmp_path))
    for name in t5_tokenizer.FILES:
        tokenizer = t5_tokenizer.read(tmp_path / name, 200)
        found = [[*ids, 1] for ids in t5_tokenizer.pieces(tokenizer, texts)]
        different = [
            text
            for text, *pair in zip(texts, found, expected, strict=True)
            if len({*map(tuple, pair)}) > 1
        ]
        assert different == [], name
