"""Conditions of texts that are encoded when they are drawn."""

import numpy as np

from sid2core import conditioning
from sid2core.conditioning import Condition, Text
from sid2core.evaluation import stored_conditions


def test_texts_are_encoded_when_their_rows_are_taken():
    encoded = []

    def conditions_of(texts):
        encoded.extend(texts)
        values = np.array([[len(one), 0] for one in texts], np.int32)
        return Condition(text=Text(values, values > 0))

    texts = [index * "x" for index in range(100)]
    lazy = stored_conditions.of_texts(conditions_of, texts)
    encoded.clear()
    found = conditioning.taken(lazy, slice(7, 9))
    assert encoded == texts[7:9]
    assert found.text.tokens.tolist() == [[7, 0], [8, 0]]
    assert found.text.mask.tolist() == [[True, False]] * 2
    assert conditioning.taken(lazy, np.array([3, 3, 1])).text.tokens[:, 0].tolist() == [3, 3, 1]
