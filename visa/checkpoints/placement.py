"""Which device each part of a published model goes to, and what it will take there."""

from collections.abc import Callable, Mapping

import torch
from accelerate import dispatch_model, infer_auto_device_map
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch import nn

from visa.checkpoints.options import LoadOptions
from visa.checkpoints.quantisation import BYTES, quantisable
from visa.checkpoints.sam_shapes import sam_dtype
from visa.errors import InputError
from visa.memory_estimate import MemoryEstimate, Need, free_memory

# Positions whose keys and values are kept while a question is answered: VideoLISA's 2336 visual tokens and
# text, or twice VISA's 12 frames and text, as the sampler reads them and as the question does.
POSITIONS = 3072
# What a device map may name beside the LM's modules; projector and [SEG] head stay where its words come in.
MAPPED = ("language", "tower", "sam")
WORDS = "model.embed_tokens.weight"

Places = Mapping[str, torch.device]
PartModules = Mapping[str, nn.Module]


def dtype_of(part: str, name: str, options: LoadOptions) -> torch.dtype:
    """What one tensor becomes when it is loaded."""
    return sam_dtype(name, options.torch_dtype) if part == "sam" else options.torch_dtype


def layer_map(language: nn.Module, others: float, options: LoadOptions) -> dict[str, torch.device] | None:
    """Devices of the language model's modules by their names, or None where all of it goes to one device.

    Args:
        language: the causal LM, empty. others: bytes that the other parts take on ``options.device``.

    Raises:
        InputError: modules that the map forgets, or "auto" finds no room.
    """
    if options.device_map is None:
        return None
    if options.device_map != "auto":
        chosen = {
            name: torch.device(where) for name, where in options.device_map.items() if name not in MAPPED
        }
        forgotten = [
            name for name, _ in language.named_parameters() if chosen and _longest(name, chosen) is None
        ]
        if forgotten:
            raise InputError(f"device_map names modules of the language model, but none for {forgotten[0]}")
        return chosen or None
    if options.torch_device.type != "cuda" or torch.cuda.device_count() < 2:
        return None
    room = {index: int(0.9 * free_memory(f"cuda:{index}")) for index in range(torch.cuda.device_count())}
    room[options.torch_device.index or 0] -= int(others)
    found = infer_auto_device_map(
        language,
        max_memory=room,
        no_split_module_classes=["LlamaDecoderLayer", "Phi3DecoderLayer"],
        dtype=torch.int8 if options.bits else options.torch_dtype,
    )
    if "disk" in found.values() or "cpu" in found.values():
        raise InputError(
            "device_map 'auto' finds no room for the language model on the GPUs; load it with bits=4"
        )
    return {name: torch.device(where) for name, where in found.items()}


def part_devices(options: LoadOptions, layers: Places | None = None) -> dict[str, torch.device]:
    """The device of each part; the language model's is where its words come in.

    Args:
        layers: of `layer_map`.

    Raises:
        InputError: the map names a device that does not exist.
    """
    named = {} if options.device_map in (None, "auto") else options.device_map
    try:
        devices = {part: torch.device(named.get(part, options.torch_device)) for part in MAPPED}
    except (RuntimeError, TypeError) as error:
        raise InputError(f"device_map names a device that torch does not know: {error}") from error
    if layers is not None:
        devices["language"] = layers[_longest(WORDS, layers)]
    return {**devices, "projector": devices["language"], "seg_head": devices["language"]}


def device_of(part: str, devices: Places, layers: Places | None) -> Callable[[str], torch.device]:
    """For one part, the device of each of its tensors."""
    if part != "language" or layers is None:
        return lambda name: devices[part]
    # What has no weights, and so no place of its own, goes where the words come in.
    return lambda name: layers[_longest(name, layers) or _longest(WORDS, layers)]


def _longest(name: str, places: Places) -> str | None:
    """The longest of the places' names that a tensor lies under; "" is above everything."""
    above = [module for module in places if module == "" or name == module or name.startswith(f"{module}.")]
    return max(above, key=len, default=None)


def spread(language: nn.Module, tower: nn.Module, devices: Places, layers: Places | None) -> None:
    """Have what stands on several devices carry its activations from one to the next.

    Args:
        language: the causal LM. tower: the vision tower as it is called, its projector elsewhere.
    """
    if layers is not None and len(set(layers.values())) > 1:
        hand_on(language, layers)
    if devices["tower"] != devices["projector"]:
        add_hook_to_module(tower, AlignDevicesHook(devices["tower"], io_same_device=True))


def hand_on(language: nn.Module, layers: Places) -> None:
    """Move activations between the language model's layers, its states back to where the words came in."""
    skipped = getattr(language, "_skip_keys_device_placement", None)
    where = {name: str(device) for name, device in layers.items()}
    dispatch_model(language, where, skip_keys=skipped, force_hooks=True)
    first = layers[_longest(WORDS, layers)]
    back = AlignDevicesHook(first, io_same_device=True, skip_keys=skipped)
    add_hook_to_module(language.get_decoder(), back, append=True)
    # Called by itself for the words' probabilities.
    add_hook_to_module(language.get_output_embeddings(), AlignDevicesHook(io_same_device=True), append=True)


def sizes(parts: PartModules, options: LoadOptions) -> dict[str, float]:
    """Bytes of each part's weights, as they will be loaded."""
    quantised = {f"{name}.weight" for name in quantisable(parts["language"])} if options.bits else set()
    totals = {}
    for part, module in parts.items():
        totals[part] = sum(
            tensor.numel()
            * (
                BYTES[options.bits]
                if part == "language" and name in quantised
                else dtype_of(part, name, options).itemsize
            )
            for name, tensor in module.state_dict().items()
        )
    return totals


def estimate(
    model: str, parts: PartModules, options: LoadOptions, devices: Places, layers: Places | None
) -> MemoryEstimate:
    """What a model will take, its parts' weights and the largest things that it works with.

    Args:
        model: its name. parts: the empty modules.
    """
    bytes_of = sizes(parts, options)
    needs = []
    for part, total in bytes_of.items():
        if part == "language" and layers is not None:
            split: dict[str, float] = {}
            whole = sum(tensor.numel() for tensor in parts[part].parameters())
            where = device_of(part, devices, layers)
            for name, tensor in parts[part].named_parameters():
                split[str(where(name))] = split.get(str(where(name)), 0.0) + total * tensor.numel() / whole
            needs += [Need(part, device, share) for device, share in split.items()]
        else:
            needs.append(Need(part, str(devices[part]), total))
    language = parts["language"].config
    heads = getattr(language, "num_key_value_heads", None) or language.num_attention_heads
    width = heads * (language.hidden_size // language.num_attention_heads)
    positions = min(POSITIONS, language.max_position_embeddings)
    cache = 2 * language.num_hidden_layers * width * positions * options.torch_dtype.itemsize
    needs.append(Need("keys and values", str(devices["language"]), cache))
    if "sam" in parts:
        encoder = parts["sam"].image_encoder
        patches = encoder.pos_embed.shape[1] * encoder.pos_embed.shape[2]
        item = sam_dtype("image_encoder.", options.torch_dtype).itemsize
        # Global attention's scores, once with the relative positions and once as probabilities.
        needs.append(
            Need(
                "a frame in SAM",
                str(devices["sam"]),
                2 * encoder.blocks[0].attn.num_heads * patches**2 * item,
            )
        )
    return MemoryEstimate(model, tuple(needs))
