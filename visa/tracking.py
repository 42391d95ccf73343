"""Tracking on SAM's features: XMem follows on the maps of SAM's encoder, SAM's decoder draws the edge.

XMem's prediction becomes a box and a mask prompt for SAM's decoder; what SAM draws is taken only where it
agrees with XMem, and is what memory keeps. Shapes: N objects, H W pixels of the video, h w pixels while
tracking.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from model.prompt import BoxPrompt, MaskPrompt
from model.sam.build import Sam
from model.sam.segmenter import FrameFeatures, SamSegmenter
from model.xmem import MemoryConfig, XMem, aggregate
from model.xmem.framing import STRIDE, resize_images
from model.xmem.sam_trunk import build_sam_xmem
from visa.tracked_frames import TrackedFrame
from visa.xmem_propagation import Propagator

# SAM's mask and XMem's must have at least this IoU; then the probability is this much SAM's.
AGREEMENT = 0.5
SAM_SHARE = 0.5
# Parts of a mask smaller than this share of its largest part do not stretch the box.
SMALL_PART = 0.15
# SAM was trained on its own logits as mask prompts, which are larger than XMem's.
LOGIT_GAIN, LOGIT_LIMIT = 2.0, 14.0
MAP_STRIDE = 4
# Less than SAM's 1024: a quarter of the time for a hundredth of J.
LONG_SIDE = 896
# Values are cheap here and the newest frame helps most: memorise often, keep few whole frames.
TRACKING_CONFIG = MemoryConfig(
    mem_every=2, max_mid_term_frames=3, min_mid_term_frames=2, num_prototypes=128, max_long_term_elements=1024
)


def tracking_size(height: int, width: int, long_side: int) -> tuple[int, int]:
    """(h, w) with the longer side ``long_side``, both multiples of 16, so that nothing needs padding."""
    scale = long_side / max(height, width) / STRIDE
    return tuple(max(1, round(side * scale)) * STRIDE for side in (height, width))


def load_tracker(path: Path, sam: SamSegmenter, *, refine: bool = True) -> Propagator:
    """The tracker of a preset.

    Args:
        path: weights of ``build_sam_xmem`` (``.safetensors``); they come in half precision and run in
            float32.
        sam: MobileSAM as published, which reads the frames and draws the edges; on the device to use.
        refine: False leaves SAM's decoder out.

    Raises:
        ValueError: the file does not hold such weights.
    """
    network = build_sam_xmem()
    weights = {name: tensor.float() for name, tensor in load_file(path).items()}
    try:
        network.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise ValueError(f"{path} does not hold weights of the small tracker: {error}") from error
    network = network.eval().requires_grad_(False).to(sam.sam.device)
    encoder = SamFrameEncoder(network, sam, refine)
    return Propagator(network, TRACKING_CONFIG, encoder, autocast=sam.encoder_dtype)


@dataclass(frozen=True)
class SamFrameEncoder:
    """Reads a frame for a network of ``model/xmem/sam_trunk.py``.

    Args:
        network: XMem on SAM's maps.
        sam: with TinyViT; its ``encoder_dtype`` counts, its padding does not.
        refine: let SAM's decoder redraw XMem's masks.
        long_side: pixels of the longer side while tracking, at most SAM's input.
    """

    network: XMem
    sam: SamSegmenter
    refine: bool = True
    long_side: int = LONG_SIDE

    @torch.inference_mode()
    def __call__(self, frame: np.ndarray) -> TrackedFrame:
        """uint8 [H, W, 3] RGB -> TrackedFrame."""
        sam, dtype = self.sam.sam, self.sam.encoder_dtype
        size = tracking_size(*frame.shape[:2], self.long_side)
        resized = Image.fromarray(np.ascontiguousarray(frame)).resize(size[::-1], Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(resized)).to(sam.device)
        image = (pixels.permute(2, 0, 1)[None] - sam.pixel_mean) / sam.pixel_std
        with torch.autocast(sam.device.type, dtype, enabled=dtype is not None):
            embedding, (level4, level8, level16) = sam.image_encoder.forward_levels(image)
            frame_key = self.network.encode_key((embedding, level16, level8, level4))
        held_bytes = embedding.numel() * embedding.element_size()
        refiner = SamRefiner(sam, embedding, size) if self.refine else None
        return TrackedFrame(pixels, frame_key, refiner, held_bytes, look=embedding[0])


class SamRefiner:
    """Redraws the masks of one frame.

    Args:
        sam: whose decoder draws.
        embedding: float [1, 256, h/16, w/16] of the frame, unpadded.
        size: (h, w) while tracking.
    """

    def __init__(self, sam: Sam, embedding: Tensor, size: tuple[int, int]) -> None:
        self.segmenter = SamSegmenter(sam, pad_input=False)
        self.features = FrameFeatures(embedding, (), size, size)

    @torch.inference_mode()
    def __call__(self, mask_probs: Tensor) -> Tensor:
        """float32 [1 + N, h, w], background first -> the same, with SAM's part where SAM agrees."""
        size = self.features.input_size
        height, width = (side // MAP_STRIDE for side in size)
        coarse = functional.interpolate(mask_probs[None, 1:], (height, width), mode="area")[0]
        masks = coarse > 0.5
        rows = [row for row, mask in enumerate(masks) if mask.any()]
        if not rows:
            return mask_probs
        boxes = torch.stack([MAP_STRIDE * _box_of(masks[row]) for row in rows])
        side = self.segmenter.sam.image_size // MAP_STRIDE
        prompts = coarse.new_full((len(rows), 1, side, side), -LOGIT_LIMIT)
        prompts[:, 0, :height, :width] = (LOGIT_GAIN * torch.logit(coarse[rows], 1e-6)).clamp(
            -LOGIT_LIMIT, LOGIT_LIMIT
        )
        drawn = self.segmenter.decode(self.features, [BoxPrompt(boxes), MaskPrompt(prompts)])
        object_probs = mask_probs[1:].clone()
        for row, logits in zip(rows, drawn.mask_logits[:, 0, :height, :width], strict=True):
            own = logits > 0
            overlap = (own & masks[row]).sum() / (own | masks[row]).sum()
            if overlap >= AGREEMENT:
                drawn_probs = resize_images(logits[None, None], size)[0, 0].sigmoid()
                object_probs[row] = torch.lerp(object_probs[row], drawn_probs, SAM_SHARE)
        return aggregate(object_probs[None])[1][0]


def _box_of(mask: Tensor) -> Tensor:
    """(x0, y0, x1, y1) of a bool mask [h, w], float32, without its small parts."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.cpu().numpy().astype(np.uint8))
    areas = statistics[1:, cv2.CC_STAT_AREA]
    large = 1 + np.flatnonzero(areas > SMALL_PART * areas.max())
    rows, columns = np.isin(labels, large).nonzero()
    return torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], dtype=torch.float32)
