"""What a picture may be called: for each of many names, where CLIP's image tower puts such things.

CLIP's words are not public where its pictures are, so a name stands at the mean of drawings and models of
what it names; a photograph of a camel lies nearest to drawn camels. Names without drawings stand where the
words of another CLIP tell (`visa.weights_conversion.name_bridge`). Broader kinds come with each name ("bird"
with "swan").
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.nn import functional


def seen_from(centre: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Directions of points float [..., D] of any length from a centre float [D] of points of length 1."""
    return functional.normalize(functional.normalize(points.float(), dim=-1) - centre, dim=-1)


@dataclass(frozen=True)
class NameTable:
    """Names, their kinds and their places.

    names: K. kinds: of each the broader kinds, the nearest first; may be none.
    centre: float [D], the mean place of all pictures that the names come from, each of length 1.
    cell_centre: float [D], that of places in frames.
    places: float [K, D], of length 1, seen from the centre.
    words: M, the names and then their kinds, each once.
    """

    names: tuple[str, ...]
    kinds: tuple[tuple[str, ...], ...]
    centre: torch.Tensor
    cell_centre: torch.Tensor
    places: torch.Tensor
    words: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.kinds) == len(self.places) or not self.names:
            raise ValueError(
                f"{len(self.names)} names, {len(self.kinds)} rows of kinds and {len(self.places)} places "
                "do not match"
            )
        every = dict.fromkeys([*self.names, *(kind for kinds in self.kinds for kind in kinds)])
        object.__setattr__(self, "words", tuple(every))

    def likeness(self, points: torch.Tensor) -> torch.Tensor:
        """How well each name fits each picture: points float [N, D] to cosines float [N, K]."""
        return seen_from(self.centre, points) @ self.places.T

    def best_of_kinds(self, fits: torch.Tensor) -> torch.Tensor:
        """How well each name fits a question, if what fits a kind fits all of that kind.

        Args:
            fits: float [..., M], of each of `words`.

        Returns:
            float [..., K]: for each name the most of its own and its kinds'.
        """
        place = {word: index for index, word in enumerate(self.words)}
        of_name = [
            fits[..., [place[word] for word in (name, *kinds)]].amax(-1)
            for name, kinds in zip(self.names, self.kinds, strict=True)
        ]
        return torch.stack(of_name, dim=-1)

    def save(self, path: Path) -> None:
        """Write one safetensors file, the places in half precision, the words in its head."""
        words = json.dumps([[name, *kinds] for name, kinds in zip(self.names, self.kinds, strict=True)])
        tensors = {
            "centre": self.centre.float().contiguous(),
            "cell_centre": self.cell_centre.float().contiguous(),
            "places": self.places.half().contiguous(),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        save_file(tensors, partial, {"names": words})
        partial.chmod(0o644)  # the library lets nobody else read what it writes
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> NameTable:
        """Read what `save` wrote.

        Raises:
            ValueError: the file cannot be read, or is no such table.
        """
        try:
            with safe_open(path, "pt") as file:
                rows = json.loads((file.metadata() or {}).get("names", "[]"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 no mapping
            places = functional.normalize(tensors["places"].float(), dim=1)
            names = tuple(row[0] for row in rows)
            kinds = tuple(tuple(row[1:]) for row in rows)
            centres = (tensors[name].float() for name in ("centre", "cell_centre"))
            return cls(names, kinds, *centres, places)
        except FileNotFoundError:
            raise
        except (OSError, SafetensorError, KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is no table of names: {error}") from error
