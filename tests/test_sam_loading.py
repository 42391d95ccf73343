"""SAM as it is built and loaded: published layouts, checkpoints, the `segment-anything` package."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from model.sam import Sam, SamSegmenter, build_sam
from model.sam.import_segment_anything import builders
from tests import small_sam
from tests.small_sam import SIDE, PooledEncoder

pytestmark = pytest.mark.usefixtures("one_thread")
sam = small_sam.sam


GOLDEN = Path(__file__).parent / "golden"


def test_keys_and_shapes_are_those_of_mobile_sam():
    listed = json.loads((GOLDEN / "mobile_sam/keys.json").read_text())["keys"]
    assert len(listed) == 439
    with torch.device("meta"):
        state = build_sam("vit_t").state_dict()
    assert {key: list(value.shape) for key, value in state.items()} == listed


@pytest.mark.parametrize(
    ("name", "num_keys", "width", "depth", "head_width"),
    [("vit_b", 314, 768, 12, 64), ("vit_l", 482, 1024, 24, 64), ("vit_h", 594, 1280, 32, 80)],
)
def test_larger_encoders_have_the_published_layout(name, num_keys, width, depth, head_width):
    with torch.device("meta"):
        state = build_sam(name).state_dict()
        package = builders.sam_model_registry[name]().state_dict()
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    assert shapes == {key: tuple(value.shape) for key, value in package.items()}
    assert len(shapes) == num_keys
    assert shapes["image_encoder.pos_embed"] == (1, 64, 64, width)
    assert shapes[f"image_encoder.blocks.{depth - 1}.attn.qkv.weight"] == (3 * width, width)
    # The last block attends globally, so its relative positions span the whole grid.
    assert shapes[f"image_encoder.blocks.{depth - 1}.attn.rel_pos_h"] == (127, head_width)


def test_checkpoint_is_loaded_strictly(sam, tmp_path):
    state = sam.state_dict()
    torch.save(state, tmp_path / "sam.pt")
    loaded = build_sam("vit_t", tmp_path / "sam.pt", image_size=SIDE)
    assert all(torch.equal(loaded.state_dict()[key], value) for key, value in state.items())
    del state["mask_decoder.iou_token.weight"]
    torch.save(state, tmp_path / "broken.pt")
    with pytest.raises(RuntimeError, match=r"iou_token"):
        build_sam("vit_t", tmp_path / "broken.pt", image_size=SIDE)


def test_wrong_builds_say_what_is_possible():
    with pytest.raises(ValueError, match="vit_t, vit_b, vit_l, vit_h"):
        build_sam("vit_x")
    with pytest.raises(ValueError, match="use 1024$"):
        build_sam("vit_b", image_size=512)
    with pytest.raises(ValueError, match="pad_input=False needs vit_t"):
        SamSegmenter(Sam(PooledEncoder(), SIDE), pad_input=False)


def test_package_is_imported_without_torchvision_and_leaves_no_shell():
    script = (
        "import sys; sys.modules['torchvision'] = None\n"  # makes `import torchvision` fail
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'torchvision' else find(name, *a)\n"
        "from model.sam.import_segment_anything import modeling\n"
        "assert modeling.MaskDecoder and 'segment_anything' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[1])


def test_package_is_imported_normally_with_torchvision(tmp_path):
    # Only as much of torchvision as the package's __init__ asks for.
    for module, text in {
        "torchvision/__init__.py": "",
        "torchvision/ops/__init__.py": "",
        "torchvision/ops/boxes.py": "batched_nms = box_area = None",
        "torchvision/transforms/__init__.py": "",
        "torchvision/transforms/functional.py": "resize = to_pil_image = None",
    }.items():
        (tmp_path / module).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / module).write_text(text)
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from model.sam.import_segment_anything import modeling\n"
        "import segment_anything\n"
        "assert segment_anything.SamPredictor and segment_anything.modeling is modeling\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[1])


def test_prompt_encoder_keeps_float32_when_sam_is_cast():
    network = Sam(PooledEncoder(), SIDE)
    before = network.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.clone()
    nn.ModuleList([network]).to(torch.bfloat16)
    assert {value.dtype for value in network.prompt_encoder.state_dict().values()} == {torch.float32}
    assert next(network.mask_decoder.parameters()).dtype == torch.bfloat16
    assert torch.equal(network.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix, before)
