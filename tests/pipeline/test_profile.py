import gzip
import json
import logging

import jax
import jax.numpy as jnp
import pandas as pd
import pytest

from sid2core.pipeline import places, profile
from sid2core.pipeline.profile import Event
from sid2core.training import loop
from tests.training.toy import RUNTIME, Killed, quadratic, same

TRACED = RUNTIME.model_copy(update={"profile": [5, 8]})


@pytest.fixture(autouse=True)
def _work(tmp_path, monkeypatch):
    monkeypatch.setenv("SID2_WORK", str(tmp_path))


def files(work):
    return places.beside(profile.FOLDER, work) / "plugins" / "profile" / "steps-5-8"


def events(place):
    (path,) = place.glob("*.xplane.pb")
    planes = jax.profiler.ProfileData.from_file(str(path)).planes
    return [event for plane in planes for line in plane.lines for event in line.events]


def numbers(place):
    """The numbers of the steps in a trace."""
    found = [dict(one.stats).get("step_num") for one in events(place) if one.name == "toy"]
    return sorted(found)


def test_the_steps_that_were_asked_for_are_traced_and_change_nothing(tmp_path, caplog):
    expected, _ = loop.fit(quadratic(), tmp_path / "train" / "plain", RUNTIME)
    with caplog.at_level(logging.INFO):
        found, _ = loop.fit(quadratic(), tmp_path / "train" / "0123", TRACED)
    assert same(expected, found)
    place = tmp_path / "profile" / "train" / "0123" / "plugins" / "profile" / "steps-5-8"
    assert numbers(place) == [5, 6, 7]
    table = pd.read_csv(place / profile.TABLE)
    assert set(table["program"]) == {"jit_careful"}  # the update, of skip_nonfinite
    assert table["calls"].min() == 3
    assert table["milliseconds"].is_monotonic_decreasing
    assert table["operation"][0] in caplog.text
    assert str(place) in caplog.text
    with gzip.open(place / "perfetto_trace.json.gz") as file:
        assert json.load(file)["traceEvents"]
    assert not (tmp_path / "train" / "0123" / "profile").exists()


def test_a_run_that_resumes_among_the_steps_traces_the_others(tmp_path):
    with pytest.raises(Killed):
        loop.fit(quadratic(fails_at=7), tmp_path / "train", TRACED)  # its checkpoint is of step 4
    assert numbers(files(tmp_path / "train")) == [5, 6, 7]
    assert not (files(tmp_path / "train") / profile.TABLE).exists()
    at_six = RUNTIME.model_copy(update={"checkpoint_every": 6})
    with pytest.raises(Killed):
        loop.fit(quadratic(fails_at=7), tmp_path / "other", at_six)
    loop.fit(quadratic(), tmp_path / "other", TRACED)
    assert numbers(files(tmp_path / "other")) == [6, 7]


@pytest.mark.parametrize("span", [[5, 16], [0, 4]])
def test_a_run_without_the_steps_says_so(tmp_path, caplog, span):
    with pytest.raises(Killed):
        loop.fit(quadratic(fails_at=5), tmp_path / "train", RUNTIME)
    loop.fit(quadratic(), tmp_path / "train", RUNTIME.model_copy(update={"profile": span}))
    expected = f"toy is not traced: it has the steps 4 to 15, and runtime.profile is {span}"
    assert expected in caplog.messages
    assert not (tmp_path / "profile").exists()


def test_time_inside_a_loop_counts_for_the_operations_in_it():
    outer, inner, within, after = (
        Event(0, 10, "while"),
        Event(1, 6, "call"),
        Event(2, 3, "dot"),
        Event(10, 4, "add"),
    )
    found = {one.name: alone for one, alone in profile.alone_times([after, within, outer, inner])}
    assert found == {"while": 4, "call": 3, "dot": 3, "add": 4}


def test_a_loop_of_a_real_trace_is_not_counted_twice(tmp_path):
    @jax.jit
    def repeated(x):
        return jax.lax.fori_loop(0, 50, lambda _, y: jnp.tanh(y @ y), x)

    x = jnp.ones((200, 200))
    repeated(x).block_until_ready()
    with profile.traced(tmp_path, "loop") as place:
        repeated(x).block_until_ready()
    table = profile.operations(place, top=1000).set_index("operation")
    (loops,) = (name for name in table.index if name.startswith("while"))
    assert table["share"].sum() == pytest.approx(1.0, abs=1e-2)
    assert table["calls"].max() == 50
    assert table["share"][loops] < 0.5 < table["share"][table["calls"] == 50].sum()


PLANE = """
planes {{
  name: "{name}"
  stat_metadata {{ key: 1 value {{ id: 1 name: "hlo_op" }} }}
  stat_metadata {{ key: 2 value {{ id: 2 name: "hlo_module" }} }}
  stat_metadata {{ key: 3 value {{ id: 3 name: "tf_op" }} }}
  event_metadata {{ key: 1 value {{ id: 1 name: "kernel" }} }}
  event_metadata {{ key: 2 value {{ id: 2 name: "%fusion.2 = f32[8] fusion(...)" }} }}
  {lines}
}}
"""
KERNEL = """
events { metadata_id: 1 offset_ps: 0 duration_ps: 3000000
  stats { metadata_id: 1 str_value: "gemm.1" } stats { metadata_id: 2 str_value: "jit_step" }
  stats { metadata_id: 3 str_value: "jit(step)/dot" } }
"""
COPY = "events { metadata_id: 1 offset_ps: 4000000 duration_ps: 1000000 }"
FUSION = "events { metadata_id: 2 offset_ps: 0 duration_ps: 2000000 }"


def written(folder, *planes):
    text = "".join(PLANE.format(name=name, lines=lines) for name, lines in planes)
    content = jax.profiler.ProfileData.text_proto_to_serialized_xspace(text)
    (folder / "made.xplane.pb").write_bytes(content)
    return profile.operations(folder)


def test_the_streams_of_an_accelerator_are_read_and_not_its_host(tmp_path):
    stream = f'lines {{ name: "Stream #1" {KERNEL} {COPY} }}'
    found = written(tmp_path, ("/host:CPU", stream), ("/device:GPU:0", stream))
    assert found.to_dict("records") == [
        {
            "operation": name,
            "program": program,
            "calls": 1,
            "milliseconds": milliseconds,
            "share": share,
            "source": source,
        }
        for name, program, milliseconds, share, source in (
            ("gemm.1", "jit_step", 0.003, 0.75, "jit(step)/dot"),
            ("kernel", "", 0.001, 0.25, ""),
        )
    ]
    assert "jit(step)/dot" in profile.shown(found)


def test_work_that_a_plane_shows_again_by_program_is_counted_once(tmp_path):
    ops, again = (f'lines {{ name: "{name}" {FUSION} }}' for name in ("XLA Ops", "XLA Modules"))
    found = written(tmp_path, ("/device:TPU:0", ops + again), ("/device:TPU:1", ops + again))
    (row,) = found.to_dict("records")
    assert (row["operation"], row["calls"], row["milliseconds"]) == ("fusion.2", 2, 0.004)
    assert "source" not in profile.shown(found)
