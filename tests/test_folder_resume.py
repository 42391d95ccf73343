"""Folder runs that are killed, and runs of several processes: nothing lost, nothing done twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest

from tests.synthetic_clips import write_clip
from visa.batch_run.locks import BUSY, HELD, lock
from visa.batch_run.manifest import Manifest
from visa.batch_run.ranks import Rank, share_out
from visa.batch_run.task import Ask, VideoTask
from visa.errors import InputError

ROOT = Path(__file__).parent.parent
LENGTHS = {"a.mp4": 2, "b.mp4": 5, "c.mp4": 3}
QUESTIONS = ["the dog", "the red bus"]
ALL = sorted(f"{Path(name).stem}: {question}" for name in LENGTHS for question in QUESTIONS)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for name, num_frames in LENGTHS.items():
        write_clip(folder / name, num_frames)
    (folder / "bad.mp4").write_text("no video")
    (folder / "queries.json").write_text(json.dumps(dict.fromkeys([*LENGTHS, "bad.mp4"], QUESTIONS)))
    return folder


def start(films: Path, output: Path, asked: Path, **environment: object) -> subprocess.Popen:
    """The command in a process of its own, with the fake segmenter."""
    command = [sys.executable, "-m", "tests.folder_fakes", "--video-folder", str(films), "--queries"]
    command += [str(films / "queries.json"), "--output", str(output)]
    launchers = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_PROCID", "SLURM_NTASKS")
    plain = {name: value for name, value in os.environ.items() if name not in launchers}
    settings = {name: str(value) for name, value in environment.items()}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=plain | {"ASKED": str(asked)} | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def contents(output: Path) -> dict[str, str]:
    return {
        str(path.relative_to(output)): sha256(path.read_bytes()).hexdigest()
        for path in sorted(output.rglob("*"))
        if path.is_file()
    }


def asked_in(path: Path) -> list[tuple[str, str]]:
    """(process, clip and question) of every question that was put."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]


@pytest.fixture(scope="module")
def uninterrupted(films: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    code, out, _ = finish(start(films, folder / "out", folder / "asked"))
    assert code == 1  # for bad.mp4
    assert "6 of 8 questions answered" in out
    assert sorted(question for _, question in asked_in(folder / "asked")) == ALL
    return contents(folder / "out")


def finished_in(output: Path) -> set[str]:
    """What the manifests say is finished."""
    finished = set()
    for path in output.glob("*/manifest.json"):
        answered = json.loads(path.read_text(encoding="utf-8"))["answered"]
        finished |= {f"{path.parent.name}: {entry['question']}" for entry in answered.values()}
    return finished


def test_killed_again_and_again_it_ends_as_if_it_had_not_been(films, uninterrupted, tmp_path) -> None:
    draw = random.Random(0)
    output, asked = tmp_path / "out", tmp_path / "asked"
    num_killed = 0
    for _ in range(3):
        before = finished_in(output)
        num_before = len(asked_in(asked))
        process = start(films, output, asked, SECONDS_PER_ANSWER=0.02)
        until = time.monotonic() + 60
        wanted = num_before + draw.randint(1, 2)
        while process.poll() is None and len(asked_in(asked)) < wanted and time.monotonic() < until:
            time.sleep(0.002)
        time.sleep(draw.random() * 0.3)
        process.kill()
        process.communicate()
        num_killed += process.returncode == -signal.SIGKILL
        again = {question for _, question in asked_in(asked)[num_before:]} & before
        assert again == set(), "a finished question was done twice"
    assert num_killed >= 2
    before, num_before = finished_in(output), len(asked_in(asked))
    code, _, _ = finish(start(films, output, asked))
    assert code == 1
    assert sorted(question for _, question in asked_in(asked)[num_before:]) == sorted(set(ALL) - before)
    assert contents(output) == uninterrupted


def test_two_ranks_share_the_videos_and_write_one_summary(films, uninterrupted, tmp_path) -> None:
    output, asked = tmp_path / "out", tmp_path / "asked"
    names = {0: ("RANK", "WORLD_SIZE"), 1: ("SLURM_PROCID", "SLURM_NTASKS")}
    processes = [
        start(films, output, asked, SECONDS_PER_ANSWER=0.3, **{names[rank][0]: rank, names[rank][1]: 2})
        for rank in (0, 1)
    ]
    results = [finish(process) for process in processes]
    questions = asked_in(asked)
    assert sorted(question for _, question in questions) == ALL
    who = {(process, question.partition(":")[0]) for process, question in questions}
    assert len(who) == len(LENGTHS)  # each video by one process
    assert len({process for process, _ in who}) == 2
    assert contents(output) == uninterrupted
    assert sum("8 questions answered" in out and "results.json" in out for _, out, _ in results) == 1
    assert sorted(code for code, _, _ in results) == [0, 1]  # the last one tells of bad.mp4


def test_a_lost_ranks_videos_are_done_by_the_rest(films, uninterrupted, tmp_path) -> None:
    output, asked = tmp_path / "out", tmp_path / "asked"
    lost = start(films, output, asked, RANK=0, WORLD_SIZE=2, SECONDS_PER_ANSWER=60)
    until = time.monotonic() + 60
    while not asked_in(asked) and time.monotonic() < until:
        time.sleep(0.01)
    other = start(films, output, asked, RANK=1, WORLD_SIZE=2, SECONDS_PER_ANSWER=0.2)
    while len(asked_in(asked)) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    lost.kill()
    lost.communicate()
    code, out, _ = finish(other)
    assert code == 1
    assert "6 of 8 questions answered" in out
    assert Counter(question for _, question in asked_in(asked)[1:]) == Counter(ALL)
    assert contents(output) == uninterrupted


def test_a_rank_that_waits_for_nobody_says_what_is_open(films, tmp_path) -> None:
    output, asked = tmp_path / "out", tmp_path / "asked"
    slow = start(films, output, asked, RANK=0, WORLD_SIZE=2, SECONDS_PER_ANSWER=60)
    until = time.monotonic() + 60
    while not asked_in(asked) and time.monotonic() < until:
        time.sleep(0.01)
    code, out, _ = finish(start(films, output, asked, RANK=1, WORLD_SIZE=2))
    slow.kill()
    slow.communicate()
    # Its launcher would end the others if it complained of bad.mp4 while they work.
    assert code == 0
    assert "rank 1 of 2: done; so far 4 of 8 questions answered" in out
    assert json.loads((output / "results.json").read_text())["done"] is False


def _tasks(lengths: list[int]) -> list[VideoTask]:
    return [
        VideoTask(f"v{number}", "", (Ask("0", "the dog"),), lambda: None, num_frames)  # type: ignore[arg-type]
        for number, num_frames in enumerate(lengths)
    ]


def test_shares_are_whole_apart_and_balanced() -> None:
    tasks = _tasks([900, 10, 20, 400, 500, 30, 5, 5])
    shares = share_out(tasks, 2)
    assert sorted(task.name for share in shares for task in share) == sorted(task.name for task in tasks)
    assert [sum(task.work for task in share) for share in shares] == [935, 935]
    assert [task.name for task in shares[1]] == sorted(task.name for task in shares[1])
    assert [len(share) for share in share_out(tasks[:1], 3)] == [1, 0, 0]
    many = VideoTask("many", "", tuple(Ask(str(n), "x") for n in range(50)), lambda: None, 10)  # type: ignore[arg-type]
    assert share_out([many, *_tasks([400])], 2)[0] == [many]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Rank(0, 1, 0)),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}, Rank(3, 4, 1)),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_LOCALID": "0"}, Rank(1, 2, 0)),
        ({"RANK": "0", "WORLD_SIZE": "2", "SLURM_PROCID": "5", "SLURM_NTASKS": "8"}, Rank(0, 2, 0)),
        ({"SLURM_PROCID": "1"}, Rank(0, 1, 0)),
    ],
)
def test_the_launcher_says_who_we_are(environment, expected) -> None:
    assert Rank.from_environment(environment) == expected


@pytest.mark.parametrize("rank", ["x", "-1", "2"])
def test_a_rank_that_cannot_be_is_refused(rank) -> None:
    with pytest.raises(InputError, match="RANK"):
        Rank.from_environment({"RANK": rank, "WORLD_SIZE": "2"})


def test_a_lock_is_one_processs_and_leaves_nothing(tmp_path) -> None:
    path = tmp_path / ".lock"
    hold = (
        "import sys, time\nfrom pathlib import Path\nfrom visa.batch_run.locks import lock\n"
        f"with lock(Path({str(path)!r})) as state:\n    print(state, flush=True)\n    time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", hold], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline().strip() == HELD
    with lock(path) as state:
        assert state == BUSY
    assert path.exists()
    other.kill()
    other.communicate()
    with lock(path) as state:
        assert state == HELD
    assert not path.exists()


def test_a_broken_manifest_is_no_manifest(tmp_path) -> None:
    task = VideoTask("v", "", (Ask("0", "the dog"),), lambda: None, fingerprint="x")  # type: ignore[arg-type]
    (tmp_path / "v").mkdir()
    for text in ("", "{", "[]", "null", '{"fingerprint": "another"}'):
        (tmp_path / "v" / "manifest.json").write_text(text)
        manifest = Manifest.read(tmp_path, task)
        assert manifest.waiting(task) == list(task.asks)
        assert not manifest.gave_up_since(0)
