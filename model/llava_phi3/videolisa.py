"""VideoLISA: LLaVA-Phi-3 reads a video and answers with one [SEG] for all of its frames.

Bai et al. 2024, "One Token to Seg Them All: Language Instructed Reasoning Segmentation in Videos" (arXiv
2409.19603). The paper writes the token ``<TRK>``, the checkpoints call it ``[SEG]``.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from transformers import CLIPVisionConfig, Phi3Config, Phi3ForCausalLM, PreTrainedModel

from model.clip_tower import ClipTower
from model.llava_phi3.sparse_dense import sparse_dense_grids, sparse_dense_tokens
from model.mllm.reasoning_model import ReasoningModel
from model.mllm.splicing import Grid


class VideoLisaModel(ReasoningModel):
    """CLIP ViT-L/14-336 → two layers with GELU → Phi-3 → [SEG] head → SAM ViT-H.

    A conversation shows its video at one placeholder.

    Args:
        language: Phi-3, its configuration made by `phi3_config`.
        tower: CLIP.
        visual_model, seg_token_id, seg_state: as for `ReasoningModel`.

    Published names: ``language`` holds ``model.embed_tokens``, ``model.layers``, ``model.norm`` and
    ``lm_head``; ``tower.vision`` is ``model.vision_tower.vision_tower.vision_model``, ``projector`` is
    ``model.mm_projector``, ``seg_head`` is ``model.text_hidden_fcs.0``, ``visual_model`` is
    ``model.visual_model``.
    """

    def __init__(
        self,
        language: PreTrainedModel,
        tower: ClipTower,
        visual_model: nn.Module | None,
        *,
        seg_token_id: int,
        seg_state: str = "predicting",
    ):
        width = language.config.hidden_size
        super().__init__(
            language,
            tower,
            nn.Sequential(nn.Linear(tower.width, width), nn.GELU(), nn.Linear(width, width)),
            visual_model,
            seg_token_id=seg_token_id,
            seg_state=seg_state,
            keep_padding=False,
        )

    def visual_tokens(self, images_clip: Tensor, dense_indices: Sequence[int]) -> Tensor:
        """The tokens of one video.

        Args:
            images_clip: float [T, 3, S, S], the sparsely sampled frames, normalised for CLIP.
            dense_indices: which of these T frames are read in full.

        Returns:
            float [T + K * n, D]; see `sparse_dense_tokens`.
        """
        return sparse_dense_tokens(self.patch_tokens(images_clip), dense_indices)

    def patch_tokens(self, images_clip: Tensor) -> Tensor:
        """All patches of frames [T, 3, S, S], float [T, n, D]; `sparse_dense_tokens` joins them."""
        return self.projector(self.tower(images_clip).to(self.projector[0].weight))

    def visual_counts(self, num_frames: int, num_dense: int) -> tuple[tuple[Grid, ...]]:
        """What the one placeholder of a conversation stands for, as `splice` asks it."""
        return (sparse_dense_grids(num_frames, num_dense, self.tower.num_patches),)


def build_videolisa(
    language: Phi3Config,
    tower: CLIPVisionConfig,
    visual_model: nn.Module | None,
    *,
    seg_token_id: int,
    seg_state: str = "predicting",
    select_layer: int = -2,
) -> VideoLisaModel:
    """VideoLISA with initial weights, on the current default device and in the default dtype; tower frozen.

    Args:
        language: from `phi3_config`. tower: of CLIP. select_layer: CLIP's hidden state that is looked at.
        For the others see `VideoLisaModel`.
    """
    return VideoLisaModel(
        Phi3ForCausalLM(language),
        ClipTower(tower, select_layer).requires_grad_(False),
        visual_model,
        seg_token_id=seg_token_id,
        seg_state=seg_state,
    )
