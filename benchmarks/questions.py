"""What a second question costs: seconds for one and for eight questions about one video, tiny VideoLISA.

    python benchmarks/questions.py [--frames 8 16 32] [--questions 8] [--repeats 5]

The networks have VideoLISA's structure and frames (32 sparse and 4 dense ones of 336 pixels, 2336 visual
tokens), random weights and few channels; SAM's prompt encoder and mask decoder have their real sizes. Every
run opens the clip, an H.264 file of 854x480, anew. The best of the repeats counts, of the seconds and of the
processor seconds, which a busy machine hardly changes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

MOST = 2.5  # times one question's seconds that eight may take
SIZE = (480, 854)
WORDS = 512


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; 1 if more questions cost too much."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--frames", type=int, nargs="+", default=[8, 16, 32], metavar="N", help="default: 8 16 32"
    )
    parser.add_argument("--questions", type=int, default=8, metavar="N", help="default: 8")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="default: 5")
    options = parser.parse_args(arguments)
    import machine

    segmenter = tiny_videolisa()
    print(f"{machine.describe()}\n")
    heads = ("frames", "one question, s", f"{options.questions} questions, s", "ratio")
    print(f"| {' | '.join(heads)} | processor, s | processor, s | ratio |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for count in options.frames:
            clip = write_clip(Path(folder) / f"{count}.mp4", count)
            wall, cpu = measure(segmenter, clip, options.questions, options.repeats)
            ratios.append(min(pair[1] / pair[0] for pair in (wall, cpu)))
            cells = (f"{one:.3f} | {many:.3f} | {many / one:.2f}" for one, many in (wall, cpu))
            print(f"| {count} | {' | '.join(cells)} |", flush=True)
    return int(max(ratios) > MOST)


def measure(segmenter, clip: Path, num_questions: int, repeats: int) -> list[tuple[float, float]]:
    """Seconds, and processor seconds, of the shortest runs with one question and with all, taken in turn."""
    questions = [f"the thing that is number {number}" for number in range(num_questions)]
    segmenter.segment_many(clip, questions[:1])
    times = {1: [], num_questions: []}
    for _ in range(repeats):
        for count, runs in times.items():
            start = time.perf_counter(), time.process_time()
            segmenter.segment_many(clip, questions[:count])
            runs.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return [tuple(min(run[clock] for run in runs) for runs in times.values()) for clock in (0, 1)]


def write_clip(path: Path, num_frames: int) -> Path:
    """Writes coloured squares that move over a rough ground."""
    import av
    import numpy as np

    rng = np.random.default_rng(0)
    ground = rng.integers(60, 140, (*SIZE, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for number in range(num_frames):
            frame = ground.copy()
            frame[100:220, 20 + 8 * number : 140 + 8 * number] = (220, 40, 40)
            frame[260:400, 700 - 8 * number : 820 - 8 * number] = (40, 60, 220)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def characters(num_words: int):
    """A tokenizer of single characters and bytes, VideoLISA's control words and [SEG], the last of all."""
    from transformers import LlamaTokenizer

    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    words += [chr(code) for code in range(33, 127)]
    words += [f"<filler{index}>" for index in range(num_words - 5 - len(words))]
    words += ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
    tokenizer = LlamaTokenizer(vocab={word: index for index, word in enumerate(words)}, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": words[-4:]})
    tokenizer.add_tokens("[SEG]")
    return tokenizer


def tiny_sam():
    """SAM on a small ViT; prompt encoder and mask decoder have their real sizes."""
    from torch import nn

    from model.sam.build import Sam
    from model.sam.import_segment_anything import modeling

    encoder = modeling.ImageEncoderViT(
        img_size=256,
        embed_dim=32,
        depth=2,
        num_heads=2,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=4,
        global_attn_indexes=(1,),
    )
    return Sam(encoder, 256)


def tiny_videolisa():
    """A segmenter with random weights."""
    import torch
    from transformers import CLIPVisionConfig

    from model.llava_phi3.language import phi3_config
    from model.llava_phi3.videolisa import build_videolisa
    from visa.reasoning.pointing import AnswerSettings
    from visa.reasoning.videolisa import VideoLisaReasoner
    from visa.sampling import SparseDense
    from visa.segmenter import Segmenter

    torch.manual_seed(0)
    tokenizer = characters(WORDS)
    language = phi3_config(
        {
            "vocab_size": WORDS,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 4096,
            "sliding_window": 2047,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
        }
    )
    tower = CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=336,
        patch_size=14,
    )
    seg_token_id = tokenizer.convert_tokens_to_ids("[SEG]")
    model = build_videolisa(language, tower, tiny_sam(), seg_token_id=seg_token_id)
    settings = AnswerSettings("forced", "Sure, [SEG].", frames="all")
    reasoner = VideoLisaReasoner("tiny", model.eval().requires_grad_(False), tokenizer, settings)
    return Segmenter(reasoner, None, SparseDense())


if __name__ == "__main__":
    sys.exit(main())
