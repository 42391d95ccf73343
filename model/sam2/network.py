"""SAM 2 of transformers, taken apart into what segmenting and tracking need.

Ravi et al. 2024, "SAM 2: Segment Anything in Images and Videos" (arXiv 2408.00714), section 4. Of the
library's models only public modules and methods are used: `get_image_features`, `prompt_encoder`,
`mask_decoder`, `memory_attention`, `memory_encoder` and the parameters beside them. They are the same in 5.17
and 5.23; what the library does around them for its own sessions is private and is written anew in
`tracker.py`.

Shapes: N objects, M masks of one object, K tokens, S side of the input in pixels, h w = S/16.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from model.prompt import JoinedPrompts, Prompt, join_prompts
from model.sam2.positions import grid_sines

if TYPE_CHECKING:
    from transformers import Sam2Model, Sam2VideoModel

NOT_A_POINT = -1


@dataclass(frozen=True)
class FrameMaps:
    """What the mask decoder looks at, of one image or of one for each object (B = 1 or N).

    Attributes:
        embedding: [B, 256, h, w], without the mark that there is no memory.
        levels: [B, 32, S/4, S/4] and [B, 64, S/8, S/8].
    """

    embedding: Tensor
    levels: tuple[Tensor, ...]


@dataclass(frozen=True)
class Drawn:
    """The mask decoder's whole answer.

    Attributes:
        mask_logits: [N, M, S/4, S/4].
        iou: [N, M], estimated.
        tokens: [N, M, 256], the mask tokens, of which object pointers are made.
        presence: [N], logit that the object is in the frame.
    """

    mask_logits: Tensor
    iou: Tensor
    tokens: Tensor
    presence: Tensor


class Sam2Network:
    """One SAM 2, shared by segmenter and tracker.

    Args:
        model: of transformers, in evaluation mode; used where and as it is. `Sam2Model` cannot track.
        dtype: autocast to it, such as bfloat16; None computes in the model's own dtype. A model that is
            itself in bfloat16 works but places points by several pixels: its coordinates have eight bits.
        source: where the weights came from; None where nobody knows.
    """

    def __init__(
        self,
        model: Sam2Model | Sam2VideoModel,
        *,
        dtype: torch.dtype | None = None,
        source: Path | None = None,
    ) -> None:
        self.model = model
        self.dtype = dtype
        self.source = source

    @property
    def can_track(self) -> bool:
        """Whether the model has SAM 2's memory."""
        return hasattr(self.model, "memory_attention")

    @property
    def side(self) -> int:
        """S."""
        return self.model.prompt_encoder.input_image_size

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.no_memory_embedding.device

    @property
    def weights_dtype(self) -> torch.dtype:
        """The dtype of the model's weights."""
        return self.model.no_memory_embedding.dtype

    def precision(self) -> torch.autocast:
        """The context in which the model runs."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None)

    def encode(self, images: Tensor) -> FrameMaps:
        """Normalised images [B, 3, S, S] to what the decoder looks at."""
        with self.precision():
            found = self.model.get_image_features(images.to(self.weights_dtype), return_dict=True)
        sizes = self.model.backbone_feature_sizes
        maps = [_as_map(rows, size) for rows, size in zip(found.fpn_hidden_states, sizes, strict=True)]
        return FrameMaps(maps[-1], tuple(maps[:-1]))

    def without_memory(self, embedding: Tensor) -> Tensor:
        """Features [B, 256, h, w] marked as those of a frame that nothing is remembered for."""
        return embedding + self.model.no_memory_embedding.view(1, -1, 1, 1)

    def embed_prompts(self, prompts: Prompt | Sequence[Prompt]) -> tuple[Tensor, Tensor]:
        """Sparse tokens [N, K, 256] and dense map [N, 256, h, w].

        Tokens: points, the two corners of the box, "not a point", embeddings. Where there is neither point
        nor box the library asks with one "not a point" more.

        Raises:
            ValueError: as `join_prompts`.
        """
        return self._embed(join_prompts(prompts, self.device))

    def _embed(self, joined: JoinedPrompts) -> tuple[Tensor, Tensor]:
        count, dtype = joined.num_objects, self.weights_dtype
        points, labels, boxes, masks = joined.points, joined.labels, joined.boxes, joined.mask_logits
        if points is None and boxes is None:
            points = torch.zeros(count, 1, 2, device=self.device)
            labels = torch.full((count, 1), NOT_A_POINT, device=self.device)
        # Coordinates and their Fourier features need float32.
        with torch.autocast(self.device.type, enabled=False):
            sparse, dense = self.model.prompt_encoder(
                input_points=None if points is None else points[:, None],
                input_labels=None if labels is None else labels[:, None].long(),
                input_boxes=None if boxes is None else boxes[:, None],
                input_masks=None if masks is None else masks.to(dtype),
            )
        sparse = sparse[:, 0]
        if joined.embeddings is not None:
            sparse = torch.cat([sparse, joined.embeddings.to(sparse.dtype)], 1)
        return sparse, dense.expand(count, -1, -1, -1)

    def draw(self, maps: FrameMaps, sparse: Tensor, dense: Tensor, *, multimask: bool) -> Drawn:
        """Masks of N > 0 objects. Differentiable.

        Args:
            maps: whose embedding carries memory, or the mark that there is none.
            sparse, dense: of `embed_prompts`.
            multimask: M = 3 for ambiguous prompts; otherwise one, the best of the three where the one is not
                stable.

        Returns:
            In float32.
        """
        count, dtype = len(sparse), self.weights_dtype
        position = self.model.get_image_wide_positional_embeddings().to(dtype)
        with self.precision():
            mask_logits, iou, tokens, presence = self.model.mask_decoder(
                image_embeddings=maps.embedding.to(dtype).expand(count, -1, -1, -1),
                image_positional_embeddings=position.expand(count, -1, -1, -1),
                sparse_prompt_embeddings=sparse[:, None].to(dtype),
                dense_prompt_embeddings=dense.to(dtype),
                multimask_output=multimask,
                high_resolution_features=[level.to(dtype).expand(count, -1, -1, -1) for level in maps.levels],
            )
        return Drawn(
            mask_logits[:, 0].float(), iou[:, 0].float(), tokens[:, 0].float(), presence[:, 0, 0].float()
        )

    def recall(self, embedding: Tensor, memory: Tensor, memory_position: Tensor, num_pointers: int) -> Tensor:
        """A frame's features in the light of what is remembered of each object.

        Args:
            embedding: [1, 256, h, w] of the frame.
            memory: [L, N, 64], maps row by row and then ``num_pointers`` tokens of object pointers.
            memory_position: [L, N or 1, 64].

        Returns:
            [N, 256, h, w].
        """
        count, size = memory.shape[1], embedding.shape[-2:]
        rows = embedding.to(self.weights_dtype).flatten(2).permute(2, 0, 1).expand(-1, count, -1)
        with self.precision():
            seen = self.model.memory_attention(
                current_vision_features=rows,
                current_vision_position_embeddings=self.places(rows.shape[-1]).to(rows.dtype),
                memory=memory.to(rows.dtype),
                memory_posision_embeddings=memory_position.to(rows.dtype).expand(-1, count, -1),
                num_object_pointer_tokens=num_pointers,
            )
        # [1, N, hw, 256]: the library turns the wrong axes back, which matters for N > 1 alone.
        return seen.reshape(count, -1, seen.shape[-1]).transpose(1, 2).unflatten(2, size)

    def memorise(self, embedding: Tensor, mask_probs: Tensor, present: Tensor) -> Tensor:
        """What is kept of a frame's masks.

        Args:
            embedding: [1, 256, h, w] of the frame.
            mask_probs: float32 [N, S, S] in [0, 1].
            present: bool [N].

        Returns:
            bfloat16 [hw, N, 64], as the library keeps it.
        """
        config, dtype = self.model.config, self.weights_dtype
        masks = mask_probs[:, None] * config.sigmoid_scale_for_mem_enc + config.sigmoid_bias_for_mem_enc
        with self.precision():
            maps, _ = self.model.memory_encoder(
                embedding.to(dtype).expand(len(masks), -1, -1, -1), masks.to(dtype)
            )
        occlusion = self.model.occlusion_spatial_embedding_parameter
        if occlusion is not None:
            maps = maps + (~present).to(maps.dtype).view(-1, 1, 1, 1) * occlusion[..., None, None]
        return maps.to(torch.bfloat16).flatten(2).permute(2, 0, 1)

    def places(self, width: int) -> Tensor:
        """float32 [hw, 1, width]: where in the frame a cell is, in so many numbers."""
        return grid_sines(*self.model.backbone_feature_sizes[-1], width, self.device)

    def pointers(self, tokens: Tensor, present: Tensor) -> Tensor:
        """Object pointers [N, 256] of mask tokens [N, 256]; one and the same for all that are absent."""
        with self.precision():
            pointers = self.model.object_pointer_proj(tokens.to(self.weights_dtype)).float()
        return torch.where(present[:, None], pointers, self.model.no_object_pointer.float())


def _as_map(rows: Tensor, size: Sequence[int]) -> Tensor:
    """[hw, B, C] -> [B, C, h, w]."""
    return rows.permute(1, 2, 0).unflatten(2, tuple(size))
