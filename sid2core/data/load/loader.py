"""Batches as a function of (seed, step), made while the device computes.

Any step can be asked for at once, so a resumed run needs no state of its data. Which records make
a batch, and how they are augmented, does not depend on how many processes share it.

Host memory: the row groups in the dataset's cache (``runtime.cache_mib``, or those of one batch if
that is more), ``runtime.prefetch`` + 1 batches, and 22 bytes a record for labels and order.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding
from numpy.typing import NDArray

from sid2core import conditioning, config
from sid2core.conditioning import Condition, ConditionSpec
from sid2core.data.errors import DataError
from sid2core.data.load import shuffle
from sid2core.data.load.augment import augmented, starts
from sid2core.data.load.dataset import Dataset
from sid2core.data.load.reading import nbytes
from sid2core.data.load.shuffle import Order

_log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """Raw images [b, h, w, c] or clips [b, f, h, w, c], and what they are conditioned on."""

    examples: Any
    """uint8, on the host or on devices."""
    condition: Condition


@dataclass(frozen=True)
class Loader:
    """Endless shuffled batches of ``dataset``.

    Epochs follow one another without a gap: each shows every image once, in an order of its own,
    and a batch may hold the end of one and the start of the next.

    Attributes:
        dataset: the records.
        batch_size: images a step, of all processes together.
        seed: of the order and of the augmentation.
        augment: random changes of images, and random windows of clips; without it none, and of
            clips the first window.
        prefetch: how many batches :meth:`stream` makes ahead, in a thread; 0 makes each when asked.
        process_index: which process this is; JAX's own answer without it.
        process_count: how many share each batch; JAX's own answer without it.
        sharding: how the devices of all processes share a batch; without it, one device takes it
            whole, or where there are several processes, all devices equal parts.
        condition: the kinds of condition to read; all that the dataset has, without it.
        embed: makes vectors of token ids on the devices, where the dataset has stored ids of a
            frozen text encoder.
    """

    dataset: Dataset
    batch_size: int
    seed: int
    augment: config.Loader | None = None
    prefetch: int = 0
    process_index: int | None = None
    process_count: int | None = None
    sharding: Sharding | None = None
    condition: ConditionSpec | None = None
    embed: Callable[[Any, Any], Any] | None = None

    def batch(self, step: int) -> Batch:
        """This process's rows of the batch of ``step`` (from 0), on the host."""
        mine = self._part
        rows, epochs = (column[mine] for column in self._order.with_epochs(step, self.batch_size))
        first, room = step * self.batch_size + mine.start, self.dataset.room
        places = None
        if self.augment is not None and room:
            places = starts(self.seed, first, len(rows), room)
        images = self.dataset.take(rows, together=True, starts=places)
        if self.augment is not None:
            images = augmented(images, self.augment, self.seed, first)
        spec = self.dataset.condition if self.condition is None else self.condition
        return Batch(*spec.read(self.dataset, rows, images, self._words(rows, epochs)))

    def indices(self, step: int) -> NDArray[np.int64]:
        """Which images make the whole batch of ``step``."""
        return self._order.batch(step, self.batch_size)

    def stream(self, start: int, steps: int) -> Generator[Batch, None, None]:
        """The batches of ``steps`` steps from ``start`` on, on the devices, as uint8.

        With several processes each array is a global one. An error in the thread is raised here,
        when its batch is asked for. Closing the iterator ends the thread after its current batch.

        Raises:
            DataError: the devices cannot share a batch equally.
        """
        self._check_room()
        with closing(self._stream(start, steps)) as batches:
            yield from map(self._embedded, batches)

    def _stream(self, start: int, steps: int) -> Generator[Batch, None, None]:
        todo = iter(range(start, start + steps))
        if not self.prefetch:
            yield from map(self._on_devices, todo)
            return
        pool = ThreadPoolExecutor(1, thread_name_prefix="loader")
        try:
            ahead: deque[Future[Batch]] = deque()
            for step in todo:
                ahead.append(pool.submit(self._on_devices, step))
                if len(ahead) > self.prefetch:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _on_devices(self, step: int) -> Batch:
        with jax.profiler.TraceAnnotation("batch", step=step):  # a traced run shows it
            return on_devices(self.batch(step), self.batch_size, self.sharding)

    def _embedded(self, batch: Batch) -> Batch:
        """The batch with vectors in place of token ids, computed as a part of its step."""
        text = batch.condition.text
        if self.embed is None or text is None:
            return batch
        vectors = text._replace(tokens=self.embed(*text))
        return batch._replace(condition=batch.condition._replace(text=vectors))

    def _words(self, rows: NDArray[np.int64], epochs: NDArray[np.int64]) -> NDArray[np.uint64]:
        """64 random bits for each row, a function of (seed, epoch, row)."""
        words = np.zeros(len(rows), np.uint64)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            words[here] = conditioning.words(self.seed, f"loader/caption/{epoch}", rows[here])
        return words

    def _check_room(self) -> None:
        mine = self._part
        share = (mine.stop - mine.start) / self.batch_size
        needed = share * self._order.open * nbytes(self.dataset.groups).max()
        if needed > self.dataset.cache.limit:
            _log.warning(
                "row groups of about %.0f MiB are open at a time, and runtime.cache_mib is %.0f: "
                "they are read more often than once an epoch; raise it, or lower "
                "data.row_group_records (those of one batch are held in any case)",
                *(needed / 2**20, self.dataset.cache.limit / 2**20),
            )

    @cached_property
    def _order(self) -> Order:
        return Order(self.dataset.groups.sizes, self.seed)

    @property
    def _part(self) -> slice:
        index, count = self.process_index, self.process_count
        return shuffle.part(
            self.batch_size,
            jax.process_index() if index is None else index,
            jax.process_count() if count is None else count,
        )


def on_devices(batch: Batch, size: int, sharding: Sharding | None = None) -> Batch:
    """A process's rows of a batch of ``size`` on the devices, as :attr:`Loader.sharding` says.

    Raises:
        DataError: the devices cannot share ``size`` equally.
    """
    if sharding is None and jax.process_count() == 1:
        return jax.device_put(batch)
    if sharding is None:
        sharding = NamedSharding(Mesh(jax.devices(), ("data",)), PartitionSpec("data"))
    try:
        sharding.shard_shape((size, *batch.examples.shape[1:]))
    except ValueError as error:
        msg = (
            f"a batch of {size} cannot be divided over {len(sharding.device_set)} devices "
            f"({error}): make train.batch_size and distill.batch_size multiples of their number"
        )
        raise DataError(msg) from None

    def whole(rows: NDArray[Any]) -> jax.Array:
        shape = (size, *rows.shape[1:])
        return jax.make_array_from_process_local_data(sharding, rows, shape)

    return jax.tree.map(whole, batch)
