"""Writes synthetic videos to disk in the layout of ReVOS, so that one reader and one scorer serve both.

    python -m dataset.synthetic write OUT --assets ARCHIVE ... --split held-out --videos 40 --seed 20261120

Besides ReVOS's keys every expression has "aspect" (what decides it) and "answer".
Source of the layout: Yan et al., "VISA: Reasoning Video Object Segmentation via Large Language Models", 2024.
"""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from dataset.sample import KINDS, Sample, Turn
from dataset.synthetic.assets import AssetLibrary
from dataset.synthetic.generate import VideoSpec, generate

# The project's own held-out benchmark is these arguments, not files: it is made again from its seed.
BENCHMARK_SPEC = VideoSpec(num_frames=20, split="held-out", pace=1.0, side_by_side=0.2, two_shots=0.1)
BENCHMARK_VIDEOS = 40
BENCHMARK_SEED = 20261120
BENCHMARK_TURNS = 6
_JPEG_QUALITY = 95


def choose_turns(turns: tuple[Turn, ...], count: int, rng: np.random.Generator) -> list[Turn]:
    """At most `count` turns, the three kinds as evenly as there are turns of each, and varied aspects.

    Args:
        turns: Candidates.
        rng: Decides among turns of the same kind and aspect.
    """
    waiting = {kind: {} for kind in KINDS}
    for index in rng.permutation(len(turns)):
        turn = turns[index]
        waiting[turn.kind].setdefault(turn.aspect, []).append(turn)
    chosen = []
    while len(chosen) < count and any(waiting.values()):
        for kind in KINDS:
            aspects = waiting[kind]
            if not aspects or len(chosen) >= count:
                continue
            aspect = min(aspects, key=lambda name: (sum(turn.aspect == name for turn in chosen), name))
            chosen.append(aspects[aspect].pop())
            if not aspects[aspect]:
                del aspects[aspect]
    return chosen


def encode_masks(masks: np.ndarray) -> list[dict | None]:
    """bool [T, H, W] -> COCO's compressed run lengths for every frame, None where the mask is empty."""
    encoded = []
    for mask in masks:
        if not mask.any():
            encoded.append(None)
            continue
        code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        encoded.append({"size": list(code["size"]), "counts": code["counts"].decode("ascii")})
    return encoded


def write_samples(samples, out: Path | str, split: str = "valid") -> dict:
    """Write samples and return what went into the meta file.

    Args:
        samples: An iterable of `Sample`; their names become the videos' folders.
        out: A folder that does not exist or is empty.
        split: "train" or "valid", the middle of the meta file's name.

    Raises:
        ValueError: the folder is not empty.
    """
    out = Path(out)
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty: give another folder, or remove it first")
    videos, annotations, foreground = {}, {}, {}
    for number, sample in enumerate(samples):
        folder = out / "JPEGImages" / sample.name
        folder.mkdir(parents=True)
        frame_names = [f"{index:05d}" for index in range(len(sample.frames))]
        for name, frame in zip(frame_names, sample.frames, strict=True):
            path = str(folder / f"{name}.jpg")
            if not cv2.imwrite(path, frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]):
                raise OSError(f"could not write {path}: is the disk full?")
        first = len(annotations)
        for masks in sample.masks:
            annotations[str(len(annotations))] = encode_masks(masks)
        expressions = {}
        for index, turn in enumerate(sample.turns):
            expressions[str(index)] = {
                "exp": turn.question,
                "obj_id": list(turn.object_ids),
                "anno_id": [first + item for item in turn.object_ids],
                "type_id": KINDS.index(turn.kind),
                "aspect": turn.aspect,
                "answer": turn.answer,
            }
        height, width = sample.frames[0].shape[:2]
        videos[sample.name] = {
            "vid_id": number,
            "height": height,
            "width": width,
            "frames": frame_names,
            "expressions": expressions,
        }
        meant = sorted({item for turn in sample.turns for item in turn.object_ids})
        union = sample.masks[meant].any(axis=0)
        foreground[sample.name] = {
            "masks_rle": encode_masks(union),
            "foreground_ratio": [float(mask.mean()) for mask in union],
        }
    meta = {"videos": videos}
    for name, content in (
        (f"meta_expressions_{split}_.json", meta),
        ("mask_dict.json", annotations),
        ("mask_dict_foreground.json", foreground),
    ):
        (out / name).write_text(json.dumps(content))
    return meta


def make_samples(assets: AssetLibrary, spec: VideoSpec, videos: int, seed: int, turns: int | None = None):
    """Yield `videos` samples with at most `turns` turns each (all of them for None)."""
    for index in range(videos):
        sample = generate(seed + index, spec, assets, name=f"synthetic/{index:04d}")
        if turns is not None:
            kept = choose_turns(sample.turns, turns, np.random.default_rng([seed + index, 2]))
            sample = Sample(sample.name, sample.frames, sample.masks, tuple(kept))
        yield sample


def fingerprint(samples) -> str:
    """A hash of what is asked and where the answers are.

    Masks enter by their centroids and sizes in steps of a twentieth of the frame's side, so that another
    build of OpenCV gives the same fingerprint.
    """
    digest = hashlib.sha256()
    for sample in samples:
        for turn in sample.turns:
            digest.update(
                repr((sample.name, turn.question, turn.kind, turn.aspect, turn.object_ids)).encode()
            )
        shares = sample.masks.mean(axis=(1, 2, 3))
        digest.update(np.round(np.sqrt(shares) * 20).astype(np.int64).tobytes())
    return digest.hexdigest()
