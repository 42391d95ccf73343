"""XMem: video object segmentation with sensory, working and long-term memory (Cheng & Schwing, ECCV 2022)."""

from model.xmem.memory import Memory, MemoryConfig
from model.xmem.network import FrameKey, XMem, aggregate
from model.xmem.tracker import XMemTracker
from model.xmem.weights import load_xmem

__all__ = ["FrameKey", "Memory", "MemoryConfig", "XMem", "XMemTracker", "aggregate", "load_xmem"]
