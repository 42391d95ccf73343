"""VISA-7B's shape with random weights in bfloat16: seconds a question, tokens a second, memory.

    python benchmarks/visa_7b.py [--attention sdpa flash_attention_2] [--frames 60] [--questions 3] [--tiny]

The networks have their published sizes (LLaMA-7B, CLIP ViT-L/14, SAM ViT-H, XMem) and no checkpoint; the MLLM
reads 12 frames, 11 references and the target, of a video of 854x480. It wants a GPU of 24 GB. ``--tiny`` goes
the same way with a few channels on any machine, to see that it goes at all.
"""

from __future__ import annotations

import argparse
import sys
import time

import questions

TOKENS = 64  # written to tell their speed
FRAMES_READ = 12


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--attention", nargs="+", default=["sdpa"], metavar="NAME", help="default: sdpa")
    parser.add_argument("--frames", type=int, default=60, metavar="T", help="of the video; default: 60")
    parser.add_argument("--questions", type=int, default=3, metavar="N", help="default: 3")
    parser.add_argument("--tiny", action="store_true", help="a few channels, on whatever machine this is")
    options = parser.parse_args(arguments)
    import machine
    import torch

    if not options.tiny and not torch.cuda.is_available():
        parser.error("7B parameters want a GPU, and torch sees none; --tiny runs anywhere")
    print(f"{machine.describe()}\n")
    print("| attention | first question, s | a further one, s | tokens/s | peak GPU memory, GB |")
    print(f"|{' --- |' * 5}")
    for attention in options.attention:
        cells = measure(attention, options.frames, options.questions, tiny=options.tiny)
        print(f"| {attention} | {' | '.join(cells)} |", flush=True)
    return 0


def measure(attention: str, num_frames: int, num_questions: int, *, tiny: bool) -> list[str]:
    """The table's cells for one attention implementation; the model is built for it and thrown away."""
    import torch

    on_gpu = torch.cuda.is_available()
    segmenter = visa_like(attention, tiny=tiny)
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    segmenter.segment(moving_squares(2), "what makes the GPU ready")
    video, seconds = moving_squares(num_frames), []
    for number in range(num_questions):
        start = time.perf_counter()
        segmenter.segment(video, f"the thing that is number {number}")  # its masks come to the CPU
        seconds.append(time.perf_counter() - start)
    speed = tokens_per_second(segmenter)
    peak = f"{torch.cuda.max_memory_allocated() / 1e9:.1f}" if on_gpu else "n.m."
    further = min(seconds[1:], default=None)
    return [f"{seconds[0]:.2f}", "n.m." if further is None else f"{further:.2f}", f"{speed:.1f}", peak]


def tokens_per_second(segmenter) -> float:
    """How fast an answer is written behind frames that are read."""
    import torch

    from model.mllm.decoding import Decoding
    from model.mllm.splicing import IMAGE_TOKEN

    model = segmenter.reasoner.model
    weight = model.projector.weight
    tokens = torch.randn(FRAMES_READ * model.tokens_per_frame, len(weight)).to(weight)
    counts = [model.tokens_per_frame] * FRAMES_READ
    reading = model.read(torch.tensor([1, *[IMAGE_TOKEN] * FRAMES_READ]), counts, tokens)
    spent = 0.0
    for count in (8, TOKENS):  # once to get ready
        start = time.perf_counter()
        written = model.generate(reading, torch.arange(3, 9), Decoding((), count)).ids.tolist()
        spent = time.perf_counter() - start
    return len(written) / spent


def moving_squares(num_frames: int):
    """A video of coloured squares over a rough ground."""
    import numpy as np

    from visa.video import Video

    frames = np.random.default_rng(0).integers(60, 140, (1, *questions.SIZE, 3), dtype=np.uint8)
    frames = frames.repeat(num_frames, 0)
    for number, frame in enumerate(frames):
        left = 20 + 8 * number % 600
        frame[100:220, left : left + 120] = (220, 40, 40)
    return Video.from_frames(frames)


def visa_like(attention: str, *, tiny: bool):
    """A segmenter of VISA-7B's shape, or one of a few channels, with random weights."""
    import torch
    from transformers import CLIPVisionConfig, LlamaConfig

    from model.chat_univi.visa import build_visa
    from model.sam.build import build_sam
    from model.xmem import XMem
    from visa.checkpoints.configuration import TOWERS
    from visa.checkpoints.options import LoadOptions
    from visa.checkpoints.sam_shapes import sam_dtype
    from visa.propagation import ImageEncoder
    from visa.reasoning.pointing import AnswerSettings
    from visa.reasoning.visa import VisaReasoner
    from visa.sampling import AtPercent
    from visa.segmenter import Segmenter
    from visa.xmem_propagation import Propagator

    device, dtype = "cuda" if torch.cuda.is_available() else "cpu", torch.bfloat16
    LoadOptions(attention=attention, device=device)  # refuses what is not to be had
    tokenizer = questions.characters(512 if tiny else 32001)
    sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": 4096, "rms_norm_eps": 1e-5}
    tower = dict(TOWERS["openai/clip-vit-large-patch14"])
    if tiny:
        small = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
        sizes |= {**small, "num_hidden_layers": 2}
        tower |= {**small, "num_hidden_layers": 3}
    language = LlamaConfig(**sizes)
    language._attn_implementation, language.dtype = attention, dtype
    torch.manual_seed(0)
    with torch.device(device):
        sam = questions.tiny_sam() if tiny else build_sam("vit_h")
        network = XMem().requires_grad_(False).eval()
        seg_token_id = tokenizer.convert_tokens_to_ids("[SEG]")
        torch.set_default_dtype(dtype)
        try:
            model = build_visa(language, CLIPVisionConfig(**tower), None, seg_token_id=seg_token_id)
        finally:
            torch.set_default_dtype(torch.float32)
    for name, tensor in (*sam.named_parameters(), *sam.named_buffers()):
        tensor.data = tensor.data.to(sam_dtype(name, dtype))
    model.visual_model = sam
    settings = AnswerSettings("forced", "It is [SEG].")
    reasoner = VisaReasoner("random", model.eval().requires_grad_(False), tokenizer, settings)
    propagator = Propagator(network, encoder=ImageEncoder(network, 64 if tiny else 480))
    return Segmenter(reasoner, propagator, AtPercent(0.5, FRAMES_READ - 1))


if __name__ == "__main__":
    sys.exit(main())
