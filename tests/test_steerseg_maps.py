"""Attention maps of two granularities and the one they become: alignment, scales, maps that tell nothing."""

import logging

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.mllm.layout import FrameSpan
from visa.steerseg.fusion import FusionSettings, blur, fuse, min_max, refine, resize, spread
from visa.steerseg.maps import AttentionMaps, keyframes_shown, span_maps

SETTINGS = FusionSettings(frame_weight=0.5, frame_blur=7, video_blur=3, sigma=1.0, stretch=True)


def some_maps(keyframes=5, per_step=2, grid=(6, 10), video_grid=(3, 5), seed=0) -> AttentionMaps:
    """Random maps whose video stream shows ``per_step`` keyframes in each step, the last maybe fewer."""
    generator = torch.Generator().manual_seed(seed)
    shows = tuple(
        tuple(range(begin, min(begin + per_step, keyframes))) for begin in range(0, keyframes, per_step)
    )
    return AttentionMaps(
        torch.rand(keyframes, *grid, generator=generator),
        torch.rand(len(shows), *video_grid, generator=generator),
        shows,
    )


def test_a_spans_map_is_read_where_its_cells_stand():
    rollout = torch.arange(40.0)
    spans = [FrameSpan(3, 2, 3, row_stride=4), FrameSpan(20, 2, 3, row_stride=4)]
    assert span_maps(rollout, spans).tolist() == [
        [[3, 4, 5], [7, 8, 9]],
        [[20, 21, 22], [24, 25, 26]],
    ]


@pytest.mark.parametrize("spans", [[], [FrameSpan(0, 2, 3), FrameSpan(6, 3, 2)]])
def test_maps_of_other_sizes_are_not_mixed(spans):
    with pytest.raises(ValueError, match="one size"):
        span_maps(torch.zeros(12), spans)


def test_padding_of_an_odd_number_of_frames_is_no_keyframe():
    spans = [
        FrameSpan(0, 1, 1, shows=(0, 1)),
        FrameSpan(1, 1, 1, shows=(2, 3)),
        FrameSpan(2, 1, 1, shows=(4, 5)),
    ]
    assert keyframes_shown(spans, 5) == ((0, 1), (2, 3), (4,))
    repeated = [FrameSpan(0, 1, 1, shows=(0, 1)), FrameSpan(1, 1, 1, shows=(2, 2))]
    assert keyframes_shown(repeated, 3) == ((0, 1), (2,))
    assert keyframes_shown([FrameSpan(0, 1, 1), FrameSpan(1, 1, 1)], 2) == ((0,), (1,))


@pytest.mark.parametrize("shows", [((0, 1), (2,)), ((0, 1), (1, 2)), ((0, 1, 2),), ((0,), (1, 2, 3))])
def test_maps_say_which_keyframes_they_show(shows):
    maps = (torch.zeros(3, 4, 4), torch.zeros(2, 2, 2))
    if shows == ((0, 1), (2,)):
        assert AttentionMaps(*maps, shows).shows == shows
    else:
        with pytest.raises(ValueError, match="each of 3 keyframes once"):
            AttentionMaps(*maps, shows)


@given(keyframes=st.integers(1, 9), per_step=st.integers(1, 2))
def test_each_keyframe_gets_the_step_that_shows_it(keyframes, per_step):
    maps = some_maps(keyframes, per_step)
    out = spread(maps.video, maps.shows, keyframes)
    assert len(out) == keyframes
    for keyframe in range(keyframes):
        assert torch.equal(out[keyframe], maps.video[keyframe // per_step])


@pytest.mark.parametrize(
    ("grid", "video_grid"), [((6, 10), (3, 5)), ((10, 6), (5, 3)), ((7, 3), (4, 2)), ((5, 5), (5, 5))]
)
@pytest.mark.parametrize("keyframes", [1, 4, 5])
def test_a_thing_at_one_place_stays_there_in_the_joint_map(grid, video_grid, keyframes):
    """Landscape, portrait and square, even and odd numbers of keyframes; the thing moves between corners."""
    shows = tuple(tuple(range(k, min(k + 2, keyframes))) for k in range(0, keyframes, 2))
    frame, video = torch.zeros(keyframes, *grid), torch.zeros(len(shows), *video_grid)
    for step, seen in enumerate(shows):
        bottom_right = step % 2
        video[step, -bottom_right, -bottom_right] = 1
        for keyframe in seen:
            frame[keyframe, -bottom_right, -bottom_right] = 1
    settings = FusionSettings(frame_weight=0.5, frame_blur=1, video_blur=1, sigma=1.0, stretch=True)
    joint = fuse(refine(AttentionMaps(frame, video, shows), settings), settings)
    assert joint.shape == (keyframes, *grid)
    for keyframe in range(keyframes):
        corner = -(keyframe // 2 % 2)
        assert joint[keyframe, corner, corner] == joint[keyframe].max() == 1


def test_weights_decide_between_the_streams():
    maps = some_maps()
    for weight, stream in ((1.0, "frame"), (0.0, "video")):
        settings = FusionSettings(weight, frame_blur=7, video_blur=3, sigma=1.0, stretch=False)
        refined = refine(maps, settings)
        alone = refined.frame if stream == "frame" else resize(spread(refined.video, maps.shows, 5), (6, 10))
        assert torch.allclose(fuse(refined, settings), alone)


def test_scales_are_each_frames_own_and_the_videos():
    refined = refine(some_maps(), SETTINGS)
    assert refined.frame.amax((1, 2)).tolist() == [1] * 5
    assert refined.frame.amin((1, 2)).tolist() == [0] * 5
    assert refined.video.max() == 1
    assert refined.video.min() == 0
    assert (refined.video.amax((1, 2)) < 1).any()
    assert fuse(refined, SETTINGS).max() == 1


@given(scale=st.floats(1e-4, 1e4), shift=st.floats(-10, 10))
def test_brightness_and_contrast_of_attention_do_not_count(scale, shift):
    maps = some_maps()
    other = AttentionMaps(maps.frame * scale + shift * scale, maps.video * scale, maps.shows)
    assert torch.allclose(
        fuse(refine(other, SETTINGS), SETTINGS), fuse(refine(maps, SETTINGS), SETTINGS), atol=1e-3
    )


@pytest.mark.parametrize("value", [0.0, 0.37, 1e-9, 5e4])
def test_a_constant_map_becomes_nothing(value):
    maps = torch.full((3, 4, 6), value)
    assert not min_max(blur(maps, 7, 1.0), each_frame=True).any()
    assert not min_max(blur(maps, 3, 1.0), each_frame=False).any()


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
def test_a_broken_frame_is_left_out_and_the_others_stay(broken):
    maps = some_maps()
    maps.frame[2, 1, 1] = broken
    refined = refine(maps, SETTINGS)
    assert refined.frame.isfinite().all()
    assert not refined.frame[2].any()
    assert refined.frame[1].max() == 1
    assert fuse(refined, SETTINGS).isfinite().all()


def test_a_stream_that_tells_nothing_is_left_out_and_logged(caplog):
    maps = some_maps()
    blind = AttentionMaps(maps.frame, torch.full_like(maps.video, torch.nan), maps.shows)
    with caplog.at_level(logging.WARNING):
        joint = fuse(refine(blind, SETTINGS), SETTINGS)
    assert "video stream" in caplog.text
    assert "frame stream" not in caplog.text
    assert joint.max() == 1
    both_blind = AttentionMaps(torch.zeros_like(maps.frame), blind.video, maps.shows)
    assert not fuse(refine(both_blind, SETTINGS), SETTINGS).any()


@given(window=st.sampled_from([1, 3, 7]), value=st.floats(0.1, 10))
def test_blurring_keeps_a_constant_and_small_grids(window, value):
    small = torch.full((2, 1, 2), value)
    assert torch.allclose(blur(small, window, 1.0), small)


def test_blurring_spreads_evenly():
    spot = torch.zeros(1, 9, 9)
    spot[0, 4, 4] = 1
    out = blur(spot, 3, 1.0)
    assert out.sum() == pytest.approx(1)
    assert (out[0] > 0).sum() == 9
    assert torch.allclose(out, out.transpose(1, 2))
    assert torch.allclose(out, out.flip(1))


@pytest.mark.parametrize(
    "wrong",
    [{"frame_weight": 1.5}, {"frame_blur": 4}, {"video_blur": 0}, {"sigma": 0.0}],
)
def test_settings_out_of_range_are_named(wrong):
    right = {"frame_weight": 0.3, "frame_blur": 7, "video_blur": 3, "sigma": 1.0, "stretch": True}
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FusionSettings(**right | wrong)


@given(seed=st.integers(0, 50), keyframes=st.integers(1, 7), portrait=st.booleans())
def test_with_equal_shares_the_joint_map_is_decafs_without_its_contrast(seed, keyframes, portrait):
    """Blur, scale, double in time without the padding, enlarge, mean, scale: written out with OpenCV."""
    grid, video_grid = ((10, 6), (5, 3)) if portrait else ((6, 10), (3, 5))
    maps = some_maps(keyframes, 2, grid, video_grid, seed)
    frame, video = (
        np.stack(
            [cv2.GaussianBlur(one, (side, side), 1.0, borderType=cv2.BORDER_REPLICATE) for one in stream]
        )
        for stream, side in ((maps.frame.numpy(), 7), (maps.video.numpy(), 3))
    )
    low, high = frame.min((1, 2), keepdims=True), frame.max((1, 2), keepdims=True)
    frame = (frame - low) / (high - low)
    video = (video - video.min()) / (video.max() - video.min())
    video = np.repeat(video, 2, axis=0)[:keyframes]
    video = np.stack([cv2.resize(one, grid[::-1], interpolation=cv2.INTER_LINEAR) for one in video])
    expected = (frame + video) / 2
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    joint = fuse(refine(maps, SETTINGS), SETTINGS)
    assert np.allclose(joint.numpy(), expected, atol=1e-5)
