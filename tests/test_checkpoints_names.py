"""From published names to parts: wrappers, LoRA's factors and old buffers, and what does not fit."""

from __future__ import annotations

import pytest
import torch

from visa.checkpoints.accounting import SHOWN, account
from visa.checkpoints.lora import find_alpha, read_whole
from visa.checkpoints.published_names import Source, name_clip, name_published, name_sam
from visa.errors import InputError

Q = "model.layers.3.self_attn.q_proj"


class Held:
    """Tensors in memory in place of files."""

    def __init__(self, **tensors: torch.Tensor):
        self.tensors = tensors

    def read(self, name: str) -> torch.Tensor:
        return self.tensors[name]


def test_parts() -> None:
    names = {
        "model.embed_tokens.weight": ("language", "model.embed_tokens.weight"),
        "lm_head.weight": ("language", "lm_head.weight"),
        "model.vision_tower.vision_tower.vision_model.pre_layrnorm.bias": ("tower", "pre_layrnorm.bias"),
        "model.mm_projector.0.weight": ("projector", "0.weight"),
        "model.text_hidden_fcs.0.2.bias": ("seg_head", "2.bias"),
        "model.visual_model.mask_decoder.iou_token.weight": ("sam", "mask_decoder.iou_token.weight"),
    }
    for prefix in ("", "base_model.model.", "module.", "module.base_model.model."):
        named = name_published([prefix + name for name in names])
        assert named.unknown == named.computed == ()
        assert {
            (part, own): source.stored
            for part, sources in named.parts.items()
            for own, source in sources.items()
        } == {place: prefix + name for name, place in names.items()}


@pytest.mark.parametrize("adapter", ["lora_{}.default.weight", "lora_{}.weight", "lora_{}.visa.weight"])
@pytest.mark.parametrize("weight", ["weight", "base_layer.weight"])
def test_lora_factors_find_their_weight(adapter: str, weight: str) -> None:
    first, second = (f"base_model.model.{Q}.{adapter.format(side)}" for side in "AB")
    named = name_published([first, f"base_model.model.{Q}.{weight}", second])
    assert named.has_lora
    assert named.parts == {
        "language": {f"{Q}.weight": Source(f"base_model.model.{Q}.{weight}", (first, second))}
    }
    assert named.unknown == ()


def test_half_an_adapter_is_unknown_and_two_are_too_many() -> None:
    half = f"base_model.model.{Q}.lora_A.default.weight"
    assert name_published([f"base_model.model.{Q}.weight", half]).unknown == (half,)
    assert name_published([f"{Q}.lora_A.weight", f"{Q}.lora_B.weight"]).parts == {}
    with pytest.raises(InputError, match="two LoRA adapters"):
        name_published([f"{Q}.lora_A.one.weight", f"{Q}.lora_A.two.weight"])
    with pytest.raises(InputError, match="stored twice"):
        name_published([f"{Q}.weight", f"module.{Q}.weight"])


def test_what_is_computed_nowadays_is_passed_over_and_nothing_else() -> None:
    old = [
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "base_model.model.model.layers.31.self_attn.rotary_emb.inv_freq",
        "model.vision_tower.vision_tower.vision_model.embeddings.position_ids",
        "model.visual_model.pixel_mean",
    ]
    named = name_published([*old, "model.inv_freq_new"])
    assert named.computed == tuple(old)
    assert named.parts == {"language": {"model.inv_freq_new": Source("model.inv_freq_new")}}
    assert name_published(["epoch"]).unknown == ("epoch",)
    clip = name_clip(
        ["vision_model.a", "text_model.b", "logit_scale", "vision_model.embeddings.position_ids"]
    )
    assert clip.parts == {"tower": {"a": Source("vision_model.a")}}
    assert name_sam(["pixel_mean", "image_encoder.x"]).parts == {
        "sam": {"image_encoder.x": Source("image_encoder.x")}
    }


def test_lora_is_merged_with_alpha_over_r() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, first, second = (torch.randn(*size, generator=generator) for size in ((12, 6), (4, 6), (12, 4)))
    files = Held(w=weight.bfloat16(), a=first, b=second)
    merged = read_whole(files, Source("w", ("a", "b")), alpha=16)
    expected = weight.bfloat16().double() + 16 / 4 * second.double() @ first.double()
    assert merged.dtype == torch.bfloat16
    torch.testing.assert_close(merged.double(), expected, rtol=2**-8, atol=1e-6)
    assert torch.equal(read_whole(files, Source("w"), alpha=None), weight.bfloat16())


def test_alpha_is_found_or_asked_for(tmp_path) -> None:
    assert find_alpha(tmp_path, 16) == 16
    with pytest.raises(InputError, match="give lora_alpha"):
        find_alpha(tmp_path, None)
    (tmp_path / "adapter_config.json").write_text('{"lora_alpha": 32, "r": 8}')
    assert find_alpha(tmp_path, 16) == 32
    (tmp_path / "adapter_config.json").write_text('{"lora_alpha": 32, "use_rslora": true}')
    with pytest.raises(InputError, match="use_rslora"):
        find_alpha(tmp_path, 16)


EXPECTED = {
    "language": {f"model.{i}.weight": (2, 2) for i in range(SHOWN + 2)},
    "projector": {"weight": (3,)},
}
GOOD = {**{f"model.{i}.weight": (2, 2) for i in range(SHOWN + 2)}, "model.mm_projector.weight": (3,)}


def complaint(stored: dict[str, tuple[int, ...]]) -> str:
    with pytest.raises(InputError) as caught:
        account(name_published(stored), stored, EXPECTED, "folder")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_accounting() -> None:
    sources = account(name_published(GOOD), GOOD, EXPECTED, "folder")
    assert {part: set(named) for part, named in sources.items()} == {p: set(s) for p, s in EXPECTED.items()}
    assert "lacks projector.weight" in complaint({k: v for k, v in GOOD.items() if "mm_" not in k})
    assert "has unexpectedly model.visual_model.x" in complaint({**GOOD, "model.visual_model.x": (1,)})
    assert "has unexpectedly scaler" in complaint({**GOOD, "scaler": (1,)})
    assert "model.1.weight 2x3 instead of 2x2" in complaint({**GOOD, "model.1.weight": (2, 3)})
    everything = complaint({"model.mm_projector.weight": (3,), "more": (1,)})
    assert everything.count(".weight") == SHOWN
    assert f"model.{SHOWN - 1}.weight and 2 more; has unexpectedly more" in everything


@pytest.mark.parametrize("factors", [((8, 3), (2, 8)), ((8, 2), (2, 4)), ((8, 2), (2,))])
def test_factors_of_other_sizes_than_their_weight(factors: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    stored = {**GOOD, "model.0.lora_A.weight": factors[0], "model.0.lora_B.weight": factors[1]}
    assert "model.0.lora_A.weight 8x" in complaint(stored)
