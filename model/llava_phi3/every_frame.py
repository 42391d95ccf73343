"""One prompt for all frames: VideoLISA's one token segments the whole video.

Bai et al. 2024, "One Token to Seg Them All" (arXiv 2409.19603), section 3.4: SAM's decoder answers the same
prompt on every frame by itself; nothing is propagated.
"""

import torch
from torch import Tensor

from model.sam.segmenter import FrameFeatures, MaskPrediction, SamSegmenter
from model.seg_head import as_prompt


def decode_every_frame(
    segmenter: SamSegmenter, features: FrameFeatures, embeddings: Tensor, *, chunk: int = 8
) -> MaskPrediction:
    """Masks of N objects on each of T frames.

    Args:
        features: of the T frames.
        embeddings: float [N, 256], the prompts.
        chunk: frames per pass of the decoder.

    Returns:
        Mask logits [T * N, 1, S/4, S/4] and estimated IoU [T * N, 1], frame by frame: object n of frame t is
        ``t * N + n``.
    """
    answers = []
    for frames in torch.arange(len(features)).split(chunk):
        prompt = as_prompt(embeddings.repeat(len(frames), 1))
        of_objects = frames.repeat_interleave(len(embeddings))
        answers.append(segmenter.decode(features, prompt, frame_index=of_objects))
    return MaskPrediction(
        mask_logits=torch.cat([answer.mask_logits for answer in answers]),
        iou=torch.cat([answer.iou for answer in answers]),
    )
