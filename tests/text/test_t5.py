"""The user's T5: its folder, its errors, its vectors."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from sid2core import config
from sid2core.models.text import t5
from sid2core.text import folder, t5_files
from sid2core.text.errors import TextError
from sid2core.text.t5 import T5Spec
from tests import tiny
from tests.refusals import refused
from tests.text import tiny_t5

TEXTS = ["", "a red circle on the cat", "strawberry " * 5000]


def settings(path, **changes):
    encoder = {"name": "t5", "t5": {"path": str(path), "dtype": "float32"}}
    return tiny.params(text={"encoder": encoder, "max_tokens": 8} | changes).text


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return tiny_t5.write(tmp_path_factory.mktemp("t5"))


@pytest.fixture
def copy(published, tmp_path):
    return shutil.copytree(published, tmp_path / "copy")


def test_buckets_in_closed_form():
    """With 32 and 128: exact below 8, then 8 + ⌊log₂(d² / 64)⌋, at most 15; 16 more ahead."""
    found = t5.relative_buckets(300, 32, 128)
    distances = range(300)
    expected = [d if d < 8 else min(15, 8 + (d * d // 64).bit_length() - 1) for d in distances]
    assert found[:, 0].tolist() == expected  # keys behind
    assert found[0, 1:].tolist() == [16 + one for one in expected[1:]]


def test_a_folder_becomes_an_encoder_that_is_loaded_again(published, tmp_path):
    encoder = folder.fit(settings(published), [], tmp_path)
    assert (encoder.kind, encoder.frozen, encoder.channels, encoder.vocabulary) == (
        "t5", True, 24, 200,
    )  # fmt: skip
    found = encoder.tokenize(TEXTS)
    assert found.ids.shape == (3, 8)
    assert found.lengths.tolist() == [1, 7, 8]
    assert found.truncated.tolist() == [False, False, True]
    assert [row[length - 1] for row, length in zip(found.ids, found.lengths, strict=True)] == [
        1
    ] * 3
    assert set(encoder.provenance["files"]) == {"config.json", "spiece.model", "model.safetensors"}
    again = folder.load(tmp_path)
    assert again.provenance == encoder.provenance
    assert (again.tokenize(TEXTS).ids == found.ids).all()


def test_shards_and_half_precision_give_the_same_vectors(published, tmp_path, monkeypatch):
    monkeypatch.setenv("SID2_WORK", str(tmp_path / "work"))
    sharded = tiny_t5.write(tmp_path / "sharded", shards=3)
    tokens = folder.fit(settings(published), [], tmp_path / "one").tokenize(TEXTS)
    ids, mask = jnp.asarray(tokens.ids), jnp.asarray(tokens.mask)
    one = folder.load(tmp_path / "one").network()(ids, mask)
    many = folder.fit(settings(sharded), [], tmp_path / "many").network()(ids, mask)
    assert (one == many).all()
    half = settings(
        published, encoder={"name": "t5", "t5": {"path": str(published), "dtype": "bfloat16"}}
    )
    rounded = folder.fit(half, [], tmp_path / "half").network()(ids, mask)
    assert (one.dtype, rounded.dtype) == (jnp.float32, jnp.bfloat16)
    assert np.abs(one - rounded.astype(jnp.float32)).max() < 0.1 * np.abs(one).max()


def test_weights_that_changed_are_refused(copy, tmp_path, monkeypatch):
    monkeypatch.setenv("SID2_WORK", str(tmp_path / "work"))
    encoder = folder.fit(settings(copy), [], tmp_path / "encoder")
    safetensors.numpy.save_file(tiny_t5.weights(seed=1), copy / "model.safetensors")
    with pytest.raises(TextError, match=r"model\.safetensors has SHA-256 .*, expected"):
        encoder.network()
    (tmp_path / "encoder" / "config.json").write_text("{}")
    with pytest.raises(TextError, match=r"config\.json is missing or was changed"):
        folder.load(tmp_path / "encoder")


def test_an_infinite_weight_is_refused(copy, tmp_path, monkeypatch):
    monkeypatch.setenv("SID2_WORK", str(tmp_path / "work"))
    weights = tiny_t5.weights()
    weights["encoder.final_layer_norm.weight"][3] = np.inf
    safetensors.numpy.save_file(weights, copy / "model.safetensors")
    with pytest.raises(
        TextError, match=r"encoder\.final_layer_norm\.weight has values that are not"
    ):
        folder.fit(settings(copy), [], tmp_path / "encoder").network()


@pytest.mark.parametrize("name", ["config.json", "spiece.model", "model.safetensors"])
def test_a_missing_file_is_named_with_its_publishers(copy, tmp_path, name):
    (copy / name).unlink()
    with pytest.raises(TextError, match=f"found no .*{name}.*google/t5-v1_1-xxl") as caught:
        folder.fit(settings(copy), [], tmp_path / "encoder")
    assert "\n" not in str(caught.value)


def test_weights_of_pytorch_are_to_be_converted(copy, tmp_path):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(TextError, match="to convert pytorch_model.bin, run T5EncoderModel"):
        t5_files.find(copy)
    with pytest.raises(TextError, match=r"gone is not a folder; expected a T5"):
        t5_files.find(tmp_path / "gone")


def replaced(path, old, new):
    path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"t5"', '"bert"', "found model_type 'bert'"),
        ("gated-gelu", "gated-silu", "feed_forward_proj 'gated-silu'"),
        ('"d_ff": 40', '"d_ff": "40"', "d_ff is '40', expected a number"),
        ('"d_ff": 40', '"d_ff": 41', r"DenseReluDense.* is \(.*\), expected \(.*41.*\) by config"),
        ('"num_layers": 2', '"num_layers": 3', "no weights encoder.block.2"),
        ('"vocab_size": 200', '"vocab_size": 100', r"shared.weight is \(200, 24\), expected \(100"),
        ("{", "[", "cannot be read as JSON"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(copy, old, new, message):
    replaced(copy / "config.json", old, new)
    with pytest.raises(TextError, match=message):
        t5_files.find(copy)


def test_an_index_that_does_not_fit_is_refused(tmp_path):
    path = tiny_t5.write(tmp_path / "sharded", shards=2)
    index = path / "model.safetensors.index.json"
    before = index.read_text()
    replaced(index, "model-00002-of", "model-00003-of")
    with pytest.raises(TextError, match="found no model-00003-of-00002"):
        t5_files.find(path)
    index.write_text(json.dumps({"weight_map": {"shared.weight": "../x"}}))
    with pytest.raises(TextError, match="no weights encoder"):
        t5_files.find(path)
    index.write_text("{}")
    with pytest.raises(TextError, match="has no weight_map"):
        t5_files.find(path)
    index.write_text(before)
    (path / "model-00002-of-00002.safetensors").write_bytes(b"nothing")
    with pytest.raises(TextError, match="cannot be read as safetensors"):
        t5_files.find(path)


def test_a_tokenizer_that_does_not_fit_is_refused(copy, tmp_path):
    (copy / "tokenizer.json").write_text("{}")
    with pytest.raises(TextError, match=r"tokenizer\.json cannot be read as a tokenizer of T5"):
        folder.fit(settings(copy), [], tmp_path / "encoder")
    (copy / "tokenizer.json").unlink()
    (copy / "spiece.model").write_bytes(b"nothing")
    with pytest.raises(TextError, match=r"spiece\.model cannot be read as a tokenizer of T5"):
        folder.fit(settings(copy), [], tmp_path / "encoder")


def test_the_section_needs_a_folder():
    with pytest.raises(config.ParamsError, match="text.encoder.t5.path: found None"):
        tiny.params(text={"encoder": {"name": "t5"}})


def test_the_cost_of_a_published_model_needs_no_folder():
    cost = T5Spec("gone/t5-v1_1-xxl", "bfloat16", 512).cost()
    layers = 24 * (4 * 4096 * 4096 + 3 * 4096 * 10_240 + 2 * 4096)
    assert cost.parameters == layers + 32_128 * 4096 + 32 * 64 + 4096 == 4_762_310_656
    assert cost.bytes_a_token * 512 == 4 * 2**20
    for name in ("t5-v1_1-tiny", "xxl", "umt5-xxl"):
        with pytest.raises(TextError, match=f"gone/{name} is not a folder"):
            T5Spec(f"gone/{name}", "bfloat16", 512).cost()


def test_the_cost_needs_no_weights(copy):
    (copy / "model.safetensors").unlink()
    cost = T5Spec(str(copy), "bfloat16", 16).cost()
    count = sum(one.size for one in tiny_t5.weights().values())
    assert (cost.parameters, cost.weight_bytes, cost.bytes_a_token) == (count, 2 * count, 48)
    products = 16 * (4 * 24 * 30 + 3 * 24 * 40) + 2 * 16**2 * 30
    assert cost.gflops == pytest.approx(2 * products / 1e9)


def test_quantised_weights_are_refused(copy):
    weights = {name: one.astype(np.int8) for name, one in tiny_t5.weights().items()}
    safetensors.numpy.save_file(weights, copy / "model.safetensors")
    with refused(TextError, copy / "model.safetensors", "is of type I8, expected F32, F16, BF16"):
        t5_files.find(copy)
