"""Where bfloat16 makes the image encoder faster."""

from __future__ import annotations

import torch


def fastest_encoder_dtype(device: torch.device) -> torch.dtype | None:
    """The dtype for `SamSegmenter(encoder_dtype=…)` that is fastest on a device.

    Returns:
        bfloat16 where the hardware multiplies it (CUDA from compute capability 8, CPUs with
        AVX512-BF16 or AMX); None elsewhere: emulated, it is slower than float32.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else None
    if device.type != "cpu":
        return None
    # Private names of torch; without them float32 is the safe answer.
    probes = (
        getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )
    return torch.bfloat16 if any(probe is not None and probe() for probe in probes) else None
