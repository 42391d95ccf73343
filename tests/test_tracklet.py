"""Results: what is saved can be read back, plays in a browser, and is never mistaken for finished."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageFont
from pycocotools import mask as coco_mask

from tests.synthetic_clips import numbered_frame
from visa import contact_sheet, overlay
from visa.contact_sheet import draw_contact_sheet, evenly_spaced
from visa.errors import InputError
from visa.lettering import font_for, wrap
from visa.mask_track import MaskTrack, decode_masks
from visa.overlay import colour_of, draw_masks, write_video
from visa.tracklet import Tracklet
from visa.video import Video


def make_tracklet(num_frames: int = 5, height: int = 48, width: int = 64, **changes) -> Tracklet:
    video = Video.from_frames(
        np.stack([numbered_frame(number, height, width) for number in range(num_frames)]),
        fps=12.5,
        name="clip",
    )
    masks = np.zeros((num_frames, height, width), bool)
    masks[1:, height // 4 : height // 2 + 1, width // 4 : width // 2 + 1] = True
    values = {
        "question": "the dog",
        "answer": "It is the dog.",
        "found": True,
        "score": 0.5,
        "target_frame": num_frames - 1,
        "masks": masks,
        "video": video,
    }
    if not changes.get("found", True):
        values.update(masks=np.zeros_like(masks), target_frame=None)
    return Tracklet(**(values | changes))


def test_save_writes_everything(tmp_path: Path) -> None:
    tracklet = make_tracklet()
    folder = tracklet.save(tmp_path / "out" / "clip" / "0")
    names = [f"{number:05d}.png" for number in range(5)]
    assert sorted(path.name for path in folder.iterdir()) == [
        *names,
        "contact_sheet.png",
        "overlay.mp4",
        "result.json",
    ]
    for name, mask in zip(names, tracklet.masks, strict=True):
        with Image.open(folder / name) as picture:
            assert picture.mode == "L"
            assert np.array_equal(np.asarray(picture), mask * np.uint8(255))
    result = json.loads((folder / "result.json").read_text())
    assert result["question"] == "the dog"
    assert (result["found"], result["score"], result["target_frame"]) == (True, 0.5, 4)
    assert (result["video"], result["height"], result["width"], result["fps"]) == ("clip", 48, 64, 12.5)
    assert result["frame_names"] == [name[:5] for name in names]
    assert np.array_equal(decode_masks(result["masks"]), tracklet.masks)
    assert coco_mask.area(result["masks"][0]) == 0
    assert "null" not in (folder / "result.json").read_text()


def test_not_found_is_saved_without_null(tmp_path: Path) -> None:
    folder = make_tracklet(found=False, answer="").save(tmp_path)
    text = (folder / "result.json").read_text()
    assert "null" not in text
    result = json.loads(text)
    assert (result["found"], result["target_frame"], result["objects"]) == (False, -1, [])
    assert not decode_masks(result["masks"]).any()


def test_several_objects_keep_their_own_masks(tmp_path: Path) -> None:
    tracklet = make_tracklet()
    objects = np.stack([tracklet.masks, np.roll(tracklet.masks, 12, axis=2)])
    both = dataclasses.replace(tracklet, masks=objects.any(axis=0), object_masks=objects)
    result = json.loads((both.save(tmp_path) / "result.json").read_text())
    assert np.array_equal(np.stack([decode_masks(one) for one in result["objects"]]), objects)
    with pytest.raises(ValueError, match="union"):
        dataclasses.replace(tracklet, object_masks=objects)


def test_masks_may_be_given_as_tracks() -> None:
    plain = make_tracklet()
    objects = np.stack([plain.masks, np.roll(plain.masks, 12, axis=2)])
    tracks = tuple(MaskTrack.of(masks) for masks in objects)
    given = make_tracklet(masks=None, object_masks=tracks)
    assert given == make_tracklet(masks=objects.any(axis=0), object_masks=objects) != plain
    assert np.array_equal(given.masks, objects.any(axis=0))
    assert np.array_equal(given.object_masks, objects)
    assert np.array_equal(given.masks_at(3), objects[:, 3])
    assert np.array_equal(given.mask(3), objects[:, 3].any(axis=0))
    assert given.tells_apart
    assert np.allclose(given.areas(), objects.any(axis=0).mean(axis=(1, 2)))
    assert make_tracklet(masks=tracks[0]) == plain
    assert plain.object_masks is None
    assert len(plain.tracks) == 1
    assert np.array_equal(plain.masks_at(3), plain.masks[3][None])


def test_nothing_but_reading_masks_decodes_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracklet = make_tracklet(object_masks=make_tracklet().masks[None])
    expected = tracklet.masks.copy()
    decoded = []
    monkeypatch.setattr(MaskTrack, "decoded", lambda track: decoded.append(track) or expected)
    again = make_tracklet(masks=tracklet.union, object_masks=tracklet.tracks)
    again.save(tmp_path)
    assert repr(again) == "Tracklet('the dog', 'It is the dog.', found in 'clip', score 0.5)"
    assert again == tracklet
    assert decoded == []
    assert again.masks is again.masks, "decoded once"
    assert len(decoded) == 1


def test_a_result_cannot_be_changed() -> None:
    tracklet = make_tracklet()
    with pytest.raises(ValueError, match="read-only"):
        tracklet.masks[0] = True
    with pytest.raises(dataclasses.FrozenInstanceError):
        tracklet.answer = "another"


def test_an_interrupted_save_does_not_look_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_tracklet().save(tmp_path)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(contact_sheet, "draw_contact_sheet", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_tracklet(question="another").save(folder)
    assert not (folder / "result.json").exists()


def test_an_interrupted_overlay_leaves_nothing(tmp_path: Path) -> None:
    def frames():
        yield np.zeros((16, 16, 3), np.uint8)
        raise InputError("gone")

    with pytest.raises(InputError):
        write_video(tmp_path / "overlay.mp4", frames(), 10)
    assert list(tmp_path.iterdir()) == []


def test_masks_of_a_longer_earlier_result_do_not_stay(tmp_path: Path) -> None:
    make_tracklet(num_frames=9).save(tmp_path)
    (tmp_path / "mine.png").write_bytes(b"not ours")
    make_tracklet(num_frames=3).save(tmp_path)
    kept = {path.name for path in tmp_path.glob("*.png")}
    assert kept == {"00000.png", "00001.png", "00002.png", "contact_sheet.png", "mine.png"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"masks": np.zeros((5, 48, 64), np.uint8)}, "expected bool masks"),
        ({"masks": np.zeros((4, 48, 64), bool)}, "expected bool masks"),
        ({"frame_names": ("a",)}, "5 frame names"),
        ({"target_frame": 5}, "target frame in"),
        ({"score": float("nan")}, "finite score"),
        ({"found": False, "masks": np.ones((5, 48, 64), bool)}, "nothing was found"),
        ({"object_masks": np.zeros((5, 48, 64), bool)}, "object_masks"),
        ({"object_masks": np.zeros((0, 5, 48, 64), bool)}, "one object at least"),
        ({"object_masks": [MaskTrack((4, 48, 64))]}, "one object at least, each of"),
        ({"masks": MaskTrack((5, 48, 65))}, "expected a track of masks"),
    ],
)
def test_contradictions_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_tracklet(**changes)


def test_equality_compares_values_and_not_the_video() -> None:
    assert make_tracklet() == make_tracklet()
    assert make_tracklet() != make_tracklet(answer="No.")
    assert make_tracklet() != "a tracklet"


@given(
    arrays.arrays(bool, st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40))),
)
@settings(deadline=None)
def test_run_length_encoding_round_trip(masks: np.ndarray) -> None:
    encoded = MaskTrack.of(masks).as_json()
    through_json = json.loads(json.dumps(encoded))
    assert through_json == encoded
    assert np.array_equal(decode_masks(through_json), masks)


# --- overlay ---


def _read_back(path: Path) -> tuple[av.container.InputContainer, list[np.ndarray]]:
    container = av.open(str(path))
    return container, [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize(("height", "width"), [(48, 64), (17, 9), (1, 1), (9, 200)])
def test_the_overlay_plays_in_a_browser(tmp_path: Path, height: int, width: int) -> None:
    make_tracklet(height=height, width=width).save(tmp_path)
    content = (tmp_path / "overlay.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    container, frames = _read_back(tmp_path / "overlay.mp4")
    with container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.profile in ("High", "Main", "Constrained Baseline")
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert float(stream.average_rate) == 12.5
        assert (stream.height, stream.width) == (height + height % 2, width + width % 2)
    assert len(frames) == 5


def test_the_overlay_keeps_colours(tmp_path: Path) -> None:
    frame = np.full((48, 64, 3), (200, 30, 40), np.uint8)
    container, frames = _read_back(write_video(tmp_path / "red.mp4", [frame] * 2, 29.97))
    container.close()
    assert np.abs(frames[0].astype(int) - frame).max() <= 6


def test_videos_need_frames_of_one_shape(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        write_video(tmp_path / "none.mp4", [], 10)
    with pytest.raises(ValueError, match="one shape"):
        write_video(tmp_path / "two.mp4", [np.zeros((4, 4, 3), np.uint8), np.zeros((6, 4, 3), np.uint8)], 10)


@given(height=st.integers(1, 90), width=st.integers(1, 90), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_drawing_colours_the_mask_and_nothing_far_from_it(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    frame = np.full((height, width, 3), 100, np.uint8)
    mask = np.zeros((height, width), bool)
    top, left = rng.integers(0, height), rng.integers(0, width)
    mask[top : top + 10, left : left + 10] = True
    drawn = draw_masks(frame, mask[None])
    assert (frame == 100).all()
    towards = np.sign(np.array(colour_of(0)) - 100)
    assert (np.sign(drawn[mask].astype(int) - 100) == towards).all()
    far = np.ones_like(mask)
    far[max(0, top - 5) : top + 15, max(0, left - 5) : left + 15] = False
    assert (drawn[far] == 100).all()


def test_drawing_nothing_changes_nothing() -> None:
    frame = numbered_frame(5)
    assert np.array_equal(draw_masks(frame, np.zeros((2, 64, 96), bool)), frame)
    with pytest.raises(ValueError, match="bool masks"):
        draw_masks(frame, np.zeros((1, 64, 97), bool))
    assert colour_of(len(overlay.COLOURS)) == colour_of(0)


# --- contact sheet ---


@pytest.mark.parametrize(("height", "width"), [(1, 1), (17, 9), (3, 300), (300, 3), (240, 427)])
@pytest.mark.parametrize("num_frames", [1, 2, 9])
def test_the_contact_sheet_takes_any_size(height: int, width: int, num_frames: int) -> None:
    sheet = draw_contact_sheet(make_tracklet(num_frames=num_frames, height=height, width=width))
    assert sheet.mode == "RGB"
    assert sheet.width == contact_sheet.WIDTH
    assert 200 < sheet.height < 4000


def test_the_contact_sheet_shows_the_mask_and_the_verdict() -> None:
    def count(sheet: Image.Image, colour: tuple[int, int, int]) -> int:
        return int((np.asarray(sheet) == colour).all(axis=2).sum())

    found = draw_contact_sheet(make_tracklet(height=240, width=320))
    absent = draw_contact_sheet(make_tracklet(height=240, width=320, found=False))
    assert count(found, colour_of(0)) > 1000
    assert count(absent, colour_of(0)) == 0
    assert count(found, contact_sheet.NOT_FOUND) == 0
    assert count(absent, contact_sheet.NOT_FOUND) > 1000
    assert count(found, contact_sheet.FOUND) > 1000


@pytest.mark.parametrize(
    "words",
    ["", "x" * 2000, "wörter " * 300, "哪只动物能飞？" * 50, "שלום عليكم", "👩\u200d🚀🐰", "ﷺ\u0301\u0301"],
)
def test_the_contact_sheet_takes_any_words(words: str) -> None:
    assert draw_contact_sheet(make_tracklet(question=words, answer=words)).height < 2000


def test_the_frames_shown_are_evenly_spaced() -> None:
    assert evenly_spaced(1) == [0]
    assert evenly_spaced(3) == [0, 1, 2]
    assert evenly_spaced(50) == [0, 7, 14, 21, 28, 35, 42, 49]


@given(text=st.text(max_size=200), width=st.integers(5, 400), max_lines=st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_wrapped_lines_fit(text: str, width: int, max_lines: int) -> None:
    font = ImageFont.load_default(20)
    lines = wrap(text, font, width, max_lines)
    assert 1 <= len(lines) <= max_lines
    for line in lines:
        assert font.getlength(line) <= width or len(line) <= 1 or line == "..."
    if not lines[-1].endswith("..."):
        assert "".join(lines).replace(" ", "") == "".join(text.split())


def test_latin_words_use_the_font_that_is_always_there() -> None:
    assert font_for("Which one: 'the dog'?", 20).getname()[0] == ImageFont.load_default(20).getname()[0]
