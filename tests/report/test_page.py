"""The page: complete, self-contained, escaped and reproducible."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from sid2core.conditioning import UNLABELLED
from sid2core.report import page
from sid2core.report.read import inputs
from sid2core.report.read.inputs import Inputs
from tests.report import synthetic
from tests.report.test_images import cells_of, decode
from tests.report.test_neighbours import brute_force

SECTIONS = [
    "samples",
    "students",
    "samplers",
    "data",
    "plan",
    "training",
    "low-bit",
    "guidance",
    "memorisation",
    "costs",
    "provenance",
]
VOID = {"meta", "link", "img", "br", "path", "use", "rect"}


class Document(HTMLParser):
    """Tags with their attributes and section, and the text of each section."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None], str]] = []
        self.text: dict[str, str] = {}
        self._sections = ["head"]
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "section":
            self._sections.append(attributes["id"] or "")
        self.tags.append((tag, attributes, self._sections[-1]))

    def handle_endtag(self, tag: str) -> None:
        if tag == "section":
            self._sections.pop()

    def handle_data(self, data: str) -> None:
        section = self._sections[-1]
        self.text[section] = self.text.get(section, "") + data

    def all(self, *tags: str) -> Iterator[tuple[dict[str, str | None], str]]:
        return ((attributes, section) for tag, attributes, section in self.tags if tag in tags)

    def words(self, section: str) -> str:
        return " ".join(self.text[section].split())


def build(root: Path) -> str:
    return page.build(inputs.read(synthetic.params(), root))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = synthetic.World(trajectory=synthetic.trajectory(400, 800))
    return synthetic.write(tmp_path_factory.mktemp("project"), world)


def test_the_sections_are_in_order(document: Document) -> None:
    assert [attributes["id"] for attributes, _ in document.all("section")] == SECTIONS
    linked = [a["href"] for a, section in document.all("a") if section == "head"]
    assert linked == [f"#{name}" for name in SECTIONS]


def test_headings_descend_by_one(document: Document) -> None:
    levels = [int(tag[1]) for tag, _, _ in document.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))


def test_every_figure_is_there(document: Document) -> None:
    where = [section for _, section in document.all("svg")]
    middle = [*["data"] * 3, *["training"] * 6, *["low-bit"] * 4]
    assert where == ["samplers", *middle, *["guidance"] * 2, "memorisation", "costs"]


def test_every_sampler_is_in_every_place(document: Document) -> None:
    table = synthetic.samplers()
    for name, title in zip(table.sampler[:-1], table.title[:-1], strict=True):
        assert f"grid-{name}" in [attributes.get("id") for attributes, _ in document.all("figure")]
        assert title in document.words("samples")
        # In the table and in the figure.
        assert document.words("samplers").count(title) >= 2
    assert "Real training images" in document.words("samplers")


def test_the_summary_has_the_main_numbers(document: Document) -> None:
    words = document.words("head")
    for part in (
        "120 training images of ",
        "40 other images are the eval split",
        "Guidance in an interval, takes 64 steps and reaches fd 2.87",
        "n = 1,000 samples",
        "fd 4.12",
        "at 8.8% of the best sampler’s cost",
        "score 1.20",
        "not FID",
        "98.2% on 270 eval images",
    ):
        assert part in words


def test_the_makers_of_the_images_are_named(document: Document) -> None:
    assert "Drawn by A & B" in document.words("data")


def test_the_low_bit_view_has_its_numbers_and_sources(document: Document) -> None:
    words = document.words("low-bit")
    for part in (
        "data of 1 to 8 bits",
        "sigmoid(10.7 − log-SNR)",
        "mixture of data of 8, 7, 6, 5 bits in the proportions 1 : 4 : 4 : 6",
        "at most 0.312, at log-SNR 9.5, and by 0.043 on average",
        "supplement A, Figure 11",
        "supplement A, Figure 12",
        # 4 + 2 log 8
        "the bias 4 in use corresponds to 8.2 for a single value",
    ):
        assert part in words


def test_the_plan_has_its_numbers_with_units(document: Document) -> None:
    words = document.words("plan")
    for part in (
        "the network has 1,243,777 parameters",
        "costs 28.1 MFLOPs by the supplement’s formulas and 30.8 MFLOPs by XLA’s own count",
        "the whole training costs 16.2 TFLOPs",
        "take 19.0 MiB in float32, and the gradient 4.74 MiB more",
        # 28.1 / 30.8; the parts add up to 30.3
        "here 91.2% of XLA’s count",
        "The parts add up to 30.3 MFLOPs, 98.4% of it",
        "1, middle Transformer 128 4 × 4 4 830,464 17.4 61.9%",
        "whole network 8 1,243,777 28.1 100.0%",
        "blocks 0.500 32.0 2 4",
    ):
        assert part in words


def test_the_costs_are_beside_published_ones(document: Document) -> None:
    words = document.words("costs")
    for part in (
        "EDM2-S 63 102 GFLOPs 42.5 TFLOPs – 1.68 –",
        "SiD2 flop heavy, ImageNet 256 512 × 2 652.8 GFLOPs – – 1.38 –",
        "Student, 8 steps 8 28.1 MFLOPs 225 MFLOPs – – 4.12",
        "it has a cost but no FID",
        "this run: 28.1 MFLOPs",
    ):
        assert part in words
    order = ["supplement, Table 5", "SiD2 with guidance", "This run, on digits"]
    places = [words.index(part) for part in order]
    assert places == sorted(places)
    headings = [a for a, section in document.all("th") if section == "costs" and "colspan" in a]
    assert [a["scope"] for a in headings] == ["rowgroup"] * 3


def test_the_same_inputs_give_the_same_bytes(root: Path, text: str) -> None:
    program = (
        "import hashlib, sys; from pathlib import Path\n"
        "from sid2core.report import page; from sid2core.report.read import inputs\n"
        "from tests.report import synthetic\n"
        "text = page.build(inputs.read(synthetic.params(), Path(sys.argv[1])))\n"
        "assert 'jax' not in sys.modules, 'the report needs no jax'\n"
        "print(hashlib.sha256(text.encode()).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(root)],
        env=os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "OPENBLAS_NUM_THREADS": "2"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == hashlib.sha256(text.encode()).hexdigest()


def test_nothing_comes_from_outside(document: Document, text: str) -> None:
    for tag, attributes, _ in document.tags:
        assert tag not in {"script", "iframe", "object", "embed", "base", "form"}
        for name, value in attributes.items():
            if name in {"src", "href", "xlink:href", "srcset", "poster", "action", "data"}:
                assert value is not None
                assert value.startswith(("#", "data:")), (tag, name, value)
            assert not name.startswith("on"), (tag, name)
    assert not re.search(
        r"https?://|//[a-z]|@import|url\((?!#)", re.sub(r"base64,[^\"]*", "", text)
    )
    policies = [a for a, _ in document.all("meta") if "http-equiv" in a]
    assert policies[0]["content"].startswith("default-src 'none'")


def test_references_lead_to_unique_ids(document: Document, text: str) -> None:
    ids = [attributes["id"] for _, attributes, _ in document.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', text)) <= set(ids)


def test_images_and_tables_are_accessible(document: Document) -> None:
    images, headings = list(document.all("img")), list(document.all("th"))
    assert images
    assert all(attributes["alt"] for attributes, _ in images)
    roles = [attributes.get("role") for attributes, _ in document.all("svg")]
    assert set(roles) == {"img"}
    assert len(list(document.all("title"))) == len(roles) + 1
    assert headings
    assert all(attributes.get("scope") for attributes, _ in headings)


def test_tags_are_closed(text: str) -> None:
    class Checker(HTMLParser):
        open: list[str] = []

        def handle_starttag(self, tag: str, _: list) -> None:
            if tag not in VOID:
                self.open.append(tag)

        def handle_startendtag(self, tag: str, _: list) -> None:
            pass

        def handle_endtag(self, tag: str) -> None:
            if tag not in VOID:
                assert self.open.pop() == tag, self.getpos()

    checker = Checker()
    checker.feed(text)
    assert checker.open == []


def uris(document: Document, section: str) -> list[str]:
    return [attributes["src"] for attributes, s in document.all("img") if s == section]


def test_grids_show_the_stored_cells(document: Document, root: Path) -> None:
    found = uris(document, "samples")
    with np.load(root / "artifacts/evaluate/grids.npz") as stored:
        for uri, name in zip(found, ["base", "constant", "interval", "student_8"], strict=False):
            cells = cells_of(decode(uri), 10, 4, 8, 8)
            np.testing.assert_array_equal(cells[..., :1], stored[name])
    held_out = inputs.read(synthetic.params(), root).held_out
    real = cells_of(decode(found[-1]), 10, 4, 8, 8)
    for label in range(10):
        expected = held_out.images[held_out.labels == label][:4]
        np.testing.assert_array_equal(real[label, :, :, :, :1], expected)


def test_neighbours_are_the_nearest(document: Document, root: Path) -> None:
    found = inputs.read(synthetic.params(), root)
    images, _ = inputs.samples_of(found, "interval")
    distance, index = brute_force(images, found.train.images, 3)
    held_out, _ = brute_force(found.held_out.images, found.train.images, 1)
    words = document.words("memorisation")
    assert f"nearest training image is {np.median(distance[:, 0]):.3f} for 30 samples" in words
    assert f"{np.median(held_out):.3f} for 40 held-out images" in words
    pictures = [decode(uri)[..., :1] for uri in uris(document, "memorisation")]
    closest = int(distance[:, 0].argmin())
    # The closest sample comes first, then the first sample of each class: rows 0 to 7 here.
    assert len(pictures) == 4 * 9
    for place, row in enumerate([closest, *range(8)]):
        np.testing.assert_array_equal(pictures[4 * place], images[row])
        for rank in range(3):
            expected = found.train.images[index[row, rank]]
            np.testing.assert_array_equal(pictures[4 * place + 1 + rank], expected)
            assert f"{distance[row, rank]:.3f}" in words


def test_provenance_is_complete(document: Document, root: Path) -> None:
    words = document.words("provenance")
    assert "log_every" not in words
    for part in ("python -m stages.train", "make repro", "dvc metrics diff", "jax"):
        assert part in words
    found = inputs.read(synthetic.params(), root)
    assert f"train_fraction: {found.params.data.train_fraction}" in words
    for made in (found.prepare, found.guidance_search, found.evaluate):
        assert made.digest in words


HOSTILE = '<script>alert("x")</script>'
BREAKOUT = "\"'><img src=x onerror=alert(1)>&amp;{{ 7 * 7 }} $\\frac{"
CAPTIONS = {
    **{"images": 9, "missing": 1, "without_image": 2, "captions": 1234, "empty": 1},
    **{"distinct": 3, "duplicates": 1231, "characters": {"median": 5, "max": 10_000}},
    "examples": [
        {"row": 0, "captions": [HOSTILE, BREAKOUT]},
        {"row": 5, "captions": ["\u200fחתול 🐈", "y" * 300, ""]},
    ],
}


def test_hostile_names_are_escaped(tmp_path: Path) -> None:
    world = synthetic.with_sampler("interval", title=BREAKOUT)
    names = (HOSTILE, BREAKOUT, *synthetic.NAMES[2:])
    root = synthetic.write(tmp_path, replace(world, class_names=names))
    raw = synthetic.raw_params()
    raw["report"]["title"] = HOSTILE
    read = inputs.read(synthetic.config.parse(raw), root)
    read.prepare.manifest["metadata"]["captions"] = CAPTIONS
    text = page.build(read)
    document = Document(text)
    assert not list(document.all("script"))
    assert all("onerror" not in attributes for _, attributes, _ in document.tags)
    assert HOSTILE in document.words("head")
    for caption in (HOSTILE, BREAKOUT, "\u200fחתול 🐈", "y" * 300, "(empty)", "captions1,234"):
        assert " ".join(caption.split()) in document.words("data")
    for section in ("samples", "samplers"):
        assert " ".join(BREAKOUT.split()) in document.words(section)


def with_captions(root: Path, *captions: str) -> Inputs:
    """What the page reads of data without classes, whose images have these captions in turn."""
    world = replace(synthetic.World(), class_names=UNLABELLED, captions=captions)
    return inputs.read(synthetic.params(), synthetic.write(root, world))


def test_data_with_captions_have_no_words_of_classes(tmp_path: Path) -> None:
    captions = (HOSTILE, BREAKOUT, "a red ring " * 20, "")
    read = with_captions(tmp_path, *captions)
    read.prepare.manifest["metadata"]["captions"] = CAPTIONS
    document = Document(page.build(read))
    assert "8 × 8 pixels with captions (1,234 in both splits), from" in document.words("head")
    assert "numbers per class" not in document.words("data")
    memorisation = document.words("memorisation")
    assert "The first samples" in memorisation
    assert "3 nearest training images with their distances and captions." in memorisation
    assert not re.search(r"unlabelled|class", memorisation + document.words("data"))


def test_below_a_training_image_is_its_own_caption(tmp_path: Path) -> None:
    captions = (HOSTILE, BREAKOUT, "a red ring " * 20, "")
    read = with_captions(tmp_path, *captions)
    document = Document(page.build(read))
    found = [a for a, section in document.all("img") if section == "memorisation"]
    images, _ = inputs.samples_of(read, "interval")
    _, index = brute_force(images, read.train.images, 3)
    assert [a["alt"] for a in found[::4]] == ["Sample"] * 9
    for row in range(8):
        for rank, image in enumerate(found[4 * (row + 1) + 1 : 4 * (row + 2)]):
            caption = captions[index[row, rank] % 4]
            shown = caption if len(caption) <= 80 else f"{caption[:80]}…"
            expected = f"Training image ({shown}), at" if caption else "Training image, at"
            assert (image["alt"] or "").startswith(expected)
            assert " ".join(shown.split()) in document.words("memorisation")
    assert not list(document.all("script"))
    assert all("onerror" not in attributes for _, attributes, _ in document.tags)


def test_without_classes_and_captions_images_have_no_label(tmp_path: Path) -> None:
    document = Document(page.build(with_captions(tmp_path)))
    assert "8 × 8 pixels, from the 120 training images" in document.words("head")
    assert "nearest training images with their distances." in document.words("memorisation")
    assert "unlabelled" not in document.words("memorisation")


@pytest.mark.parametrize(("names", "words"), [(("one",), "1 class,"), (("a", "b"), "2 classes,")])
def test_classes_are_counted(tmp_path: Path, names: tuple[str, ...], words: str) -> None:
    world = replace(synthetic.World(), class_names=names)
    document = Document(build(synthetic.write(tmp_path, world)))
    assert f"grey images of 8 × 8 pixels in {words} from" in document.words("head")
    assert "The first sample of each class" in document.words("memorisation")
    assert "with their distances and classes." in document.words("memorisation")


@pytest.mark.parametrize(
    ("optimiser", "words"),
    [
        ({"name": "adam"}, "average and Adam’s two moments take 19.0 MiB"),
        ({"name": "muon", "weight_decay": 0.1}, "average and the optimiser’s state take at most"),
    ],
)
def test_memory_is_that_of_the_optimiser_in_use(
    tmp_path: Path, optimiser: dict[str, object], words: str
) -> None:
    raw = synthetic.raw_params()
    raw["train"]["optimiser"] |= optimiser
    read = inputs.read(synthetic.config.parse(raw), synthetic.write(tmp_path))
    assert words in Document(page.build(read)).words("plan")


def test_values_that_are_not_finite_are_reported(tmp_path: Path) -> None:
    curve = synthetic.curve()
    curve.loc[[3, 5], "loss"] = np.nan
    curve.loc[5, "grad_norm"] = np.inf
    world = synthetic.with_sampler("interval", fd_eval=None, agreement=None)
    root = synthetic.write(tmp_path, replace(world, curve=curve))
    document = Document(build(root))
    assert "2 logged steps have a loss or a gradient norm that is not finite" in document.words(
        "training"
    )
    assert "Its best sampler, Base, takes 64 steps" in document.words("head")
    # The only remaining guided sampler is the one to check.
    assert "samples of Constant guidance" in document.words("memorisation")
    assert re.findall(r"\b(?:nan|inf|None)\b", " ".join(document.text.values())) == []


def test_a_page_without_any_score_is_still_a_page(tmp_path: Path) -> None:
    table = synthetic.samplers().astype(object)
    table[["fd_eval", "fd_train", "agreement"]] = None
    root = synthetic.write(tmp_path, replace(synthetic.World(), samplers=table))
    shutil.rmtree(root / "reports/distill")
    document = Document(build(root))
    assert "No sampler has a finite distance" in document.words("head")
    assert "no best one to check" in document.words("memorisation")
    assert "Distillation" not in document.words("training")


def test_many_classes_and_colours(tmp_path: Path) -> None:
    names = tuple(f"class {i}" for i in range(40))
    world = replace(
        synthetic.World(), class_names=names, shape=(16, 16, 3), columns=2, train_records=80
    )
    document = Document(build(synthetic.write(tmp_path, world)))
    assert "12 of 40 classes are shown, evenly spaced" in document.words("samples")
    picture = decode(uris(document, "samples")[0])
    assert picture.shape == (12 * 17 - 1, 2 * 17 - 1, 4)
    with np.load(tmp_path / "artifacts/evaluate/grids.npz") as stored:
        cells = cells_of(picture, 12, 2, 16, 16)
        np.testing.assert_array_equal(cells[[0, -1], ..., :3], stored["base"][[0, 39]])
    # 40 held-out images, one of each class: a second column of real images stays empty.
    real = cells_of(decode(uris(document, "samples")[-1]), 12, 2, 16, 16)
    assert real[:, 0, ..., 3].all()
    assert not real[:, 1, ..., 3].any()


def test_no_guided_sampler(tmp_path: Path) -> None:
    table = synthetic.samplers()
    table = table[table.sampler.isin(["base", "train_images"])]
    root = synthetic.write(tmp_path, replace(synthetic.World(), samplers=table))
    document = Document(build(root))
    assert "samples of Base and" in document.words("memorisation")
    assert len(uris(document, "samples")) == 2


def test_a_form_without_an_auxiliary_network_says_what_judges_the_student(tmp_path: Path) -> None:
    found = inputs.read(synthetic.params(), synthetic.write(tmp_path))
    assert "Student and auxiliary model" in Document(page.build(found)).words("training")
    distill = found.params.distill
    form = distill.form.model_copy(update={"name": "parameter_space"})
    distill = distill.model_copy(update={"form": form})
    params = found.params.model_copy(update={"distill": distill})
    words = Document(page.build(replace(found, params=params))).words("training")
    assert "The teacher is not changed" in words
    assert "auxiliary" not in words
