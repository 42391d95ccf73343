"""What the embedded vision tower sees: a grid of cells per frame, each with features, a colour and class
words.

The tower is a frozen ImageNet classifier used as a dense one, its classifier applied to every cell, beside a
semantic segmenter and CLIP. Their words (`model.mllm.words`) are what lets a 135 M model be glued to pictures
in minutes instead of days.
"""

import math
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from model import deeplab, efficientnet
from model.clip_pictures import ClipPictures
from model.mllm.grounding import position_features
from model.name_table import seen_from

NUM_CLASS_WORDS = 8
NUM_THINGS = 6  # of them from the classifier, the others from the semantic network
NUM_KINDS = 20
# Share of a cell's words that the kinds may take where the semantic network is certain.
KIND_TRUST = 0.6
# The semantic network was trained on pictures of 513 pixels: it sees frames smaller than the classifier does.
SEMANTIC_SCALE = 0.8


@dataclass(frozen=True)
class FrameCells:
    """One frame on the tower's grid of r rows and c columns.

    features: float [r, c, C]; colour: float [r, c, 3], mean RGB in [-1, 1];
    kinds: float [r, c, 20], how much of the cell the semantic network gives to each of its kinds;
    class_indices: int64 [r, c, 8], the most likely classes of the cell; class_probs: float [r, c, 8], summing
        to 1. Classes are those of the classifier, then the kinds.
    points: float [r, c, P], CLIP's, seen from the centre of such points, of length 1.
    """

    features: torch.Tensor
    colour: torch.Tensor
    kinds: torch.Tensor
    class_indices: torch.Tensor
    class_probs: torch.Tensor
    points: torch.Tensor

    def to(self, device: torch.device) -> "FrameCells":
        """The same on another device."""
        return FrameCells(*(getattr(self, field.name).to(device) for field in fields(self)))


def grid_for(height: int, width: int, budget: int) -> tuple[int, int]:
    """Rows and columns of about ``budget`` cells in all, as square as the frame's shape allows."""
    rows = max(1, min(budget, round(math.sqrt(budget * height / width))))
    return rows, max(1, budget // rows)


class ClassifierTower(nn.Module):
    """An image classifier, applied to every cell, a semantic segmenter and CLIP as one vision tower.

    The classifier knows a thousand things but no people; the segmenter knows twenty kinds, people among them,
    and where they end; CLIP knows a little of everything, drawn or filmed.

    Args:
        classifier: an EfficientNet-Lite0.
        semantic: a DeepLab with 20 kinds behind its background class.
        pictures: CLIP's image tower.
        centre: float [P], the mean of such points over many frames.
        area: pixels the classifier sees of a frame, about; both sides become multiples of 32.
    """

    def __init__(
        self,
        classifier: nn.Module,
        semantic: nn.Module,
        pictures: ClipPictures,
        centre: torch.Tensor,
        area: int = 640 * 360,
    ):
        super().__init__()
        self.classifier, self.semantic, self.pictures = classifier, semantic, pictures
        self.register_buffer("centre", centre.float(), persistent=False)
        self.area = area

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width the classifier sees of such a frame (at most 8:1; thinner ones are stretched)."""
        ratio = min(max(width / height, 1 / 8), 8.0)
        rows = max(1, round(math.sqrt(self.area / ratio) / 32))
        return 32 * rows, 32 * max(1, round(self.area / (32 * rows) / 32))

    @torch.inference_mode()
    def forward(self, frames: np.ndarray) -> list[FrameCells]:
        """Cells of each frame.

        Args:
            frames: uint8 [T, H, W, 3].
        """
        weight = next(self.classifier.parameters())
        pixels = torch.from_numpy(np.ascontiguousarray(frames)).to(weight.device)
        size = self.input_size(*frames.shape[1:3])
        images = efficientnet.normalise(pixels, size)
        features = self.classifier.features(images.to(weight.dtype))
        grid = features.shape[-2:]
        things = self.classifier.classify_cells(features).float().softmax(dim=1).topk(NUM_THINGS, dim=1)
        smaller = (
            16 * round(size[0] * SEMANTIC_SCALE / 16) + 1,
            16 * round(size[1] * SEMANTIC_SCALE / 16) + 1,
        )
        semantic = (
            self.semantic.logits(deeplab.normalise(pixels, smaller).to(weight.dtype)).float().softmax(dim=1)
        )
        kinds = functional.adaptive_avg_pool2d(semantic, grid)[:, 1:]
        top_kinds = kinds.topk(NUM_CLASS_WORDS - NUM_THINGS, dim=1)
        thing_weights = things.values / things.values.sum(dim=1, keepdim=True)
        kind_share = kinds.sum(dim=1, keepdim=True) * KIND_TRUST
        kind_weights = top_kinds.values / top_kinds.values.sum(dim=1, keepdim=True).clamp(min=1e-6)
        num_things = efficientnet.NUM_CLASSES
        indices = torch.cat([things.indices, top_kinds.indices + num_things], dim=1)
        probs = torch.cat([thing_weights * (1 - kind_share), kind_weights * kind_share], dim=1)
        colour = functional.adaptive_avg_pool2d(images, grid)
        maps = (features, colour, kinds, indices, probs, self._points(frames, grid))
        return [FrameCells(*(m[t].permute(1, 2, 0).contiguous() for m in maps)) for t in range(len(frames))]

    def _points(self, frames: np.ndarray, grid: tuple[int, int]) -> torch.Tensor:
        """CLIP's points of frames on the tower's grid: float [T, P, r, c]."""
        points = functional.interpolate(
            self.pictures.places(frames), grid, mode="bilinear", antialias=True, align_corners=False
        )
        return seen_from(self.centre, points.movedim(1, -1)).movedim(-1, 1)


class CellProjector(nn.Module):
    """The projector: cells into the LLM's embedding space.

    A cell becomes its class words plus a learnt part made of its features, colour and place; cells are then
    averaged to the grid of tokens the sequence has room for.

    Args:
        feature_dim: channels C of the tower.
        hidden_dim: the LLM's width D.
        point_dim: length P of CLIP's points.
        word_scale: root mean square of the LLM's own word embeddings.
    """

    def __init__(self, feature_dim: int, hidden_dim: int, point_dim: int, word_scale: float = 0.1):
        super().__init__()
        self.features = nn.Sequential(nn.LayerNorm(feature_dim), nn.Linear(feature_dim, hidden_dim))
        self.plain = nn.Linear(13 + NUM_KINDS, hidden_dim)
        self.points = nn.Linear(point_dim, hidden_dim, bias=False)
        self.mix = nn.Sequential(nn.LayerNorm(hidden_dim), nn.Linear(hidden_dim, hidden_dim), nn.GELU())
        self.out = nn.Linear(hidden_dim, hidden_dim)
        self.word_gain = nn.Parameter(torch.tensor(1.0))
        nn.init.normal_(self.out.weight, std=word_scale / math.sqrt(hidden_dim))
        nn.init.zeros_(self.out.bias)

    def forward(self, cells: FrameCells, words: torch.Tensor) -> torch.Tensor:
        """Float [r, c, D] of one frame; ``words`` is float [r, c, D], see `model.mllm.words`."""
        place = position_features(*cells.colour.shape[:2], device=cells.colour.device)
        plain = torch.cat([cells.colour.float(), place, cells.kinds.float()], dim=-1)
        # Each number of a point is near 1, as the features' are.
        points = cells.points.float() * math.sqrt(cells.points.shape[-1])
        seen = self.features(cells.features.float()) + self.plain(plain) + self.points(points)
        return words * self.word_gain + self.out(self.mix(seen))


def pool_cells(cells: torch.Tensor, rows: int, cols: int) -> torch.Tensor:
    """Average float [r, c, D] to the token grid [rows, cols, D]."""
    return functional.adaptive_avg_pool2d(cells.permute(2, 0, 1)[None], (rows, cols))[0].permute(1, 2, 0)
