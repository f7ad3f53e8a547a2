import json
from pathlib import Path

import numpy as np
import pytest

from sid2core import artifact, config
from sid2core.data import sources
from sid2core.data.dataset import Dataset
from sid2core.data.errors import DataError
from stages import prepare

PARAMS = config.read(Path(__file__).parents[2] / "params.yaml")


def params_with(**data):
    return PARAMS.model_copy(update={"data": PARAMS.data.model_copy(update=data)})


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_everything_of_the_source_arrives_in_one_split_or_the_other():
    prepare.main(params_with(train_fraction=0.7, shard_records=500, row_group_records=64))
    made = artifact.load("prepare")
    parts = [Dataset.open(made, split) for split in ("train", "eval")]
    found = {
        key: (image.tobytes(), int(label))
        for part in parts
        for key, image, label in zip(part.keys, part.images, part.labels, strict=True)
    }
    records = sources.read(sources.SOURCES["digits"])
    assert found == {record.key: (record.image.tobytes(), record.label) for record in records}
    assert sum(map(len, parts)) == len(records)


def test_facts_and_metrics_say_what_is_there():
    prepare.main(params_with(shard_records=500))
    made = artifact.load("prepare")
    assert made.facts["shape"] == [8, 8, 1]
    assert made.facts["class_names"] == list("0123456789")
    assert made.manifest["params"]["seed"] == PARAMS.seed
    for split, facts in made.facts["splits"].items():
        dataset = Dataset.open(made, split)
        assert facts["records"] == len(dataset)
        assert facts["per_class"] == np.bincount(dataset.labels, minlength=10).tolist()
    assert len(made.facts["splits"]["train"]["shards"]) == 4
    metrics = json.loads(prepare.METRICS.read_text())
    splits = made.facts["splits"]
    assert metrics == {
        "train_images": splits["train"]["records"],
        "eval_images": splits["eval"]["records"],
        "classes": 10,
    }


def test_a_second_run_gives_the_same_bytes_and_another_seed_others():
    digests = []
    for seed in (0, 0, 1):
        prepare.main(PARAMS.model_copy(update={"seed": seed}))
        digests.append(artifact.load("prepare").digest)
    assert digests[0] == digests[1] != digests[2]


def test_a_split_without_records_leaves_the_earlier_artifact():
    prepare.main(PARAMS)
    before = artifact.load("prepare").digest
    with pytest.raises(DataError, match=r"data\.train_fraction 0\.999"):
        prepare.main(params_with(train_fraction=0.999))
    assert artifact.load("prepare").digest == before
