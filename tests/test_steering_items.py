"""What a step of steering reads: cached scenes, clips of Ref-YouTube-VOS, attributes beside expressions."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dataset.registry import open_dataset
from dataset.sample import Turn
from dataset.synthetic.lexicon import default_lexicon
from dataset.synthetic.scene import Scene, SceneObject
from tests.tiny_mllm import random_cells
from tests.tiny_video_datasets import write_ref_youtube_vos
from visa.errors import InputError
from visa.training import scene_examples
from visa.training.engine.ranks import Ranks
from visa.training.scene_cache import CachedScene, scene_path
from visa.training.steering.attribute_file import AttributeFile
from visa.training.steering.cached_scenes import SceneItems, attributes_of, moved_masks
from visa.training.steering.settings import AttributeSettings, SteeringData
from visa.training.steering.sources import worded
from visa.training.steering.videos import VideoItems, masked_clips

DOG, BUS = 0, 1
TURNS = (
    Turn("the dog", "It is the dog. [SEG]", "referring", "name", (DOG,)),
    Turn("dog and bus", "They are here. [SEG]", "referring", "several", (DOG, BUS)),
    Turn("the one moving right", "It is the dog. [SEG]", "referring", "motion", (DOG,)),
    Turn("the bus", "It is the bus. [SEG]", "referring", "name", (BUS,)),
    Turn("the unicorn", "There is no unicorn.", "absent", "name"),
)
RNG = partial(np.random.default_rng, 3)
ALONE = Ranks(0, 1, torch.device("cpu"))


def thing(number: int, centres: np.ndarray, **more) -> SceneObject:
    known = {
        "category": "thing",
        "colour": None,
        "motion": "still",
        "size": 0.05,
        "enters": 0,
        "leaves": None,
    }
    visible = ~np.isnan(centres[:, 0])
    name = ["dog", "bus"][number]
    return SceneObject(
        **{**known, **more, "id": number, "name": name, "centres": centres, "visible": visible}
    )


def scene(stills: bool = False) -> CachedScene:
    """A dog that walks right and is gone in the last frame; a bus that the target, frame 1, does not show."""
    dog = np.array([[0.1, 0.5], [0.35, 0.5], [0.6, 0.5], [np.nan, np.nan]])
    bus = np.array([[np.nan, np.nan]] * 2 + [[0.8, 0.2]] * 2)
    masks = torch.zeros(2, 256, 256, dtype=torch.uint8)
    masks[DOG, 64:80, 80:100] = 255  # 144 rows of 256 columns are the frame
    order = (1,) if stills else (0, 1, 2, 3, 1)
    return CachedScene(
        frames=tuple(random_cells(seed=k) for k in order),
        percents=tuple(33 * k for k in order),
        target=1,
        sam_features=torch.zeros(1),
        object_masks=masks,
        input_size=(576, 1024),
        scene=Scene(objects=(thing(DOG, dog, motion="right", colour="red"), thing(BUS, bus)), num_frames=4),
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setattr(scene_examples, "ask", lambda scene, rng, lexicon: list(TURNS))
    torch.save(scene(stills=True), scene_path(tmp_path, 0))
    torch.save(scene(), scene_path(tmp_path, 1))
    return tmp_path


def bare(question: str, phrases: tuple[str, ...], rng: np.random.Generator) -> str:
    return question + "".join(f" <{phrase}>" for phrase in phrases)


def test_a_frame_alone_is_asked_what_it_can_answer(folder: Path) -> None:
    items = SceneItems(folder, default_lexicon(), "frame", bare)
    item = items.item(1, RNG())
    assert len(items) == 2
    assert len(item.frames) == 1
    assert torch.equal(item.frames[0].colour, random_cells(seed=1).colour)
    # Neither what moves, nor what is hidden in this frame, nor what is not there.
    told = "<red> <on the left> <right>"
    assert sorted(item.questions) == [f"dog and bus {told}", f"the dog {told}"]
    assert item.masks.shape == (2, 1, 144, 256)
    assert item.masks.sum((1, 2, 3)).tolist() == [16 * 20] * 2


def test_a_clip_has_the_mask_carried_along(folder: Path) -> None:
    items = SceneItems(folder, default_lexicon(), "video", bare)
    assert items.item(0, RNG()) is None
    item = items.draw(RNG())
    assert len(item.frames) == 4
    assert len(item.questions) == 3
    assert item.masks.shape == (3, 4, 144, 256)
    boxes = [frame.nonzero().amin(0).tolist() if frame.any() else None for frame in item.masks[0]]
    assert boxes == [[64, 16], [64, 80], [64, 144], None]
    assert item.masks[0, :3].sum((1, 2)).tolist() == [16 * 20] * 3


def test_a_mask_carried_out_of_the_frame_is_cut() -> None:
    mask = torch.zeros(10, 20)
    mask[4:6, 8:12] = 1
    centres = np.array([[0.5, 0.5], [0.0, 0.5], [0.5, -0.4], [3.0, 0.5]])
    moved = moved_masks(mask, thing(DOG, centres), 0)
    assert torch.equal(moved[0], mask)
    assert moved[1].nonzero().tolist() == [[4, 0], [4, 1], [5, 0], [5, 1]]
    assert not moved[2].any()
    assert not moved[3].any()


def test_attributes_of_several_things_are_none() -> None:
    first, second = scene().scene.objects
    assert attributes_of([first]) == ("red", "on the left", "right")
    assert attributes_of([second]) == ("on the right",)
    assert attributes_of([first, second]) == ()


def test_attributes_are_dropped_as_often_as_asked() -> None:
    data = SteeringData("scenes", "x", attributes=AttributeSettings(dropout=0.3))
    rng = RNG()
    asked = [worded(data, "the dog", ("red", "small"), rng) for _ in range(400)]
    share = np.mean(["Attributes: red; small." in text for text in asked])
    assert 0.62 < share < 0.78
    assert all(text.startswith("the dog\n") for text in asked)
    assert "Attributes" not in worded(data, "the dog", (), rng)
    assert worded(replace(data, wording="bare"), "the dog", ("red",), rng) == "the dog"


def test_attributes_are_written_once_and_survive_a_broken_off_run(tmp_path: Path) -> None:
    path, asked = tmp_path / "deep" / "attributes.jsonl", []

    def ask(clip: str, expression: str) -> tuple[str, ...]:
        asked.append((clip, expression))
        return () if expression == "silence" else ("grau", f"bei {clip}", "«klein»")

    keys = [("a", "the cat"), ("b", "silence"), ("b", "кошка"), ("a", "the cat")]
    AttributeFile(path).complete(keys[:2], ask, ALONE)
    path.write_bytes(path.read_bytes() + b'{"clip": "b", "expres')
    file = AttributeFile(path)
    assert len(file) == 2
    file.complete(keys, ask, ALONE)
    assert asked == [("a", "the cat"), ("b", "silence"), ("b", "кошка")]
    read = AttributeFile(path)
    assert read.of("b", "кошка") == ("grau", "bei b", "«klein»")
    assert read.of("b", "silence") == ()
    assert read.of("c", "the cat") == ()
    assert all(json.loads(line)["clip"] for line in path.read_text(encoding="utf-8").splitlines())


class MeetingRanks(Ranks):
    """Ranks that are threads; ``place`` is where they meet."""

    place = SimpleNamespace(door=Barrier(3), values=[None] * 3)

    def gathered(self, value):
        self.place.values[self.rank] = value
        self.place.door.wait(10)
        found = list(self.place.values)
        self.place.door.wait(10)
        return found


def test_ranks_share_the_asking_for_attributes(tmp_path: Path) -> None:
    shared, keys = tmp_path / "shared.jsonl", [("clip", f"thing {k}") for k in range(8)]
    AttributeFile(shared).complete(keys[:1], lambda *_: ("red",), ALONE)

    def work(rank: int) -> tuple[AttributeFile, list[str]]:
        asked: list[str] = []

        def ask(clip: str, expression: str) -> tuple[str, ...]:
            asked.append(expression)
            return (f"asked by {rank}",)

        # The last one is on a host that does not see the file.
        file = AttributeFile(shared if rank < 2 else tmp_path / "elsewhere.jsonl")
        file.complete(keys, ask, MeetingRanks(rank, 3, torch.device("cpu")))
        return file, asked

    with ThreadPoolExecutor(3) as pool:
        worked = list(pool.map(work, range(3)))
    assert [len(asked) for _, asked in worked] == [3, 2, 2]
    assert sorted(name for _, asked in worked for name in asked) == [name for _, name in keys[1:]]
    files = [AttributeFile(shared), *(file for file, _ in worked)]
    assert all([file.of(*key) for key in keys] == [files[0].of(*key) for key in keys] for file in files)
    assert files[0].of(*keys[0]) == ("red",)
    assert all(files[0].of(*key) for key in keys)
    assert not (tmp_path / "elsewhere.jsonl").exists()


def test_a_broken_line_of_attributes_is_told(tmp_path: Path) -> None:
    path = tmp_path / "attributes.jsonl"
    path.write_text('{"clip": "a"}\n{"clip": "b", "expression": "x", "attributes": []}\n')
    with pytest.raises(InputError, match=r"attributes.jsonl, line 1: expected clip, expression"):
        AttributeFile(path)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    root = tmp_path_factory.mktemp("rvos")
    tiny = write_ref_youtube_vos(root)
    return tiny, open_dataset("ref_youtube_vos", root, "train")


def test_clips_give_frames_with_the_thing_or_frames_evenly_spread(clips) -> None:
    tiny, read = clips
    for stream in ("frame", "video"):
        items = VideoItems(read, stream, bare, 2, questions=1, held_out_share=0.0)
        seen = set()
        for seed in range(12):
            item = items.draw(np.random.default_rng(seed))
            name = item.name.removeprefix("video ")
            meant = {text: masks for text, _, masks in tiny.expected[name].values()}[item.questions[0]]
            seen.add((name, item.questions[0]))
            there = [k for k in range(len(meant)) if meant[k].any()]
            if stream == "video":
                assert item.masks[0].numpy().astype(bool).tolist() == meant[[0, len(meant) - 1]].tolist()
            else:
                assert item.masks.shape[1] == min(2, len(there))
                assert item.masks.flatten(2).any(2).all()
            assert item.frames.shape == (item.masks.shape[1], *meant.shape[1:], 3)
        assert len(seen) > 2


def test_videos_are_held_out_whole_and_by_name(clips) -> None:
    _, read = clips
    for share in (0.3, 0.5, 0.7):
        parts = []
        for held_out in (True, False):
            try:
                items = VideoItems(read, "frame", bare, 1, held_out=held_out, held_out_share=share)
            except InputError as error:
                assert "change data.held_out_share" in str(error)  # noqa: PT017
                continue
            parts += [read[k].name for k in items.chosen]
        assert sorted(parts) == sorted(clip.name for clip in read)


def test_a_folder_that_holds_no_such_data_set_is_told(tmp_path: Path) -> None:
    from dataset.errors import DatasetError

    with pytest.raises(DatasetError, match="meta_expressions"):
        masked_clips(str(tmp_path))
