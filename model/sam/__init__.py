"""Segment Anything: build it, encode frames, decode prompts."""

from model.sam.build import Sam, build_sam
from model.sam.precision import fastest_encoder_dtype
from model.sam.segmenter import SamSegmenter
from model.segmentation import FrameFeatures, MaskPrediction

__all__ = ["FrameFeatures", "MaskPrediction", "Sam", "SamSegmenter", "build_sam", "fastest_encoder_dtype"]
