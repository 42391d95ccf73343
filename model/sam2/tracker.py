"""SAM 2 follows objects through a video: prompted in some frames, remembered, found in the others.

Ravi et al. 2024 (arXiv 2408.00714), section 4. The arithmetic is that of transformers' `Sam2VideoModel` with
its inference session, frame for frame; here objects go through the network as one batch, frames come encoded,
and memory does not grow with the video.

Shapes: N objects, H W pixels of the video, S side of the network's input, h w = S/16.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from model.prompt import BoxPrompt, MaskPrompt, PointPrompt, Prompt
from model.sam2.memory import Memory, MemoryBank
from model.sam2.network import FrameMaps, Sam2Network
from model.sam2.positions import time_sines
from model.segmentation import KNOWN_LOGIT, FrameFeatures

# The logit everywhere of an object that is not in the frame.
ABSENT_LOGIT = -1024.0


@dataclass(frozen=True)
class TrackedObjects:
    """The objects in one frame.

    Attributes:
        mask_logits: float32 [N, S/4, S/4] over the network's input; `ABSENT_LOGIT` everywhere for an object
            that is not there.
        presence: float32 [N], logit that the object is in the frame.
    """

    mask_logits: Tensor
    presence: Tensor


@dataclass(frozen=True)
class _Answer:
    """What SAM's heads say of N objects: low_res [N, S/4, S/4], pointers [N, 256], presence [N], float32."""

    low_res: Tensor
    pointers: Tensor
    presence: Tensor


class Sam2Tracker:
    """Objects that were prompted in the same frames, followed through one video.

    Call ``prompt`` or ``prompt_masks`` for every frame that is known, then ``track`` frame by frame away from
    the earliest of them, first one way and then, if at all, the other. The second way looks at the first
    frames of the first one, as in the library.

    Args:
        network: with memory.
        num_frames: T of the video; None where it is not known yet. Short videos count time differently.

    Raises:
        ValueError: the network is SAM 2's image part alone.
    """

    def __init__(self, network: Sam2Network, num_frames: int | None = None) -> None:
        if not network.can_track:
            raise ValueError(
                "these weights are SAM 2's image part alone; tracking needs those of Sam2VideoModel"
            )
        config = network.model.config
        self.network, self._config = network, config
        num_pointers = config.max_object_pointers_in_encoder
        most = config.max_cond_frame_num
        self.bank = MemoryBank(
            config.num_maskmem,
            num_pointers if num_frames is None else min(num_frames, num_pointers),
            None if most == -1 else most,
        )

    @torch.inference_mode()
    def prompt(
        self,
        index: int,
        frame: FrameFeatures,
        prompts: Prompt | Sequence[Prompt],
        *,
        multimask: bool | None = None,
    ) -> TrackedObjects:
        """Point, box or embedding prompts of N > 0 objects in a frame.

        Args:
            index: of the frame.
            frame: its features alone, of `Sam2Segmenter.encode`.
            prompts: as for `Sam2Segmenter.decode`.
            multimask: draw three masks and take the one that the network rates highest; None decides by the
                number of points, as the library does.
        """
        given = list(prompts) if isinstance(prompts, Sequence) else [prompts]
        sparse, dense = self.network.embed_prompts(given)
        if multimask is None:
            multimask = self._is_ambiguous(_num_points(given))
        maps = FrameMaps(self.network.without_memory(frame.embedding), frame.levels)
        answer = self._ask(maps, sparse, dense, multimask)
        self._know(index, frame, answer, self._high_res(answer.low_res) > 0)
        return TrackedObjects(answer.low_res, answer.presence)

    @torch.inference_mode()
    def prompt_masks(self, index: int, frame: FrameFeatures, masks: Tensor) -> TrackedObjects:
        """Masks of N > 0 objects in a frame, which are believed as they are.

        Args:
            index: of the frame.
            frame: its features alone.
            masks: bool [N, H, W] at the video's size or any other.
        """
        side = self.network.side
        inside = masks[:, None].to(self.network.device, torch.float32)
        if inside.shape[-2:] != (side, side):
            inside = (_resized(inside, side) >= 0.5).float()
        logits = (2 * inside - 1) * KNOWN_LOGIT
        with self.network.precision():
            asked = self.network.model.mask_downsample(inside.to(self.network.weights_dtype))
        sparse, dense = self.network.embed_prompts(MaskPrompt(asked))
        # The decoder is asked for the object's pointer only.
        answer = self._ask(FrameMaps(frame.embedding, frame.levels), sparse, dense, multimask=True)
        some = inside.flatten(1).any(1)
        nothing = self.network.model.no_object_pointer.float()
        answer = _Answer(
            low_res=_resized(logits, side // 4)[:, 0],
            pointers=torch.where(some[:, None], answer.pointers, nothing),
            presence=torch.where(some, KNOWN_LOGIT, -KNOWN_LOGIT),
        )
        self._know(index, frame, answer, inside[:, 0] > 0)
        return TrackedObjects(answer.low_res, answer.presence)

    @torch.inference_mode()
    def track(self, index: int, frame: FrameFeatures, step: int = 1) -> TrackedObjects:
        """Find the objects in the next frame.

        Args:
            index: of the frame, which was not prompted; one ``step`` on from the last one, prompted frames
                left out.
            frame: its features alone.
            step: 1 for a walk forwards in time, -1 for one backwards.

        Raises:
            RuntimeError: nothing was prompted.
        """
        if not self.bank.prompted:
            raise RuntimeError("track needs a prompted frame; call prompt or prompt_masks first")
        memory, position, num_pointers = self._remembered(index, step)
        seen = self.network.recall(frame.embedding, memory, position, num_pointers)
        sparse, dense = self._unprompted(memory.shape[1])
        answer = self._ask(FrameMaps(seen, frame.levels), sparse, dense, self._is_ambiguous(0, tracking=True))
        kept = self._memory(frame, answer, self._high_res(answer.low_res).sigmoid())
        self.bank.remember(index, kept, start=min(self.bank.prompted))
        return TrackedObjects(answer.low_res, answer.presence)

    def _is_ambiguous(self, num_points: int, *, tracking: bool = False) -> bool:
        config = self._config
        return (
            config.multimask_output_in_sam
            and (config.multimask_output_for_tracking or not tracking)
            and config.multimask_min_pt_num <= num_points <= config.multimask_max_pt_num
        )

    def _unprompted(self, count: int) -> tuple[Tensor, Tensor]:
        """Tokens and map of a frame that nobody said anything about."""
        device = self.network.device
        return self.network.embed_prompts(
            PointPrompt(torch.zeros(count, 1, 2, device=device), torch.full((count, 1), -1, device=device))
        )

    def _ask(self, maps: FrameMaps, sparse: Tensor, dense: Tensor, multimask: bool) -> _Answer:
        """SAM's heads, with the best of several masks."""
        drawn = self.network.draw(maps, sparse, dense, multimask=multimask)
        best = drawn.iou.argmax(1)
        rows = torch.arange(len(best), device=best.device)
        present = drawn.presence > 0
        low_res = torch.where(present[:, None, None], drawn.mask_logits[rows, best], ABSENT_LOGIT)
        return _Answer(low_res, self.network.pointers(drawn.tokens[rows, best], present), drawn.presence)

    def _high_res(self, low_res: Tensor) -> Tensor:
        size = (self.network.side, self.network.side)
        return functional.interpolate(low_res[:, None], size, mode="bilinear", align_corners=False)[:, 0]

    def _know(self, index: int, frame: FrameFeatures, answer: _Answer, masks: Tensor) -> None:
        self.bank.prompted[index] = self._memory(frame, answer, masks.float())

    def _memory(self, frame: FrameFeatures, answer: _Answer, mask_probs: Tensor) -> Memory:
        return Memory(
            self.network.memorise(frame.embedding, mask_probs, answer.presence > 0), answer.pointers
        )

    def _remembered(self, index: int, step: int) -> tuple[Tensor, Tensor, int]:
        """All that a frame looks at: values and positions [L, N, 64], and how many of L are of pointers."""
        network = self.network
        in_time = network.model.memory_temporal_positional_encoding
        maps = self.bank.maps(index, step)
        values = [remembered.float() for _, remembered in maps]
        # Row k - 1 is for k frames ago, the last row for prompted frames.
        where = network.places(values[0].shape[-1])
        positions = [where + in_time[place - 1].float() for place, _ in maps]
        tokens, places = self._pointer_tokens(self.bank.pointers(index, step), values[0].shape[-1])
        count = values[0].shape[1]
        positions = [each.expand(-1, count, -1) for each in (*positions, *places)]
        return torch.cat([*values, *tokens]), torch.cat(positions), sum(len(each) for each in tokens)

    def _pointer_tokens(
        self, pointers: Sequence[tuple[int, Tensor]], width: int
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Pointers as tokens as wide as a map's cells, several for each: [L, N, width], and when they are of,
        [L, 1, width]; one of each in lists, or none.
        """
        if not pointers:
            return [], []
        times, values = zip(*pointers, strict=True)
        stacked = torch.stack(values)
        parts = stacked.shape[-1] // width
        tokens = stacked.unflatten(2, (parts, width)).transpose(1, 2).flatten(0, 1)
        if not self._config.enable_temporal_pos_encoding_for_object_pointers:
            return [tokens], [tokens.new_zeros(len(tokens), 1, width)]
        since = torch.tensor(times, device=tokens.device, dtype=torch.float32) / (self.bank.num_pointers - 1)
        waves = time_sines(since, stacked.shape[-1]).to(self.network.weights_dtype)
        with self.network.precision():
            places = self.network.model.temporal_positional_encoding_projection_layer(waves).float()
        return [tokens], [places[:, None].repeat_interleave(parts, 0)]


def _num_points(prompts: Sequence[Prompt]) -> int:
    """How many points an object was given; a box counts as its two corners."""
    points = sum(prompt.points.shape[1] for prompt in prompts if isinstance(prompt, PointPrompt))
    return points + 2 * sum(isinstance(prompt, BoxPrompt) for prompt in prompts)


def _resized(masks: Tensor, side: int) -> Tensor:
    """float [N, 1, ...] to [N, 1, side, side]."""
    return functional.interpolate(masks, (side, side), mode="bilinear", align_corners=False, antialias=True)
