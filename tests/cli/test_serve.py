from sid2core.cli import main, serve
from sid2core.cli.serve import ServeError
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
