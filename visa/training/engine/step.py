"""A micro-batch through a published system: the trainer's one forward path for VISA and VideoLISA.

CLIP and SAM's image encoder see every frame once, however many conversations are about it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from model.llava_phi3.every_frame import decode_every_frame
from model.llava_phi3.sparse_dense import sparse_dense_tokens
from model.llava_phi3.videolisa import VideoLisaModel
from model.mllm.packing import IGNORE_INDEX
from model.mllm.reasoning_model import ReasoningModel
from model.mllm.splicing import IMAGE_TOKEN, SplicedBatch, Visual
from model.sam.segmenter import FrameFeatures, SamSegmenter
from visa.training.engine.batch import TrainingBatch, TrainingVideo
from visa.training.engine.task import ParameterGroup
from visa.training.published_objective import LossWeights, PublishedLoss, predicting_states, published_loss


@dataclass(frozen=True)
class BatchCounts:
    """Over what a micro-batch's losses are means. tokens: counted words. masks: of objects on frames."""

    tokens: int
    masks: int


@dataclass(frozen=True)
class StepResult:
    """What came of a micro-batch.

    loss: with its graph. mask_logits: for each video float32 [F * N, H, W], frame by frame, without graph.
    num_positions: B * L, of the language model.
    """

    loss: PublishedLoss
    mask_logits: tuple[Tensor, ...]
    num_positions: int

    @property
    def parts(self) -> Mapping[str, Tensor]:
        """See `visa.training.engine.task.StepResult`."""
        return {"text": self.loss.text, "bce": self.loss.bce, "dice": self.loss.dice}


def count(batch: TrainingBatch) -> BatchCounts:
    """The words and masks that count in a micro-batch, before anything is computed."""
    labels = [conversation.labels for video in batch.videos for conversation in video.conversations]
    tokens = sum(int((row[1:] != IGNORE_INDEX).sum()) for row in labels)
    masks = sum(video.masks.shape[0] * video.masks.shape[1] for video in batch.videos)
    return BatchCounts(tokens, masks)


class TrainingStep(nn.Module):
    """Micro-batch to losses.

    Args:
        model: with SAM inside.
        weights: of the loss's parts.
    """

    def __init__(self, model: ReasoningModel, weights: LossWeights):
        super().__init__()
        if model.visual_model is None:
            raise ValueError("training needs a model with SAM inside (visual_model), got one without")
        self.model, self.weights = model, weights

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """See `Step`: one, of all that is marked as trained."""
        return [ParameterGroup({n: p for n, p in self.model.named_parameters() if p.requires_grad})]

    def begin(self, share: float) -> None:
        """See `Step`: a published system does the same from the first step to the last."""

    def counts(self, batch: TrainingBatch) -> Mapping[str, float]:
        """See `Step`."""
        counted = count(batch)
        return {"text": counted.tokens, "bce": counted.masks, "dice": counted.masks}

    def forward(self, batch: TrainingBatch) -> StepResult:
        """Teacher-forced.

        Raises:
            ValueError: another number of masks than of [SEG] in a video's conversations.
        """
        sequences, visual_tokens = self._read(batch.videos)
        hidden = self.model(sequences, visual_tokens)
        rows = self.model.seg_embeddings(hidden, sequences)
        mask_logits = []
        for video, features in zip(batch.videos, self._encode(batch.videos), strict=True):
            mine, rows = rows[: len(video.conversations)], rows[len(video.conversations) :]
            mask_logits.append(self._draw(video, torch.cat(mine), features))
        states, tokens = predicting_states(hidden, sequences.labels)
        loss = published_loss(
            self.model.logits(states),
            tokens,
            mask_logits,
            [video.masks.flatten(0, 1) for video in batch.videos],
            self.weights,
        )
        drawn = tuple(logits.detach() for logits in mask_logits)
        return StepResult(loss, drawn, sequences.ids.numel())

    def _read(self, videos: Sequence[TrainingVideo]) -> tuple[SplicedBatch, list[Tensor]]:
        """All conversations as one batch, and the visual tokens that each of them shows."""
        rows, counts, tokens = [], [], []
        for video, encoded in zip(videos, self._visual_tokens(videos), strict=True):
            for conversation in video.conversations:
                places = int((conversation.input_ids == IMAGE_TOKEN).sum())
                kinds, shown = self._shown(video, encoded, places)
                rows.append(conversation)
                counts.append(kinds)
                tokens.append(shown)
        device = self.model.device
        ids = pad_sequence([row.input_ids for row in rows], batch_first=True).to(device)
        labels = pad_sequence([row.labels for row in rows], batch_first=True, padding_value=IGNORE_INDEX)
        lengths = torch.tensor([len(row.input_ids) for row in rows], device=device)
        mask = torch.arange(ids.shape[1], device=device) < lengths[:, None]
        batch = self.model.splice(ids, counts, labels=labels.to(device), attention_mask=mask)
        return batch, tokens

    def _visual_tokens(self, videos: Sequence[TrainingVideo]) -> list[Tensor]:
        """For each video the tokens of its frames, float [K, n, D]: VISA's merged, VideoLISA's patches."""
        images = torch.cat([video.images_clip for video in videos]).to(self.model.device)
        if isinstance(self.model, VideoLisaModel):
            with torch.no_grad():
                patches = self.model.tower(images)
            encoded = self.model.projector(patches.to(self.model.projector[0].weight.dtype))
        else:
            encoded = self.model.visual_tokens(images)
        return list(encoded.split([len(video.images_clip) for video in videos]))

    def _shown(self, video: TrainingVideo, encoded: Tensor, places: int) -> tuple[Sequence[Visual], Tensor]:
        """What the placeholders of one conversation stand for, and their tokens float [n, D]."""
        shown = encoded[list(video.shown)]
        if not places:
            return (), shown.flatten(0, 1)[:0]
        if isinstance(self.model, VideoLisaModel):
            kinds = self.model.visual_counts(len(video.shown), len(video.dense_indices))
            return kinds, sparse_dense_tokens(shown, video.dense_indices)
        return [shown.shape[1]] * places, shown[:places].flatten(0, 1)

    @torch.no_grad()
    def _encode(self, videos: Sequence[TrainingVideo]) -> list[FrameFeatures]:
        """SAM's features of the frames that each video draws."""
        sam = self.model.visual_model
        encoder = sam.image_encoder
        images = torch.cat([video.images_sam for video in videos]).to(sam.device)
        dtype = next(encoder.parameters()).dtype
        # One at a time: ViT-H's attention over a 1024-pixel frame is what takes the memory.
        maps = [encoder(image[None].to(dtype)) for image in images]
        encoded = torch.cat(maps) if maps else images.new_zeros(0, 256, *[sam.image_size // 16] * 2)
        features = []
        for video, mine in zip(videos, encoded.split([len(v.images_sam) for v in videos]), strict=True):
            size = (int(video.masks.shape[-2]), int(video.masks.shape[-1]))
            features.append(FrameFeatures(mine[list(video.drawn)], (), video.input_size, size))
        return features

    def _draw(self, video: TrainingVideo, embeddings: Tensor, features: FrameFeatures) -> Tensor:
        """Mask logits float32 [F * N, H, W] of the N objects that a video's [SEG] stand for."""
        frames, objects, height, width = video.masks.shape
        if len(embeddings) != objects or frames != len(features):
            raise ValueError(
                f"{video.name} has {len(embeddings)} [SEG] and {len(features)} frames to draw; its masks are "
                f"of {objects} objects on {frames} frames"
            )
        if not objects or not frames:
            return embeddings.new_zeros(0, height, width, dtype=torch.float32)
        segmenter = SamSegmenter(self.model.visual_model)
        prediction = decode_every_frame(segmenter, features, embeddings)
        return segmenter.to_frame(prediction.mask_logits, features)[:, 0]
