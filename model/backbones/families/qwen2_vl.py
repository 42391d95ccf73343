"""Qwen2-VL (arXiv 2409.12191): a video's frames are told apart by their place alone."""

from model.backbones.patches import PatchBackbone
from model.backbones.writing import Wording


class Adapter(PatchBackbone):
    """See `PatchBackbone`."""

    wording = Wording(system="You are a helpful assistant.")
