"""What a compiled program sends between devices, read from XLA's text of it.

XLA's CPU backend computes bfloat16 collectives in float32, so their types are those of the program
as it is partitioned, before that backend changes it. What lives when is that of the final program.
"""

import math
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sid2core.conditioning import Condition, ConditionSpec
from sid2core.data.load.loader import Batch
from sid2core.models import sharding
from tests.models import configs

CONFIG = configs.tiny(
    condition=ConditionSpec.of_classes(15),
    channels=(16, 32),
    encoder_depth=(1,),
    decoder_depth=(0,),
    mid_depth=2,
    emb_channels=64,
    head_size=16,
    compute_dtype="bfloat16",
)
"""A network most of whose weights eight devices can share."""
FLOAT32 = ("norm", "conditioning", "patch_out")
"""Parts of the names of weights that are used in float32."""
KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
SCHEDULER = {
    "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
    "xla_cpu_enable_concurrency_optimized_scheduler": False,
}
"""The CPU's own scheduler starts everything as early as it can, gathers of all weights too."""
_COLLECTIVE = re.compile(rf"= (\(.*?\)|\S+) ({'|'.join(KINDS)})(?:-start)?\(")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%(\S+) = (?:\(.*?\)|\S+) ([\w-]+)\((.*)$")
_ALIASES = ("bitcast", "copy", "convert", "reshape", "transpose")


class Sent(NamedTuple):
    """One array of a collective operation."""

    kind: str
    dtype: str
    shape: tuple[int, ...]


class Programs(NamedTuple):
    """The texts of one compiled program."""

    partitioned: str
    """As it is divided among devices, types as written."""
    final: str
    """As it runs; instructions in the order of their execution."""


def batch(config, size, where):
    """A batch of ``size`` images, of which only the shapes and the places are known."""
    return Batch(
        jax.ShapeDtypeStruct((size, *config.image_shape), jnp.uint8, sharding=where.batch),
        Condition(label=jax.ShapeDtypeStruct((size,), jnp.int32, sharding=where.batch)),
    )


def compiled(lowered) -> Programs:
    """Compile ``lowered``, which must not come from a cache: that would dump nothing."""
    name = "jax_persistent_cache_min_compile_time_secs"
    seconds = getattr(jax.config, name)
    jax.config.update(name, 1e9)  # never kept, so never found
    try:
        with tempfile.TemporaryDirectory() as folder:
            options = {"xla_dump_to": folder, "xla_dump_hlo_pass_re": "spmd", **SCHEDULER}
            final = lowered.compile(compiler_options=options).as_text()
            (path,) = Path(folder).glob("*after_spmd-partitioning*.txt")
            return Programs(path.read_text(), final)
    finally:
        jax.config.update(name, seconds)


def sent(text: str) -> Counter[Sent]:
    """How often each array is sent; one operation may send many."""
    return Counter(
        Sent(kind, dtype, tuple(map(int, filter(None, sizes.split(",")))))
        for result, kind in _COLLECTIVE.findall(text)
        for dtype, sizes in _ARRAY.findall(result)
    )


def gathers(network, times):
    """What is gathered, each weight as often as ``times`` of its name."""
    expected = Counter()
    for name, one in network.shapes().items():
        if sharding.partition(one.shape, 8):
            dtype = "f32" if any(part in name for part in FLOAT32) else "bf16"
            expected[Sent("all-gather", dtype, one.shape)] += times(name)
    return +expected


def operations(text: str) -> Counter[str]:
    """How many collective operations of each kind there are."""
    return Counter(kind for _, kind in _COLLECTIVE.findall(text))


def most_gathered(final: str) -> int:
    """The largest number of gathered elements that are needed at one time."""
    lines = final[final.index("\nENTRY ") :].splitlines()
    found = [match.groups() for line in lines if (match := _INSTRUCTION.match(line))]
    last: dict[str, int] = {}
    for index in reversed(range(len(found))):
        name, operation, rest = found[index]
        until = last.get(name, index) if operation in _ALIASES else index
        for operand in re.findall(r"%([\w.-]+)", rest.split("), ")[0]):
            last[operand] = max(last.get(operand, 0), until)
    changes = Counter[int]()
    for index, line in enumerate(line for line in lines if _INSTRUCTION.match(line)):
        name, operation, _ = found[index]
        if operation == "all-gather":
            size = sum(math.prod(one.shape) for one in sent(line))
            changes[index] += size
            changes[last.get(name, index) + 1] -= size
    alive = most = 0
    for index in sorted(changes):
        alive += changes[index]
        most = max(most, alive)
    return most
