"""SAM, SAM 2 and trackers from a preset's ``segment`` and ``propagate``.

    segment: {sam: vit_t, weights: mobile_sam.pt, pad_input: false}     or     segment: {sam2: WHERE}
    propagate: {tracker: FILE}, {xmem: FILE}                            or     propagate: {sam2: WHERE}

WHERE is a folder as transformers saves it or a hub repository: facebook/sam2-hiera-large,
facebook/sam2.1-hiera-tiny and their sisters. Beside ``sam2`` may stand ``dtype``: float32 or bfloat16;
without it the one that the machine is fastest in.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from model.sam import SamSegmenter, build_sam, fastest_encoder_dtype
from model.sam2 import Sam2Network, Sam2Segmenter, load_sam2
from model.xmem import for_tracking, load_xmem
from visa.checkpoints.location import locate
from visa.downloads import fetch
from visa.errors import InputError
from visa.propagation import ClipPropagator
from visa.sam2_propagation import Sam2Propagator
from visa.tracking import load_tracker
from visa.xmem_propagation import Propagator

DTYPES = {"float32": None, "bfloat16": torch.bfloat16}


def read_sam2(stage: Mapping[str, Any], folder: Path, device: torch.device) -> Sam2Network:
    """SAM 2 as one stage of a preset names it.

    Args:
        stage: with ``sam2`` and perhaps ``dtype``.
        folder: of the preset, in which a relative path is looked for first.

    Raises:
        InputError: there is no SAM 2, or no such dtype. DownloadError: the hub did not give it.
    """
    chosen = stage.get("dtype")
    if chosen is not None and chosen not in DTYPES:
        raise InputError(f"dtype must be {' or '.join(DTYPES)}, not {chosen!r}")
    where = locate(stage["sam2"], folder)
    dtype = fastest_encoder_dtype(device) if chosen is None else DTYPES[chosen]
    try:
        return load_sam2(where, device=device, dtype=dtype)
    except ValueError as error:
        raise InputError(str(error)) from error


def build_segmenter(
    segment: Mapping[str, Any], folder: Path, device: torch.device
) -> SamSegmenter | Sam2Segmenter:
    """What draws on a frame: SAM or SAM 2, as published.

    Raises:
        InputError, DownloadError: see `read_sam2`.
    """
    if "sam2" in segment:
        return Sam2Segmenter(read_sam2(segment, folder, device))
    network = build_sam(segment["sam"], fetch(segment["weights"])).to(device)
    # MobileSAM may leave a wide frame unpadded, which spares a CPU a third of the work; the ViTs may not.
    return SamSegmenter(network, pad_input=segment["pad_input"], encoder_dtype=fastest_encoder_dtype(device))


def build_propagator(
    propagate: Mapping[str, Any], folder: Path, sam: SamSegmenter | Sam2Segmenter
) -> ClipPropagator:
    """A preset's tracker, on the device of ``sam``: ``tracker``, ours on MobileSAM's features; ``xmem``, the
    published network; or ``sam2``, which is the segmenter's own network where both name the same one.

    Raises:
        InputError, DownloadError: see `read_sam2`; or a tracker on MobileSAM's features without MobileSAM.
    """
    if "sam2" in propagate:
        return Sam2Propagator(_shared_or_own(propagate, folder, sam))
    if "xmem" in propagate:
        network = for_tracking(load_xmem(folder / propagate["xmem"]), fastest_encoder_dtype(sam.device))
        return Propagator(network.to(sam.device))
    if not isinstance(sam, SamSegmenter):
        raise InputError(
            "propagate.tracker follows on MobileSAM's features, which SAM 2 does not make: name sam2"
        )
    return load_tracker(folder / propagate["tracker"], sam)


def _shared_or_own(
    propagate: Mapping[str, Any], folder: Path, sam: SamSegmenter | Sam2Segmenter
) -> Sam2Network:
    shared = sam.network if isinstance(sam, Sam2Segmenter) else None
    if shared is None or shared.source != locate(propagate["sam2"], folder):
        return read_sam2(propagate, folder, sam.device)
    if (asked := propagate.get("dtype")) is None or (asked in DTYPES and DTYPES[asked] == shared.dtype):
        return shared
    return read_sam2(propagate, folder, sam.device)
