import json
from dataclasses import asdict

import numpy as np
import pytest

from sid2core.cli import main, serve
from sid2core.cli.serve import ServeError
from sid2core.inference.guidance_search import Setting
from sid2core.inference.public import load_model
from sid2core.pipeline import artifact
from tests.inference import continuing
from tests.refusals import refused


def test_without_the_extra_the_cure_is_named(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main.main(["serve"]) == 1
    assert ".[serve]" in capsys.readouterr().err


def test_models_are_named_by_their_folders(tmp_path, monkeypatch):
    monkeypatch.setattr("sid2core.inference.public.load_model", lambda path: path)
    (tmp_path / "artifacts/distill/student_2").mkdir(parents=True)
    (tmp_path / "artifacts/distill/student_2/config.json").touch()
    monkeypatch.chdir(tmp_path)
    assert [*serve._models([])] == ["base", "student_2"]
    paths = [tmp_path / name for name in ("a/train", "b/train", "cats")]
    assert [*serve._models(paths)] == ["a/train", "b/train", "cats"]
    with refused(ServeError, "give each model once"):
        serve._models([paths[0], paths[0]])


def test_a_token_is_long_or_new():
    assert serve._token({}) != serve._token({})
    assert serve._token({serve.TOKEN: "a1" * 8}) == "a1" * 8
    for weak in ("", "short", "with spaces in this token"):
        with refused(ServeError, serve.TOKEN):
            serve._token({serve.TOKEN: weak})


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with a base model of clips, and another model beside it."""
    monkeypatch.chdir(tmp_path)
    continuing.saved(tmp_path / "artifacts/train")
    continuing.saved(tmp_path / "worse", seed=1)
    return tmp_path


def searched(**setting):
    """Write what a search found: no guidance is best, and ``setting`` is the best guided one."""
    with artifact.create("guidance_search", {}) as draft:
        rows = {"best": asdict(Setting(0.0)), "guided": asdict(Setting(**setting))}
        (draft.folder / "best.json").write_text(json.dumps(rows))


def test_the_page_starts_with_the_guidance_of_the_search(project):
    from sid2core.serving.asked import Limits
    from sid2core.serving.models import Served

    frames = {"clip.npy": np.zeros((1, 4, 4, 1), np.uint8)}
    base = Served(load_model(project / "artifacts/train"), clips=frames)
    assert serve._guided() is None
    assert serve._start({"base": base.model}, Limits(), None)["start"]["guidance"] == 0

    searched(weight=0.5, logsnr_min=-1.0, logsnr_max=7.0)
    guided = serve._guided()
    start = serve._start({"base": base.model}, Limits(), guided)["start"]
    shown = {name: start[name] for name in ("guidance", "interval", "from", "to", "autoguidance")}
    assert [*shown.values()] == [0.5, True, -1.0, 7.0, False]
    assert serve._searched(base, guided).worse is None

    searched(weight=1.5, negative="worse")
    guided = serve._guided()
    start = serve._start({"base": base.model}, Limits(), guided)["start"]
    assert (start["guidance"], start["interval"], start["autoguidance"]) == (1.5, False, True)
    served, expected = serve._searched(base, guided), load_model("worse").trained.params
    assert served.about()["autoguidance"]
    assert all((served.worse.params[name] == one).all() for name, one in expected.items())


def test_clips_that_the_command_names_can_be_chosen(project):
    model, paths = load_model(project / "artifacts/train"), [project / "a.npy", project / "b.npy"]
    for value, path in enumerate(paths):
        np.save(path, np.full((3, 4, 4, 1), value, np.uint8))
    found = serve._first_frames(model, paths)
    assert [*found] == [*map(str, paths)]
    assert [(one.shape, int(one.max())) for one in found.values()] == [
        ((1, 4, 4, 1), 0),
        ((1, 4, 4, 1), 1),
    ]
    assert serve._first_frames(model, None) is None
