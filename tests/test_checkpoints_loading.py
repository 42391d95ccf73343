"""Tiny checkpoints in each published layout become models that hold exactly their weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny_published as tiny
import torch
from safetensors.torch import save_file

from visa.checkpoints import loading, presets
from visa.checkpoints.loading import load_published, load_sam, open_checkpoint, part_modules, read_xmem
from visa.checkpoints.options import LoadOptions
from visa.checkpoints.published_names import name_published
from visa.errors import InputError
from visa.preset_files import PRESETS, find_preset

SYSTEMS = ("visa", "videolisa")
LAYOUTS = ("safetensors", "safetensors sharded", "bin", "bin sharded")
FP32 = LoadOptions(dtype="float32")


@pytest.fixture(scope="module", params=SYSTEMS)
def system(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(system: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A merged checkpoint; tests copy it before they spoil it."""
    folder = tmp_path_factory.mktemp(system)
    tiny.write_published(folder, system)
    return folder


@pytest.fixture(scope="module")
def state(system: str) -> dict[str, torch.Tensor]:
    return tiny.published_state(system)


@pytest.fixture
def spoiled(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "spoiled"))


def assert_holds(loaded: loading.Loaded, state: dict[str, torch.Tensor], *, atol: float = 0.0) -> None:
    """The model's parts hold a state in published names, all of it and nothing more."""
    parts = part_modules(loaded.model)
    named = name_published(state)
    assert named.parts.keys() == parts.keys()
    for part, module in parts.items():
        held = module.state_dict()
        assert held.keys() == named.parts[part].keys()
        for name, source in named.parts[part].items():
            torch.testing.assert_close(
                held[name], state[source.stored].to(held[name].dtype), rtol=0, atol=atol
            )
    assert not any(tensor.is_meta for tensor in (*loaded.model.parameters(), *loaded.model.buffers()))
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert not loaded.model.training


@pytest.mark.parametrize("layout", LAYOUTS)
def test_merged_checkpoints(system: str, layout: str, tmp_path: Path) -> None:
    state = tiny.write_published(tmp_path, system, layout)
    loaded = load_published(open_checkpoint(tmp_path), FP32)
    assert_holds(loaded, state)
    assert loaded.config.system == system
    assert loaded.model.seg_token_id == tiny.SEG
    assert loaded.tokenizer.convert_tokens_to_ids("[SEG]") == tiny.SEG


@pytest.mark.parametrize("layout", ["file", "folder", "sharded folder"])
def test_training_states_joined_by_zero_to_fp32(
    system: str, state: dict, layout: str, tmp_path: Path
) -> None:
    """Unmerged LoRA, the vision tower inside, no config.json: the preset's settings stand in."""
    apart, whole = tiny.with_lora(system, state)
    if layout == "file":
        tiny.write_tensors(tmp_path, apart, "bin")
        where = tmp_path / "pytorch_model.bin"
    else:
        tiny.write_tensors(
            tmp_path / "pytorch_model.bin", apart, "bin sharded" if "sharded" in layout else "bin"
        )
        where = tmp_path
    tiny.write_tower(tmp_path / "clip", state)
    tiny.write_tokenizer(tmp_path, system, seg=False)
    if layout == "folder":
        # Beside the folder of that name.
        for name in ("tokenizer.json", "tokenizer_config.json"):
            assert (tmp_path / name).is_file()
    checkpoint = open_checkpoint(where, tiny.CONFIG[system])
    loaded = load_published(checkpoint, LoadOptions(dtype="float32", lora_alpha=tiny.LORA_ALPHA))
    assert_holds(loaded, whole, atol=2e-6)
    changed = [name for name in whole if not torch.equal(whole[name], state[name])]
    assert len(changed) == 2 * len(tiny.LORA[system])
    with pytest.raises(InputError, match="give lora_alpha"):
        load_published(checkpoint, FP32)


def test_adapters_alone_beside_a_base_are_not_a_checkpoint(system: str, state: dict, spoiled: Path) -> None:
    apart, _ = tiny.with_lora(system, state)
    (spoiled / "model.safetensors").unlink()
    tiny.write_tensors(
        spoiled, {name: value for name, value in apart.items() if "lora_" in name}, "safetensors"
    )
    with pytest.raises(InputError, match="lacks model.embed_tokens.weight"):
        open_checkpoint(spoiled)


@pytest.mark.parametrize("dtype", ["float32", "bf16", "float16"])
def test_precision(folder: Path, state: dict, dtype: str) -> None:
    loaded = load_published(open_checkpoint(folder), LoadOptions(dtype=dtype))
    assert_holds(loaded, state)
    parts = part_modules(loaded.model)
    wanted = LoadOptions(dtype=dtype).torch_dtype
    for part in ("language", "tower", "projector", "seg_head"):
        assert {parameter.dtype for parameter in parts[part].parameters()} == {wanted}
    assert loaded.model.language.dtype == wanted
    assert {parameter.dtype for parameter in parts["sam"].mask_decoder.parameters()} == {torch.float32}
    encoder = torch.bfloat16 if dtype == "bf16" else torch.float32
    assert {parameter.dtype for parameter in parts["sam"].image_encoder.parameters()} == {encoder}
    assert parts["language"].model.rotary_emb.inv_freq.dtype == torch.float32


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention(folder: Path, attention: str) -> None:
    loaded = load_published(open_checkpoint(folder), LoadOptions(dtype="float32", attention=attention))
    assert loaded.model.language.config._attn_implementation == attention
    hidden = loaded.model.language.model(
        input_ids=torch.arange(5, 12)[None], use_cache=False
    ).last_hidden_state
    other = load_published(open_checkpoint(folder), FP32).model.language
    expected = other.model(input_ids=torch.arange(5, 12)[None], use_cache=False).last_hidden_state
    torch.testing.assert_close(hidden, expected, rtol=0, atol=1e-5)


def test_loading_never_holds_the_weights_twice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than one tensor is on its way at a time."""
    import weakref

    on_the_way, most = weakref.WeakSet(), []
    read = loading.fill.__globals__["read_whole"]

    def watched(*arguments):
        most.append(len(on_the_way))
        value = read(*arguments).clone()
        on_the_way.add(value)
        return value

    monkeypatch.setitem(loading.fill.__globals__, "read_whole", watched)
    load_published(open_checkpoint(folder), LoadOptions(dtype="bf16"))
    assert len(most) > 200
    assert max(most) <= 1


def test_devices_can_be_given_for_parts_and_layers(folder: Path, state: dict) -> None:
    layers = {"model.embed_tokens": "cpu", "model.layers": "cpu", "model.norm": "cpu", "lm_head": "cpu"}
    for device_map in ("auto", {"sam": "cpu", "language": "cpu"}, {**layers, "tower": "cpu"}):
        loaded = load_published(open_checkpoint(folder), LoadOptions(dtype="float32", device_map=device_map))
        assert_holds(loaded, state)
    del layers["lm_head"]
    with pytest.raises(InputError, match="none for lm_head.weight"):
        load_published(open_checkpoint(folder), LoadOptions(dtype="float32", device_map=layers))


def test_the_towers_files_and_a_tower_of_ones_own(
    folder: Path, state: dict, spoiled: Path, tmp_path: Path
) -> None:
    (spoiled / "clip").rename(tmp_path / "elsewhere")
    settings = json.loads((spoiled / "config.json").read_text())
    with pytest.raises(InputError, match="names the vision tower 'clip', which is unknown; expected openai/"):
        open_checkpoint(spoiled)
    assert_holds(load_published(open_checkpoint(spoiled, tower=tmp_path / "elsewhere"), FP32), state)
    settings["mm_vision_tower"] = "/home/somebody/weights/openai/clip-vit-large-patch14-336"
    (spoiled / "config.json").write_text(json.dumps(settings))
    checkpoint = open_checkpoint(spoiled)
    assert checkpoint.config.tower_source == "openai/clip-vit-large-patch14-336"
    assert checkpoint.config.tower.image_size == 336
    settings["mm_vision_tower"] = "eva-clip-g"
    (spoiled / "config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="names the vision tower 'eva-clip-g', which is unknown"):
        open_checkpoint(spoiled)
    (tmp_path / "elsewhere" / "config.json").write_text('{"model_type": "siglip"}')
    with pytest.raises(InputError, match="is 'siglip'; expected a CLIP model"):
        open_checkpoint(spoiled, tower=tmp_path / "elsewhere")


def test_a_base_model_can_be_trained_but_not_asked(
    system: str, state: dict, spoiled: Path, tmp_path: Path
) -> None:
    """Chat-UniVi and LLaVA-Phi-3 have no [SEG] head and no SAM; SAM comes from its own file."""
    own = {k: v for k, v in tiny.merged(state).items() if "visual_model" not in k and "text_hidden" not in k}
    tiny.write_tensors(spoiled, own, "safetensors")
    sam = {k.removeprefix("model.visual_model."): v for k, v in state.items() if "visual_model." in k}
    torch.save(sam, tmp_path / "sam_vit_h_4b8939.pth")
    with pytest.raises(InputError, match="not trained to segment"):
        load_published(open_checkpoint(spoiled), FP32)
    with pytest.raises(InputError, match="has no SAM in it"):
        load_published(open_checkpoint(spoiled), LoadOptions(dtype="float32", untrained=True))
    options = LoadOptions(dtype="float32", untrained=True, sam=tmp_path / "sam_vit_h_4b8939.pth")
    loaded = load_published(open_checkpoint(spoiled), options)
    assert all(
        torch.isfinite(value).all() and value.std() > 0 for value in loaded.model.seg_head.parameters()
    )
    assert torch.equal(
        part_modules(loaded.model)["sam"].state_dict()["image_encoder.pos_embed"],
        sam["image_encoder.pos_embed"],
    )


def test_sams_own_file(state: dict, tmp_path: Path) -> None:
    own = {k.removeprefix("model.visual_model."): v for k, v in state.items() if "visual_model." in k}
    torch.save(own, tmp_path / "sam.pth")
    sam = load_sam(tmp_path / "sam.pth")
    assert sam.image_size == 256
    assert sam.image_encoder.blocks[0].window_size == 4
    assert sam.image_encoder.blocks[1].window_size == 0
    assert sam.image_encoder.blocks[0].attn.num_heads == 2
    assert all(torch.equal(value, own[name]) for name, value in sam.state_dict().items())
    torch.save({**own, "more": torch.ones(1)}, tmp_path / "sam.pth")
    with pytest.raises(InputError, match="has unexpectedly more"):
        load_sam(tmp_path / "sam.pth")
    wide = torch.zeros(1, 16, 16, 1280)
    positions = {f"image_encoder.blocks.{i}.attn.rel_pos_h": torch.zeros(27, 80) for i in range(31)}
    mlp = {"image_encoder.blocks.0.mlp.lin1.weight": torch.zeros(5120, 1)}
    torch.save({"image_encoder.pos_embed": wide, **positions, **mlp}, tmp_path / "sam.pth")
    with pytest.raises(InputError, match="it has 31 of 32 blocks"):
        load_sam(tmp_path / "sam.pth")
    torch.save({"fc.weight": torch.ones(1)}, tmp_path / "sam.pth")
    with pytest.raises(InputError, match="is not SAM with a ViT image encoder"):
        load_sam(tmp_path / "sam.pth")


def test_xmems_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from model.xmem import XMem

    monkeypatch.setenv("VISA_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InputError, match=r"XMem.pth is not there; fetch https://github.com/hkchengrex/XMem"):
        read_xmem("XMem.pth", tmp_path)
    network = XMem(64, 512, 64)
    (tmp_path / "cache").mkdir()
    torch.save(network.state_dict(), tmp_path / "cache" / "XMem.pth")
    read = read_xmem("XMem.pth", tmp_path)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in read.state_dict().items())
    torch.save({"weight": torch.ones(1)}, tmp_path / "XMem.pth")
    with pytest.raises(InputError, match="these are not XMem weights"):
        read_xmem("XMem.pth", tmp_path)
    (tmp_path / "XMem.pth").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(InputError, match="damaged"):
        read_xmem("XMem.pth", tmp_path)


def rewrite(folder: Path, change) -> None:
    from safetensors.torch import load_file

    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")


@pytest.mark.parametrize("lost", ["lm_head.weight", "model.visual_model.mask_decoder.iou_token.weight"])
def test_missing_and_unexpected_tensors_are_named(spoiled: Path, lost: str) -> None:
    def change(state: dict) -> None:
        del state[lost]
        state["model.layers.0.self_attn.novel"] = torch.ones(1)

    rewrite(spoiled, change)
    with pytest.raises(InputError) as caught:
        load_published(open_checkpoint(spoiled), FP32)
    message = str(caught.value)
    assert lost.rpartition("visual_model.")[2] in message
    assert "model.layers.0.self_attn.novel" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]},
            "another architecture (qwen2, Qwen2ForCausalLM)",
        ),
        ({"model_type": None, "architectures": None}, "another architecture (nothing that says what it is)"),
        ({"num_hidden_layers": 3}, "lacks language.model.layers.2."),
        ({"num_hidden_layers": 1}, "has unexpectedly model.layers.1."),
        ({"intermediate_size": 96}, "has other shapes:"),
        ({"hidden_size": None}, "does not give hidden_size as numbers"),
        ({"mm_projector_type": "qformer"}, "names the projector 'qformer'"),
    ],
)
def test_configurations_of_something_else(spoiled: Path, change: dict, told: str) -> None:
    settings = {**json.loads((spoiled / "config.json").read_text()), **change}
    (spoiled / "config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError) as caught:
        load_published(open_checkpoint(spoiled), FP32)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_of_something_else_without_a_configuration(
    system: str, spoiled: Path, tmp_path: Path
) -> None:
    other = {"visa": "videolisa", "videolisa": "visa"}[system]
    (spoiled / "config.json").unlink()
    with pytest.raises(InputError, match="has no config.json; name the preset"):
        open_checkpoint(spoiled)
    with pytest.raises(InputError, match=f"is a {system} of width 64; the preset describes a {other}"):
        open_checkpoint(spoiled, tiny.CONFIG[other])
    save_file({"resnet.conv1.weight": torch.ones(1)}, spoiled / "model.safetensors")
    with pytest.raises(InputError, match="another architecture: it has no config.json"):
        open_checkpoint(spoiled, tiny.CONFIG[system])
    (spoiled / "config.json").write_text("{")
    with pytest.raises(InputError, match="config.json is not JSON"):
        open_checkpoint(spoiled)


def test_presets_find_their_system_and_load(system: str, folder: Path, state: dict) -> None:
    name = presets.preset_of(folder)
    assert name == {"visa": "visa-7b", "videolisa": "videolisa-3.8b"}[system]
    preset = presets_yaml(name)
    assert presets.is_published(preset)
    assert not presets.is_published(presets_yaml("embedded"))
    loaded = presets.load_preset(name, preset, where=folder, dtype="float32")
    assert_holds(loaded, state)
    assert loaded.model.seg_state == "predicting"
    beside = {**preset, "checkpoint": folder.name}
    assert presets.open_preset(name, beside, folder=folder.parent).where == folder
    other = {"visa": "videolisa-3.8b", "videolisa": "visa-13b"}[system]
    with pytest.raises(InputError, match=f"is a {system}; the preset {other} is for"):
        presets.load_preset(other, presets_yaml(other), where=folder)
    with pytest.raises(InputError, match="there is no load option quantise; expected attention, bits"):
        presets.load_preset(name, preset, where=folder, quantise=True)


def presets_yaml(name: str) -> dict:
    import yaml

    return yaml.safe_load(find_preset(name).read_text())


@pytest.mark.parametrize("name", ["visa-7b", "visa-13b", "videolisa-3.8b"])
def test_shipped_presets(name: str) -> None:
    preset = presets_yaml(name)
    assert (PRESETS / f"{name}.yaml").is_file()
    reason = preset["reason"]
    assert reason["seg_state"] in ("predicting", "at_token")
    assert reason["answer"] in ("forced", "generate")
    assert "[SEG]" in reason["forced_answer"]
    assert presets.BY_WIDTH[reason["system"]][preset["config"]["hidden_size"]] == name
    assert presets.options_of(preset, "cpu").torch_dtype == torch.bfloat16
    if preset["checkpoint"] is None:
        with pytest.raises(
            InputError, match=f"{name} has no public download: get the weights from its authors"
        ):
            presets.load_preset(name, preset)
