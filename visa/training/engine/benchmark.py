"""Validation on a benchmark inside a run: the network as it is, in the pipeline that `visa.load` would build.

Unlike `validation`, which forces answers on frames that are given, this goes the whole way from a video and a
question to masks of all frames, and is scored as `visa.evaluation` scores.
"""

from pathlib import Path

import torch

from visa.carried_masks import MEMORY, SHORT_SIDE
from visa.checkpoints.loading import read_xmem
from visa.errors import InputError
from visa.evaluation.run import evaluate
from visa.propagation import ImageEncoder, Propagator
from visa.published_loading import REASONERS, AnswerSettings
from visa.sampling import build_sampler
from visa.segmenter import Segmenter
from visa.training.engine.ranks import Ranks
from visa.training.engine.settings import BenchmarkSettings, TrainSettings
from visa.training.engine.start import Start
from visa.training.engine.validation import Score


def check_benchmark(settings: TrainSettings, start: Start) -> None:
    """Refuse, before hours of training, what could not be validated in the end.

    Raises:
        InputError: no such folder, no tracker for masks that must be carried on, or weights in pieces.
    """
    wanted = settings.validation.benchmark
    if not wanted.root:
        return
    if not Path(wanted.root).is_dir():
        raise InputError(f"validation.benchmark.root: there is no folder {wanted.root}")
    if settings.deepspeed.stage == 3:
        raise InputError("validation.benchmark needs whole weights on a rank: take deepspeed.stage 1 or 2")
    if not wanted.xmem and start.preset["segment"]["frames"] != "all":
        raise InputError(
            f"validation.benchmark.xmem must name XMem's weights: {start.system} draws one frame of a video"
        )


def live_segmenter(start: Start, wanted: BenchmarkSettings, device: torch.device) -> Segmenter:
    """The pipeline of the system's preset around the network in training."""
    reason, segment = start.preset["reason"], start.preset["segment"]
    frames, propagator = segment["frames"], None
    if wanted.xmem:
        frames = "dense" if frames == "all" else frames
        network = read_xmem(wanted.xmem, Path()).requires_grad_(False).to(device)
        encoder = ImageEncoder(network, start.preset["propagate"].get("short_side", SHORT_SIDE))
        propagator = Propagator(network, MEMORY[frames], encoder)
    answers = AnswerSettings(
        answer=reason["answer"],
        forced_answer=reason["forced_answer"],
        frames=frames,
        threshold=segment["threshold"],
    )
    reasoner = REASONERS[start.system]("in training", start.model, start.tokenizer, answers)
    return Segmenter(reasoner, propagator, build_sampler(start.preset["sample"]))


def validate_on_benchmark(start: Start, wanted: BenchmarkSettings, ranks: Ranks) -> Score:
    """J and F of the benchmark's first videos; the first rank works, all get the figures."""
    figures = [0.0, 0.0, 0.0]
    if ranks.is_first:
        report = evaluate(
            live_segmenter(start, wanted, ranks.device),
            wanted.root,
            name="in training",
            split=wanted.split,
            num_frames=wanted.frames or None,
            num_videos=wanted.videos or None,
            progress=False,
        )
        present = report.kinds()[-1]
        figures = [present.j or 0.0, present.f or 0.0, float(present.num_questions)]
    j, f, questions = ranks.sums(figures)
    return Score(j, f, float("nan"), int(questions))
