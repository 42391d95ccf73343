"""A drawn sample becomes what a network is trained on: frames prepared, words encoded, masks beside them.

Legend: T frames shown to CLIP, F frames drawn by SAM, N objects, H W pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from dataset.mixed_sample import MixedSample
from model.clip_images import ClipImages
from model.sam.images import SamImages, input_size
from visa.sampling.sparse_dense import dense_positions
from visa.training.batches.pictures import Frame, prepared_once
from visa.training.batches.words import TrainingWords
from visa.training.engine.batch import TrainingVideo

# Chat-UniVi shows these whole, on a square, where all others lose their sides.
PADDED = ("chat_univi_mimic", "chat_univi_sqa")
# Keeps the draws of wordings apart from those of the mixture, which start from the same seed.
WORDS = 1


class ExampleMaker:
    """Samples of a mixture to training videos.

    Args:
        system: "visa" or "videolisa".
        tokenizer: of its language model, with [SEG] in it.
        clip_size, sam_size: sides of the encoders' inputs, in pixels.
        num_sparse, num_dense: VideoLISA's frames, and those of them that are read in full.
        max_tokens: see `TrainingWords`.
        seed: of the wordings.
    """

    def __init__(
        self,
        system: str,
        tokenizer: Any,
        *,
        clip_size: int,
        sam_size: int,
        num_sparse: int = 32,
        num_dense: int = 4,
        max_tokens: int = 0,
        seed: int = 0,
    ):
        self.system, self.seed = system, seed
        self.num_sparse, self.num_dense = num_sparse, num_dense
        self._words = TrainingWords(system, tokenizer, max_tokens)
        self.max_tokens = self._words.max_tokens
        self._clip = ClipImages(clip_size)
        self._padded_clip = ClipImages(clip_size, pad_square=True)
        self._sam = SamImages(sam_size)

    def make(self, sample: MixedSample) -> TrainingVideo:
        """What is learnt from a sample. It follows from the sample and the seed.

        Raises:
            DatasetError: a question is empty, or its conversation too long.
        """
        draw = sample.draw
        rng = np.random.default_rng([self.seed, draw.index, draw.clip, WORDS])
        conversations = self._words.write(sample, rng)
        frames, dense = self._visa(sample) if self.system == "visa" else self._videolisa(sample)
        clip = self._padded_clip if draw.source in PADDED else self._clip
        images_clip, shown = prepared_once(frames, clip, self._clip.size)
        images_sam, drawn = prepared_once(sample.targets, self._sam, self._sam.side)
        masks = torch.from_numpy(sample.masks)
        if len(dense) > len(drawn) == 1:
            # A picture is a video that stands still, and counts as much as one.
            drawn = drawn * len(dense)
            masks = masks.expand(len(drawn), -1, -1, -1).contiguous()
        size = input_size(sample.targets[0].shape[:2], self._sam.side) if sample.targets else (0, 0)
        return TrainingVideo(
            name=f"{draw.source}: {draw.name}",
            images_clip=images_clip,
            shown=shown,
            conversations=conversations,
            images_sam=images_sam,
            drawn=drawn,
            input_size=size,
            masks=masks,
            dense_indices=dense,
        )

    def _visa(self, sample: MixedSample) -> tuple[list[Frame], tuple[int, ...]]:
        """The reference frames and the target image; nothing is dense."""
        return [*sample.references, *sample.targets], ()

    def _videolisa(self, sample: MixedSample) -> tuple[list[Frame], tuple[int, ...]]:
        """The sparse frames, and the places of the dense ones among them.

        A picture is shown as often as a video has frames, its first places dense, as published.
        """
        frames, count = sample.references, len(sample.references)
        if count == 1:
            return list(frames) * self.num_sparse, tuple(range(self.num_dense))
        if sample.target_places:
            return list(frames), sample.target_places
        # Nothing published has such samples: talk about several pictures, or a target from another video.
        shown = [frames[place * count // self.num_sparse] for place in range(self.num_sparse)]
        return shown, dense_positions(self.num_sparse, self.num_dense)
