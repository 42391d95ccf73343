"""A training mixture: sample number 0, 1, 2, ... drawn from many data sets as a recipe says.

    mixture = Mixture(read_recipe("visa"), roots=Path("/data"), seed=0, together=num_ranks)
    mixture.sample(1234)

A sample follows from the recipe, the data on disk, the seed and its number alone. Nothing is remembered
between samples: a run goes on at any number with the very samples that it would have seen, however many
processes read them.

Legend: F target frames, N masks, H W pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dataset import registry
from dataset.errors import DatasetError
from dataset.layout import place
from dataset.mixed_draw import Occasion, UnsuitableClipError, anchor_weights, draw_from
from dataset.mixed_sample import Draw, MixedSample
from dataset.pictures import read_frames
from dataset.reader import Reader
from dataset.recipe import Recipe, Source
from dataset.schedule import Schedule

# Where a data set lies below a folder that holds them all; the others are found by their readers.
FOLDERS: dict[str, tuple[str, ...]] = {
    "revos": ("ReVOS", "revos"),
    "mevis": ("mevis", "MeViS"),
    "ref_youtube_vos": ("Ref-Youtube-VOS", "ref_youtube_vos", "refer_youtube_vos"),
    "ref_davis17": ("davis17", "ref_davis17", "Ref-DAVIS17", "ref-davis"),
    "lv_vis": ("lvvis", "lv_vis", "LV-VIS"),
    "youtube_vos": ("ytvos", "youtube_vos", "YouTube-VOS"),
    "refcoco": ("refer_seg", ""),
    "refcoco+": ("refer_seg", ""),
    "refcocog": ("refer_seg", ""),
    "refclef": ("refer_seg", ""),
    "grefcoco": ("refer_seg", ""),
    "chat_univi_mimic": ("Chat-UniVi-Instruct", ""),
    "chat_univi_sqa": ("Chat-UniVi-Instruct", ""),
    "chat_univi_video": ("Chat-UniVi-Instruct", ""),
}
MAX_ATTEMPTS = 100  # at one sample, at clips without a question or of too few frames
MAX_BROKEN = 10  # of these at broken ones

Made = TypeVar("Made")


class Mixture:
    """See the file's description.

    Args:
        recipe: What is drawn how often.
        roots: Each data set's folder by name, or the one folder that holds them all.
        seed: Of all choices.
        together: So many samples in a row are of one group in a balanced recipe: as many as all ranks draw
            at a time. It is part of the run: keep it if the number of ranks changes.
        skip_missing: Leave out the data sets that are not there (`missing` says why), instead of raising.
        open_video: Opens a video file as a sequence of frames, uint8 [H, W, 3]; None decodes from the start.

    Attributes:
        recipe: As it is followed, without what is missing.
        missing: A line for every source that was left out.
        faults: The broken clips met so far, in this process.

    Raises:
        ValueError: No data set is there, or (DatasetError) some are missing or broken; all are named.
    """

    def __init__(
        self,
        recipe: Recipe,
        roots: Path | Mapping[str, Path],
        *,
        seed: int = 0,
        together: int = 1,
        skip_missing: bool = False,
        open_video: Callable[[Path], Sequence[NDArray[np.uint8]]] | None = None,
    ) -> None:
        self._seed, self._together, self._open_video = seed, together, open_video
        self._readers: dict[tuple[str, str], Reader] = {}
        self.missing: list[str] = []
        self.faults: list[DatasetError] = []
        for source in (source for group in recipe.groups for source in group.sources):
            try:
                self._readers[source.name, source.split] = _open(source, roots)
            except DatasetError as error:
                self.missing.append(f"{source.name}: {error}")
        if self.missing and not skip_missing:
            raise DatasetError("; ".join(self.missing), "missing file")
        self.recipe = recipe.only(set(self._readers))
        self._schedule = Schedule(
            [group.weight for group in self.recipe.groups],
            balanced=recipe.balanced,
            together=together,
            fewest=recipe.frames.fewest,
            most=recipe.frames.most,
        )
        self._anchors = {
            (source.name, source.split): anchor_weights(
                self._readers[source.name, source.split], recipe.frames.most
            )
            for group in self.recipe.groups
            for source in group.sources
            if recipe.frames.rule == "anchor" and source.is_video
        }

    @property
    def fingerprint(self) -> str:
        """Says whether two runs draw the same: the recipe, the seed, and every clip's name."""
        digest = hashlib.sha256(repr((self.recipe, self._seed, self._together)).encode())
        for key, reader in self._readers.items():
            digest.update(repr((key, [clip.name for clip in reader])).encode())
        return digest.hexdigest()[:32]

    def load_masks(self) -> None:
        """Reads what readers put off until a mask is asked for; processes forked later share it."""
        for reader in self._readers.values():
            annotated = (
                (clip, expression)
                for clip in islice(reader, MAX_ATTEMPTS)
                for expression in clip.expressions
                if expression.annotation_ids
            )
            try:
                for clip, expression in islice(annotated, 1):
                    clip.target(expression, [0])
            except DatasetError:
                continue  # whoever draws this clip will tell

    def draw(self, index: int) -> Draw:
        """What sample number `index` is, without its frames, and so without knowing whether they are whole.

        Raises:
            DatasetError: Its group gives nothing but broken clips, or none with a question.
        """
        return self._attempt(index, lambda draw: draw)

    def sample(self, index: int) -> MixedSample:
        """Sample number `index`. A broken clip is noted in `faults`; another of its group takes its place.

        Args:
            index: Its number in the run, counted over all ranks from 0.

        Raises:
            DatasetError: Its group gives nothing but broken clips, or none with a question.
        """
        return self.made(index, lambda sample: sample)

    def made(self, index: int, make: Callable[[MixedSample], Made]) -> Made:
        """What `make` makes of sample number `index`.

        Args:
            index: As for `sample`.
            make: May raise DatasetError too: the clip then counts as broken, and another takes its place.

        Raises:
            DatasetError: As for `sample`.
        """
        return self._attempt(index, lambda draw: make(self._load(draw)))

    def _attempt(self, index: int, finish: Callable[[Draw], Made]) -> Made:
        if index < 0:
            raise ValueError(f"samples are numbered from 0, got {index}")
        rng = np.random.default_rng([self._seed, index])
        group = self.recipe.groups[self._schedule.group(index, rng)]
        num_frames = self._schedule.num_frames(index, rng)
        broken: list[DatasetError] = []
        for attempt in range(1, MAX_ATTEMPTS + 1):
            rng = np.random.default_rng([self._seed, index, attempt])
            shares = np.array([source.weight for source in group.sources])
            source = group.sources[rng.choice(len(shares), p=shares / shares.sum())]
            key = source.name, source.split
            occasion = Occasion(index, group, source, num_frames)
            try:
                draw = draw_from(self._readers[key], occasion, self.recipe, rng, self._anchors.get(key))
                return finish(draw)
            except UnsuitableClipError:
                continue
            except DatasetError as error:
                self.faults.append(error)
                broken.append(error)
                if len(broken) == MAX_BROKEN:
                    break
        last = f"the last: {broken[-1]}" if broken else "none has a question and frames enough"
        raise DatasetError(f"sample {index}: {group.name} gave {len(broken)} broken clips; {last}")

    def _load(self, draw: Draw) -> MixedSample:
        reader = self._readers[draw.source, draw.split]
        clip = reader[draw.clip]
        segmented = [
            clip.expressions[place]
            for place, turn in zip(draw.expressions, draw.turns, strict=True)
            if turn.reply != "words"
        ]
        own = draw.targets if draw.swapped is None else ()
        frames = read_frames(clip.frames, draw.references + own, self._open_video)
        references, targets = frames[: len(draw.references)], frames[len(draw.references) :]
        if draw.swapped is not None:
            targets = read_frames(reader[draw.swapped].frames, draw.targets, self._open_video)
            masks = np.zeros((len(targets), len(segmented), *targets[0].shape[:2]), dtype=bool)
        elif segmented:
            masks = np.stack([clip.target(item, draw.targets) for item in segmented], axis=1)
        else:
            masks = np.zeros((0, 0, 0, 0), dtype=bool)
        return MixedSample(draw, references, targets, masks)


def _open(source: Source, roots: Path | Mapping[str, Path]) -> Reader:
    if isinstance(roots, Mapping):
        if source.name not in roots:
            raise DatasetError("no folder was given", "missing file")
        root = Path(roots[source.name])
    else:
        root = place(Path(roots), *FOLDERS.get(source.name, ("",)))
    return registry.open_dataset(source.name, root, source.split, lenient=True)
