"""The [SEG] head: the hidden state that predicts [SEG] becomes a prompt for SAM.

Two things come out of it. The published one (LISA, VISA, VideoLISA): an MLP maps the state to SAM's prompt
space. And one that small models need: the same state, as a query, is compared with a key of every cell of
SAM's feature map, which gives a heat map of where the thing is; SAM takes it as its mask prompt. SAM's own
features know edges but not names, so the keys also carry what the MLLM knows of each place.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

PROMPT_DIM = 256
# Scales of the first word match: a question is mostly other words, so its mean is far shorter than a name.
WORD_QUERY_GAIN = 1.5
WORD_KEY_GAIN = 1.0


@dataclass(frozen=True)
class Grounding:
    """What the head says of N questions about one frame.

    embeddings: float [N, 1, 256], SAM prompt embeddings.
    heat_logits: float [N, h, w] on the grid of SAM's unpadded features; > 0 where the thing probably is.
    """

    embeddings: torch.Tensor
    heat_logits: torch.Tensor


class SegProjector(nn.Sequential):
    """The published MLP, Linear → ReLU → Linear, from the LLM to SAM's prompt space (LISA, section 3.2)."""

    def __init__(self, hidden_dim: int, out_dim: int = PROMPT_DIM):
        super().__init__(nn.Linear(hidden_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, out_dim))


def position_features(rows: int, cols: int, device=None) -> torch.Tensor:
    """Float [rows, cols, 10]: x and y of each cell's centre in [-1, 1] and their sines and cosines."""
    y = (torch.arange(rows, device=device) + 0.5) / rows * 2 - 1
    x = (torch.arange(cols, device=device) + 0.5) / cols * 2 - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    waves = [grid, *(wave(grid * math.pi * k) for k in (0.5, 1.0) for wave in (torch.sin, torch.cos))]
    return torch.cat(waves, dim=-1)


class GroundingHead(nn.Module):
    """Prompt embedding and heat map of each [SEG] state.

    Args:
        hidden_dim: width D of the LLM.
        cell_dim: width of the vision tower's cells.
        sam_dim: channels of SAM's feature map.
        key_dim: width of queries and keys.
    """

    def __init__(self, hidden_dim: int, cell_dim: int, sam_dim: int = 256, key_dim: int = 256):
        super().__init__()
        self.prompt = SegProjector(hidden_dim)
        self.query_norm = nn.LayerNorm(hidden_dim)
        self.query = nn.Sequential(
            nn.Linear(hidden_dim, 2 * key_dim), nn.GELU(), nn.Linear(2 * key_dim, key_dim)
        )
        self.query_words = nn.Linear(hidden_dim, key_dim)
        self.key_state = nn.Sequential(nn.LayerNorm(hidden_dim), nn.Linear(hidden_dim, key_dim))
        self.key_cell = nn.Sequential(nn.LayerNorm(cell_dim), nn.Linear(cell_dim, key_dim))
        self.key_words = nn.Linear(hidden_dim, key_dim)
        self.key_sam = nn.Linear(sam_dim, key_dim)
        self.key_position = nn.Linear(10, key_dim)
        self.key_mix = nn.Sequential(nn.GELU(), nn.Linear(key_dim, key_dim))
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.bias = nn.Parameter(torch.tensor(-2.0))
        self.presence_gain = nn.Parameter(torch.tensor(1.0))
        self.presence_bias = nn.Parameter(torch.tensor(-1.0))

    @torch.no_grad()
    def align_words(self, embeddings: torch.Tensor) -> None:
        """Start where a word in the question is hottest on cells that look like that word.

        Both projections become the same principal axes of the word space, whitened, so that query · key
        measures how alike two words are before anything is learnt.

        Args:
            embeddings: float [n, D], word embeddings of many names, n > key_dim.
        """
        mean = embeddings.mean(0)
        _, spread, axes = torch.linalg.svd(embeddings - mean, full_matrices=False)
        kept = min(self.query_words.out_features, len(axes))
        spread = spread[:kept, None] / math.sqrt(len(embeddings))
        whitened = axes[:kept] / spread.clamp(min=1e-2 * spread.max())
        for projection, gain in ((self.query_words, WORD_QUERY_GAIN), (self.key_words, WORD_KEY_GAIN)):
            projection.weight.zero_()
            projection.weight[:kept] = whitened * gain
            projection.bias.copy_(-projection.weight @ mean)

    def keys(
        self,
        states: torch.Tensor,
        cells: torch.Tensor,
        words: torch.Tensor,
        sam_features: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Keys of every cell of SAM's grid, or of the vision tower's.

        Args:
            states: float [r, c, D], the LLM's last hidden states at the target frame's visual tokens.
            cells: float [r', c', cell_dim], the vision tower's cells of the target frame.
            words: float [r', c', D], class words of the cells in the LLM's embedding space.
            sam_features: float [256, h, w], SAM's unpadded features of the target frame; None makes keys of
                the tower's cells, for a look before SAM has been asked.

        Returns:
            float [h, w, key_dim].
        """
        size = words.shape[:2] if sam_features is None else sam_features.shape[-2:]

        def spread(grid: torch.Tensor) -> torch.Tensor:
            image = grid.permute(2, 0, 1)[None].float()
            larger = functional.interpolate(image, size=size, mode="bilinear", align_corners=False)
            return larger[0].permute(1, 2, 0)

        key = spread(self.key_words(words)) + spread(self.key_cell(cells)) + spread(self.key_state(states))
        key = key + self.key_position(position_features(*size, device=words.device))
        if sam_features is not None:
            key = key + self.key_sam(sam_features.permute(1, 2, 0))
        return key + self.key_mix(key)

    def heat_logits(
        self, llm_states: torch.Tensor, word_means: torch.Tensor, keys: torch.Tensor
    ) -> torch.Tensor:
        """How well each key answers each state: float [N, h, w]. Arguments as `forward`'s."""
        query = self.query(self.query_norm(llm_states)) + self.query_words(word_means)
        heat = torch.einsum("nd,hwd->nhw", query, keys) / math.sqrt(keys.shape[-1])
        return heat * self.scale + self.bias

    def presence_logits(
        self, question_states: torch.Tensor, word_means: torch.Tensor, keys: torch.Tensor
    ) -> torch.Tensor:
        """Whether what N questions ask for is in the frame at all, before anything is answered: float [N].

        A soft maximum of the heat that the question alone causes. It lowers the MLLM's readiness to refuse:
        a small LLM, left to itself, takes its yes or no from the sound of the question.

        Args:
            question_states: float [N, D], hidden states at the last token of each prompt.
            word_means: float [N, D], mean word embedding of each question.
            keys: float [h, w, key_dim] of the target frame, from `keys` without SAM's features.
        """
        return self.presence_of(self.heat_logits(question_states, word_means, keys))

    def presence_of(self, heat_logits: torch.Tensor) -> torch.Tensor:
        """Presence logits [N] from heat [N, h, w]: a soft maximum over the cells."""
        return self.presence_gain * (2 * heat_logits).flatten(1).logsumexp(1) / 2 + self.presence_bias

    def meaning_logits(
        self, llm_states: torch.Tensor, word_means: torch.Tensor, words: torch.Tensor
    ) -> torch.Tensor:
        """How hot N states would make places that look like each of M words and nothing else: float [N, M].

        Args:
            llm_states, word_means: as `forward`'s. words: float [M, D] in the LLM's embedding space.
        """
        keys = self.key_words(words)
        return self.heat_logits(llm_states, word_means, (keys + self.key_mix(keys))[None])[:, 0]

    def forward(self, seg_states: torch.Tensor, word_means: torch.Tensor, keys: torch.Tensor) -> Grounding:
        """Ground N [SEG] states.

        Args:
            seg_states: float [N, D], hidden states of the positions that predict [SEG].
            word_means: float [N, D], mean word embedding of each question and its answer up to [SEG].
            keys: float [h, w, key_dim] of the target frame.
        """
        return Grounding(self.prompt(seg_states)[:, None], self.heat_logits(seg_states, word_means, keys))
