"""Which frames to look at: a target frame, where the mask is drawn, and reference frames around it."""

from visa.sampling.choice import FrameChoice, Sampler, uniform_indices
from visa.sampling.plain import FirstFrame, MiddleFrame, UniformFrame
from visa.sampling.text_guided import TextGuided

SAMPLERS = {"first": FirstFrame, "middle": MiddleFrame, "uniform": UniformFrame, "text_guided": TextGuided}

__all__ = ["SAMPLERS", "FirstFrame", "FrameChoice", "MiddleFrame", "Sampler", "TextGuided", "UniformFrame"]
__all__ += ["uniform_indices"]
