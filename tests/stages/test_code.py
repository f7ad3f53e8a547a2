"""The stage that hashes programs compares installed packages with the pinned ones."""

import logging

from sid2core.pipeline import code
from stages import code as stage

INSTALLED = {"numpy": "1.0", "distributed": None}


def test_another_version_is_a_warning_and_a_missing_extra_is_none(monkeypatch, tmp_path, caplog):
    found = code.installed() | INSTALLED
    monkeypatch.setattr(code, "installed", lambda: {k: v for k, v in found.items() if v})
    monkeypatch.setattr(code, "FOLDER", tmp_path)
    with caplog.at_level(logging.WARNING):
        stage.main(())
    named = {line.partition(" ")[0] for line in caplog.messages}
    assert named & set(INSTALLED) == {"numpy"}
