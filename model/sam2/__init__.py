"""Segment Anything 2 of transformers: load it, segment frames, follow objects (Ravi et al. 2024)."""

from model.sam2.network import Sam2Network
from model.sam2.segmenter import Sam2Segmenter
from model.sam2.tracker import Sam2Tracker, TrackedObjects
from model.sam2.weights import load_sam2

__all__ = ["Sam2Network", "Sam2Segmenter", "Sam2Tracker", "TrackedObjects", "load_sam2"]
