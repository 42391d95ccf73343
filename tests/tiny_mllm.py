"""A tiny MLLM with random weights and a tokenizer made on the spot: for tests, no download."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from model.mllm.cells import NUM_CLASS_WORDS, NUM_KINDS, FrameCells
from model.mllm.mllm import MLLM, TokenBudget
from model.name_table import NameTable

FEATURE_DIM, POINT_DIM = 12, 7
CLASS_NAMES = ["goat", "black swan", "taxi", "umbrella"] * 3
SENTENCES = ["user assistant target 0123456789%:.?", "It is the goat.", "There is no red bus in the video."]


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that knows ChatML's control tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|im_end|>")


def tiny_mllm(seed: int = 0, tower: nn.Module | None = None) -> MLLM:
    """Two layers, width 32."""
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True,
    )  # fmt: skip
    language = LlamaForCausalLM(config).eval()
    budget = TokenBudget(target=8, reference=4)
    mllm = MLLM(language, tokenizer, tower or nn.Identity(), CLASS_NAMES, tiny_names(), FEATURE_DIM, budget)
    return mllm.eval()


def tiny_names() -> NameTable:
    """Eight names at random places, some of things that are also classes."""
    names = ("goat", "taxi", "red bus", "teapot", "kite", "owl", "sofa", "drum")
    generator = torch.Generator().manual_seed(5)
    places = functional.normalize(torch.randn(len(names), POINT_DIM, generator=generator), dim=1)
    return NameTable(names, ((),) * len(names), torch.zeros(POINT_DIM), torch.zeros(POINT_DIM), places)


def random_cells(rows: int = 4, cols: int = 6, seed: int = 0) -> FrameCells:
    """A frame's cells drawn at random."""
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    probs = rand(rows, cols, NUM_CLASS_WORDS)
    return FrameCells(
        features=rand(rows, cols, FEATURE_DIM),
        colour=rand(rows, cols, 3) * 2 - 1,
        kinds=rand(rows, cols, NUM_KINDS) / NUM_KINDS,
        class_indices=torch.randint(len(CLASS_NAMES), (rows, cols, NUM_CLASS_WORDS), generator=generator),
        class_probs=probs / probs.sum(-1, keepdim=True),
        points=functional.normalize(rand(rows, cols, POINT_DIM) - 0.5, dim=-1),
    )
