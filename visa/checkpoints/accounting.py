"""Every tensor of a checkpoint has a place and every place a tensor, or the load is refused by name."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import nn

from visa.checkpoints.published_names import CLIP_PREFIX, Named, Source
from visa.checkpoints.tensor_files import Shape
from visa.errors import InputError

SHOWN = 8


def expected_shapes(parts: Mapping[str, nn.Module]) -> dict[str, dict[str, Shape]]:
    """Names and shapes of what each part wants to be filled with; the parts may stand on the meta device."""
    return {
        part: {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
        for part, module in parts.items()
    }


def account(
    named: Named, stored: Mapping[str, Shape], expected: Mapping[str, Mapping[str, Shape]], where: str | Path
) -> dict[str, dict[str, Source]]:
    """Give every place of our parts its tensor.

    Args:
        named: the checkpoint's tensors, sorted. stored: their shapes by stored name.
        expected: for each part its places.
        where: the checkpoint's path, for the messages.

    Returns:
        For each part the source of each of its places.

    Raises:
        InputError: places without a tensor, tensors without a place, or other shapes; the message names them.
    """
    filled, missing, wrong = {}, [], []
    unexpected = list(named.unknown)
    for part, places in expected.items():
        given = _as_installed(named.parts.get(part, {}), places)
        missing += [f"{part}.{name}" for name in places if name not in given]
        unexpected += [source.stored for name, source in given.items() if name not in places]
        filled[part] = {name: given[name] for name in places if name in given}
        wrong += [
            f"{source.stored} {_size(stored[source.stored])} instead of {_size(places[name])}"
            for name, source in filled[part].items()
            if stored[source.stored] != places[name]
        ]
        wrong += [
            complaint
            for name, source in filled[part].items()
            for complaint in _lora_complaints(source, stored)
        ]
    for part, given in named.parts.items():
        if part not in expected:
            unexpected += [source.stored for source in given.values()]
    complaints = [("lacks", missing), ("has unexpectedly", unexpected), ("has other shapes:", wrong)]
    if any(names for _, names in complaints):
        told = "; ".join(f"{verb} {some(names)}" for verb, names in complaints if names)
        raise InputError(f"{where} does not fit this model: it {told}")
    return filled


def some(names: Iterable[str]) -> str:
    """The first few names and how many more there are."""
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _as_installed(given: Mapping[str, Source], places: Mapping[str, Shape]) -> Mapping[str, Source]:
    """CLIP's names with or without their common prefix, which versions of transformers disagree on."""
    if any(name.startswith(CLIP_PREFIX) for name in places):
        return {CLIP_PREFIX + name.removeprefix(CLIP_PREFIX): source for name, source in given.items()}
    return given


def _lora_complaints(source: Source, stored: Mapping[str, Shape]) -> list[str]:
    """What keeps LoRA's product B·A from being added to its weight."""
    if source.lora is None:
        return []
    first, second, weight = (stored[name] for name in (*source.lora, source.stored))
    fits = len(first) == len(second) == 2 and (second[0], first[1]) == weight and second[1] == first[0]
    return (
        []
        if fits
        else [f"{source.lora[0]} {_size(first)}, {source.lora[1]} {_size(second)} for {_size(weight)}"]
    )


def _size(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"
