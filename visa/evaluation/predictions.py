"""Predicted masks on disk: one folder for each expression, one PNG for each frame.

    PRED/<video>/<expression id>/<frame>.png                as `inference.py --dataset` and VISA write them
    PRED/Annotations/<video>/<expression id>/<frame>.png    as Ref-YouTube-VOS's archives hold them
    PRED/<annotation>/<expression id>/<frame>.png           as VideoLISA writes ReasonVOS
    PRED/<image>/<expression id>.png                        for a data set of images
    PRED/<video>/<expression id>/result.json                as `Tracklet.save` writes it, if there is no PNG

A pixel that is not 0 belongs to the object, whatever its value: 1, 255, 100, or an index of a palette.

Legend: T frames, H W pixels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dataset.clip import Clip, Expression
from dataset.counting import count_of
from dataset.errors import DatasetError
from dataset.masks import decode_rle
from visa.errors import InputError

if TYPE_CHECKING:
    from visa.tracklet import Tracklet

RESULT_NAME = "result.json"


class PredictionError(InputError):
    """A prediction is missing or broken; the message names the file."""


@dataclass(frozen=True)
class Predictions:
    """A folder of predictions.

    Attributes:
        root: The folder, PRED above.
    """

    root: Path

    def has_any(self, clip: Clip) -> bool:
        """Whether there is a prediction, whole or broken, for one of the clip's expressions."""
        return any(place.exists() for item in clip.expressions for place in self._places(clip, item))

    def find(self, clip: Clip, expression: Expression) -> PredictedMasks:
        """What was predicted for one expression; all of its frames are there, though not yet read.

        Raises:
            PredictionError: It is not there, there twice, or lacks a frame.
        """
        places = [place for place in self._places(clip, expression) if place.exists()]
        if not places:
            raise PredictionError(f"no prediction: expected {self.root / clip.name / expression.id}")
        if len(places) > 1:
            raise PredictionError(f"two predictions for one expression: {places[0]} and {places[1]}")
        (place,) = places
        if place.is_file():
            if place.suffix != ".png":
                raise PredictionError(f"{place} is a file: expected a folder with a PNG for each frame")
            return PredictedMasks(clip, (place,), None)
        files = _frames_in(place, clip.frame_names)
        if not files and (place / RESULT_NAME).is_file():
            return PredictedMasks(clip, (), _encoded_masks(place / RESULT_NAME, clip))
        lacking = [name for name in clip.frame_names if name not in files]
        if lacking:
            raise PredictionError(
                f"{place}: no mask for {len(lacking)} of {count_of(len(clip.frame_names), 'frame')}, "
                f"the first is {lacking[0]}.png"
            )
        return PredictedMasks(clip, tuple(files[name] for name in clip.frame_names), None)

    def _places(self, clip: Clip, expression: Expression) -> list[Path]:
        places = [
            self.root / clip.name / expression.id,
            self.root / "Annotations" / clip.name / expression.id,
        ]
        for key in expression.annotation_ids:
            start, _, number = key.rpartition("_")
            if start.endswith(f"_{clip.name}"):  # <source>_<video>_<object>
                # the reader may have put the object before an id that is not unique
                plain = expression.id.removeprefix(f"{number}_")
                places += [self.root / key / expression.id, self.root / key / plain]
        if len(clip.frame_names) == 1:
            places.append(self.root / clip.name / f"{expression.id}.png")
        return list(dict.fromkeys(places))


@dataclass(frozen=True)
class PredictedMasks:
    """The masks of one expression.

    Attributes:
        clip: What they belong to.
        files: One for each frame; () if they are encoded.
        encoded: One COCO run-length mask for each frame, or None.
    """

    clip: Clip
    files: tuple[Path, ...]
    encoded: tuple[dict, ...] | None

    def read(self, frame_indices: Sequence[int]) -> NDArray[np.uint8]:
        """The masks of some frames as they were written: uint8 [T, H, W], 0 and one other value each.

        Raises:
            PredictionError: A file is no mask, or of another size than the clip.
        """
        size = (self.clip.height, self.clip.width)
        masks = np.empty((len(frame_indices), *size), dtype=np.uint8)
        for place, index in enumerate(frame_indices):
            if self.encoded is None:
                masks[place] = read_mask(self.files[index], size)
                continue
            try:
                masks[place] = decode_rle(
                    self.encoded[index], size, f"prediction of {self.clip.name!r}, frame {index}"
                )
            except DatasetError as error:
                raise PredictionError(str(error)) from error
        return masks


def write_masks(folder: Path, tracklet: Tracklet) -> None:
    """An answer's masks as PNGs of 0 and 255, one for each frame, in a folder that is there."""
    for name, mask in zip(tracklet.frame_names, tracklet.union, strict=True):
        Image.fromarray(mask).convert("L").save(folder / f"{name}.png")


def read_mask(path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    """One mask's PNG, uint8 [H, W]: 0 and at most one other value, as it is written (a palette's index).

    Args:
        path: The file.
        size: The (H, W) it must have.

    Raises:
        PredictionError: It is no picture, a picture in colours or shades, or of another size.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode in ("RGB", "RGBA"):
                channels = np.asarray(image.convert("RGB"))
                mask = channels[..., 0]
                if (channels != mask[..., None]).any():
                    raise PredictionError(f"{path} is not a mask: it has colours")
            else:
                mask = np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, PredictionError):
            raise
        raise PredictionError(f"{path} is not a mask: no whole picture ({error})") from error
    if mask.ndim != 2 or mask.shape != size:
        got = "x".join(map(str, mask.shape[1::-1]))
        raise PredictionError(f"{path}: expected {size[1]}x{size[0]} pixels like the frame, got {got}")
    mask = np.asarray(mask, dtype=np.uint8) if mask.dtype == bool else mask
    highest = mask.max()
    if highest > 255 or ((mask != 0) & (mask != highest)).any():
        values = ", ".join(str(value) for value in np.unique(mask)[:6])
        raise PredictionError(f"{path} is not a mask: expected 0 and one other value, got {values}, ...")
    return mask.astype(np.uint8, copy=False)


def _frames_in(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """The PNG of every frame that has one."""
    wanted, found = frozenset(names), {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() != ".png" or path.stem not in wanted:
            continue
        if path.stem in found:
            raise PredictionError(f"two predictions for one frame: {found[path.stem]} and {path.name}")
        found[path.stem] = path
    return found


def _encoded_masks(path: Path, clip: Clip) -> tuple[dict, ...]:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PredictionError(f"{path}: not a whole JSON file ({error})") from error
    names = result.get("frame_names") if isinstance(result, dict) else None
    masks = result.get("masks") if isinstance(result, dict) else None
    if not isinstance(masks, list) or names != list(clip.frame_names) or len(masks) != len(names):
        raise PredictionError(
            f"{path}: expected a mask for each of the clip's {len(clip.frame_names)} frames"
        )
    return tuple(masks)
