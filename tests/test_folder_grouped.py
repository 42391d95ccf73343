"""Questions that go through a video together, in a run that is killed among them and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from tests import grouped_run
from tests.synthetic_clips import write_clip
from visa.batch_run.ranks import Rank
from visa.mask_track import decode_masks

ROOT = Path(__file__).parent.parent
# Of one object or two each: in one go the first six walk together, eight objects and more, then seven, then
# one. The red bus is not there.
QUESTIONS = [
    *("a dog", "two cats", "a car", "the hats", "a tree", "the birds"),
    *("a hen", "both bikes", "the red bus", "a horse", "the kites", "a lamp", "the cows", "a boat"),
]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    write_clip(folder / "clip.mp4", 8, height=48, width=80)
    (folder / "queries.json").write_text(json.dumps(QUESTIONS))
    return folder


def arguments(films: Path, output: Path) -> list[str]:
    return [
        *("--video-folder", str(films), "--queries", str(films / "queries.json")),
        *("--output", str(output), "--model", "embedded"),
    ]


def killed(precision: str, films: Path, output: Path, asked: Path, at: str) -> None:
    """A run in a process of its own, which ends as by `kill -9`."""
    command = [sys.executable, "-m", "tests.grouped_run", precision, *arguments(films, output)]
    environment = os.environ | {"ASKED": str(asked), "KILL_AT": at}
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr


def asked_in(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    path.unlink()
    return [line.partition(": ")[2] for line in lines]


def finished_in(output: Path) -> list[str]:
    """Questions with a whole answer on disk, in order."""
    results = sorted(output.glob("clip/*/result.json"), key=lambda path: int(path.parent.name))
    return [json.loads(path.read_text(encoding="utf-8"))["question"] for path in results]


def contents(output: Path) -> dict[str, str]:
    return {
        str(path.relative_to(output)): sha256(path.read_bytes()).hexdigest()
        for path in sorted(output.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("precision", grouped_run.PRECISIONS)
def test_killed_among_questions_that_walk_together_it_ends_as_if_it_had_not_been(
    precision, films, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(Rank, "take_gpu", lambda self: None)
    whole, output, asked = tmp_path / "whole", tmp_path / "out", tmp_path / "asked"
    monkeypatch.setenv("ASKED", str(asked))
    assert grouped_run.main(precision, arguments(films, whole)) == 0
    assert asked_in(asked) == QUESTIONS

    # Of six that have walked together, four answers are kept, the last of them in no manifest yet.
    killed(precision, films, output, asked, at="note 5")
    assert asked_in(asked) == QUESTIONS[:6]
    assert finished_in(output) == QUESTIONS[:4]
    # Now others walk together than in one go: those two and five more, all kept; then it ends in a walk.
    killed(precision, films, output, asked, at="frame 2 9")
    assert asked_in(asked) == QUESTIONS[4:]
    assert finished_in(output) == QUESTIONS[:11]

    assert grouped_run.main(precision, arguments(films, output)) == 0
    assert asked_in(asked) == QUESTIONS[11:]
    assert "14 of 14 questions answered" in capsys.readouterr().out
    assert contents(output) == contents(whole)

    moved = 0
    for number, question in enumerate(QUESTIONS):
        result = json.loads((output / "clip" / str(number) / "result.json").read_text(encoding="utf-8"))
        areas = decode_masks(result["masks"]).sum((1, 2))
        assert areas.any() == ("bus" not in question)
        moved += len(np.unique(areas)) > 2
    assert moved > 6, "a tracker that carries nothing makes no difference"
