"""Prepared images for tests: in shards of any row groups, or in memory."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sid2core.data.load.dataset import Dataset
from sid2core.data.load.shards import Layout
from sid2core.pipeline import artifact


@dataclass(eq=False)
class InMemory:
    """Row groups that were never written; ``read`` lists which were requested, in order."""

    layout: Layout
    stored: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray
    read: list[int] = field(default_factory=list)

    def images(self, number):
        self.read.append(number)
        stop = int(self.sizes[: number + 1].sum())
        return self.stored[stop - self.sizes[number] : stop]

    def column(self, name):
        assert name == "key"
        return [str(row) for row in range(len(self.labels))]


def dataset(images, labels, class_names, sizes=None, cache_mib=1.0):
    """A dataset of arrays, all one row group unless ``sizes`` says otherwise."""
    layout = Layout(images.shape[1:], tuple(class_names), "train")
    sizes = np.array([len(images)] if sizes is None else sizes, np.int64)
    assert sizes.sum() == len(images) == len(labels)
    return Dataset(InMemory(layout, images, np.asarray(labels, np.int32), sizes), cache_mib)


def numbered(sizes, shape=(2, 2, 1), cache_mib=1.0):
    """Record i shows i in its first two bytes, and its label is i."""
    count = int(np.sum(sizes))
    images = np.zeros((count, *shape), np.uint8)
    flat = images.reshape(count, -1)
    flat[:, 0], flat[:, 1] = np.arange(count) % 256, np.arange(count) // 256
    return dataset(images, np.arange(count), map(str, range(count)), sizes, cache_mib)


def numbers(images):
    """Which records images of :func:`numbered` are."""
    flat = np.asarray(images).reshape(len(images), np.prod(images.shape[1:])).astype(int)
    return flat[:, 0] + 256 * flat[:, 1]


def records(count, shape=(4, 5, 3), seed=0):
    """Noise, and labels that alternate between two classes."""
    images = np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)
    return images, np.arange(count, dtype=np.int32) % 2


def shards(folder, layout, images, labels, sizes=((3, 3, 2), (3,)), captions=None):
    """Write shards of these row groups; keys are ``r/0`` and so on."""
    folder.mkdir(exist_ok=True, parents=True)
    paths, start, schema = [], 0, layout.schema()
    for number, groups in enumerate(sizes):
        paths.append(folder / f"{layout.split}-{number:05d}-of-{len(sizes):05d}.parquet")
        with pq.ParquetWriter(paths[-1], schema, compression="none", use_dictionary=False) as file:
            for size in groups:
                rows = range(start, start + size)
                start += size
                columns = [
                    pa.array([images[row].tobytes() for row in rows], schema.field(0).type),
                    pa.array(labels[rows.start : rows.stop], pa.int32()),
                    pa.array([f"r/{row}" for row in rows], pa.string()),
                ]
                if captions is not None:
                    columns.append(
                        pa.array(captions[rows.start : rows.stop], pa.list_(pa.string()))
                    )
                file.write_table(pa.Table.from_arrays(columns, schema=schema))
    assert start == len(images)
    return paths


def prepared(root, images, labels, sizes=((3, 3, 2), (3,)), **metadata):
    """An artifact as ``prepare`` writes it, with a train split only; ``metadata`` overrides."""
    layout = Layout(images.shape[1:], ("a", "b", "c"), "train")
    with artifact.create("prepare", {}, root=root) as draft:
        names = [path.name for path in shards(draft.folder, layout, images, labels, sizes)]
        train = {"records": len(images), "shards": names} | metadata.pop("train", {})
        draft.metadata |= {"shape": list(layout.shape), "class_names": list(layout.class_names)}
        draft.metadata |= {"splits": {"train": train}} | metadata
    return artifact.load("prepare", root=root)
