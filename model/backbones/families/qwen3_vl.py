"""Qwen3-VL (arXiv 2511.21631): every temporal patch of a video stands behind its time in words."""

from collections.abc import Sequence

from model.backbones.patches import VISION_END, VISION_START, PatchBackbone
from model.backbones.pixels import HALF, PixelSettings
from model.backbones.transformers_backbone import VisualTokens


class Adapter(PatchBackbone):
    """See `PatchBackbone`."""

    pixels = PixelSettings(HALF, HALF)

    def video_parts(
        self, temporal: Sequence[VisualTokens], seconds: Sequence[float]
    ) -> tuple[str | VisualTokens, ...]:
        """As it was trained: nothing around the whole, each patch between its own start and end."""
        parts: list[str | VisualTokens] = []
        for patch, second in zip(temporal, seconds, strict=True):
            parts += [f"<{second:.1f} seconds>", VISION_START, patch, VISION_END]
        return tuple(parts)
