"""A frozen text encoder for tests: a word is a token, and its vector a function of its letters."""

import hashlib
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from flax import nnx

from sid2core.text import tokens

VOCABULARY, CHANNELS = 50, 4


class Table(nnx.Module):
    """One vector for each id; what is computed is counted."""

    def __init__(self):
        values = np.random.default_rng(0).normal(size=(VOCABULARY, CHANNELS))
        self.table = nnx.Param(jnp.asarray(values, jnp.float32))

    def __call__(self, ids, mask):
        return jnp.where(mask[..., None], self.table[...][ids], 0.0)


@dataclass(frozen=True, eq=False)
class Words:
    """The encoder: each word is the hash of its letters."""

    max_tokens: int = 6
    frozen: bool = True
    kind: str = "words"
    channels: int = CHANNELS
    vocabulary: int = VOCABULARY

    @property
    def provenance(self):
        return {"words": self.max_tokens}

    def tokenize(self, texts):
        pieces = [[_number(word) for word in text.split()] for text in texts]
        return tokens.fixed(pieces, self.max_tokens)

    def network(self, rngs=None, sharding=None):
        return Table()


def _number(word):
    return 2 + hashlib.sha256(word.encode()).digest()[0] % (VOCABULARY - 2)
