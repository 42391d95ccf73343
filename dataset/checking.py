"""Walks a data set on disk and says what is missing, broken or inconsistent.

Legend: H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from dataset.clip import Clip, Expression, LazyMasks
from dataset.counting import count_of
from dataset.errors import DatasetError
from dataset.reader import Reader

WALKED = ("videos", "expressions", "frames", "objects", "masks")


@dataclass
class Findings:
    """What was walked and what is wrong with it.

    Attributes:
        counts: How many videos, expressions, frames, objects and masks (of an object in a frame) were looked
            at.
        faults: The messages by their sort, each message once.
    """

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(WALKED, 0))
    faults: dict[str, dict[str, None]] = field(default_factory=dict)

    @property
    def num_faults(self) -> int:
        """How many different messages there are."""
        return sum(len(messages) for messages in self.faults.values())

    def add(self, fault: DatasetError) -> None:
        """Notes a fault, unless it was noted in the same words."""
        self.faults.setdefault(fault.sort, {})[str(fault)] = None

    def walked(self) -> str:
        """How much was looked at, in words."""
        return ", ".join(count_of(count, name.removesuffix("s")) for name, count in self.counts.items())

    def table(self) -> str:
        """A Markdown table: each sort of fault, how often, and the first one."""
        rows = [
            (sort, str(len(messages)), next(iter(messages)).replace("|", "\\|"))
            for sort, messages in sorted(self.faults.items())
        ]
        head = ("what is wrong", "count", "the first")
        widths = [max(len(row[column]) for row in (head, *rows)) for column in (0, 1)]
        lines = [f"| {row[0]:{widths[0]}} | {row[1]:>{widths[1]}} | {row[2]} |" for row in (head, *rows)]
        rule = f"|:{'-' * widths[0]}-|-{'-' * widths[1]}:|:---|"
        return "\n".join([lines[0], rule, *lines[1:]])


def check(reader: Reader, *, decode: bool = False, progress: bool = False) -> Findings:
    """Looks at everything a data set has: every file and every mask.

    Args:
        reader: The data set, opened with lenient=True so that it is seen whole.
        decode: Decode every frame too; otherwise a frame's first bytes must tell its size.
        progress: Draw a progress bar on stderr.

    Returns:
        What was found.
    """
    from tqdm import tqdm

    findings = Findings()
    for fault in reader.skipped:
        findings.add(fault)
    for clip in tqdm(reader, unit="video", disable=not progress):
        findings.counts["videos"] += 1
        try:
            findings.counts["frames"] += len(clip.frame_names)
        except DatasetError as error:  # a video file tells them itself
            findings.add(error)
            continue
        for fault in _frame_faults(clip, f"{reader.meta_path}: video {clip.name!r}", decode):
            findings.add(fault)
        try:
            expressions, masks = clip.expressions, clip.masks
        except DatasetError as error:  # some data sets read them from pictures
            findings.add(error)
            continue
        findings.counts["expressions"] += len(expressions)
        findings.counts["objects"] += len(masks)
        findings.counts["masks"] += len(masks) * len(clip.frame_names)
        for fault in _object_faults(reader, clip, masks, expressions):
            findings.add(fault)
    if not len(reader) and not reader.skipped:
        findings.add(DatasetError(f"{reader.meta_path}: there is nothing in it", "no videos"))
    return findings


def _frame_faults(clip: Clip, where: str, decode: bool) -> Iterator[DatasetError]:
    if not clip.frame_names:
        yield DatasetError(f"{where} has no frames", "no frames")
    for index in range(len(clip.frame_names)):
        try:
            if decode:
                clip.frames.read(index)
            elif clip.frames.one_size and clip.frames.size_of(index) != clip.frames.size:
                (height, width), (clip_height, clip_width) = clip.frames.size_of(index), clip.frames.size
                yield DatasetError(
                    f"{clip.frames.path(index)}: expected {clip_width}x{clip_height} pixels like the clip, "
                    f"got {width}x{height}",
                    "frame size",
                )
            else:
                clip.frames.size_of(index)
        except DatasetError as error:
            yield error


def _object_faults(
    reader: Reader, clip: Clip, masks: LazyMasks, expressions: Sequence[Expression]
) -> Iterator[DatasetError]:
    try:
        size = clip.frames.size
    except DatasetError:  # said already: it is the first frame that tells the size
        return
    if not clip.frame_names:
        return
    found: set[str] = set()  # seen somewhere, or reported as broken
    for index in range(len(clip.frame_names)):
        annotated = np.zeros(size, dtype=bool)
        for number, key in enumerate(masks.annotation_ids):
            try:
                mask = masks[number, index]
            except DatasetError as error:
                found.add(key)
                yield error
                continue
            annotated |= mask
            if mask.any():
                found.add(key)
        yield from reader.frame_faults(clip, index, annotated)
    yield from _expression_faults(reader, expressions, found, f"{reader.meta_path}: video {clip.name!r}")


def _expression_faults(
    reader: Reader, expressions: Sequence[Expression], found: set[str], where: str
) -> Iterator[DatasetError]:
    for item in expressions:
        if not item.text.strip():
            yield DatasetError(
                f"{where}, expression {item.id!r}: it has no words", "expression without words"
            )
        if item.kind not in ("referring", "reasoning") or not reader.has_masks:
            continue
        if not found & set(item.annotation_ids):
            yield DatasetError(
                f"{where}, expression {item.id!r}: its object is not seen in any frame",
                "expression without object",
            )
