"""XMem: video object segmentation with sensory, working and long-term memory (Cheng & Schwing, ECCV 2022)."""

from model.xmem.contests import Contests, aggregate
from model.xmem.inference import for_tracking
from model.xmem.memory import Memory, MemoryConfig
from model.xmem.network import FrameKey, FrameParts, XMem
from model.xmem.tracker import XMemTracker
from model.xmem.weights import load_xmem

__all__ = [
    "Contests",
    "FrameKey",
    "FrameParts",
    "Memory",
    "MemoryConfig",
    "XMem",
    "XMemTracker",
    "aggregate",
    "for_tracking",
    "load_xmem",
]
