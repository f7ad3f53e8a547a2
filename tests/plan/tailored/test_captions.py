"""What captions decide in a preset for given data."""

import pytest

from sid2core.config import presets
from sid2core.evaluation import prompts
from sid2core.plan.tailored import captions, preset_file
from tests import tiny
from tests.plan.tailored.test_choice import CPU, chosen, pets

FEW = tuple(f"a {colour} cat on a mat" for colour in ("red", "blue", "green", "black", "white"))
FOUND = {
    "captioned": True,
    "class_names": ("unlabelled",),
    "captions": FEW,
    "images_with_captions": 2700,
}


def test_data_with_captions_make_a_text_to_image_model(tmp_path):
    made = chosen(**FOUND)
    data, text = made.params.data, made.params.text
    assert (data.captions, data.unlabelled, data.max_missing_captions) == ("required", True, 0.17)
    assert (text.encoder.name, text.encoder.settings.vocabulary) == ("learned", 512)
    assert text.max_tokens == 16
    assert made.condition.names == ("text",)
    assert made.params.train.condition_dropout == 0.1
    assert made.params.guidance_search.weights == [1.0, 2.0]
    assert not made.params.loader.horizontal_flip
    assert made.reasons.keys() >= {"data.captions", "text.encoder", "text.max_tokens"}

    lines = [*preset_file.lines(pets(**FOUND), CPU, made)]
    assert "  conditional on captions" in lines
    assert any(line.startswith("  model: at most ") for line in lines)
    assert any(line.startswith("  eval.prompts: a red cat on a mat; ") for line in lines)
    path = preset_file.check_name("pets", tmp_path)
    preset_file.write(path, pets(**FOUND), made, "sid2 preset pets")
    (tmp_path / "digits.yaml").write_bytes((tiny.ROOT / "conf/digits.yaml").read_bytes())
    read = presets.read("pets", tmp_path)
    assert (read.evidence.captions, read.evidence.classes) == (True, 0)
    assert presets.change(read, tiny.ROOT / "params.yaml").params == made.params


def test_every_reason_is_of_a_key_that_is_set():
    found = pets(**FOUND)
    for key in captions.reasons(found):
        value = captions.overlay(found, 0.05)
        for part in key.split("."):
            value = value[part]


@pytest.mark.parametrize(
    ("texts", "vocabulary", "tokens"),
    [
        (("cat",), 512, 16),
        (tuple(f"word{number} of many" for number in range(80)), 2048, 16),
        ((" ".join(f"word{number}" for number in range(600)),), 8192, 256),
        (("קטן " * 30,), 512, 96),
    ],
)
def test_the_tokenizer_fits_the_captions(texts, vocabulary, tokens):
    found = captions.overlay(pets(**FOUND | {"captions": texts}), 0.05)["text"]
    assert found["encoder"]["learned"] == {"vocabulary": vocabulary}
    assert found["max_tokens"] == tokens


def test_one_very_long_caption_does_not_set_the_number_of_tokens():
    """It is one of 20 captions; of 19 it would be more than the share that may be truncated."""
    long = "word " * 400
    found = pets(**FOUND | {"captions": (*FEW * 3, *FEW[:4], long)})
    assert captions.overlay(found, 0.05)["text"]["max_tokens"] == 16
    reason = captions.reasons(found)["text.max_tokens"]
    assert reason == (
        "95% of 20 captions that were read have at most about 8 tokens; "
        "about 1 of all are longer than this limit and truncated"
    )
    few = pets(**FOUND | {"captions": (*FEW * 3, *FEW[:3], long)})
    assert captions.overlay(few, 0.05)["text"]["max_tokens"] == 256


def test_captions_that_would_mean_something_else_are_no_prompts():
    texts = ("a {b}", "a --n b", "a|b", "", "x" * 500, "two  words", "two words", "last")
    assert captions.prompts(texts) == ["two words", "last"]
    assert captions.prompts(("{",)) is None
    assert len(captions.prompts(tuple(map(str, range(50))))) == 4
    assert [one.text for one in prompts.read(captions.prompts(FEW))] == [*captions.prompts(FEW)]


def test_without_captions_nothing_of_text_is_set():
    assert captions.overlay(pets(), 0.05) == {}
    assert captions.reasons(pets()) == {}
    assert "text" not in chosen().overlay
