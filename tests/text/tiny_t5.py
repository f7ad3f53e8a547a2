"""A folder of a tiny T5 with random weights, as published ones are laid out."""

import functools
import io
import json
import random

import numpy as np
import safetensors.numpy

from sid2core.models.text.t5 import T5Config

TEXT = "a the red green blue circle square on in of with cat dog strawberry elephant hat"
WORDS = TEXT.split()
SIZES = {
    "model_type": "t5",
    "vocab_size": 200,
    "d_model": 24,
    "d_kv": 10,
    "d_ff": 40,
    "num_layers": 2,
    "num_heads": 3,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
    "feed_forward_proj": "gated-gelu",
}


def config(gated=True):
    return T5Config(200, 24, 10, 40, 2, 3, 32, 128, 1e-6, gated)


def weights(gated=True, seed=0):
    """Random weights by published name: matrices large enough for attention to be uneven."""
    generator = np.random.default_rng(seed)
    return {
        name: generator.normal(size=shape, scale=0.4).astype(np.float32)
        for name, shape in config(gated).shapes().items()
    }


@functools.cache
def spiece():
    """The bytes of a trained ``spiece.model`` with T5's special tokens and normalisation."""
    import sentencepiece

    choice = random.Random(0).choice
    corpus = [" ".join(choice(WORDS) for _ in range(8)) for _ in range(300)]
    corpus += ["Ünïcödé façade naïve", "красный круг", "שלום עולם", "日本語 テキスト", "½ ①"] * 5
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus),
        model_writer=written,
        vocab_size=90,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return written.getvalue()


def write(folder, gated=True, shards=1):
    """Write the folder, its weights in so many files."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = SIZES | {"feed_forward_proj": "gated-gelu" if gated else "relu"}
    (folder / "config.json").write_text(json.dumps(sizes))
    (folder / "spiece.model").write_bytes(spiece())
    tensors = weights(gated) | {"decoder.final_layer_norm.weight": np.ones(24, np.float32)}
    if shards == 1:
        safetensors.numpy.save_file(tensors, folder / "model.safetensors")
        return folder
    files = [f"model-{index + 1:05d}-of-{shards:05d}.safetensors" for index in range(shards)]
    places = {name: files[index % shards] for index, name in enumerate(sorted(tensors))}
    for file in files:
        own = {name: tensors[name] for name, place in places.items() if place == file}
        safetensors.numpy.save_file(own, folder / file)
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder
