"""Synthetic videos: same seed, same video; masks and descriptions that agree; held-out names kept apart."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from dataset.revos import Revos
from dataset.sample import Sample, Turn
from dataset.synthetic import taxonomy
from dataset.synthetic.assets import SPLITS, AssetLibrary, concept_of, split_of
from dataset.synthetic.colours import name_colour
from dataset.synthetic.generate import VideoSpec, film, least_pixels
from dataset.synthetic.library import open_library, read_members
from dataset.synthetic.motion import KINDS, describe_motion, make_track
from dataset.synthetic.render import Actor, cut, paint, visible_masks
from dataset.synthetic.scene import MOTIONS
from dataset.synthetic.writer import choose_turns, write_samples

SPRITES = Path(__file__).parent / "sprites"
SMALL = VideoSpec(height=96, width=160, num_frames=4)


@pytest.fixture(scope="module")
def assets() -> AssetLibrary:
    return open_library([SPRITES])


@pytest.fixture(scope="module", params=SPLITS)
def films(request, assets):
    """Enough videos of a split to meet every mode: side by side, two shots, latecomers, compound things."""
    spec = VideoSpec(height=96, width=160, num_frames=4, split=request.param)
    return request.param, [film(seed, spec, assets) for seed in range(36)]


def test_the_same_seed_gives_the_same_video(assets):
    first, again, other = (
        film(7, SMALL, assets),
        film(7, SMALL, open_library([SPRITES])),
        film(8, SMALL, assets),
    )
    np.testing.assert_array_equal(first.frames, again.frames)
    np.testing.assert_array_equal(first.masks, again.masks)
    assert [item.phrase for item in first.scene.objects] == [item.phrase for item in again.scene.objects]
    assert not np.array_equal(first.frames, other.frames)


def test_masks_and_descriptions_agree(films):
    _, made = films
    least = least_pixels(96, 160)
    for one in made:
        count = len(one.scene.objects)
        assert (one.frames.shape, one.frames.dtype) == ((4, 96, 160, 3), np.uint8)
        assert (one.masks.shape, one.masks.dtype) == ((count, 4, 96, 160), bool)
        assert one.masks.sum(axis=0).max() <= 1, "two objects claim one pixel"
        for number, item in enumerate(one.scene.objects):
            assert item.id == number
            pixels = one.masks[number].sum(axis=(1, 2))
            assert ((pixels == 0) | (pixels >= least)).all()
            np.testing.assert_array_equal(item.visible, pixels > 0)
            assert item.visible.any()
            seen = np.flatnonzero(item.visible)
            assert item.enters == seen[0]
            assert item.leaves == (seen[-1] + 1 if seen[-1] < 3 else None)
            assert item.size == pytest.approx(pixels[seen].mean() / (96 * 160))
            assert item.motion in MOTIONS
            for t in range(4):
                if not item.visible[t]:
                    assert np.isnan(item.centres[t]).all()
                    continue
                rows, columns = np.nonzero(one.masks[number, t])
                expected = ((columns.mean() + 0.5) / 160, (rows.mean() + 0.5) / 96)
                assert item.centres[t] == pytest.approx(expected, abs=1e-6)


def test_every_mode_occurs(films):
    _, made = films
    objects = [item for one in made for item in one.scene.objects]
    assert any(item.half == "right" for item in objects)
    assert any(one.scene.setting == "two shots" for one in made)
    assert any(item.parts for item in objects)
    late = sum(any(item.enters > 0 for item in one.scene.objects) for one in made)
    assert late >= 0.2 * len(made), f"only {late} of {len(made)} videos have a latecomer"
    assert max(len(one.scene.objects) for one in made) >= 4


def test_held_out_names_stay_apart(films, assets):
    split, made = films
    drawn = {"branch", "table", "box", "pedestal", "cart"}
    allowed = assets.names(split) | {"apple"} | drawn
    for one in made:
        for item in one.scene.objects:
            assert {item.name, *item.parts} <= allowed
    assert not assets.names("train") & assets.names("held-out")
    assert all(assets.names(name) for name in SPLITS)


def test_variants_of_a_name_are_never_divided():
    for family in (["red apple", "green apple"], ["blue book", "open book"], ["gold medal", "silver medal"],
                   ["man surfing", "woman surfing", "person surfing"], ["car", "racing car", "taxi"],
                   ["bald man", "man with a beard", "man"]):  # fmt: skip
        assert len({split_of(concept_of(name)) for name in family}) == 1, family
    shares = np.mean([split_of(f"thing number {index}") == "held-out" for index in range(4000)])
    assert 0.12 < shares < 0.22
    assert all(split_of(concept) == "train" for concept in taxonomy.EVERYDAY)


def test_a_mask_covers_the_pixels_that_its_object_changes():
    """Inside the mask the picture changes, away from it nothing does; the nearer object wins."""
    rng = np.random.default_rng(0)
    picture = np.zeros((60, 80, 4), np.uint8)
    cv2.ellipse(picture, (40, 30), (36, 26), 0, 0, 360, (250, 240, 230, 255), -1)
    camera = np.eye(2, 3)
    actors = [
        Actor(picture, 70.0, make_track(rng, 1, "still", home, (0.1, 0.1)), wobble)
        for home, wobble in (((0.4, 0.5), 0.0), ((0.6, 0.55), 0.04))
    ]
    cutouts = [cut(actor, 0, (144, 240), camera, 8) for actor in actors]
    masks = visible_masks(cutouts, (144, 240))
    alone = visible_masks([cutouts[0], None], (144, 240))[0]
    np.testing.assert_array_equal(masks[0], alone & ~masks[1])
    assert (alone & masks[1]).any()
    frame = np.zeros((144, 240, 3), np.float32)
    for cutout in cutouts:
        paint(frame, cutout, 0.6, 0.0)
    changed = frame.max(axis=2) > 0
    union = masks.any(axis=0).astype(np.uint8)
    kernel = np.ones((7, 7), np.uint8)
    inside, around = cv2.erode(union, kernel) > 0, cv2.dilate(union, kernel) > 0
    assert inside.sum() > 500
    assert (frame.max(axis=2)[inside] > 200).all()
    assert not (changed & ~around).any()


@pytest.mark.parametrize(
    ("rgb", "word"),
    [((210, 30, 35), "red"), ((40, 160, 60), "green"), ((40, 90, 210), "blue"), ((250, 210, 40), "yellow"),
     ((245, 245, 245), "white"), ((20, 20, 22), "black"), ((128, 128, 130), "grey"), ((110, 65, 30), "brown"),
     ((130, 50, 170), "purple"), ((250, 140, 20), "orange"), ((250, 150, 190), "pink")],
)  # fmt: skip
def test_plain_colours_get_their_words(rgb, word):
    patch = np.dstack([np.full((20, 20, 3), rgb, np.uint8), np.full((20, 20), 255, np.uint8)])
    assert name_colour(patch) == word


def test_mixed_colours_get_no_word():
    patch = np.full((20, 20, 4), 255, np.uint8)
    patch[:10, :, :3], patch[10:, :, :3] = (210, 30, 35), (40, 90, 210)
    assert name_colour(patch) is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_frames", [1, 2, 9])
def test_tracks_are_finite_and_shaped(kind, num_frames):
    for seed in range(5):
        track = make_track(np.random.default_rng(seed), num_frames, kind, (0.5, 0.5), (0.1, 0.15))
        assert track.centres.shape == (num_frames, 2)
        assert np.isfinite(track.centres).all()
        assert (np.minimum(track.scales, track.stretches) > 0).all()


@pytest.mark.parametrize(
    ("start", "end", "growth", "word"),
    [
        ((0.3, 0.5), (0.7, 0.52), 1, "right"),
        ((0.7, 0.5), (0.3, 0.5), 1, "left"),
        ((0.5, 0.2), (0.5, 0.7), 1, "down"),
        ((0.5, 0.7), (0.5, 0.2), 1, "up"),
        ((0.5, 0.5), (0.5, 0.5), 1, "still"),
        ((0.5, 0.5), (0.51, 0.5), 3, "growing"),
        ((0.5, 0.5), (0.51, 0.5), 0.3, "shrinking"),
        ((0.3, 0.3), (0.6, 0.6), 1, "wandering"),
    ],
)
def test_motion_words(start, end, growth, word):
    centres = np.linspace(start, end, 6)
    areas = 0.05 * growth ** np.linspace(0, 1, 6)
    visible = np.ones(6, bool)
    assert describe_motion(centres, areas, visible)[0] == word
    centres[2], visible[2] = np.nan, False
    assert describe_motion(centres, areas, visible)[0] == word


@pytest.mark.parametrize("size", [(17, 23), (96, 300), (480, 854)])
@pytest.mark.parametrize("num_frames", [1, 3])
def test_odd_sizes_and_single_frames(assets, size, num_frames):
    made = film(3, VideoSpec(height=size[0], width=size[1], num_frames=num_frames), assets)
    assert made.frames.shape == (num_frames, *size, 3)
    assert made.masks.any(axis=(1, 2, 3)).all()


def test_bad_arguments_say_what_was_expected(tmp_path):
    with pytest.raises(ValueError, match="at least 1 frame"):
        VideoSpec(num_frames=0)
    with pytest.raises(ValueError, match=r"max_objects must be in 1\.\.6"):
        VideoSpec(max_objects=9)
    with pytest.raises(ValueError, match="at least one sprite"):
        AssetLibrary([])
    strange = tmp_path / "strange.tgz"
    strange.write_bytes(b"")
    with pytest.raises(ValueError, match=r"strange\.tgz is not an archive that this project reads"):
        open_library([strange])
    broken = tmp_path / "broken.deb"
    broken.write_bytes(b"hello")
    with pytest.raises(ValueError, match="to be a Debian package"):
        next(read_members(broken, lambda name: True))


def _sample(made, name: str, number: int) -> Sample:
    turns = (
        Turn("the one", "It is [SEG].", "referring", "name", (0,)),
        Turn("the unicorn", "There is none.", "absent", "name"),
    )
    return Sample(f"{name}/{number:04d}", made.frames, made.masks, turns)


def test_what_is_written_is_read_back(films, tmp_path):
    split, made = films
    samples = [_sample(one, split, number) for number, one in enumerate(made[:3])]
    write_samples(samples, tmp_path / "out")
    data = Revos(tmp_path / "out")
    assert [video.name for video in data] == [sample.name for sample in samples]
    for sample, video in zip(samples, data, strict=True):
        assert (video.height, video.width, len(video.frame_names)) == (96, 160, 4)
        present, absent = video.expressions
        assert (present.kind, present.aspect, present.object_ids) == ("referring", "name", (0,))
        assert (absent.kind, absent.annotation_ids) == ("absent", ())
        np.testing.assert_array_equal(data.target(video, present), sample.masks[0])
        np.testing.assert_array_equal(data.foreground(video), sample.masks[0])
        assert not data.target(video, absent).any()
        for path, frame in zip(video.frame_paths(), sample.frames, strict=True):
            read = cv2.imread(str(path))[..., ::-1].astype(int)
            assert np.abs(read - frame).mean() < 6
    with pytest.raises(ValueError, match="not empty"):
        write_samples(samples, tmp_path / "out")


def test_turns_are_chosen_evenly():
    turns = tuple(
        Turn(f"{kind} {aspect} {number}", "", kind, aspect, () if kind == "absent" else (0,))
        for kind in ("referring", "reasoning", "absent")
        for aspect in ("name", "colour")
        for number in range(5)
    )
    chosen = choose_turns(turns, 6, np.random.default_rng(0))
    assert sorted(turn.kind for turn in chosen) == ["absent"] * 2 + ["reasoning"] * 2 + ["referring"] * 2
    for kind in ("referring", "reasoning", "absent"):
        assert {turn.aspect for turn in chosen if turn.kind == kind} == {"name", "colour"}
    assert len(choose_turns(turns[:2], 6, np.random.default_rng(0))) == 2
