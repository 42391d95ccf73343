"""What SAM 2's tracker remembers, and what it forgets: no more than later frames can look at.

Ravi et al. 2024 (arXiv 2408.00714), section 4, "memory bank". The library keeps the masks and memory of every
frame; of these a frame looks only at those prompted, at the maps of the last few and at the pointers of some
more. Frames near the one where a walk began are kept too, since the walk the other way looks at them.

Shapes: N objects, h w cells.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

# The place in the temporal encoding of a prompted frame's map, however long ago it was.
PROMPTED = 0


@dataclass(frozen=True)
class Memory:
    """What is kept of one frame.

    Attributes:
        maps: bfloat16 [hw, N, 64]; None once no frame can look at it any more.
        pointers: float32 [N, 256].
    """

    maps: Tensor | None
    pointers: Tensor


class MemoryBank:
    """The frames that are remembered of one walk, or of two that begin in the same place.

    Invariant: beside the prompted frames' own, fewer than 3 * num_maps maps and 3 * num_pointers pointers are
    held.

    Args:
        num_maps: maps that a frame looks at, counting one of a prompted frame: the last num_maps - 1 tracked
            ones.
        num_pointers: the same for object pointers.
        max_prompted: prompted frames whose maps are looked at; None for all.
    """

    def __init__(self, num_maps: int, num_pointers: int, max_prompted: int | None = None) -> None:
        self.num_maps, self.num_pointers, self.max_prompted = num_maps, num_pointers, max_prompted
        self.prompted: dict[int, Memory] = {}
        self.tracked: dict[int, Memory] = {}

    def remember(self, index: int, memory: Memory, *, start: int) -> None:
        """Keep a tracked frame, and forget what is near neither it nor ``start``, where its walk began."""
        self.tracked[index] = memory

        def out_of_reach(other: int, reach: int) -> bool:
            # The next frame, one further on, looks back by at most `reach`.
            return min(abs(other - index), abs(other - start)) >= reach

        for other in list(self.tracked):
            if out_of_reach(other, max(self.num_maps, self.num_pointers) - 1):
                del self.tracked[other]
            elif out_of_reach(other, self.num_maps - 1):
                self.tracked[other] = Memory(None, self.tracked[other].pointers)

    def maps(self, index: int, step: int) -> list[tuple[int, Tensor]]:
        """What frame ``index`` looks at on a walk by ``step`` (1 or -1): (place in time, maps).

        Places are frames since then, 1..num_maps-1, or `PROMPTED`.
        """
        near = self._closest(index)
        found = [(PROMPTED, self.prompted[other].maps) for other in near]
        for offset in range(self.num_maps - 1, 0, -1):
            other = index - step * offset
            memory = self.tracked.get(other)
            if memory is None and other not in near:
                memory = self.prompted.get(other)
            if memory is not None:
                found.append((offset, memory.maps))
        return found

    def pointers(self, index: int, step: int) -> list[tuple[int, Tensor]]:
        """(frames since then, pointers). Of prompted frames only those that the walk has passed."""
        found = [
            ((index - other) * step, memory.pointers)
            for other, memory in self.prompted.items()
            if (index - other) * step >= 0
        ]
        for offset in range(1, self.num_pointers):
            memory = self.tracked.get(index - step * offset)
            if memory is not None:
                found.append((offset, memory.pointers))
        return found

    def _closest(self, index: int) -> list[int]:
        """The prompted frames to look at: the last one before, the first one after, then by distance."""
        frames, wanted = list(self.prompted), self.max_prompted
        if wanted is None or len(frames) <= wanted:
            return frames
        nearest = sorted(frames, key=lambda other: abs(other - index))
        before = [other for other in nearest if other < index]
        after = [other for other in nearest if other >= index]
        chosen = before[:1] + after[:1]
        return chosen + [other for other in nearest if other not in chosen][: max(0, wanted - len(chosen))]

    @property
    def num_bytes(self) -> int:
        """Memory that all of it takes."""
        held = [*self.prompted.values(), *self.tracked.values()]
        tensors = [each for memory in held for each in (memory.maps, memory.pointers) if each is not None]
        return sum(each.numel() * each.element_size() for each in tensors)
