"""The embedded system's glue as the training engine takes it: what is trained, and a micro-batch's losses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.mllm.mllm import MLLM
from model.sam.segmenter import SamSegmenter
from visa.training.embedded_settings import GlueRunSettings
from visa.training.engine.task import ParameterGroup
from visa.training.glue_batches import GlueBatch
from visa.training.glue_step import losses_of, read_examples
from visa.training.text_lessons import lesson_loss

MASKS_PER_EXAMPLE = 3
# Parts as the table at a run's start calls them, and how their parameters' names begin.
PARTS = {
    "language": ("mllm.language.",),
    "vision_tower": ("mllm.tower.",),
    "projector": ("mllm.projector.",),
    "seg_token": ("mllm.seg_embedding", "mllm.seg_output"),
    "seg_head": ("mllm.head.",),
    "mask_decoder": ("mask_decoder.",),
}
# What nothing teaches but the masks that SAM draws.
TAUGHT_BY_MASKS = "mllm.head.prompt."
# What of SAM's decoder one mask teaches nothing: left alone, where weight decay would change it.
UNTAUGHT = ("iou_prediction_head.", *(f"output_hypernetworks_mlps.{k}." for k in (1, 2, 3)))


class GlueModel(nn.Module):
    """The multi-frame MLLM and SAM's mask decoder: all that training can change, and what it is read with.

    Args:
        mllm: its language model frozen but for the adapters. sam: everything but its decoder frozen.
    """

    def __init__(self, mllm: MLLM, sam: SamSegmenter):
        super().__init__()
        self.mllm, self.mask_decoder = mllm, sam.sam.mask_decoder


@dataclass(frozen=True)
class GlueResult:
    """See `visa.training.engine.task.StepResult`."""

    parts: Mapping[str, Tensor]
    num_positions: int


class GlueStep(nn.Module):
    """See `visa.training.engine.task.Step`.

    Args:
        sam: draws masks from the stage's share ``trained.decoder_from`` on.
    """

    def __init__(self, mllm: MLLM, sam: SamSegmenter, settings: GlueRunSettings):
        super().__init__()
        self.model, self.sam, self.settings = GlueModel(mllm, sam), sam, settings
        self.draws = False
        for name, parameter in self.model.mask_decoder.named_parameters():
            parameter.requires_grad_(settings.trained.decoder_from < 1 and not name.startswith(UNTAUGHT))

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """See `Step`: what is taught from the start, what masks teach, and SAM's decoder."""
        trained = {name: value for name, value in self.model.named_parameters() if value.requires_grad}
        decoder = {n: p for n, p in trained.items() if n.startswith("mask_decoder.")}
        prompts = {n: p for n, p in trained.items() if n.startswith(TAUGHT_BY_MASKS)}
        others = {n: p for n, p in trained.items() if n not in decoder and n not in prompts}
        late = self.settings.trained
        groups = [
            ParameterGroup(others),
            ParameterGroup(prompts, begins=late.decoder_from),
            ParameterGroup(decoder, rate=late.decoder_rate, begins=late.decoder_from),
        ]
        return [group for group in groups if group.parameters]

    def begin(self, share: float) -> None:
        """See `Step`."""
        self.draws = share >= self.settings.trained.decoder_from

    def forward(self, batch: GlueBatch) -> GlueResult:
        """Teacher-forced examples and a lesson."""
        mllm, weights = self.model.mllm, self.settings.loss
        low = self.settings.model.precision == "bf16"
        with torch.autocast(mllm.device.type, torch.bfloat16, enabled=low):
            read = read_examples(mllm, batch.examples)
            losses = losses_of(mllm, read, self.sam if self.draws else None, MASKS_PER_EXAMPLE)
            losses["meaning"] = lesson_loss(mllm, batch.lesson)
            parts = {name: getattr(weights, name) * value for name, value in losses.items()}
        return GlueResult(parts, read.batch.ids.numel())
