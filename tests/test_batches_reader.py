"""Reading micro-batches: order over ranks and restarts, worker processes and their deaths, broken samples."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import pytest
import torch

from dataset.errors import DatasetError
from tests.tiny_batches import ANCHORS, LetterTokenizer, write_data, write_recipe
from visa.errors import InputError
from visa.training.batches import DataSettings, open_reader
from visa.training.batches.faults import FEWEST_JUDGED, BrokenCount, DataError
from visa.training.batches.reader import MixtureReader
from visa.training.engine.batch import TrainingBatch


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


def reader(root: Path, folder: Path, *, system: str = "visa", changes: dict | None = None, **options):
    """A reader of tiny pictures; without workers unless they are asked for."""
    told = {name: options.pop(name) for name in list(options) if name in DataSettings.__dataclass_fields__}
    settings = DataSettings(
        mixture=write_recipe(folder, **(changes or {})), root=str(root), **{"workers": 0, **told}
    )
    return open_reader(
        settings, system=system, tokenizer=LetterTokenizer(), clip_size=28, sam_size=32, **options
    )


def facts(batch: TrainingBatch) -> tuple:
    """What a batch holds, to be compared."""
    return batch.index, tuple(
        (
            video.name,
            video.shown,
            video.drawn,
            video.dense_indices,
            video.input_size,
            tuple(tuple(talk.input_ids.tolist()) for talk in video.conversations),
            tuple(tuple(talk.labels.tolist()) for talk in video.conversations),
            tuple(video.images_clip.shape),
            video.images_clip.double().sum().item(),
            video.images_sam.double().sum().item(),
            tuple(video.masks.shape),
            video.masks.sum().item(),
        )
        for video in batch.videos
    )


def some(batches, count: int) -> list[tuple]:
    return [facts(batch) for batch in islice(batches, count)]


# Order


@pytest.mark.parametrize("system", ["visa", "videolisa"])
def test_every_kind_of_sample_comes(root: Path, tmp_path: Path, system: str) -> None:
    batches = reader(root, tmp_path, system=system, changes=ANCHORS if system == "videolisa" else None)
    videos = [video for batch in islice(batches, 60) for video in batch.videos]
    assert {video.name.partition(":")[0] for video in videos} == {"mevis", "refcoco", "llava_instruct"}
    drawn = [video for video in videos if video.drawn]
    assert {len(video.drawn) for video in drawn} == ({1} if system == "visa" else {2})
    assert any(video.masks.any() for video in drawn)
    if system == "visa":
        assert {len(video.shown) for video in videos if video.name.startswith("mevis")} == {4, 5, 6}
        assert any(not video.masks.any() for video in drawn), "negatives"
    else:
        assert {len(video.shown) for video in videos} == {6}


def test_ranks_share_out_what_one_rank_reads(root: Path, tmp_path: Path) -> None:
    alone = list(islice(reader(root, tmp_path, batch_size=4), 3))
    ranks = [reader(root, tmp_path, rank=rank, world_size=2, batch_size=2) for rank in (0, 1)]
    for expected in alone:
        shares = [next(one) for one in ranks]
        assert [share.index for share in shares] == [expected.index, expected.index + 2]
        together = TrainingBatch(expected.index, tuple(v for share in shares for v in share.videos))
        assert facts(together) == facts(expected)
    assert ranks[0].fingerprint == ranks[1].fingerprint == reader(root, tmp_path).fingerprint


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_goes_on_where_it_stood(root: Path, tmp_path: Path, workers: int) -> None:
    whole = some(reader(root, tmp_path, seed=5), 12)
    first = reader(root, tmp_path, seed=5, workers=workers)
    assert some(first, 5) == whole[:5]
    # What workers read ahead does not count.
    state = first.state_dict()
    assert state == {"samples": 5}
    again = reader(root, tmp_path, seed=5, workers=workers)
    again.load_state_dict(state)
    assert again.state_dict() == state
    assert some(again, 7) == whole[5:]
    assert some(reader(root, tmp_path, seed=6), 5) != whole[:5]
    first.close()
    assert some(first, 2) == whole[5:7]


def test_another_number_of_ranks_goes_on(root: Path, tmp_path: Path) -> None:
    whole = some(reader(root, tmp_path), 10)
    pair = [reader(root, tmp_path, rank=rank, world_size=2) for rank in (0, 1)]
    assert [facts(next(one)) for _ in range(2) for one in pair] == whole[:4]
    assert pair[0].state_dict() == pair[1].state_dict() == {"samples": 4}
    three = [reader(root, tmp_path, rank=rank, world_size=3) for rank in range(3)]
    for one in three:
        one.load_state_dict(pair[0].state_dict())
    assert [facts(next(one)) for _ in range(2) for one in three] == whole[4:10]


def test_the_position_is_restored_before_reading(root: Path, tmp_path: Path) -> None:
    batches = reader(root, tmp_path)
    for wrong in ({}, {"samples": -1}, {"samples": "3"}):
        with pytest.raises(ValueError, match="expected a state"):
            batches.load_state_dict(wrong)
    next(batches)
    with pytest.raises(RuntimeError, match="before the first batch"):
        batches.load_state_dict({"samples": 3})


def test_ranks_in_step_read_one_kind(root: Path, tmp_path: Path) -> None:
    batches = reader(root, tmp_path, together=4, batch_size=4)
    kinds = [{video.name.partition(":")[0] for video in batch.videos} for batch in islice(batches, 12)]
    assert all(len(kind) == 1 for kind in kinds)
    assert len(set.union(*kinds)) == 3


def test_the_fingerprint_tells_runs_apart(root: Path, tmp_path: Path) -> None:
    prints = [
        reader(root, tmp_path).fingerprint,
        reader(root, tmp_path, seed=1).fingerprint,
        reader(root, tmp_path, system="videolisa").fingerprint,
        reader(root, tmp_path, max_tokens=900).fingerprint,
        reader(root, tmp_path, changes={"negatives": 0.5}).fingerprint,
    ]
    assert len(set(prints)) == len(prints)
    assert reader(root, tmp_path, workers=2, prefetch=3).fingerprint == prints[0]


# Worker processes


def test_workers_change_nothing_else(root: Path, tmp_path: Path) -> None:
    expected = some(reader(root, tmp_path, batch_size=2), 6)
    handlers = [signal.getsignal(sent) for sent in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)]
    state = torch.get_rng_state()
    batches = reader(root, tmp_path, batch_size=2, workers=2)
    assert some(batches, 6) == expected
    assert torch.equal(torch.get_rng_state(), state)
    assert [signal.getsignal(sent) for sent in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)] == handlers


def test_workers_share_masks_that_the_run_has_read(root: Path, tmp_path: Path) -> None:
    expected = some(reader(root, tmp_path), 6)
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    batches = reader(copy, tmp_path, workers=2)
    # A large file: each worker would take minutes and gigabytes to read it again.
    (copy / "mevis" / "train" / "mask_dict.json").unlink()
    assert some(batches, 6) == expected


def test_batches_travel(root: Path, tmp_path: Path) -> None:
    batch = next(reader(root, tmp_path, system="videolisa", changes=ANCHORS))
    assert facts(pickle.loads(pickle.dumps(batch))) == facts(batch)


def test_what_makes_batches_travels_too(root: Path, tmp_path: Path) -> None:
    """As where processes are not forked."""
    batches = reader(root, tmp_path, batch_size=2)
    copy = pickle.loads(pickle.dumps(batches._batches))
    assert [facts(copy[start].batch) for start in (0, 2)] == some(batches, 2)


def processes(batches: MixtureReader) -> list[int]:
    return sorted(process.pid for process in batches._workers.processes)


def test_workers_outlive_a_signal_to_the_whole_run(root: Path, tmp_path: Path) -> None:
    batches = reader(root, tmp_path, workers=2)
    expected = some(reader(root, tmp_path), 12)
    assert some(batches, 1) == expected[:1]
    time.sleep(0.5)
    for pid in processes(batches):
        for sent in (signal.SIGTERM, signal.SIGINT):
            os.kill(pid, sent)
    assert some(batches, 11) == expected[1:]


def test_a_dead_worker_is_one_line(root: Path, tmp_path: Path) -> None:
    batches = reader(root, tmp_path, workers=2, prefetch=1)
    next(batches)
    pids = processes(batches)
    assert len(pids) == 2
    os.kill(pids[0], signal.SIGKILL)
    with pytest.raises(DataError) as told:
        some(batches, 10)
    message = str(told.value)
    assert f"process {pids[0]} (SIGKILL: the system does so when memory runs out)" in message
    assert "data.workers" in message
    assert "\n" not in message
    # Whoever saves now saves the position of what was handed out.
    again = reader(root, tmp_path)
    again.load_state_dict(batches.state_dict())
    position = batches.state_dict()["samples"]
    assert some(again, 1) == some(reader(root, tmp_path), position + 1)[-1:]


FAILING = """
from visa.training.batches.workers import Delivery, Workers
class Nothing:
    def __getitem__(self, start):
        return Delivery(None)
workers = Workers(Nothing(), start=0, step=1, processes=2, prefetch=1)
workers.next()
print(*(process.pid for process in workers.processes), flush=True)
held = [workers, workers._deliveries]
held.append(held)
raise SystemExit("failed")
"""


def test_a_run_that_fails_ends_its_workers() -> None:
    """Also if what failed still holds them: Python would wait for them without end."""
    command = [sys.executable, "-c", FAILING]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (1, "failed\n")
    pids = done.stdout.split()
    assert len(pids) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_waiting_is_measured(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = reader(root, tmp_path)
    assert batches.waited_s == 0
    make = batches._batches.maker.make

    def slowly(sample):
        time.sleep(0.05)
        return make(sample)

    monkeypatch.setattr(batches._batches.maker, "make", slowly)
    some(batches, 3)
    assert 0.15 <= batches.waited_s < 5
    waited = batches.waited_s
    time.sleep(0.05)
    assert batches.waited_s == waited


def test_a_fault_of_ours_in_a_worker_is_not_hidden(root: Path, tmp_path: Path, monkeypatch) -> None:
    batches = reader(root, tmp_path, workers=1)

    def wrong(sample):
        raise KeyError("ours")

    monkeypatch.setattr(batches._batches.maker, "make", wrong)
    with pytest.raises(KeyError, match="ours"):
        next(batches)


# Broken samples


def spoil(root: Path, video: str = "v1") -> Path:
    """Cuts the frames of a video short; gives its folder."""
    folder = root / "mevis" / "train" / "JPEGImages" / video
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:200])
    return folder


@pytest.fixture
def spoilt(root: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "spoilt"
    shutil.copytree(root, copy)
    spoil(copy)
    return copy


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_samples_are_replaced_counted_and_named(
    spoilt: Path, tmp_path: Path, workers: int, capsys: pytest.CaptureFixture
) -> None:
    batches = reader(spoilt, tmp_path, workers=workers, broken_share=0.5)
    found = some(batches, 30)
    assert all(video[0] != "mevis: v1" for _, videos in found for video in videos)
    assert 0 < batches.num_broken < 30
    assert all("JPEGImages/v1/" in message for message in batches.broken)
    assert set(batches.broken.values()) == {"broken frame"}
    told = capsys.readouterr().err.splitlines()
    assert len(told) == len(batches.broken)
    assert all(line.startswith("visa: skipped a broken sample: ") for line in told)
    # The same ones are replaced in the same way after a restart.
    again = reader(spoilt, tmp_path, broken_share=0.5)
    again.load_state_dict({"samples": 10})
    assert some(again, 20) == found[10:]


def test_too_many_broken_samples_stop_the_run(spoilt: Path, tmp_path: Path) -> None:
    batches = reader(spoilt, tmp_path)
    with pytest.raises(DataError) as told:
        some(batches, FEWEST_JUDGED)
    assert batches.num_broken == 11
    message = str(told.value)
    assert message.startswith("11 of ")
    assert "more than 1.00%" in message
    assert "JPEGImages/v1/" in message
    assert "\n" not in message


@pytest.mark.parametrize("workers", [0, 1])
def test_a_data_set_that_gives_nothing_stops_the_run(root: Path, tmp_path: Path, workers: int) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    for number in range(4):
        spoil(copy, f"v{number}")
    batches = reader(copy, tmp_path, workers=workers, broken_share=1.0)
    with pytest.raises(DataError, match="rvos gave 10 broken clips") as told:
        some(batches, 20)
    assert "\n" not in str(told.value)


def test_words_too_long_are_broken_too(root: Path, tmp_path: Path) -> None:
    batches = reader(
        root, tmp_path, max_tokens=60, changes={"groups": {"rvos": {"weight": 1, "sources": {"mevis": 1}}}}
    )
    with pytest.raises(DataError, match="mevis: clip 'v.': its conversation has .* tokens, of which 60"):
        next(batches)


def test_few_samples_are_not_judged() -> None:
    count = BrokenCount(0.01)
    fault = DatasetError("a.jpg: no picture", "broken frame")
    count.add(1, [fault] * 10)
    with pytest.raises(DataError, match=r"11 of 12 samples .* the last: a\.jpg: no picture; mend"):
        count.add(0, [fault])
    many = BrokenCount(0.01)
    many.add(5000, [])
    many.add(0, [fault] * 50)
    assert (many.read, many.broken, many.reasons) == (5000, 50, {"a.jpg: no picture": "broken frame"})
    with pytest.raises(DataError, match="51 of 5051"):
        many.add(0, [fault])
    with pytest.raises(DataError, match=r"1 of 1 .* 0\.00%"):
        BrokenCount(0).add(0, [fault])


# Opening


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, r"data\.root must name .* got neither"),
        ({"root": "a", "roots": {"mevis": "b"}}, "got both"),
        ({"root": "a", "workers": -1}, r"data\.workers must be at least 0, got -1"),
        ({"root": "a", "prefetch": 0}, r"data\.prefetch"),
        ({"root": "a", "together": 0}, r"data\.together"),
        ({"root": "a", "broken_share": 1.5}, r"data\.broken_share"),
    ],
)
def test_wrong_settings(settings: dict, told: str) -> None:
    with pytest.raises(InputError, match=told):
        DataSettings(**settings)


def test_what_is_missing_is_named(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    sources = {"groups": {"rvos": {"weight": 1, "sources": {"mevis": 1, "revos": 1, "lv_vis": 1}}}}
    with pytest.raises(InputError, match="revos: .*lv_vis: ") as told:
        reader(root, tmp_path, changes=sources)
    assert "\n" not in str(told.value)
    batches = reader(root, tmp_path, changes=sources, skip_missing=True)
    assert next(batches).names[0].startswith("mevis: ")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[1].strip() for line in lines] == [
        "trained without revos",
        "trained without lv_vis",
    ]


def test_roots_of_their_own_and_unknown_mixtures(root: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, groups={"rvos": {"weight": 1, "sources": {"mevis": 1}}})
    shared = {"tokenizer": LetterTokenizer(), "clip_size": 28, "sam_size": 32, "system": "visa"}
    settings = DataSettings(mixture=recipe, roots={"mevis": str(root / "mevis")}, workers=0)
    assert next(open_reader(settings, **shared)).names[0].startswith("mevis: ")
    with pytest.raises(InputError, match="no mixture 'visaa'"):
        open_reader(DataSettings(mixture="visaa", root=str(root)), **shared)
