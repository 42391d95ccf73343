"""How much memory a model will take, told and checked before it is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from visa.errors import InputError

GB = 1e9
# A working process and the GPU's own software; what is free is never all to be had.
RESERVE = 0.6 * GB


@dataclass(frozen=True)
class Need:
    """One part's memory.

    part: its name. device: where. num_bytes: how much.
    """

    part: str
    device: str
    num_bytes: float


@dataclass(frozen=True)
class MemoryEstimate:
    """What a model takes, part by part.

    model: its name, for the messages. needs: in the order in which they are told.
    """

    model: str
    needs: tuple[Need, ...]

    @property
    def by_device(self) -> dict[str, float]:
        """Bytes on each device."""
        totals: dict[str, float] = {}
        for need in self.needs:
            totals[need.device] = totals.get(need.device, 0.0) + need.num_bytes
        return totals

    def __str__(self) -> str:
        parts = ", ".join(f"{need.part} {need.num_bytes / GB:.2f}" for need in self.needs)
        totals = ", ".join(f"{total / GB:.2f} GB on {device}" for device, total in self.by_device.items())
        return f"{self.model} will take {totals} ({parts})"

    def check(self, available: Mapping[str, float] | None = None) -> None:
        """Refuse what cannot fit.

        Args:
            available: free bytes of devices; by default asked of the machine.

        Raises:
            InputError: a device has less free memory than its parts take.
        """
        for device, total in self.by_device.items():
            free = available[device] if available is not None else free_memory(device)
            if free is not None and total + RESERVE > free:
                raise InputError(
                    f"{self}, but {device} has {max(free - RESERVE, 0) / GB:.1f} GB to spare; load it in "
                    "bfloat16, with bits=8 or bits=4, over several devices (device_map='auto'), or take a "
                    "smaller model"
                )


def free_memory(device: str | torch.device) -> float | None:
    """Bytes that a process may still take on a device; None where that cannot be told."""
    device = torch.device(device)
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    limits = [limit for limit in (_free_of_machine(), _free_of_group()) if limit is not None]
    return min(limits, default=None)


def _free_of_machine(path: Path = Path("/proc/meminfo")) -> float | None:
    """Linux' own estimate of what may be taken without swapping."""
    if not path.is_file():
        return None
    for line in path.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return float(line.split()[1]) * 1024
    return None


def _free_of_group(folder: Path = Path("/sys/fs/cgroup")) -> float | None:
    """What a container's limit leaves, its file cache not counted against it."""
    try:
        limit = (folder / "memory.max").read_text().strip()
        if limit == "max":
            return None
        used = float((folder / "memory.current").read_text())
        fields = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return (
            float(limit) - used + float(fields.get("inactive_file", 0)) + float(fields.get("active_file", 0))
        )
    except (OSError, ValueError):
        return None
