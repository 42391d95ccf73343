"""VISA's network: a LLaMA that reads merged CLIP tokens of several frames and points with [SEG].

Yan et al. 2024, "VISA" (arXiv 2407.11325), section 3.2, on Chat-UniVi (Jin et al. 2024, arXiv 2311.08046).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from model.chat_univi.events import merge_video
from model.chat_univi.merging import IMAGE_STAGES, Stage, merge_stages
from model.clip_tower import ClipTower
from model.mllm.reasoning_model import ReasoningModel


class VisaModel(ReasoningModel):
    """Chat-UniVi with a [SEG] head; SAM inside as ``visual_model``.

    Args:
        language: a LLaMA with [SEG] in its vocabulary.
        tower: CLIP; no gradient passes through it.
        visual_model, seg_token_id, seg_state: as for `ReasoningModel`.
        stages: of merging a frame's patches.
        noise: TIE_NOISE breaks ties of the merging as the reference does, from torch's own random numbers; 0
            makes the visual tokens depend on the frames alone.

    Published names: ``language`` holds ``model.embed_tokens``, ``model.layers``, ``model.norm`` and
    ``lm_head``; ``tower.vision`` is ``model.vision_tower.vision_tower.vision_model``, ``projector`` is
    ``model.mm_projector``, ``seg_head`` is ``model.text_hidden_fcs.0``, ``visual_model`` is
    ``model.visual_model``. The merging has no weights.
    """

    def __init__(
        self,
        language: PreTrainedModel,
        tower: ClipTower,
        visual_model: nn.Module | None,
        *,
        seg_token_id: int,
        seg_state: str = "predicting",
        stages: Sequence[Stage] = IMAGE_STAGES,
        noise: float = 0.0,
    ):
        super().__init__(
            language,
            tower,
            nn.Linear(tower.width, language.config.hidden_size),
            visual_model,
            seg_token_id=seg_token_id,
            seg_state=seg_state,
            keep_padding=True,
        )
        self.stages, self.noise = tuple(stages), noise

    @property
    def tokens_per_frame(self) -> int:
        """Visual tokens of a frame and of its placeholder, 112 as published."""
        return sum(stage.clusters for stage in self.stages)

    def visual_tokens(self, images_clip: Tensor) -> Tensor:
        """Visual tokens of frames, each on its own: one that was seen before need not be encoded again.

        Args:
            images_clip: float [T, 3, S, S], normalised as CLIP wants it.

        Returns:
            float [T, 112, D] in the projector's dtype; the finest stage's tokens come first.
        """
        with torch.no_grad():
            merged = merge_stages(self.tower(images_clip), self.stages, self.noise).tokens
        return self.projector(merged.to(self.projector.weight))

    def video_tokens(self, images_clip: Tensor, events: Tensor | None = None) -> Tensor:
        """Visual tokens of a video as Chat-UniVi itself reads one, events in place of frames; VISA does not.

        Args:
            images_clip: float [T, 3, S, S]. events: int64 [T] where known; see `merge_video`.

        Returns:
            float [112 x events, D].
        """
        with torch.no_grad():
            merged = merge_video(self.tower(images_clip), self.stages, self.noise, events=events).tokens
        return self.projector(merged.to(self.projector.weight))


def build_visa(
    language: LlamaConfig,
    tower: CLIPVisionConfig,
    visual_model: nn.Module | None,
    *,
    seg_token_id: int,
    seg_state: str = "predicting",
    select_layer: int = -2,
    stages: Sequence[Stage] = IMAGE_STAGES,
    noise: float = 0.0,
) -> VisaModel:
    """VISA with initial weights, on the current default device and in the default dtype; tower frozen.

    Args:
        language, tower: sizes of LLaMA and CLIP. select_layer: CLIP's hidden state that is looked at.
        For the others see `VisaModel`.
    """
    return VisaModel(
        LlamaForCausalLM(language),
        ClipTower(tower, select_layer).requires_grad_(False),
        visual_model,
        seg_token_id=seg_token_id,
        seg_state=seg_state,
        stages=stages,
        noise=noise,
    )
