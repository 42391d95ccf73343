"""Qwen2.5-VL (arXiv 2502.13923): a video's positions in time follow the clock."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from model.backbones.patches import PatchBackbone
from model.backbones.transformers_backbone import FRAMES_PER_SECOND
from model.backbones.writing import Wording


class Adapter(PatchBackbone):
    """See `PatchBackbone`."""

    wording = Wording(system="You are a helpful assistant.")

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        settings: Mapping[str, Any] | None = None,
    ):
        super().__init__(model, tokenizer, settings)
        rate, own = model.config.vision_config.tokens_per_second, type(self.core).get_rope_index
        self.core.get_rope_index = partial(positions_by_the_clock, own, self.core, rate)

    def video_inputs(self, seconds: Sequence[float]) -> dict[str, Tensor]:
        """Seconds of one temporal patch, by the frames' mean distance."""
        steps = max(1, len(seconds) - 1)
        step = (seconds[-1] - seconds[0]) / steps or 1 / FRAMES_PER_SECOND
        return {"second_per_grid_ts": torch.tensor([self.sizes.frames * step])}


def positions_by_the_clock(
    own: Callable[..., tuple[Tensor, Tensor]],
    core: PreTrainedModel,
    rate: float,
    input_ids: Tensor,
    *,
    mm_token_type_ids: Tensor,
    second_per_grid_ts: Tensor | None = None,
    **told: Any,
) -> tuple[Tensor, Tensor]:
    """The model's positions of one sequence, with those of its video in time as 5.23 makes them.

    transformers 5.17 cuts the seconds of a temporal patch to a whole number, so that all frames of a short
    clip, which are less than half a second apart, stand at one moment.

    Args:
        own: ``get_rope_index`` of ``core``, in any version. rate: positions to a second.
        input_ids, mm_token_type_ids: int64 [1, L]; the type of a video's tokens is 2.
        second_per_grid_ts: float32 [1], seconds of a temporal patch; None is one.

    Returns:
        Positions int64 [3, 1, L] (time, row, column), and int64 [1, 1]: the next one, less L.
    """
    positions, offset = own(core, input_ids, mm_token_type_ids=mm_token_type_ids, **told)
    video = mm_token_type_ids[0] == 2
    if second_per_grid_ts is None or not video.any():
        return positions, offset
    times = positions[0, 0, video]
    steps = (times - times[0]) // rate  # of a second each, until now
    positions[0, 0, video] = times[0] + (steps * (rate * second_per_grid_ts[0])).long()
    return positions, positions.max().add(1 - input_ids.shape[1]).reshape_as(offset)
