"""Reader of the ReVOS layout: videos as folders of frames, expressions with their masks as RLE, all lazy.

    ROOT/JPEGImages/<video>/<frame>.jpg         video names may be nested: "UVO/all/-fbscFfkh4M"
    ROOT/meta_expressions_<split>_.json         {"videos": {name: {"frames", "height", "width",
                                                                   "expressions": {id: ...}}}}
    ROOT/mask_dict.json                         {annotation id: [RLE or null for every frame, frames sorted]}
    ROOT/mask_dict_foreground.json              {name: {"masks_rle": [RLE or null]}}, optional

An expression holds "exp", "type_id" (0 referring, 1 reasoning, 2 absent), "obj_id" and "anno_id" (lists), and
perhaps "aspect", a finer sort of question, which our own benchmark writes. The masks of several annotations
may overlap.

Source: Yan et al., "VISA: Reasoning Video Object Segmentation via Large Language Models", ECCV 2024.

Legend: T frames, H W pixels.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset.sample import KINDS, Kind

FRAME_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Expression:
    """One question or description of a video.

    Attributes:
        id: Its key in the video, unique there.
        text: What is asked.
        kind: "referring", "reasoning" or "absent" (type_id 0, 1, 2).
        aspect: A finer sort ("colour", "motion", ...), None where the data set has none.
        object_ids: The objects meant; () if none.
        annotation_ids: Their keys in the mask file; () if none.
    """

    id: str
    text: str
    kind: Kind
    aspect: str | None
    object_ids: tuple[int, ...]
    annotation_ids: tuple[str, ...]


@dataclass(frozen=True)
class RevosVideo:
    """One video's record.

    Attributes:
        name: Its name, with "/" where nested.
        folder: The folder of its frames.
        frame_names: Without suffix, sorted, as the masks are.
        height: In pixels.
        width: In pixels.
        expressions: In the file's order.
    """

    name: str
    folder: Path
    frame_names: tuple[str, ...]
    height: int
    width: int
    expressions: tuple[Expression, ...]

    @property
    def annotation_ids(self) -> tuple[str, ...]:
        """Every annotation that an expression of this video names, each once."""
        return tuple(dict.fromkeys(key for item in self.expressions for key in item.annotation_ids))

    def frame_paths(self) -> tuple[Path, ...]:
        """The frames' files, in order.

        Raises:
            ValueError: A frame has no file.
        """
        return tuple(self._frame_path(name) for name in self.frame_names)

    def _frame_path(self, name: str) -> Path:
        for suffix in FRAME_SUFFIXES:
            path = self.folder / f"{name}{suffix}"
            if path.is_file():
                return path
        raise ValueError(f"expected a frame {self.folder / name}.jpg (or .jpeg, .png), found none")


class Revos(Sequence[RevosVideo]):
    """A data set in the ReVOS layout. The mask file is read when the first mask is asked for.

    Args:
        root: Its folder.
        split: "valid" or "train", the part of the meta file's name.

    Raises:
        ValueError: A file is missing or not of the layout, or a name climbs out of the root. The message
            names the file and the key.
    """

    def __init__(self, root: str | Path, split: str = "valid"):
        self.root = Path(root)
        self.meta_path = self.root / f"meta_expressions_{split}_.json"
        self.mask_path = self.root / "mask_dict.json"
        self.foreground_path = self.root / "mask_dict_foreground.json"
        videos = _mapping(_read_json(self.meta_path), "videos", f"{self.meta_path}")
        self._videos = tuple(self._video(name, record) for name, record in videos.items())
        self._by_name = {video.name: video for video in self._videos}

    def __len__(self) -> int:
        return len(self._videos)

    def __getitem__(self, index):
        return self._videos[index]

    def __iter__(self) -> Iterator[RevosVideo]:
        return iter(self._videos)

    def video(self, name: str) -> RevosVideo:
        """The record of one video.

        Raises:
            ValueError: No such video.
        """
        if name not in self._by_name:
            raise ValueError(f"{self.meta_path}: no video {name!r} among its {len(self)}")
        return self._by_name[name]

    def target(self, video: RevosVideo, expression: Expression) -> NDArray[np.bool_]:
        """The pixels an expression means: bool [T, H, W], the union of its annotations; empty if absent."""
        masks = np.zeros((len(video.frame_names), video.height, video.width), dtype=bool)
        for annotation_id in expression.annotation_ids:
            masks |= self.annotation(video, annotation_id)
        return masks

    def annotation(self, video: RevosVideo, annotation_id: str) -> NDArray[np.bool_]:
        """One object's pixels: bool [T, H, W].

        Raises:
            ValueError: No such annotation, or it is broken or of another length or size.
        """
        where = f"{self.mask_path}: annotation {annotation_id!r}"
        if annotation_id not in self._mask_lists:
            raise ValueError(f"{where} of video {video.name!r} is not in the file")
        return _decode_list(self._mask_lists[annotation_id], video, where)

    def foreground(self, video: RevosVideo) -> NDArray[np.bool_]:
        """The union of all annotated objects, bool [T, H, W]: read if the file exists, else made here."""
        if not self.foreground_path.is_file():
            masks = np.zeros((len(video.frame_names), video.height, video.width), dtype=bool)
            for annotation_id in video.annotation_ids:
                masks |= self.annotation(video, annotation_id)
            return masks
        where = f"{self.foreground_path}: video {video.name!r}"
        record = _mapping(self._foreground_lists, video.name, f"{self.foreground_path}")
        return _decode_list(record.get("masks_rle"), video, where)

    @cached_property
    def _mask_lists(self) -> dict[str, Any]:
        return _dictionary(_read_json(self.mask_path), f"{self.mask_path}")

    @cached_property
    def _foreground_lists(self) -> dict[str, Any]:
        return _dictionary(_read_json(self.foreground_path), f"{self.foreground_path}")

    def _video(self, name: str, record: Any) -> RevosVideo:
        where = f"{self.meta_path}: video {name!r}"
        _refuse_climbing(name, where)
        record = _dictionary(record, where)
        frames = record.get("frames")
        if not isinstance(frames, list) or not all(isinstance(frame, str) for frame in frames):
            raise ValueError(f"{where}: expected frames, a list of names, got {_short(frames)}")
        for frame in frames:
            _refuse_climbing(frame, f"{where}, frame", nested=False)
        if len(set(frames)) != len(frames):
            raise ValueError(f"{where}: a frame name occurs twice")
        size = [record.get("height"), record.get("width")]
        if not all(isinstance(side, int) and side > 0 for side in size):
            raise ValueError(f"{where}: expected height and width in pixels, got {_short(size)}")
        expressions = _mapping(record, "expressions", where)
        return RevosVideo(
            name=name,
            folder=self.root / "JPEGImages" / name,
            frame_names=tuple(sorted(frames)),
            height=size[0],
            width=size[1],
            expressions=tuple(_expression(key, item, where) for key, item in expressions.items()),
        )


def _expression(key: str, record: Any, where: str) -> Expression:
    where = f"{where}, expression {key!r}"
    _refuse_climbing(key, where, nested=False)  # it becomes the name of an output folder
    record = _dictionary(record, where)
    text, type_id, aspect = record.get("exp"), record.get("type_id"), record.get("aspect")
    if not isinstance(text, str):
        raise ValueError(f"{where}: expected exp, a text, got {_short(text)}")
    if type_id not in range(len(KINDS)):
        raise ValueError(f"{where}: expected type_id 0, 1 or 2, got {_short(type_id)}")
    if aspect is not None and not isinstance(aspect, str):
        raise ValueError(f"{where}: expected aspect, a text, got {_short(aspect)}")
    kind = KINDS[type_id]
    objects, annotations = (record.get(name, []) for name in ("obj_id", "anno_id"))
    if not isinstance(objects, list) or not isinstance(annotations, list):
        raise ValueError(f"{where}: expected obj_id and anno_id, two lists")
    if (kind == "absent") != (not annotations):
        expected = "no annotation" if kind == "absent" else "an annotation"
        raise ValueError(f"{where}: a {kind} expression has {expected}, got anno_id {_short(annotations)}")
    return Expression(
        id=key,
        text=text,
        kind=kind,
        aspect=aspect,
        object_ids=tuple(objects),
        annotation_ids=tuple(str(annotation) for annotation in annotations),
    )


def _decode_list(encoded: Any, video: RevosVideo, where: str) -> NDArray[np.bool_]:
    num_frames = len(video.frame_names)
    if not isinstance(encoded, list) or len(encoded) != num_frames:
        got = f"{len(encoded)} masks" if isinstance(encoded, list) else _short(encoded)
        raise ValueError(f"{where}: expected one mask or null for each of {num_frames} frames, got {got}")
    masks = np.zeros((num_frames, video.height, video.width), dtype=bool)
    for index, rle in enumerate(encoded):
        if rle is not None:
            masks[index] = decode_rle(
                rle, (video.height, video.width), f"{where}, frame {video.frame_names[index]}"
            )
    return masks


def decode_rle(rle: Any, size: tuple[int, int], where: str) -> NDArray[np.bool_]:
    """One COCO run-length mask.

    Args:
        rle: {"size": [H, W], "counts": compressed text or bytes}, or a list of them (several parts).
        size: The (H, W) it must have.
        where: The file and key, for the message.

    Returns:
        bool [H, W].

    Raises:
        ValueError: Not such a mask, of another size, or its runs do not fill it exactly.
    """
    from pycocotools import mask as coco_mask

    if isinstance(rle, list):
        parts = [decode_rle(part, size, where) for part in rle]
        return np.any(parts, axis=0) if parts else np.zeros(size, dtype=bool)
    record = _dictionary(rle, where)
    counts = record.get("counts")
    if record.get("size") != list(size):
        raise ValueError(f"{where}: expected a mask of {list(size)}, got size {_short(record.get('size'))}")
    if not isinstance(counts, str | bytes):
        raise ValueError(f"{where}: expected counts, a compressed text, got {_short(counts)}")
    counts = counts.encode() if isinstance(counts, str) else counts
    # pycocotools leaves what the runs do not reach uninitialised, so that must not get there
    if _num_pixels(counts) != size[0] * size[1]:
        raise ValueError(f"{where}: the mask's runs do not add up to {size[0]} x {size[1]} pixels")
    return coco_mask.decode({"size": list(size), "counts": counts}).astype(bool)


def _num_pixels(counts: bytes) -> int:
    """The sum of a compressed RLE's runs; -1 where it is no RLE.

    Each number is written in groups of 5 bits, lowest first, as characters from "0" on; 32 says that another
    group follows, the last group's 16 that it is negative. From the fourth run on, a number is the difference
    to the run two before it.
    """
    groups = np.frombuffer(counts, dtype=np.uint8).astype(np.int64) - 48
    if not groups.size or groups.min() < 0 or groups.max() > 63 or groups[-1] & 32:
        return -1
    ends = np.flatnonzero((groups & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    position = np.arange(groups.size) - np.repeat(starts, ends - starts + 1)
    if position.max() > 8:
        return -1
    numbers = np.add.reduceat((groups & 31) << (5 * position), starts)
    negative = (groups[ends] & 16) != 0
    numbers -= np.where(negative, np.int64(1) << (5 * (ends - starts + 1)), 0)
    # run 3 follows run 1, run 4 follows run 2, and so on; run 0 stands alone
    runs = np.concatenate([numbers[:1], np.cumsum(numbers[1::2]), np.cumsum(numbers[2::2])])
    return int(runs.sum()) if runs.min() >= 0 else -1


def _read_json(path: Path) -> Any:
    if not path.is_file():
        raise ValueError(f"expected a file {path} (the ReVOS layout), found none")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a whole JSON file ({error})") from error


def _dictionary(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected an object with named fields, got {_short(value)}")
    return value


def _mapping(record: Any, key: str, where: str) -> dict[str, Any]:
    record = _dictionary(record, where)
    if key not in record:
        raise ValueError(f"{where}: expected a field {key!r}, found none")
    return _dictionary(record[key], f"{where}, {key!r}")


def _refuse_climbing(name: str, where: str, nested: bool = True) -> None:
    parts = name.split("/")
    unsafe = (
        any(part in ("", ".", "..") for part in parts)
        or any(mark in name for mark in ("\\", ":", "\0"))
        or PurePosixPath(name).is_absolute()
        or (len(parts) > 1 and not nested)
    )
    if unsafe:
        raise ValueError(f"{where}: the name {name!r} leads out of its folder")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
