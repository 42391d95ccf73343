"""`inference.py --video-folder` under `deepspeed --hostfile` on two hosts: one of them is lost, or both."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import two_hosts
from tests.synthetic_clips import write_clip
from tests.test_folder_resume import ALL, LENGTHS, QUESTIONS, asked_in, contents, finished_in
from tests.two_hosts import ROOT, Host, Launch

pytestmark = pytest.mark.slow
# Seconds that a run may take where the cores are busy with other things.
LONG = 300


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Host, Host]]:
    if reason := two_hosts.missing():
        pytest.skip(reason)
    with two_hosts.two_hosts(tmp_path_factory.mktemp("hosts")) as both:
        yield both


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for name, num_frames in LENGTHS.items():
        write_clip(folder / name, num_frames)
    (folder / "queries.json").write_text(json.dumps(QUESTIONS))
    return folder


class FolderRun(Launch):
    """The command on both hosts, with the segmenter of `tests.folder_fakes`."""

    def __init__(
        self, hosts: tuple[Host, Host], films: Path, folder: Path, port: int, seconds: float
    ) -> None:
        self.out, self.asked = folder / "out", folder / "asked"
        command = [ROOT / "tests" / "folder_fakes.py", "--video-folder", films, "--output", self.out]
        command += ["--queries", films / "queries.json"]
        super().__init__(hosts, folder, port, command, {"ASKED": self.asked, "SECONDS_PER_ANSWER": seconds})

    def wait_until(self, is_so: Callable[[list[tuple[str, str]]], bool]) -> None:
        """Until the questions that were put, as (process, words), are so."""
        until = time.monotonic() + LONG
        while not is_so(asked_in(self.asked)):
            assert self.process.poll() is None, self.output()[-4000:]
            assert time.monotonic() < until, self.output()[-4000:]
            time.sleep(0.02)

    def summaries(self) -> list[str]:
        """The hosts that told how the whole run ended."""
        return re.findall(r"^(\S+): .*results.json: 6 of 6 questions answered", self.output(), re.MULTILINE)


def running_on(host: Host) -> set[str]:
    return set(two_hosts.run("ip", "netns", "pids", host.name).stdout.split())


def test_a_lost_hosts_videos_are_done_by_the_other(hosts, films, tmp_path) -> None:
    with FolderRun(hosts, films, tmp_path, 29521, seconds=2) as run:
        # One question of its is answered and the next is in work.
        there: set[str] = set()

        def is_at_it(asked: list[tuple[str, str]]) -> bool:
            there.update(running_on(hosts[1]))
            return sum(process in there for process, _ in asked) == 2

        run.wait_until(is_at_it)
        hosts[1].die()
        lost = [question for process, question in asked_in(run.asked) if process in there]
        run.wait(LONG)
    assert len(run.summaries()) == 1, run.output()[-4000:]
    assert "Traceback" not in run.output()
    assert finished_in(run.out) == set(ALL)
    assert json.loads((run.out / "results.json").read_text())["done"] is True
    # What was in work there is asked once more, and nothing else.
    counts = Counter(question for _, question in asked_in(run.asked))
    assert counts == Counter(ALL) + Counter(lost[-1:])

    hosts[1].boot()
    num_asked, before = len(asked_in(run.asked)), contents(run.out)
    with FolderRun(hosts, films, tmp_path, 29522, seconds=0) as again:
        assert again.wait(LONG) == 0, again.output()[-4000:]
    assert len(asked_in(run.asked)) == num_asked, "there was nothing left"
    assert len(again.summaries()) == 1, again.output()[-4000:]
    assert contents(run.out) == before


def test_after_the_loss_of_all_hosts_the_same_command_does_what_is_left(hosts, films, tmp_path) -> None:
    with FolderRun(hosts, films, tmp_path, 29523, seconds=1) as first:
        first.wait_until(lambda asked: len({process for process, _ in asked}) == 2 and len(asked) >= 3)
        for host in hosts:
            host.die()
        first.wait(LONG)
    done, num_asked = finished_in(first.out), len(asked_in(first.asked))
    assert 0 < len(done) < len(ALL)
    assert first.summaries() == []

    for host in hosts:
        host.boot()
    with FolderRun(hosts, films, tmp_path, 29524, seconds=0.3) as second:
        assert second.wait(LONG) == 0, second.output()[-4000:]
    assert sorted(question for _, question in asked_in(first.asked)[num_asked:]) == sorted(set(ALL) - done)
    assert finished_in(first.out) == set(ALL)
    assert len(second.summaries()) == 1, second.output()[-4000:]
    assert not list(first.out.rglob(".*"))
