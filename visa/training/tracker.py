"""Training of the small XMem that follows objects in SAM's frozen features.

The recipe is XMem's (Cheng & Schwing, ECCV 2022, supplement): short clips, memory filled with the network's
own predictions, bootstrapped cross-entropy and dice. What differs: SAM's image encoder is the frozen trunk,
the keys start as its principal axes, and the clips are the project's synthetic ones. One CPU core, about a
quarter of an hour.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from model.xmem.framing import normalise
from model.xmem.network import FrameKey, XMem
from model.xmem.sam_trunk import build_sam_xmem, start_as_feature_matcher
from model.xmem.similarity import anisotropic_similarity
from visa.training.tracker_clips import TrackerClip, read_clip

# Of SAM's embedding and of the encoder's maps in a clip's features.
MAP_STRIDES = (16, 16, 8, 4)


@dataclass(frozen=True)
class TrackerRecipe:
    """Settings of a training run.

    Attributes:
        steps: optimiser steps.
        clips_per_step: clips whose gradients make one step.
        frames: frames of a clip that are used.
        window: (height, width), multiples of 16, of the part of a clip that is used three times in four; it
            costs a third of the whole.
        max_objects: objects of a clip that are followed at once.
        learning_rate: of AdamW, at its highest; the start is warmed up, the rest is a cosine.
        key_learning_rate: the same for the projections that start as principal axes.
        weight_decay: of AdamW.
        warmup: steps.
        hard_share: share of the pixels, the worst ones, that cross-entropy sees in the end (it starts with
            all).
        own_mask_share: how often memory gets the network's own mask rather than the true one.
        bfloat16: convolutions in bfloat16.
        seed: of everything random.
        report_every: steps between two points of the learning curve.
    """

    steps: int = 1500
    clips_per_step: int = 1
    frames: int = 4
    window: tuple[int, int] = (192, 288)
    max_objects: int = 2
    learning_rate: float = 4e-4
    key_learning_rate: float = 4e-5
    weight_decay: float = 0.01
    warmup: int = 60
    hard_share: float = 0.15
    own_mask_share: float = 0.7
    bfloat16: bool = True
    seed: int = 0
    report_every: int = 20


@dataclass
class _ClipMemory:
    """Keys, shrinkage and values of the memorised frames of a clip, kept with their gradients."""

    keys: list[Tensor]
    shrinkage: list[Tensor]
    values: list[Tensor]

    def read(self, frame: FrameKey) -> Tensor:
        """Read-out, float [1, N, V, h, w]; softmax over all tokens, as XMem trains it."""
        scores = anisotropic_similarity(
            torch.cat(self.keys, 1),
            torch.cat(self.shrinkage, 1),
            frame.key.flatten(2).mT,
            frame.selection.flatten(2).mT,
        )
        values = torch.cat(self.values, -1)
        readout = torch.einsum("bqm,bnvm->bnvq", scores.softmax(-1).to(values.dtype), values)
        return readout.unflatten(-1, frame.key.shape[-2:])

    def add(self, frame: FrameKey, value: Tensor) -> None:
        self.keys.append(frame.key.flatten(2).mT)
        self.shrinkage.append(frame.shrinkage.flatten(1))
        self.values.append(value.flatten(3))


def follow(
    network: XMem, clip: TrackerClip, own_mask_share: float, generator: random.Random
) -> Iterator[tuple[Tensor, Tensor]]:
    """Run the network over a clip as tracking does, with gradients.

    Yields, for every frame after the first: mask_logits [1, 1 + N, H, W] and the true labels [1, H, W],
        int64.
    """
    images = normalise(clip.frames)
    masks = clip.masks.float()
    frames = [
        network.encode_key(tuple(each[t : t + 1] for each in clip.features)) for t in range(len(images))
    ]
    grid = frames[0].key.shape[-2:]
    sensory = images.new_zeros(1, len(masks), network.hidden_dim, *grid)
    memory = _ClipMemory([], [], [])

    def memorise(t: int, mask_probs: Tensor) -> Tensor:
        value, renewed = network.encode_value(images[t : t + 1], frames[t].f16, sensory, mask_probs)
        memory.add(frames[t], value)
        return renewed

    sensory = memorise(0, masks[None, :, 0])
    for t in range(1, len(images)):
        keep = t + 1 < len(images) and generator.random() < 0.5
        mask_logits, mask_probs, updated = network.segment(
            frames[t], memory.read(frames[t]), sensory, update_sensory=not keep
        )
        labels = torch.cat([masks.new_full((1, *masks.shape[-2:]), 0.5), masks[:, t]]).argmax(0)
        yield mask_logits, labels[None]
        sensory = updated
        if keep:
            own = generator.random() < own_mask_share
            sensory = memorise(t, mask_probs[:, 1:].detach() if own else masks[None, :, t])


def mask_loss(mask_logits: Tensor, labels: Tensor, hard_share: float) -> Tensor:
    """Bootstrapped cross-entropy plus dice of the objects.

    Args:
        mask_logits: float [1, 1 + N, H, W], background first.
        labels: int64 [1, H, W].
        hard_share: share of the pixels with the largest cross-entropy that count.
    """
    per_pixel = functional.cross_entropy(mask_logits, labels, reduction="none").flatten()
    if hard_share < 1:
        per_pixel = per_pixel.topk(max(1, int(hard_share * len(per_pixel)))).values
    probs = mask_logits.softmax(1)[:, 1:]
    truth = functional.one_hot(labels, mask_logits.shape[1]).movedim(-1, 1)[:, 1:]
    overlap = (probs * truth).sum((-2, -1))
    dice = 1 - (2 * overlap + 1) / (probs.sum((-2, -1)) + truth.sum((-2, -1)) + 1)
    return per_pixel.mean() + dice.mean()


@torch.no_grad()
def _mean_overlap(mask_logits: Tensor, labels: Tensor) -> float:
    """Mean IoU over the objects that are there."""
    predicted = mask_logits.argmax(1)
    overlaps = []
    for label in range(1, mask_logits.shape[1]):
        true, own = labels == label, predicted == label
        if true.any():
            overlaps.append(((true & own).sum() / (true | own).sum()).item())
    return sum(overlaps) / len(overlaps) if overlaps else math.nan


def draw_clip(clip: TrackerClip, recipe: TrackerRecipe, generator: random.Random) -> TrackerClip:
    """Some frames in order, one or two of the objects, mostly a part of the picture, often mirrored."""
    count = len(clip.frames)
    first = generator.randrange(count - recipe.frames + 1)
    frames = list(range(first, first + recipe.frames))
    seen = clip.masks[:, frames[0]].sum((1, 2)) >= 100
    objects = seen.nonzero()[:, 0].tolist() or [0]
    chosen = generator.sample(objects, min(len(objects), generator.randint(1, recipe.max_objects)))
    rows, columns = slice(None), slice(None)
    if generator.random() < 0.75:
        rows, columns = _window(clip.masks[chosen[0], frames[0]], recipe.window, generator)
    images, masks = clip.frames[frames][:, rows, columns], clip.masks[chosen][:, frames][:, :, rows, columns]
    features = tuple(
        each[frames][:, :, _strided(rows, stride), _strided(columns, stride)]
        for each, stride in zip(clip.features, MAP_STRIDES, strict=True)
    )
    if generator.random() < 0.5:
        images, masks = images.flip(2), masks.flip(-1)
        features = tuple(each.flip(-1) for each in features)
    return TrackerClip(images, masks, features)


def _window(mask: Tensor, size: tuple[int, int], generator: random.Random) -> list[slice]:
    """Rows and columns, multiples of 16, of a window that holds a random point of a bool mask [H, W]."""
    points = mask.nonzero().tolist() or [[side // 2 for side in mask.shape]]
    window = []
    for place, whole, side in zip(generator.choice(points), mask.shape, size, strict=True):
        start = place - generator.uniform(0.2, 0.8) * side
        start = int(max(0, min(start, whole - side))) // 16 * 16
        window.append(slice(start, min(start + side, whole)))
    return window


def _strided(pixels: slice, stride: int) -> slice:
    return pixels if pixels.start is None else slice(pixels.start // stride, pixels.stop // stride)


def train_tracker(folder: Path, output: Path, recipe: TrackerRecipe, curve_path: Path | None = None) -> XMem:
    """Train on the clips of a folder and save the weights.

    Args:
        folder: of ``cache_clips``; clips that are added meanwhile are used as they come.
        output: ``.safetensors`` file to write.
        recipe: settings.
        curve_path: JSON file for the learning curve.

    Raises:
        ValueError: the folder holds no clip.
    """
    paths = sorted(folder.glob("*.pt"))
    if not paths:
        raise ValueError(f"expected clips in {folder}, found none; make them with cache_clips")
    torch.manual_seed(recipe.seed)
    generator = random.Random(recipe.seed)
    network = build_sam_xmem()
    starting = [read_clip(path).features for path in paths[:24]]
    start_as_feature_matcher(network, [(features[0][:2], features[1][:2]) for features in starting])
    keys = [*network.key_encoder.project16.parameters(), *network.key_proj.parameters()]
    others = [each for each in network.parameters() if all(each is not key for key in keys)]
    optimiser = torch.optim.AdamW(
        [
            {"params": keys, "peak": recipe.key_learning_rate},
            {"params": others, "peak": recipe.learning_rate},
        ],
        lr=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
    )
    network.train()
    curve, losses, overlaps, start = [], [], [], time.monotonic()
    for step in range(recipe.steps):
        if step % 20 == 0:
            paths = sorted(folder.glob("*.pt"))
        warm = min(1.0, (step + 1) / recipe.warmup)
        rate = warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / recipe.steps)))
        for group in optimiser.param_groups:
            group["lr"] = rate * group["peak"]
        hard_share = max(recipe.hard_share, 1 - 2 * step / recipe.steps * (1 - recipe.hard_share))
        for _ in range(recipe.clips_per_step):
            clip = draw_clip(read_clip(generator.choice(paths)), recipe, generator)
            total = 0.0
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
                for mask_logits, labels in follow(network, clip, recipe.own_mask_share, generator):
                    total = total + mask_loss(mask_logits, labels, hard_share)
                    overlaps.append(_mean_overlap(mask_logits, labels))
            total = total / (recipe.frames - 1) / recipe.clips_per_step
            total.backward()
            losses.append(total.item() * recipe.clips_per_step)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if (step + 1) % recipe.report_every == 0 or step + 1 == recipe.steps:
            seen = [each for each in overlaps if not math.isnan(each)]
            curve.append(
                {
                    "step": step + 1,
                    "minutes": round((time.monotonic() - start) / 60, 2),
                    "loss": round(sum(losses) / len(losses), 4),
                    "overlap": round(sum(seen) / max(1, len(seen)), 4),
                    "clips": len(paths),
                }
            )
            print(json.dumps(curve[-1]), flush=True)
            losses, overlaps = [], []
        if (step + 1) % 100 == 0 or step + 1 == recipe.steps:
            save_tracker(network, output)
            if curve_path is not None:
                curve_path.write_text(json.dumps({"recipe": asdict(recipe), "curve": curve}, indent=1) + "\n")
    return network.eval()


def save_tracker(network: XMem, path: Path) -> None:
    """Write the weights in half precision."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: each.half().contiguous() for name, each in network.state_dict().items()}, path)
