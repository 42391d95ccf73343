"""Who carries the masks of a system that says [SEG] through the video: XMem, SAM 2, or nobody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from model.sam import fastest_encoder_dtype
from model.xmem import MemoryConfig, for_tracking
from visa.checkpoints.loading import read_xmem
from visa.errors import InputError
from visa.propagation import ClipPropagator, ImageEncoder
from visa.sam2_propagation import Sam2Propagator
from visa.sam_loading import read_sam2
from visa.xmem_propagation import Propagator

# Frames between two that are memorised: XMem's own for one target frame, XMem++'s for several.
MEMORY = {"target": MemoryConfig(), "dense": MemoryConfig(mem_every=10)}
SHORT_SIDE = 480


@dataclass(frozen=True)
class Carrying:
    """frames: which [SEG] draws, see `AnswerSettings`. xmem, sam2: whose weights carry on; None: not this."""

    frames: str
    xmem: str | Path | None
    sam2: str | Path | None

    @classmethod
    def of(
        cls,
        propagate: Mapping[str, Any],
        frames: str,
        *,
        xmem: str | Path | None = None,
        sam2: str | Path | None = None,
    ) -> Carrying:
        """As a preset says it, or ``xmem`` or ``sam2`` in its place.

        Args:
            propagate: the preset's section. frames: that its ``segment`` draws.

        Raises:
            InputError: nobody carries on what is not drawn.
        """
        sam2 = sam2 or (None if xmem else propagate.get("sam2"))
        xmem = None if sam2 else xmem or propagate.get("xmem")
        if xmem is None and sam2 is None and frames != "all":
            raise InputError(
                f"masks of the {frames} frames have to be carried on: propagate.xmem must name XMem's "
                "weights, or propagate.sam2 SAM 2's"
            )
        if (xmem or sam2) and frames == "all":
            frames = "dense"  # what is carried on need not be drawn everywhere
        return cls(frames, xmem, sam2)

    def propagator(
        self,
        propagate: Mapping[str, Any],
        folder: Path,
        beside: Path,
        device: torch.device,
        dtype: torch.dtype,
    ) -> ClipPropagator | None:
        """Loaded; None where every frame is drawn.

        Args:
            propagate: the preset's section. folder: of the preset. beside: of the system's weights.
            dtype: of the system.

        Raises:
            InputError: weights that are not there, or of another network. DownloadError.
        """
        if self.sam2 is not None:
            return Sam2Propagator(read_sam2({**propagate, "sam2": self.sam2}, folder, device))
        if self.xmem is None:
            return None
        xmem = folder / self.xmem if (folder / self.xmem).is_file() else self.xmem
        tracking = None if dtype == torch.float32 else fastest_encoder_dtype(device)
        network = for_tracking(read_xmem(xmem, beside), tracking).to(device)
        encoder = ImageEncoder(network, propagate.get("short_side", SHORT_SIDE))
        return Propagator(network, MEMORY[self.frames], encoder)
