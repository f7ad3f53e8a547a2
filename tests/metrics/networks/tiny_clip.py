"""A folder like a published CLIP's, tiny, with random weights."""

import json

import numpy as np
import safetensors.numpy
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

CONFIG = {
    "text_config": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 12,
        "vocab_size": 60,
        "eos_token_id": 1,
        "bos_token_id": 0,
        "hidden_act": "quick_gelu",
    },
    "vision_config": {
        "hidden_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "intermediate_size": 64,
        "image_size": 24,
        "patch_size": 8,
        "hidden_act": "quick_gelu",
    },
    "projection_dim": 20,
}


def words():
    """A tokenizer of letters: begin 0, end 1, then the letters and a mark for all others."""
    letters = {chr(97 + index): 2 + index for index in range(26)}
    tokenizer = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, **letters, "?": 28}, "?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        "<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return tokenizer.to_str()


def write(folder, shapes, config=CONFIG):
    """The folder, with normal weights of these shapes."""
    random = np.random.default_rng(0)
    tensors = {
        name: random.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()
    }
    folder.mkdir(exist_ok=True, parents=True)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(words())
    return folder
