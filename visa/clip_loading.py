"""CLIP's image tower from its public ONNX file: the matrices, in 8 bits there, become plain ones.

The file is only read, never run: the network is transformers', so that it also runs on a GPU, in bfloat16,
and gives points of places, which the file's own does not.
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers.initialization import no_init_weights

from model.clip_pictures import ClipPictures

_QUANTISED, _PRODUCT = "_quantized", "MatMulInteger"


def load_clip_pictures(path: Path, dtype: torch.dtype = torch.float32) -> ClipPictures:
    """The tower, ready to look.

    Args:
        path: a ViT-B/16 tower exported from transformers by optimum and quantised dynamically.
        dtype: of the network.

    Raises:
        ValueError: `onnx` is not installed, or the file is not such a tower.
    """
    try:
        weights = read_weights(path, dtype)
    except KeyError as error:
        raise ValueError(f"{path} is no CLIP image tower: it lacks {error}") from error
    with no_init_weights():
        pictures = ClipPictures().to(dtype).eval().requires_grad_(False)
    try:
        pictures.network.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{path} is no CLIP image tower: {str(error).splitlines()[-1].strip()}") from error
    return pictures


def read_weights(path: Path, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Weights by transformers' names, of a dtype.

    Raises:
        ValueError: as `load_clip_pictures`.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise ValueError("CLIP's image tower comes as an ONNX file: pip install onnx") from error
    try:
        graph = onnx.load(str(path)).graph
    except DecodeError as error:
        raise ValueError(f"{path} cannot be read as an ONNX network: {error}") from error
    stored = {tensor.name: tensor for tensor in graph.initializer}

    def tensor(name: str) -> torch.Tensor:
        return torch.from_numpy(onnx.numpy_helper.to_array(stored[name]).copy())

    weights = {name: tensor(name).to(dtype) for name in stored if name.startswith("vision_model.")}
    for node in graph.node:
        if node.op_type != _PRODUCT or node.input[1] not in stored:
            continue
        # "/vision_model/encoder/layers.0/self_attn/q_proj/MatMul_quant" multiplies from the right.
        name = node.name.strip("/").rpartition("/")[0].replace("/", ".")
        matrix = node.input[1].removesuffix(_QUANTISED)
        values = tensor(node.input[1]).float().sub_(tensor(f"{matrix}_zero_point"))
        weights[f"{name}.weight"] = values.mul_(tensor(f"{matrix}_scale")).to(dtype).T
    return weights
