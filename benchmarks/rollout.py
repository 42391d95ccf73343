"""Attention rollout as a row vector against the product of whole matrices: seconds and peak memory.

    python benchmarks/rollout.py [--tokens 3400] [--layers 14] [--heads 28 4] [--device cuda]

Random queries and keys in bfloat16 of Qwen2.5-VL-7B's shape; 3400 tokens are 16 frames of 400 visual tokens,
two frames to a temporal patch, and some text. Each form runs in a process of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from multiprocessing.connection import Connection

import torch
from machine import describe, peak_bytes

from model.steering.attention_rows import LayerAttention
from model.steering.rollout import RolloutSettings, rollout_row

HEAD_WIDTH = 128


def main(arguments: list[str] | None = None) -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=3400, metavar="L")
    parser.add_argument("--layers", type=int, default=14, metavar="N", help="that count: the upper half")
    parser.add_argument("--heads", type=int, nargs=2, default=(28, 4), metavar=("QUERY", "KEY"))
    parser.add_argument("--chunk", type=int, default=256, metavar="N", help="queries at a time")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)
    print(describe())
    context = multiprocessing.get_context("spawn")
    rows = {}
    for form in ("row vector", "explicit"):
        ours, theirs = context.Pipe()
        process = context.Process(target=measure, args=(form, options, theirs))
        process.start()
        theirs.close()
        try:
            rows[form], seconds, peak = ours.recv()
        except EOFError:
            print(f"{form}: the process died, for want of memory if it was killed")
            continue
        finally:
            process.join()
        print(
            f"{form}: {seconds:.2f} s, {peak / 1e6:,.0f} MB beyond queries and keys "
            f"({options.tokens} tokens, {options.layers} layers, {options.heads[0]} heads)"
        )
    if len(rows) == 2:
        first, second = (torch.tensor(row) for row in rows.values())
        print(f"largest difference {float((first - second).abs().max()):.1e} of {float(second.max()):.1e}")


def measure(form: str, options: argparse.Namespace, answer: Connection) -> None:
    """Sends back the row, the seconds it took, and the memory."""
    device, settings = torch.device(options.device), RolloutSettings(chunk=options.chunk)
    layers = random_layers(options.layers, options.tokens, *options.heads, device)
    visual = torch.arange(20, options.tokens - 150)
    rollout = rolled_out if form == "row vector" else multiplied
    small = random_layers(1, 40, *options.heads, device)
    rollout(small, torch.arange(5, 20), settings)  # what only the first call pays for
    before = begin(device)
    start = time.perf_counter()
    row = rollout(layers, visual, settings).tolist()
    seconds = time.perf_counter() - start
    answer.send((row, seconds, used(device) - before))


def begin(device: torch.device) -> int:
    """Bytes in use at the start."""
    if device.type != "cuda":
        return peak_bytes()
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def used(device: torch.device) -> int:
    """The most bytes in use since then."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_bytes()


def random_layers(
    count: int, length: int, heads: int, groups: int, device: torch.device
) -> dict[int, LayerAttention]:
    """Layers of random queries and keys."""
    generator = torch.Generator().manual_seed(0)

    def rand(num: int) -> torch.Tensor:
        return torch.randn(num, length, HEAD_WIDTH, generator=generator).to(device, torch.bfloat16)

    return {number: LayerAttention(rand(heads), rand(groups), HEAD_WIDTH**-0.5) for number in range(count)}


@torch.no_grad()
def rolled_out(
    layers: dict[int, LayerAttention], visual: torch.Tensor, settings: RolloutSettings
) -> torch.Tensor:
    """The form in use: float32 [L]."""
    return rollout_row(layers, layers[0].length - 1, visual, settings)


@torch.no_grad()
def multiplied(
    layers: dict[int, LayerAttention], visual: torch.Tensor, settings: RolloutSettings
) -> torch.Tensor:
    """The product of whole matrices, from the lowest layer up, of which one row is wanted: float32 [L]."""
    length, device = layers[0].length, layers[0].query.device
    product, rows = torch.eye(length, device=device), torch.arange(length, device=device)
    for number in sorted(layers):
        probs = layers[number].probs(rows, length)
        weights = probs[:, :, visual.to(device)].amax(2).mean(1)
        mean = torch.einsum("h,hqk->qk", weights / weights.max(), probs) / len(probs)
        mixed = (1 - settings.residual) * mean + settings.residual * torch.eye(length, device=device)
        product = mixed @ product
    return product[-1]


if __name__ == "__main__":
    main()
