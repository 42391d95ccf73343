"""What training needs, in miniature: an MLLM with adapters, a vision tower, a SAM, an example to learn."""

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn import functional

from model.mllm.cells import NUM_CLASS_WORDS, NUM_KINDS, FrameCells
from model.mllm.mllm import MLLM
from model.sam.build import Sam
from model.sam.segmenter import SamSegmenter
from tests.tiny_mllm import CLASS_NAMES, FEATURE_DIM, POINT_DIM, random_cells, tiny_mllm
from visa.embedded_mllm import LORA, LORA_TARGETS
from visa.training.examples import Example, TaughtTurn

ROWS, COLS = 4, 5
TAUGHT = (
    TaughtTurn("the goat", "It is the goat. [SEG]", (0,)),
    TaughtTurn("the taxi", "It is the taxi. [SEG]", (1,)),
    TaughtTurn("the red bus", "There is no red bus in the video.", ()),
)


class TinyTower(nn.Module):
    """Cells that are a frozen linear map of a frame's mean colours."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(3, FEATURE_DIM)
        self.requires_grad_(False)

    def forward(self, frames: np.ndarray) -> list[FrameCells]:
        pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()
        colours = functional.adaptive_avg_pool2d(pixels, (ROWS, COLS)).permute(0, 2, 3, 1) / 127.5 - 1
        classes = torch.arange(NUM_CLASS_WORDS).expand(ROWS, COLS, -1) % len(CLASS_NAMES)
        probs = torch.full((ROWS, COLS, NUM_CLASS_WORDS), 1 / NUM_CLASS_WORDS)
        kinds = torch.zeros(ROWS, COLS, NUM_KINDS)
        points = functional.normalize(torch.ones(ROWS, COLS, POINT_DIM), dim=-1)
        return [FrameCells(self.mix(colour), colour, kinds, classes, probs, points) for colour in colours]


class PooledEncoder(nn.Module):
    """Stands in for SAM's image encoder: a frozen linear map of mean colours."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Conv2d(3, 256, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.mix(functional.avg_pool2d(images, 16))


def tiny_trainable(seed: int = 0) -> MLLM:
    """The tiny MLLM, its LM frozen but for adapters, as `visa.embedded_mllm` builds the real one."""
    torch.manual_seed(seed)
    mllm = tiny_mllm(seed, TinyTower())
    # So few class names span no word space that the head could start from.
    mllm.head.query_words.reset_parameters()
    mllm.head.key_words.reset_parameters()
    mllm.language.requires_grad_(False)
    # The LM's words are frozen: as small as they start, it could hardly prefer one to another.
    mllm.language.get_input_embeddings().weight.mul_(20)
    mllm.language = get_peft_model(mllm.language, LoraConfig(target_modules=LORA_TARGETS, **LORA))
    return mllm


def tiny_sam(seed: int = 0) -> SamSegmenter:
    """SAM with random weights and an encoder that costs nothing; all but its mask decoder is frozen."""
    torch.manual_seed(seed)
    sam = Sam(PooledEncoder(), 1024).eval()
    sam.image_encoder.requires_grad_(False)
    sam.prompt_encoder.requires_grad_(False)
    return SamSegmenter(sam)


def tiny_example(seed: int = 0, turns: tuple[TaughtTurn, ...] = TAUGHT, num_frames: int = 2) -> Example:
    """A target frame of 9 x 15 of SAM's cells, the goat on its left and the taxi on its right."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(2, 256, 256)
    masks[0, 8:24, 4:24] = 1.0
    masks[1, 12:32, 34:56] = 1.0
    return Example(
        frames=tuple(random_cells(ROWS, COLS, seed=seed + k) for k in range(num_frames)),
        words=None,
        percents=tuple(10 * k for k in range(num_frames)),
        sam_features=torch.randn(256, 9, 15, generator=generator) * 0.1,
        object_masks=masks,
        input_size=(144, 240),
        turns=turns,
    )
