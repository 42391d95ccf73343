"""For the tests of folder runs: films in a folder, the command that asks about them, what it left behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import visa
from tests.folder_fakes import Fake
from visa.commands import inference
from visa.tracklet import Tracklet


def save_little(self: Tracklet, folder: Path) -> Path:
    """In place of `Tracklet.save`, which draws for a second."""
    for name in self.frame_names:
        (folder / f"{name}.png").touch()
    text = json.dumps(self.as_json(), ensure_ascii=False)
    (folder / "result.json").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def fake(full_fake: Fake, monkeypatch: pytest.MonkeyPatch) -> Fake:
    monkeypatch.setattr(Tracklet, "save", save_little)
    return full_fake


@pytest.fixture
def full_fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    system = Fake()
    monkeypatch.setitem(vars(visa), "load", lambda name: system)
    return system


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    return folder


@pytest.fixture
def run(films: Path, tmp_path: Path):
    def _run(queries, *more: str, folder: Path = films, output: Path = tmp_path / "out") -> int:
        path = tmp_path / "queries.json"
        path.write_text(queries if isinstance(queries, str) else json.dumps(queries), encoding="utf-8")
        arguments = ["--video-folder", str(folder), "--queries", str(path), "--output", str(output), *more]
        return inference.main(arguments)

    return _run


def errors_in(capsys: pytest.CaptureFixture[str]) -> list[str]:
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return [line[line.index("error: ") :] for line in text.splitlines() if "error: " in line]


def summary_of(output: Path) -> dict:
    return json.loads((output / "results.json").read_text(encoding="utf-8"))


def by_name(output: Path) -> dict[str, dict]:
    return {entry["video"]: entry for entry in summary_of(output)["videos"]}
