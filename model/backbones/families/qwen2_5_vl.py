"""Qwen2.5-VL (arXiv 2502.13923): a video's positions in time follow the clock."""

from collections.abc import Sequence

import torch
from torch import Tensor

from model.backbones.patches import PatchBackbone
from model.backbones.transformers_backbone import FRAMES_PER_SECOND
from model.backbones.writing import Wording


class Adapter(PatchBackbone):
    """See `PatchBackbone`."""

    wording = Wording(system="You are a helpful assistant.")

    def video_inputs(self, seconds: Sequence[float]) -> dict[str, Tensor]:
        """Seconds of one temporal patch, by the frames' mean distance."""
        steps = max(1, len(seconds) - 1)
        step = (seconds[-1] - seconds[0]) / steps or 1 / FRAMES_PER_SECOND
        return {"second_per_grid_ts": torch.tensor([self.sizes.frames * step])}
