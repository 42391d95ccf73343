"""Which frames to look at: a target frame, where the mask is drawn, and reference frames around it."""

from collections.abc import Mapping
from typing import Any

from visa.sampling.choice import FrameChoice, Sampler, VideoScorer, uniform_indices
from visa.sampling.keyframes import Keyframes
from visa.sampling.model_scorer import ModelScorer, choose_frames
from visa.sampling.percent_guided import AtPercent, PercentGuided
from visa.sampling.plain import FirstFrame, MiddleFrame, UniformFrame
from visa.sampling.replayed_percent import ReplayedPercent
from visa.sampling.sparse_dense import SparseDense
from visa.sampling.text_guided import TextGuided

SAMPLERS = {
    "first": FirstFrame,
    "middle": MiddleFrame,
    "uniform": UniformFrame,
    "keyframes": Keyframes,
    "text_guided": TextGuided,
    "percent_guided": PercentGuided,
    "at_percent": AtPercent,
    "replayed_percent": ReplayedPercent,
    "sparse_dense": SparseDense,
}


def build_sampler(settings: Mapping[str, Any]) -> Sampler:
    """The sampler of a preset's ``sample`` section: its name, and its own settings.

    Whom it asks (``scorer``) is the segmenter's affair.

    Raises:
        KeyError: no such sampler. TypeError, ValueError: settings that it has not, or does not take.
    """
    options = {name: value for name, value in settings.items() if name not in ("sampler", "scorer")}
    return SAMPLERS[settings["sampler"]](**options)


__all__ = ["SAMPLERS", "AtPercent", "FirstFrame", "FrameChoice", "Keyframes", "MiddleFrame", "ModelScorer"]
__all__ += [
    "PercentGuided",
    "ReplayedPercent",
    "Sampler",
    "SparseDense",
    "TextGuided",
    "UniformFrame",
    "VideoScorer",
]
__all__ += ["build_sampler", "choose_frames", "uniform_indices"]
