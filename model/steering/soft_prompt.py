"""Soft prompts: learnt vectors in place of words, all that is trained when a frozen model is steered.

A prompt belongs to one backbone, one width and one stream (frames read alone, or a clip read as a whole); its
file says which, and a prompt made for another is refused. It may also say, by a mark, which weights it was
trained on; whoever loads prompt and backbone compares. SteerSeg, arXiv 2605.14908.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

Position = Literal["before_vision", "before_text"]
Stream = Literal["frame", "video"]
POSITIONS = ("before_vision", "before_text")
STREAMS = ("frame", "video")
TENSOR_NAME = "soft_prompt"


@dataclass(frozen=True)
class SoftPlace:
    """Room for a soft prompt in a sequence.

    n: number of tokens. position: ``before_vision`` puts them before the frames, so that they change the
    frames' keys as well; ``before_text`` between the frames and the words, where they change only what the
    words look for. Which of the two SteerSeg uses is not published.
    """

    n: int = 64
    position: Position = "before_vision"

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"a soft prompt has at least one token, not {self.n}")
        if self.position not in POSITIONS:
            raise ValueError(f"a soft prompt stands {' or '.join(POSITIONS)}, not {self.position!r}")


class SoftPrompt(nn.Module):
    """The learnt vectors of one stream of one backbone.

    Args:
        vectors: float [n, D], their first values; kept in float32.
        backbone: whose embedding space they live in.
        stream: ``frame`` or ``video``.
        position: see `SoftPlace`.
        weights: the mark of the backbone's weights that it was trained on; None: nobody knows.
    """

    def __init__(
        self,
        vectors: torch.Tensor,
        backbone: str,
        stream: Stream,
        position: Position = "before_vision",
        weights: str | None = None,
    ):
        super().__init__()
        if stream not in STREAMS:
            raise ValueError(f"a soft prompt's stream is {' or '.join(STREAMS)}, not {stream!r}")
        self.place = SoftPlace(len(vectors), position)
        self.backbone, self.stream, self.weights = backbone, stream, weights
        self.vectors = nn.Parameter(vectors.detach().float().clone())

    @property
    def width(self) -> int:
        """Width D of the backbone's language model."""
        return self.vectors.shape[1]

    def forward(self) -> torch.Tensor:
        """The vectors, float32 [n, D]."""
        return self.vectors

    @classmethod
    def from_words(
        cls,
        table: torch.Tensor,
        place: SoftPlace,
        backbone: str,
        stream: Stream,
        *,
        weights: str | None = None,
        generator: torch.Generator | None = None,
    ) -> SoftPrompt:
        """A prompt that starts as words drawn at random, each brought to the table's usual length.

        Zeros would be no start: a normalisation has no direction for them.

        Args:
            table: float [V, D], the embeddings to draw from (of ordinary words; no control tokens).
            generator: on the CPU; without one the global one draws.
        """
        drawn = torch.randperm(len(table), generator=generator)[: place.n]
        if len(drawn) < place.n:
            raise ValueError(f"{place.n} different words cannot be drawn from {len(table)}")
        words = table.detach()[drawn.to(table.device)].float()
        lengths = words.norm(dim=1, keepdim=True).clamp(min=1e-6)
        usual = table.detach().float().norm(dim=1).median()
        return cls(words / lengths * usual, backbone, stream, place.position, weights)

    def save(self, path: Path, dtype: torch.dtype = torch.bfloat16) -> None:
        """Write one small safetensors file, whole or not at all.

        Args:
            dtype: bfloat16, as the backbones compute; 64 vectors of 3584 then take 459 kB.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        belongs = {
            "backbone": self.backbone,
            "width": str(self.width),
            "stream": self.stream,
            "n": str(self.place.n),
            "position": self.place.position,
        }
        if self.weights is not None:
            belongs["weights"] = self.weights
        _write(path, self.vectors.detach().to("cpu", dtype).contiguous(), belongs)

    @classmethod
    def load(cls, path: Path, *, backbone: str, width: int, stream: Stream) -> SoftPrompt:
        """Read a prompt that is meant for this backbone, width and stream.

        Raises:
            ValueError: there is no such file, it holds no soft prompt, or one for something else.
        """
        vectors, belongs = _read(path)
        wanted = {"backbone": backbone, "width": str(width), "stream": stream, "n": str(len(vectors))}
        wanted["position"] = belongs.get("position") if belongs.get("position") in POSITIONS else POSITIONS[0]
        for name, value in wanted.items():
            if belongs.get(name) != value:
                raise ValueError(
                    f"{path} is a soft prompt of {name} {belongs.get(name)!r}, not {value!r}: "
                    "train one for this (train_ds.py --config train/steerseg) or load what it was made for"
                )
        if vectors.shape[1] != width or not vectors.isfinite().all():
            raise ValueError(f"{path} is damaged: expected finite vectors of width {width}")
        return cls(vectors, backbone, stream, belongs["position"], belongs.get("weights"))


def mark_file(path: Path, weights: str) -> None:
    """Write into a prompt's file which weights it was trained on; its vectors stay bit for bit.

    Raises:
        ValueError: there is no such file, or it holds no soft prompt.
    """
    vectors, belongs = _read(path)
    _write(path, vectors, {**belongs, "weights": weights})


def _read(path: Path) -> tuple[torch.Tensor, dict[str, str]]:
    """The vectors [n, D] as they are stored, and what the file says of them.

    Raises:
        ValueError: there is no such file, or it holds no soft prompt.
    """
    try:
        with safe_open(path, "pt") as file:
            belongs = file.metadata() or {}
            vectors = file.get_tensor(TENSOR_NAME) if TENSOR_NAME in set(file.keys()) else None
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read as a soft prompt: {error}") from error
    if vectors is None or vectors.ndim != 2 or "backbone" not in belongs:
        raise ValueError(f"{path} holds no soft prompt")
    return vectors, belongs


def _write(path: Path, vectors: torch.Tensor, belongs: dict[str, str]) -> None:
    """The file, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    # By `write_bytes`, for others may read it: safetensors' own files are the owner's alone.
    partial.write_bytes(save({TENSOR_NAME: vectors}, belongs))
    partial.replace(path)
