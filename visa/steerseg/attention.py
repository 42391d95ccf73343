"""Two passes through a backbone become attention maps: every keyframe alone, and all of them as one video.

Shapes: K keyframes, H W pixels, h w and h' w' cells, t steps of the video.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from model.backbones.backbone import Backbone, ChatTurn, Packed
from model.steering.rollout import RolloutSettings
from model.steering.soft_prompt import STREAMS, SoftPrompt, Stream
from visa.frame_sources import DEFAULT_FPS
from visa.steerseg.maps import keyframes_shown, span_maps


@dataclass(frozen=True)
class Looking:
    """How a backbone is looked at while it is about to answer.

    backbone: frozen. rollout: of its attention. soft_prompts: at most one for each stream; without one the
    stream's attention is not steered. max_tokens: the most visual tokens of one frame, for each stream; None
    leaves it to the backbone.

    Raises:
        ValueError: a prompt under another stream than its own, or of another width than the backbone's.
    """

    backbone: Backbone
    rollout: RolloutSettings
    soft_prompts: Mapping[Stream, SoftPrompt] = field(default_factory=dict)
    max_tokens: Mapping[Stream, int | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for stream, prompt in self.soft_prompts.items():
            if stream not in STREAMS or prompt.stream != stream:
                raise ValueError(f"the soft prompt of the {prompt.stream} stream cannot steer {stream!r}")
            if prompt.width != self.backbone.width:
                raise ValueError(
                    f"the soft prompt of the {stream} stream has width {prompt.width}, "
                    f"the backbone {self.backbone.width}: load the prompt that was trained for it"
                )

    def frame_map(self, frame: np.ndarray, question: str) -> Tensor:
        """Attention on one keyframe uint8 [H, W, 3], read alone: float32 [h, w].

        Raises:
            ValueError: the backbone shows one frame in several pieces.
        """
        packed = self.pack(frame[None], question, "frame")
        if len(packed.layout.frames) != 1:
            raise ValueError(f"one frame must be one grid, not {len(packed.layout.frames)}; lower max_tokens")
        return span_maps(self._rolled_out(packed, "frame"), packed.layout.frames)[0]

    def video_maps(
        self, frames: np.ndarray, question: str, seconds: Sequence[float]
    ) -> tuple[Tensor, tuple[tuple[int, ...], ...]]:
        """Attention on keyframes uint8 [K, H, W, 3], read together.

        Args:
            seconds: when each is seen.

        Returns:
            float32 [t, h', w'], and which keyframes each of them shows.
        """
        packed = self.pack(frames, question, "video", seconds)
        maps = span_maps(self._rolled_out(packed, "video"), packed.layout.frames)
        return maps, keyframes_shown(packed.layout.frames, len(frames))

    def say(self, frames: np.ndarray, question: str, max_new_tokens: int, seconds: Sequence[float]) -> str:
        """What the backbone answers to any question about keyframes, read as a video; never steered."""
        packed = self.pack(frames, question, "video", seconds, steered=False)
        return self.backbone.generate(packed, max_new_tokens)

    def pack(
        self,
        frames: np.ndarray,
        question: str,
        stream: Stream,
        seconds: Sequence[float] | None = None,
        *,
        steered: bool = True,
    ) -> Packed:
        """Frames, then the question, and room for the stream's soft prompt if it has one."""
        prompt = self.soft_prompts.get(stream) if steered else None
        return self.backbone.pack(
            frames,
            [ChatTurn("user", question)],
            stream=stream,
            soft=None if prompt is None else prompt.place,
            max_tokens_per_frame=self.max_tokens.get(stream),
            seconds=seconds,
        )

    def _rolled_out(self, packed: Packed, stream: Stream) -> Tensor:
        prompt = self.soft_prompts.get(stream)
        vectors = None if prompt is None else prompt()
        # What is rolled out here is only looked at; training runs the backbone itself.
        with torch.no_grad():
            output = self.backbone.forward(packed, soft_prompt=vectors, return_attention=self.rollout)
        return output.rollout.cpu()


def seen_at(frames: Sequence[int], fps: float = DEFAULT_FPS) -> list[float]:
    """When frames of a video are seen, in seconds: what a backbone that reads the clock is told.

    Args:
        frames: their indices.
        fps: of the video; by default what `visa.video` takes a folder of images for.
    """
    return [index / fps for index in frames]
