"""Options on load: what cannot be had is said in one line, and quantisation spares what it must."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_published as tiny
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from visa.checkpoints import options
from visa.checkpoints.loading import load_published, open_checkpoint, part_modules, plan_load
from visa.checkpoints.options import LoadOptions
from visa.checkpoints.placement import device_of, estimate, hand_on, layer_map, part_devices, sizes
from visa.checkpoints.quantisation import BYTES, quantisable
from visa.errors import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("visa")
    tiny.write_published(folder, "visa")
    return folder


def without(*packages: str):
    return lambda name: None if name in packages else object()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"dtype": "int8"}, "dtype must be one of float32, fp32"),
        ({"bits": 3}, "bits must be 4 or 8"),
        ({"attention": "fast"}, "attention must be one of eager, sdpa, flash_attention_2"),
        ({"device_map": "balanced"}, "device_map must be 'auto' or name parts"),
        ({"device": "gpu"}, "there is no device 'gpu'"),
        ({"bits": 8}, "8 bits need the package bitsandbytes: pip install -r requirements-gpu.txt"),
        ({"attention": "flash_attention_2"}, "needs the package flash-attn: pip install flash-attn"),
    ],
)
def test_what_cannot_be_had(monkeypatch: pytest.MonkeyPatch, given: dict, told: str) -> None:
    monkeypatch.setattr(options, "find_spec", without("bitsandbytes", "flash_attn"))
    with pytest.raises(InputError) as caught:
        LoadOptions(**given)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_flash_attention_needs_a_gpu_and_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "find_spec", without())
    with pytest.raises(InputError, match="runs on a GPU in bfloat16 or float16; use attention 'sdpa'"):
        LoadOptions(attention="flash_attention_2", device="cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert LoadOptions(attention="flash_attention_2", device="cuda").torch_device.type == "cuda"
    with pytest.raises(InputError, match="in bfloat16 or float16"):
        LoadOptions(attention="flash_attention_2", device="cuda", dtype="float32")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="device cuda is asked for, but torch sees no GPU"):
        LoadOptions(device="cuda")


def test_a_part_on_a_device_that_is_none() -> None:
    with pytest.raises(InputError, match="device_map names a device that torch does not know"):
        part_devices(LoadOptions(device_map={"sam": "somewhere"}))


def test_layers_go_where_the_longest_name_says() -> None:
    with torch.device("meta"):
        config = LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=3, num_attention_heads=2)
        language = LlamaForCausalLM(config)
    given = {"model": "cpu", "model.layers.1": "meta", "lm_head": "meta", "sam": "cpu"}
    layers = layer_map(language, 0, LoadOptions(device_map=given))
    where = device_of("language", {}, layers)
    assert where("model.layers.1.mlp.up_proj.weight").type == "meta"
    assert where("model.layers.2.mlp.up_proj.weight").type == "cpu"
    assert where("model.layers.10.mlp.up_proj.weight").type == "cpu"
    assert where("lm_head.weight").type == "meta"
    assert device_of("sam", part_devices(LoadOptions(device_map=given)), layers)("x").type == "cpu"
    devices = part_devices(LoadOptions(device_map=given), layers)
    assert devices["projector"] == devices["seg_head"] == devices["language"] == torch.device("cpu")
    assert where("model.rotary_emb.inv_freq").type == "cpu"
    del given["model"]
    with pytest.raises(InputError, match=r"none for model.embed_tokens.weight"):
        layer_map(language, 0, LoadOptions(device_map=given))


def test_hooks_between_devices_change_nothing(folder: Path) -> None:
    """All on one device here, but through the hooks that carry activations between several."""
    plain, hooked = (
        load_published(open_checkpoint(folder), LoadOptions(dtype="float32")).model for _ in range(2)
    )
    names = ("model.embed_tokens", "model.layers.0", "model.layers.1", "model.norm", "lm_head")
    hand_on(hooked.language, dict.fromkeys(names, torch.device("cpu")))
    assert hasattr(hooked.language.model.layers[1], "_hf_hook")
    ids, frames = torch.arange(5, 15), torch.randn(1, 3, 224, 224)
    prompt = torch.cat([ids[:4], torch.tensor([-200]), ids[4:]])
    answers = []
    for model in (plain, hooked):
        tokens = model.visual_tokens(frames)
        before, question = model.split_behind_frames(prompt)
        reading = model.read(before, [112], tokens[0])
        answers.append(model.forced(reading, question, torch.tensor([7, tiny.SEG, 8])))
    assert answers[0].embeddings.shape == (1, 256)
    assert torch.equal(answers[0].embeddings, answers[1].embeddings)
    assert torch.equal(answers[0].probs, answers[1].probs)


def test_only_the_layers_of_the_language_model_are_quantised(folder: Path) -> None:
    model = plan_load(open_checkpoint(folder), LoadOptions(), seg_token_id=tiny.SEG).model
    names = quantisable(model.language)
    assert len(names) == 7 * 2
    assert all(name.startswith("model.layers.") for name in names)


def test_estimates(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(options, "find_spec", without())
    model = plan_load(open_checkpoint(folder), LoadOptions(), seg_token_id=tiny.SEG).model
    parts = part_modules(model)
    whole = {name: sizes(parts, LoadOptions(dtype=name)) for name in ("float32", "bfloat16")}
    for part in ("language", "tower", "projector", "seg_head"):
        assert whole["float32"][part] == 4 * sum(value.numel() for value in parts[part].parameters())
        assert whole["bfloat16"][part] == whole["float32"][part] / 2
    assert whole["float32"]["sam"] > whole["bfloat16"]["sam"] > whole["float32"]["sam"] / 2
    linear = sum(
        parts["language"].get_submodule(name).weight.numel() for name in quantisable(parts["language"])
    )
    for bits in (8, 4):
        quantised = sizes(parts, LoadOptions(bits=bits))
        assert quantised["language"] == whole["bfloat16"]["language"] - linear * (2 - BYTES[bits])
        assert {k: v for k, v in quantised.items() if k != "language"} == {
            k: v for k, v in whole["bfloat16"].items() if k != "language"
        }
    need = estimate("tiny", parts, LoadOptions(), part_devices(LoadOptions()), None)
    assert {one.part for one in need.needs} == {*parts, "keys and values", "a frame in SAM"}
    load_published(open_checkpoint(folder), LoadOptions(), name="tiny")
    assert capsys.readouterr().err.startswith("visa: tiny will take 0.0")


def test_what_does_not_fit_is_refused_before_it_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from visa import memory_estimate
    from visa.checkpoints import loading

    monkeypatch.setattr(memory_estimate, "free_memory", lambda device: 1e6)
    monkeypatch.setattr(loading, "fill", lambda *arguments, **options: pytest.fail("it was read"))
    with pytest.raises(InputError, match=r"tiny will take 0.0\d GB on cpu .*, but cpu has 0.0 GB to spare"):
        load_published(open_checkpoint(folder), LoadOptions(), name="tiny")


@pytest.mark.parametrize("system", ["visa", "videolisa"])
@pytest.mark.parametrize("bits", [8, 4])
def test_quantised(system: str, bits: int, tmp_path: Path) -> None:
    quantised = pytest.importorskip("bitsandbytes").nn
    tiny.write_published(tmp_path, system)
    model = load_published(open_checkpoint(tmp_path), LoadOptions(dtype="bf16", bits=bits)).model
    whole = load_published(open_checkpoint(tmp_path), LoadOptions(dtype="float32")).model
    kind = {8: quantised.Linear8bitLt, 4: quantised.Linear4bit}[bits]
    spared = {name for name, module in model.named_modules() if type(module) is torch.nn.Linear}
    changed = {name for name, module in model.named_modules() if isinstance(module, kind)}
    assert changed == {f"language.{name}" for name in quantisable(whole.language)}
    assert {"language.lm_head", "seg_head.0", "seg_head.2"} <= spared
    assert any(name.startswith("visual_model.mask_decoder") for name in spared)
    assert any(name.startswith("projector") for name in spared)
    # Quantised values, not their dequantised copies.
    assert all(model.get_submodule(name).weight.dtype in (torch.int8, torch.uint8) for name in changed)
    embeds = torch.randn(1, 9, tiny.HIDDEN, generator=torch.Generator().manual_seed(0))
    expected = whole.language.model(inputs_embeds=embeds, use_cache=False).last_hidden_state
    hidden = model.language.model(inputs_embeds=embeds.bfloat16(), use_cache=False).last_hidden_state
    similarity = torch.cosine_similarity(hidden.float().flatten(), expected.flatten(), dim=0)
    assert similarity > {8: 0.999, 4: 0.97}[bits]
