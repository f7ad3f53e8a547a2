"""The learned encoder: its tokenizer, its folder and its network."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sid2core import config
from sid2core.models.text.learned import LearnedTextEncoder
from sid2core.text import folder
from sid2core.text.errors import TextError
from sid2core.text.tokens import END, PAD
from tests import tiny

CAPTIONS = [
    f"a {size} {colour} {shape} on a {back} background"
    for size in ("small", "large")
    for colour in ("red", "green", "blue")
    for shape in ("circle", "square", "triangle")
    for back in ("white", "black", "grey")
]


def settings(**changes):
    return tiny.params(text=changes).text


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return folder.fit(settings(max_tokens=16), CAPTIONS, tmp_path_factory.mktemp("encoder"))


def text_of(encoder, row):
    ids = [int(one) - 2 for one in row if one > END]
    return encoder.tokenizer.decode(ids).strip()


def test_captions_of_the_training_set_are_few_tokens_and_come_back(encoder):
    ids, lengths, truncated = encoder.tokenize(CAPTIONS)
    assert ids.shape == (len(CAPTIONS), 16)
    assert ids.dtype == lengths.dtype == np.int32
    assert lengths.max() == 9  # eight words and the end
    assert not truncated.any()
    assert [text_of(encoder, row) for row in ids] == CAPTIONS
    assert ids.max() < encoder.vocabulary <= 4096


def test_every_text_has_one_end_and_padding_after_it(encoder):
    texts = ["", "   ", "red", "שלום", "👩‍🚀", "<b>&amp;</b>", "</s><pad>", "\0", "x" * 10_000]
    found = encoder.tokenize(texts)
    for row, length in zip(found.ids, found.lengths, strict=True):
        assert row[length - 1] == END
        assert (row[: length - 1] > END).all()
        assert (row[length:] == PAD).all()
    assert found.lengths[:2].tolist() == [1, 1]
    assert found.truncated.tolist() == [len(text) > 15 for text in texts]
    assert found.mask.sum(axis=1).tolist() == found.lengths.tolist()


def test_the_longest_text_is_truncated_before_its_end_token(encoder):
    words = " ".join(["red"] * 15)
    exact, longer = encoder.tokenize([words, words + " red"]).truncated
    assert (exact, longer) == (False, True)
    assert (encoder.tokenize([words]).ids == encoder.tokenize([words + " red"]).ids).all()


def test_composed_and_decomposed_characters_are_the_same(encoder):
    composed, decomposed = encoder.tokenize(["caf\u00e9", "cafe\u0301"]).ids
    assert (composed == decomposed).all()


def test_half_a_surrogate_pair_is_refused(encoder, tmp_path):
    with pytest.raises(TextError, match=r"found '\\ud800', expected valid Unicode"):
        encoder.tokenize(["good", "bad \ud800"])
    with pytest.raises(TextError, match="expected valid Unicode"):
        folder.fit(settings(), ["bad \ud800"], tmp_path)


def test_another_order_makes_the_same_bytes(encoder, tmp_path):
    other = folder.fit(settings(max_tokens=16), CAPTIONS[::-1], tmp_path)
    assert other.tokenizer.to_str() == encoder.tokenizer.to_str()


@pytest.mark.slow
def test_another_process_and_order_make_the_same_bytes(encoder, tmp_path):
    program = (
        "import json, sys; from pathlib import Path; from sid2core.text.learned import LearnedSpec;"
        "LearnedSpec(4096, 8, 1, 1, 16).fit(json.load(sys.stdin), Path(sys.argv[1]))"
    )
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        input=json.dumps(CAPTIONS[::-1]).encode(),
        env=tiny.environment(),
        cwd=tiny.ROOT,
        check=True,
    )
    assert (tmp_path / "tokenizer.json").read_text("utf-8") == encoder.tokenizer.to_str(pretty=True)


def test_without_captions_there_are_the_bytes(tmp_path):
    encoder = folder.fit(settings(max_tokens=8), [], tmp_path)
    assert encoder.vocabulary == 258
    assert encoder.tokenize(["né"]).lengths.tolist() == [5]  # space, n, two bytes, end


def test_a_folder_is_loaded_as_it_was_written(encoder, tmp_path):
    written = folder.fit(settings(max_tokens=16), CAPTIONS, tmp_path)
    read = folder.load(tmp_path)
    assert read.provenance == written.provenance == encoder.provenance
    assert (read.max_tokens, read.channels, read.frozen, read.kind) == (16, 128, False, "learned")
    assert (read.tokenize(CAPTIONS).ids == written.tokenize(CAPTIONS).ids).all()


def test_a_changed_folder_is_refused(tmp_path):
    folder.fit(settings(), CAPTIONS, tmp_path)
    tokenizer, described = tmp_path / "tokenizer.json", tmp_path / "encoder.json"
    before = tokenizer.read_text("utf-8")
    tokenizer.write_text(before.replace("NFC", "NFD"), "utf-8")
    with pytest.raises(TextError, match="expected .*; restore it, or run the stage text again"):
        folder.load(tmp_path)
    tokenizer.unlink()
    with pytest.raises(TextError, match=r"tokenizer\.json cannot be read"):
        folder.load(tmp_path)
    described.write_text(described.read_text("utf-8").replace('"learned"', '"gone"'), "utf-8")
    with pytest.raises(TextError, match="describes an encoder 'gone' that cannot be made"):
        folder.load(tmp_path)
    described.write_text("[]", "utf-8")
    with pytest.raises(TextError, match="no JSON object"):
        folder.load(tmp_path)
    described.unlink()
    with pytest.raises(TextError, match=r"encoder\.json not found"):
        folder.load(tmp_path)


def test_a_vocabulary_without_all_bytes_is_refused():
    with pytest.raises(config.ParamsError, match="text.encoder.learned.vocabulary: found 257"):
        settings(encoder={"learned": {"vocabulary": 257}})
    with pytest.raises(config.ParamsError, match="heads 3 must divide 128 channels"):
        settings(encoder={"learned": {"heads": 3}})


@pytest.fixture(scope="module")
def network():
    """A compiled network that no longer is the identity."""
    made, rngs = LearnedTextEncoder(300, 8, 1, 2, 12, nnx.Rngs(0)), nnx.Rngs(1)
    for layer in (made.blocks[0].attention_out, made.blocks[0].mlp_out):
        layer.kernel[...] = jax.random.normal(rngs(), layer.kernel.shape)
    return nnx.jit(made)


def vectors(network, ids, length):
    """Of ids padded to 12, the first ``length`` of them valid."""
    padded = np.pad(np.asarray(ids, np.int32), (0, 12 - len(ids)))[None]
    return np.asarray(network(jnp.asarray(padded), jnp.arange(12)[None] < length))[0]


def test_padding_changes_nothing(network):
    ids = np.arange(12) % 7 + 2
    short = network(jnp.asarray(ids[None, :5], jnp.int32), jnp.ones((1, 5), bool))[0]
    padded = vectors(network, ids, 5)
    assert np.allclose(short, padded[:5], rtol=0, atol=1e-5)
    assert (padded[5:] == 0).all()
    assert np.abs(vectors(network, ids, 12)[:5] - short).max() > 1e-3


def test_order_and_every_token_count(network):
    first, swapped, other = (vectors(network, ids, 3) for ids in ([5, 6, 1], [6, 5, 1], [5, 7, 1]))
    assert np.abs(first - swapped).max() > 1e-3
    assert np.abs(first[2] - other[2]).max() > 1e-4


def test_the_cost_is_that_of_the_network(encoder, tmp_path):
    cost = encoder.spec.cost()
    c, n, depth = 128, 16, 2
    weights = depth * (12 * c * c + 9 * c + 4 * c) + 2 * c  # matrices, biases and norms
    assert cost.parameters == 4096 * c + n * c + weights
    assert cost.weight_bytes == 4 * cost.parameters
    assert cost.gflops == pytest.approx(depth * (12 * c * c * n + 2 * n * n * c) / 1e9)
    assert cost.bytes_a_token == 4
