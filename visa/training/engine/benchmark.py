"""Validation on a benchmark inside a run: the network as it is, in the pipeline that `visa.load` would build.

Unlike `validation`, which forces answers on frames that are given, this goes the whole way from a video and a
question to masks of all frames, and is scored by the data set's own protocol. Every rank takes a share of the
videos.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from dataset.clip import Clip
from dataset.counting import count_of
from dataset.reader import Reader
from dataset.registry import open_dataset
from visa.carried_masks import Carrying
from visa.errors import InputError
from visa.evaluation.clip import open_clip
from visa.evaluation.from_disk import refuse_talk
from visa.evaluation.predictions import Predictions, write_masks
from visa.evaluation.protocols import protocol_for
from visa.evaluation.scored import Line, Scored
from visa.published_loading import REASONERS, AnswerSettings
from visa.sampling import build_sampler
from visa.segmenter import Segmenter
from visa.training.engine.faults import TrainingError
from visa.training.engine.ranks import Ranks
from visa.training.engine.settings import BenchmarkSettings, TrainSettings
from visa.training.engine.start import Start

# By what the best checkpoint is chosen: of videos, and of images.
MERITS = ("J&F", "gIoU")


@dataclass(frozen=True)
class BenchmarkScore:
    """What a protocol's last line about what is there says, fractions; questions: how many were scored."""

    figures: Mapping[str, float]
    questions: int

    @property
    def merit(self) -> float:
        """See `visa.training.engine.task.Assessment`."""
        return next(self.figures[name] for name in MERITS if name in self.figures)


def check_benchmark(settings: TrainSettings, start: Start) -> None:
    """Refuse, before hours of training, what could not be validated in the end.

    Raises:
        InputError: no such folder or data set, masks that are not public, or no tracker for masks that must
            be carried on.
    """
    wanted = settings.validation.benchmark
    if not wanted.root:
        return
    if not Path(wanted.root).is_dir():
        raise InputError(f"validation.benchmark.root: there is no folder {wanted.root}")
    try:
        _carrying(start, wanted)
    except InputError as error:
        raise InputError(f"validation.benchmark.xmem or .sam2: {error}") from error
    try:
        _open(wanted)
    except ValueError as error:
        raise InputError(f"validation.benchmark: {error}") from error


def validate_on_benchmark(start: Start, wanted: BenchmarkSettings, ranks: Ranks) -> BenchmarkScore:
    """Answer the questions of the benchmark's first videos; all ranks get the figures of all.

    Raises:
        TrainingError: nothing could be scored.
    """
    reader, protocol = _open(wanted), protocol_for(wanted.dataset)
    clips = reader[: wanted.videos or None][ranks.rank :: ranks.count]
    segmenter = live_segmenter(start, wanted, ranks.device)
    rows: list[Scored] = []
    with tempfile.TemporaryDirectory() as folder:
        for clip in _shortened(clips, wanted.frames):
            try:
                _answer(segmenter, clip, Path(folder))
            except (ValueError, OSError) as error:
                # Another rank would wait for ever for one that ended here.
                rows += [Scored.of(clip, item, {}, str(error)) for item in clip.expressions]
                continue
            rows += protocol.score_clip(reader, clip, Predictions(Path(folder)))
    rows = [row for share in ranks.gathered(rows) for row in share]
    faults = [row.fault for row in rows if row.fault]
    if ranks.is_first and faults:
        print(
            f"visa: {len(faults)} of {count_of(len(rows), 'question')} not scored: {faults[0]}",
            flush=True,
        )
    line = _telling(protocol.summary(rows))
    if line is None:
        first = faults[0] if faults else "there is no question about anything visible"
        raise TrainingError(f"validation.benchmark: nothing could be scored: {first}")
    known = {name: line.values[name] for name in protocol.columns if name in line.values}
    return BenchmarkScore(known, len(rows) - len(faults))


def live_segmenter(start: Start, wanted: BenchmarkSettings, device: torch.device) -> Segmenter:
    """The pipeline of the system's preset around the network in training."""
    reason, carrying = start.preset["reason"], _carrying(start, wanted)
    answers = AnswerSettings(
        answer=reason["answer"],
        forced_answer=reason["forced_answer"],
        frames=carrying.frames,
        threshold=start.preset["segment"]["threshold"],
    )
    propagate = start.preset.get("propagate") or {}
    dtype = next(start.model.parameters()).dtype
    propagator = carrying.propagator(propagate, Path(), Path(), device, dtype)
    reasoner = REASONERS[start.system]("in training", start.model, start.tokenizer, answers)
    return Segmenter(reasoner, propagator, build_sampler(start.preset["sample"]))


def _carrying(start: Start, wanted: BenchmarkSettings) -> Carrying:
    # Not the preset's weights, which the run may not have.
    frames = start.preset["segment"]["frames"]
    return Carrying.of({}, frames, xmem=wanted.xmem or None, sam2=wanted.sam2 or None)


def _open(wanted: BenchmarkSettings) -> Reader:
    reader = open_dataset(wanted.dataset, wanted.root, wanted.split or None, lenient=True)
    if not reader.has_masks:
        raise InputError(f"the masks of {wanted.dataset} {reader.split} are not public")
    if not len(reader):
        raise InputError(f"{wanted.root}: {wanted.dataset} {reader.split} has no clip that can be read")
    refuse_talk(wanted.dataset, reader)
    return reader


def _shortened(clips: Sequence[Clip], num_frames: int) -> Iterator[Clip]:
    """Their first frames; expressions whose object is not visible there are left out."""
    for clip in clips:
        if not num_frames or num_frames >= len(clip.frame_names):
            yield clip
            continue
        short = clip.first(num_frames)
        kept = [item for item in short.expressions if item.kind == "absent" or short.target(item).any()]
        if kept:
            yield short.asking(kept)


def _answer(segmenter: Segmenter, clip: Clip, folder: Path) -> None:
    """Write the masks of a clip's expressions as `Predictions` finds them."""
    questions = [item.text for item in clip.expressions]
    tracklets = segmenter.segment_each(open_clip(clip), questions)
    for item, tracklet in zip(clip.expressions, tracklets, strict=True):
        place = folder / clip.name / item.id
        place.mkdir(parents=True)
        write_masks(place, tracklet)


def _telling(lines: Sequence[Line]) -> Line | None:
    """The last line that has a figure of merit: the overall one, where something is there."""
    return next((line for line in reversed(lines) if set(MERITS) & line.values.keys()), None)
