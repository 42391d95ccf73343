"""A SAM 2 that is small enough to test: random weights, 128 pixels, the published structure."""

from __future__ import annotations

import torch
from transformers import Sam2Config, Sam2Model, Sam2VideoConfig, Sam2VideoModel
from transformers.models.sam2_video.configuration_sam2_video import Sam2VideoMaskDecoderConfig
from transformers.models.sam2_video.modeling_sam2_video import (
    Sam2VideoInferenceSession,
    Sam2VideoSegmentationOutput,
)

SIDE = 128
PRESENCE_GAIN, PRESENCE_SHIFT = 20.0, 13.5


def _vision() -> dict:
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "num_attention_heads": 1,
        "image_size": [SIDE, SIDE],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 2],
        "window_size_per_stage": [8, 4, 4, 4],
        "global_attention_blocks": [3],
    }
    return {
        "model_type": "sam2_vision_model",
        "backbone_config": backbone,
        "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[SIDE // stride] * 2 for stride in (4, 8, 16)],
        "fpn_hidden_size": 256,
    }


def _shared() -> dict:
    return {
        "vision_config": _vision(),
        "prompt_encoder_config": {"image_size": SIDE},
    }


# 5.17 takes a dict for the video model's decoder for one of the prompt encoder.
_DECODER = {"mlp_dim": 32, "iou_head_hidden_dim": 16}


def tiny_video_config(**changes) -> Sam2VideoConfig:
    """The video model's; ``changes`` are fields such as ``max_cond_frame_num``."""
    fields = {
        "image_size": SIDE,
        "memory_attention_feed_forward_hidden_size": 32,
        "memory_attention_num_layers": 2,
        "memory_attention_rope_feat_sizes": [SIDE // 16, SIDE // 16],
        "memory_fuser_intermediate_dim": 32,
    }
    decoder = Sam2VideoMaskDecoderConfig(**_DECODER)
    return Sam2VideoConfig(**_shared(), mask_decoder_config=decoder, **{**fields, **changes})


def randomised(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """All weights random and large enough that everything matters; masks and presence of both signs."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                fan_in = parameter[0].numel() if parameter.shape[0] > 1 else 1
                parameter.copy_(noise * fan_in**-0.5 if fan_in > 1 else 0.5 * noise)
            elif "norm" in name and name.endswith("weight"):
                parameter.copy_(1 + 0.1 * noise)
            else:
                parameter.copy_(0.1 * noise)
        model.shared_image_embedding.positional_embedding.normal_(generator=generator)
        model.prompt_encoder.shared_embedding.positional_embedding.copy_(
            model.shared_image_embedding.positional_embedding
        )
        # Objects come and go: the raw logits lie close together around -1.4.
        head = model.mask_decoder.pred_obj_score_head.proj_out
        head.weight *= PRESENCE_GAIN
        head.bias.copy_(head.bias * PRESENCE_GAIN + PRESENCE_SHIFT)
    return model.eval().requires_grad_(False)


def tiny_video_model(seed: int = 0, **changes) -> Sam2VideoModel:
    """A random video model."""
    return randomised(Sam2VideoModel(tiny_video_config(**changes)), seed)


def tiny_image_model(seed: int = 0) -> Sam2Model:
    """A random image model."""
    return randomised(Sam2Model(Sam2Config(**_shared(), mask_decoder_config=_DECODER)), seed)


class LibrarySession:
    """transformers' own video API, without its processor, which needs torchvision.

    Args:
        model: tiny. images: float [T, 3, S, S], normalised.
    """

    def __init__(self, model: Sam2VideoModel, images: torch.Tensor) -> None:
        self.model = model
        self.session = Sam2VideoInferenceSession(
            video=images, video_height=SIDE, video_width=SIDE, dtype=torch.float32
        )

    def prompt(self, index: int, objects: list[dict]) -> Sam2VideoSegmentationOutput:
        """The library's answer to each object's ``mask`` [S, S], or ``points`` [K, 2] and ``labels`` [K]."""
        numbers = list(range(1, len(objects) + 1))
        for number, given in zip(numbers, objects, strict=True):
            row = self.session.obj_id_to_idx(number)
            if "mask" in given:
                self.session.add_mask_inputs(row, index, given["mask"][None, None].float())
            else:
                inputs = {
                    "point_coords": given["points"][None, None],
                    "point_labels": given["labels"][None, None],
                }
                self.session.add_point_inputs(row, index, inputs)
        self.session.obj_with_new_inputs = numbers
        return self.model(self.session, frame_idx=index)

    def walk(self, start: int, *, reverse: bool = False) -> dict[int, Sam2VideoSegmentationOutput]:
        """The library's answers by frame."""
        outputs = self.model.propagate_in_video_iterator(self.session, start_frame_idx=start, reverse=reverse)
        return {output.frame_idx: output for output in outputs}
