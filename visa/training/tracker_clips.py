"""Short synthetic clips with SAM's features of every frame, kept on disk so that SAM runs only once.

The tracker learns from them (see ``visa/training/tracker.py``). Shapes: T frames, N objects, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dataset.synthetic.assets import AssetLibrary
from dataset.synthetic.generate import VideoSpec, film
from model.sam.build import Sam

CLIP_FRAMES = 6
HEIGHT, WIDTH = 288, 512
# One clip in eight is filmed at twice the size and a window cut from its features, for objects as large as in
# a full frame of SAM's.
LARGE_SHARE = 1 / 8


@dataclass(frozen=True)
class TrackerClip:
    """What the tracker sees of one clip.

    Attributes:
        frames: uint8 [T, H, W, 3].
        masks: bool [N, T, H, W].
        features: SAM's embedding (stride 16) and the encoder's maps at strides 16, 8 and 4, each
            bfloat16 [T, C_i, ...].
    """

    frames: Tensor
    masks: Tensor
    features: tuple[Tensor, Tensor, Tensor, Tensor]


@torch.inference_mode()
def encode_frames(sam: Sam, frames: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """SAM's maps of frames at their own size, without padding.

    Args:
        sam: with TinyViT.
        frames: uint8 [T, H, W, 3], sides multiples of 16.

    Returns:
        Embedding and maps at strides 16, 8, 4, in bfloat16.
    """
    maps = []
    for frame in frames.to(sam.device):
        image = (frame.permute(2, 0, 1)[None] - sam.pixel_mean) / sam.pixel_std
        with torch.autocast(sam.device.type, torch.bfloat16):
            embedding, (level4, level8, level16) = sam.image_encoder.forward_levels(image)
        maps.append([each.to(torch.bfloat16) for each in (embedding, level16, level8, level4)])
    return tuple(torch.cat(each) for each in zip(*maps, strict=True))


def film_clip(seed: int, assets: AssetLibrary, sam: Sam) -> TrackerClip:
    """Film and encode clip ``seed``; objects that are not in its first frame are left out."""
    rng = np.random.default_rng([seed, 11])
    scale = 2 if rng.random() < LARGE_SHARE else 1
    for attempt in range(20):
        spec = VideoSpec(
            height=scale * HEIGHT,
            width=scale * WIDTH,
            num_frames=CLIP_FRAMES,
            max_objects=4,
            pace=float(rng.uniform(0.06, 0.5)),
            side_by_side=0.05,
            two_shots=0.0,
            absent_first=0.1,
        )
        made = film(seed + 10_000_000 * attempt, spec, assets)
        masks = made.masks
        # A third of the clips run backwards: things leave as often as they enter.
        frames = made.frames
        if rng.random() < 1 / 3:
            frames, masks = frames[::-1], masks[:, ::-1]
        top, left = _window(masks, scale, rng)
        window = masks[:, :, top : top + HEIGHT, left : left + WIDTH]
        known = window[:, 0].sum((1, 2)) >= 300
        if known.any():
            break
    features = encode_frames(sam, torch.from_numpy(frames.copy()))
    strides = (16, 16, 8, 4)
    features = tuple(
        each[
            :, :, top // stride : (top + HEIGHT) // stride, left // stride : (left + WIDTH) // stride
        ].clone()
        for each, stride in zip(features, strides, strict=True)
    )
    frames = frames[:, top : top + HEIGHT, left : left + WIDTH]
    return TrackerClip(torch.from_numpy(frames.copy()), torch.from_numpy(window[known].copy()), features)


def _window(masks: np.ndarray, scale: int, rng: np.random.Generator) -> tuple[int, int]:
    """(top, left), multiples of 16, of a window that holds the middle of one object of the first frame."""
    if scale == 1:
        return 0, 0
    seen = masks[:, 0].any((1, 2)).nonzero()[0]
    if len(seen) == 0:
        return 0, 0
    rows, columns = masks[rng.choice(seen), 0].nonzero()
    corner = []
    for middle, side in ((rows.mean(), HEIGHT), (columns.mean(), WIDTH)):
        start = middle - side * rng.uniform(0.3, 0.7)
        corner.append(int(np.clip(start, 0, (scale - 1) * side)) // 16 * 16)
    return corner[0], corner[1]


def cache_clips(folder: Path, seeds: range, assets: AssetLibrary, sam: Sam) -> list[Path]:
    """The clips of ``seeds`` as files in ``folder``; those already there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for seed in tqdm(seeds, desc="tracker clips", unit="clip"):
        path = folder / f"{seed:07d}.pt"
        if not path.is_file():
            clip = film_clip(seed, assets, sam)
            part = path.with_suffix(".part")
            torch.save({"frames": clip.frames, "masks": clip.masks, "features": clip.features}, part)
            part.rename(path)
        paths.append(path)
    return paths


def read_clip(path: Path) -> TrackerClip:
    """A clip that ``cache_clips`` wrote."""
    return TrackerClip(**torch.load(path, map_location="cpu", weights_only=True, mmap=True))
