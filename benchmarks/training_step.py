"""What a training step costs: samples a second of small VISA and VideoLISA, and where the time goes.

    python benchmarks/training_step.py [--steps 4] [--accumulation 16]

The networks and micro-batches are those of the golden cases `train_1_3` (VISA: two videos with 3 and 4
frames, four conversations) and `train_2x1` (VideoLISA: two videos of 5 frames, two of them dense), with
random weights: encoders and language model are small, SAM's decoder has its real size. The loop is the
trainer's own, with LoRA and the published parts trained. Processor seconds, which a busy machine hardly
changes. The reference took, for forward and backward of such a micro-batch with one thread: VISA 0.114 +
0.069 s, VideoLISA 0.473 + 0.248 s.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

REFERENCE = {"visa": (0.114, 0.069), "videolisa": (0.473, 0.248)}
MOST_OUTSIDE = 0.05  # of the time may pass outside forward and backward
WORDS = 512


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; 1 if too much time passes outside forward and backward."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=4, metavar="N", help="measured steps, default: 4")
    parser.add_argument("--accumulation", type=int, default=16, metavar="N", help="default: 16, as released")
    options = parser.parse_args(arguments)
    import machine
    import torch

    torch.set_num_threads(1)
    print(f"{machine.describe()}\n")
    print("| system | forward, s | backward, s | reference, s | samples/s | outside |")
    print("| :--- | ---: | ---: | ---: | ---: | ---: |")
    worst = 0.0
    for system, reference in REFERENCE.items():
        spent, samples = measure(system, options.steps, options.accumulation)
        total = sum(spent.values())
        outside = 1 - (spent["forward"] + spent["backward"]) / total
        worst = max(worst, outside)
        passes = options.steps * options.accumulation
        print(
            f"| {system} | {spent['forward'] / passes:.3f} | {spent['backward'] / passes:.3f} "
            f"| {reference[0]:.3f} + {reference[1]:.3f} | {samples / total:.1f} | {outside:.1%} |",
            flush=True,
        )
    return int(worst > MOST_OUTSIDE)


def measure(system: str, steps: int, accumulation: int) -> tuple[dict[str, float], int]:
    """Processor seconds by what they were spent on, and how many videos were trained on."""
    import torch

    from visa.training.engine import report as reports
    from visa.training.engine.checkpoints import Checkpoints, Progress
    from visa.training.engine.loop import Trainer
    from visa.training.engine.plain_driver import PlainDriver
    from visa.training.engine.ranks import Ranks
    from visa.training.engine.settings import (
        BatchSettings,
        ModelSettings,
        ScheduleSettings,
        TrainedSettings,
        TrainSettings,
    )
    from visa.training.engine.step import TrainingStep
    from visa.training.engine.trainables import choose_trained
    from visa.training.published_objective import LossWeights

    torch.manual_seed(0)
    model = small_model(system)
    settings = TrainSettings(
        out="",
        model=ModelSettings(start="", precision="fp32", gradient_checkpointing=False),
        trained=TrainedSettings(lora_match="substring"),
        schedule=ScheduleSettings(steps=steps + 1, warmup=1),
        batch=BatchSettings(total=2 * accumulation, videos=2),
    )
    choose_trained(model, settings.trained)
    step, ranks = TrainingStep(model, LossWeights()), Ranks(0, 1, torch.device("cpu"))
    spent: dict[str, float] = {}
    clock = reports.time.perf_counter
    reports.time.perf_counter = time.process_time
    try:
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(
                step,
                PlainDriver(step, settings, ranks, accumulation),
                SameBatch(small_batch(system)),
                settings,
                ranks,
                Checkpoints(Path(folder), 1, {}, ""),
                SimpleNamespace(step_line=lambda *_: None, warn=print, say=lambda _: None),
                progress=Progress(),
            )
            trainer._save = lambda: None

            def tell(number: int, score: object) -> None:
                """The first step makes the optimiser's moments and warms up caches: it does not count."""
                for name, seconds in trainer.clock.seconds.items():
                    spent[name] = spent.get(name, 0.0) + seconds * (number > 1)
                told(number, score)

            told, trainer._tell = trainer._tell, tell
            trainer.run()
    finally:
        reports.time.perf_counter = clock
    return spent, 2 * accumulation * steps


class SameBatch:
    """A reader that hands out one micro-batch over and over."""

    fingerprint = ""

    def __init__(self, batch: object):
        self.batch = batch

    def __iter__(self) -> Iterator:
        while True:
            yield self.batch

    def state_dict(self) -> dict:
        return {}


def small_model(system: str):
    """A network of the golden cases' sizes."""
    from torch import nn
    from transformers import CLIPVisionConfig, LlamaConfig

    from model.chat_univi.visa import build_visa
    from model.llava_phi3.language import phi3_config
    from model.llava_phi3.videolisa import build_videolisa
    from model.sam.build import Sam
    from model.sam.import_segment_anything import modeling

    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
    language = {
        **sizes,
        "num_hidden_layers": 2,
        "num_key_value_heads": 4,
        "vocab_size": WORDS,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "max_position_embeddings": 4096,
    }
    encoder = modeling.ImageEncoderViT(
        img_size=256, patch_size=16, embed_dim=32, depth=2, num_heads=2, out_chans=256, use_rel_pos=True,
        window_size=4, global_attn_indexes=(1,), norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )  # fmt: skip
    side = 224 if system == "visa" else 336
    tower = CLIPVisionConfig(**sizes, num_hidden_layers=3, image_size=side, patch_size=14)
    if system == "visa":
        return build_visa(LlamaConfig(**language), tower, Sam(encoder, 256), seg_token_id=WORDS - 1)
    phi3 = phi3_config({**language, "sliding_window": 2047})
    return build_videolisa(phi3, tower, Sam(encoder, 256), seg_token_id=WORDS - 1)


def small_batch(system: str):
    """A micro-batch of the golden cases' shapes: two videos at their own sizes."""
    import torch

    from model.mllm.packing import IGNORE_INDEX
    from model.mllm.splicing import IMAGE_TOKEN
    from visa.conversations import EncodedConversation
    from visa.training.engine.batch import TrainingBatch, TrainingVideo

    shapes = {"visa": ((3, 1, 1), (4, 1, 3)), "videolisa": ((5, 2, 1), (5, 2, 1))}[system]
    side, videos = (224 if system == "visa" else 336), []
    for (frames, drawn, count), size, inside in zip(
        shapes, ((90, 120), (120, 72)), ((192, 256), (256, 154)), strict=True
    ):
        places = frames if system == "visa" else 1
        conversations = []
        for _ in range(count):
            ids = [1, 5, 6, 7, *([IMAGE_TOKEN, 8] * places), 9, 10, 11, 12, 13, WORDS - 1, 14, 2]
            labels = [IGNORE_INDEX] * (len(ids) - 4) + ids[-4:]
            conversations.append(EncodedConversation(torch.tensor(ids), torch.tensor(labels)))
        videos.append(
            TrainingVideo(
                name="random",
                images_clip=torch.randn(frames, 3, side, side),
                shown=tuple(range(frames)),
                conversations=tuple(conversations),
                images_sam=torch.randn(drawn, 3, 256, 256),
                drawn=tuple(range(drawn)),
                input_size=inside,
                masks=torch.rand(drawn, count, *size) > 0.5,
                dense_indices=() if system == "visa" else (1, 3),
            )
        )
    return TrainingBatch(0, tuple(videos))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    sys.exit(main())
