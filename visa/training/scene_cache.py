"""Synthetic scenes, filmed and encoded by the frozen networks once, so that training need not do it again.

A cached scene is one file: the cells of its frames, SAM's features of its target frame, the objects' masks
there, and the scene's description, from which other questions can be asked every time it comes by.
"""

import pickle
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from dataset.errors import DatasetError
from dataset.synthetic.assets import AssetLibrary
from dataset.synthetic.generate import VideoSpec, film
from dataset.synthetic.scene import Scene
from model.mllm.cells import ClassifierTower, FrameCells
from model.sam.segmenter import SamSegmenter
from visa.mask_drawing import unpadded_features

# (height, width) of filmed scenes and how often each is drawn.
FRAME_SIZES = (((288, 480), 0.5), ((288, 512), 0.25), ((240, 640), 0.15), ((384, 384), 0.1))
STILL_SHARE = 0.65
CLIP_FRAMES = 4


@dataclass(frozen=True)
class CachedScene:
    """frames: cells, the target frame last, float16. percents: their places in the video. target: the
    target's place among the scene's frames. sam_features: float16 [256, h, w]. object_masks: uint8 [K, 256,
    256], 0..255
    over SAM's padded input. input_size: SAM's unpadded input. scene: what there is to ask about."""

    frames: tuple[FrameCells, ...]
    percents: tuple[int, ...]
    target: int
    sam_features: torch.Tensor
    object_masks: torch.Tensor
    input_size: tuple[int, int]
    scene: Scene


def draw_spec(rng: np.random.Generator, split: str) -> VideoSpec:
    """What to film next."""
    sizes, shares = zip(*FRAME_SIZES, strict=True)
    height, width = sizes[rng.choice(len(sizes), p=np.array(shares))]
    num_frames = 1 if rng.random() < STILL_SHARE else CLIP_FRAMES
    return VideoSpec(height=height, width=width, num_frames=num_frames, split=split)


@torch.inference_mode()
def encode_scene(
    seed: int, split: str, assets: AssetLibrary, tower: ClassifierTower, sam: SamSegmenter
) -> CachedScene:
    """Film scene ``seed`` and encode it, its target frame drawn among those in which something is visible."""
    rng = np.random.default_rng([seed, 7])
    made = film(seed, draw_spec(rng, split), assets)
    seen = made.masks.any(axis=(0, 2, 3)).nonzero()[0]
    target = int(rng.choice(seen))
    num_frames = len(made.frames)
    order = [target] if num_frames == 1 else [*range(num_frames), target]
    with torch.autocast(sam.sam.device.type, torch.bfloat16):
        cells = tower(made.frames)
        features = sam.encode(made.frames[target : target + 1], levels=False)
    return CachedScene(
        frames=tuple(_halved(cells[index]) for index in order),
        percents=tuple(round(100 * index / max(1, num_frames - 1)) for index in order),
        target=target,
        sam_features=unpadded_features(features).half(),
        object_masks=masks_on_sam_input(made.masks[:, target], features.input_size),
        input_size=features.input_size,
        scene=made.scene,
    )


def masks_on_sam_input(masks: np.ndarray, input_size: tuple[int, int], side: int = 1024) -> torch.Tensor:
    """Masks bool [K, H, W] as uint8 [K, 256, 256] shares 0..255 over SAM's padded input."""
    height, width = max(1, round(input_size[0] * 256 / side)), max(1, round(input_size[1] * 256 / side))
    shares = functional.interpolate(
        torch.from_numpy(masks)[:, None].float(), (height, width), mode="bilinear", antialias=True
    )[:, 0]
    return functional.pad((shares * 255).round(), (0, 256 - width, 0, 256 - height)).byte()


def _halved(cells: FrameCells) -> FrameCells:
    return FrameCells(
        cells.features.half(),
        cells.colour.half(),
        cells.kinds.half(),
        cells.class_indices.short(),
        cells.class_probs.half(),
        cells.points.half(),
    )


def build_cache(
    folder: Path,
    seeds: Iterable[int],
    split: str,
    assets: AssetLibrary,
    tower: ClassifierTower,
    sam: SamSegmenter,
) -> None:
    """Encode the scenes that are not in ``folder`` yet; may be stopped and started again at any time."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in tqdm([seed for seed in seeds if not scene_path(folder, seed).exists()], desc="encode scenes"):
        partial = folder / f".{seed}.partial"
        torch.save(encode_scene(seed, split, assets, tower, sam), partial)
        partial.replace(scene_path(folder, seed))


def scene_path(folder: Path, seed: int) -> Path:
    """Where the scene ``seed`` stands in a cache."""
    return folder / f"{seed:07d}.pt"


def load_scene(path: Path) -> CachedScene:
    """Read a cached scene of our own making (a pickle: never one from somewhere else).

    Raises:
        DatasetError: there is none, or it is damaged.
    """
    try:
        return torch.load(path, weights_only=False)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise DatasetError(f"{path} is no cached scene: {error}", "broken scene") from error
