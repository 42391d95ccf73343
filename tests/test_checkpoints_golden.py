"""Every tensor of the full-size published models has its place, and every place its tensor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from visa.checkpoints import loading
from visa.checkpoints.configuration import describe
from visa.checkpoints.loading import Checkpoint, part_modules, plan_load
from visa.checkpoints.options import LoadOptions
from visa.checkpoints.published_names import name_published
from visa.errors import InputError
from visa.preset_files import PRESETS

# Rows of the embedding with [SEG]: the lists leave them open ("V").
ROWS = {"visa": 32001, "videolisa": 32012}
LORA = {"visa": ("q_proj", "v_proj"), "videolisa": ("qkv_proj",)}
TOWER = "model.vision_tower.vision_tower."


@dataclass
class ShapesAlone:
    """Stands in for weight files: everything but the weights."""

    shapes: dict[str, tuple[int, ...]]
    where: Path = Path("published")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "key_list" in metafunc.fixturenames:
        root = metafunc.config.getoption("--golden").resolve()
        lists = [path for part in ROWS for path in sorted((root / part).glob("keys_full_*_list.txt"))]
        metafunc.parametrize("key_list", lists, ids=lambda path: f"{path.parent.name}-{path.stem}")


def read_shapes(key_list: Path) -> dict[str, tuple[int, ...]]:
    rows = ROWS[key_list.parent.name]
    lines = [line.split() for line in key_list.read_text().splitlines()]
    return {name: tuple(rows if n == "V" else int(n) for n in size.split("x")) for name, size in lines}


def with_lora(system: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    apart = {}
    for name, shape in shapes.items():
        apart[f"base_model.model.{name}"] = shape
        module = name.removesuffix(".weight")
        if name.startswith("model.layers.") and module.endswith(LORA[system]):
            apart[f"base_model.model.{module}.lora_A.default.weight"] = (8, shape[1])
            apart[f"base_model.model.{module}.lora_B.default.weight"] = (shape[0], 8)
    return apart


def as_13b(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The 7B list at LLaMA-13B's sizes, which nobody printed."""
    wide = {4096: 5120, 11008: 13824}
    grown = {}
    for name, shape in shapes.items():
        if name.startswith((TOWER, "model.visual_model.")):
            grown[name] = shape
            continue
        shape = tuple(wide.get(n, n) for n in shape)
        grown[name] = shape
        if name.startswith("model.layers.0."):
            grown |= {name.replace(".0.", f".{layer}.", 1): shape for layer in range(32, 40)}
    return grown


def preset(name: str) -> dict:
    return yaml.safe_load((PRESETS / f"{name}.yaml").read_text())


def plan(name: str, shapes: dict[str, tuple[int, ...]]):
    named = name_published(shapes)
    config = describe(preset(name)["config"], named, shapes, Path("published"))
    checkpoint = Checkpoint(Path("published"), named, config, ShapesAlone(shapes))
    return named, plan_load(
        checkpoint, LoadOptions(dtype="float32"), seg_token_id=config.language.vocab_size - 1
    )


def preset_name(key_list: Path) -> str:
    return (
        {"visa": "visa", "videolisa": "videolisa"}[key_list.parent.name] + "-" + key_list.stem.split("_")[2]
    )


def accounted(named, made) -> tuple[set[str], int]:
    """Stored names that were given a place, and how many places there are."""
    sources = [source for part in made.sources.values() for source in part.values()]
    stored = {source.stored for source in sources} | {name for s in sources for name in s.lora or ()}
    return stored | set(named.computed), len(sources)


def test_golden_lists_are_there(golden_root: Path) -> None:
    assert all(list((golden_root / part).glob("keys_full_*_list.txt")) for part in ROWS)


def test_golden_keys_in_memory(key_list: Path) -> None:
    shapes = read_shapes(key_list)
    named, made = plan(preset_name(key_list), shapes)
    stored, places = accounted(named, made)
    assert stored == shapes.keys()
    assert places == len(shapes) - len(named.computed)
    assert places == sum(len(module.state_dict()) for module in part_modules(made.model).values())
    assert places > 1000
    assert all(parameter.is_meta for parameter in made.model.parameters())


def test_golden_keys_of_the_merged_checkpoint(key_list: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = read_shapes(key_list)
    merged = {name: shape for name, shape in everything.items() if "vision_tower" not in name}
    clip = {name.removeprefix(TOWER): shape for name, shape in everything.items() if name.startswith(TOWER)}
    assert len(merged) + len(clip) == len(everything)
    # As the hub has CLIP: with a text encoder, and the patches' numbers of older versions.
    clip |= {
        "text_model.final_layer_norm.bias": (768,),
        "logit_scale": (),
        "visual_projection.weight": (768, 1024),
    }
    clip["vision_model.embeddings.position_ids"] = (1, 257)
    monkeypatch.setattr(loading, "locate_tower", lambda config: Path("clip"))
    monkeypatch.setattr(loading, "TensorFiles", lambda path: ShapesAlone(clip, path))
    named, made = plan(preset_name(key_list), merged)
    tower = made.sources.pop("tower")
    stored, _ = accounted(named, made)
    assert stored == merged.keys()
    assert {source.stored for source in tower.values()} == {
        n for n in clip if n.startswith("vision_model.")
    } - {"vision_model.embeddings.position_ids"}


def test_golden_keys_of_a_training_state_with_adapters(key_list: Path) -> None:
    system = key_list.parent.name
    shapes = with_lora(system, read_shapes(key_list))
    named, made = plan(preset_name(key_list), shapes)
    stored, _ = accounted(named, made)
    assert stored == shapes.keys()
    adapted = [name for name, source in made.sources["language"].items() if source.lora]
    assert len(adapted) == 32 * len(LORA[system])
    assert len(shapes) == len(read_shapes(key_list)) + 2 * len(adapted)


@pytest.mark.parametrize("lost", ["lm_head.weight", "model.mm_projector.0.bias", "model.mm_projector.bias"])
def test_golden_keys_that_are_missing_or_too_many_are_named(key_list: Path, lost: str) -> None:
    shapes = read_shapes(key_list)
    if shapes.pop(lost, None) is None:
        lost = "model.norm.weight"
        del shapes[lost]
    shapes["model.layers.0.self_attn.rotary_emb.novel"] = (1,)
    shapes["optimizer.state"] = (2,)
    with pytest.raises(InputError) as caught:
        plan(preset_name(key_list), shapes)
    message = str(caught.value)
    assert lost.removeprefix("model.").removeprefix("mm_") in message
    assert "rotary_emb.novel" in message
    assert "optimizer.state" in message
    assert "\n" not in message


def test_golden_keys_of_13b(golden_root: Path) -> None:
    shapes = as_13b(read_shapes(golden_root / "visa" / "keys_full_7b_list.txt"))
    named, made = plan("visa-13b", shapes)
    stored, _ = accounted(named, made)
    assert stored == shapes.keys()
    language = sum(parameter.numel() for parameter in made.model.language.parameters())
    assert language == pytest.approx(13.016e9, rel=1e-3)
    with pytest.raises(InputError, match="5120"):
        plan("visa-7b", shapes)
