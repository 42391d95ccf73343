"""`visa.load` of published checkpoints: every layout answers alike, and what is wrong is told in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import visa
from tests.published_tracking import Still, write_xmem
from tests.synthetic_clips import numbered_frame, write_clip
from tests.tiny_published import published_state, with_lora, write_published, write_tensors, write_tokenizer
from visa.commands import inference
from visa.errors import DownloadError, InputError
from visa.preset_files import PRESETS
from visa.sampling import AtPercent
from visa.video import Video

SYSTEMS = ("visa", "videolisa")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    for system in SYSTEMS:
        write_published(folder / system, system)
    write_xmem(folder / "XMem.pth")
    return folder


def answer_of(model: Path, root: Path, **options: object):
    """Masks of one short video by a checkpoint, VISA's carried on without XMem."""
    is_visa = "VISAFor" in ((model if model.is_dir() else model.parent) / "config.json").read_text()
    xmem = {"xmem": root / "XMem.pth"} if is_visa else {}
    segmenter = visa.load(model, device="cpu", dtype="fp32", **xmem, **options)
    if is_visa:
        segmenter.sampler = AtPercent(0.5)
        segmenter.propagator = Still()
    return segmenter.segment(make_video(), "the goat")


def make_video() -> Video:
    return Video.from_frames(np.stack([numbered_frame(k + 1, 24, 32) for k in range(3)]))


@pytest.fixture(scope="module")
def expected(root):
    return {system: answer_of(root / system, root) for system in SYSTEMS}


@pytest.fixture
def refused(root, tmp_path):
    """The line with which a folder is refused."""

    def load(model: str | Path = tmp_path, **options: object) -> str:
        options = {"device": "cpu", "dtype": "fp32", "xmem": root / "XMem.pth"} | options
        with pytest.raises(InputError) as caught:
            visa.load(model, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return load


@pytest.mark.parametrize("layout", ["bin", "sharded safetensors", "sharded bin", "sharded unindexed bin"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_every_layout_answers_alike(root, expected, tmp_path, system, layout):
    write_published(tmp_path, system, layout)
    assert expected[system].masks.any()
    assert answer_of(tmp_path, root) == expected[system]


@pytest.mark.parametrize("system", SYSTEMS)
def test_adapters_are_merged_on_the_way(root, expected, tmp_path, system):
    apart, whole = with_lora(system, published_state(system))
    answers = []
    for name, state in (("apart", apart), ("whole", whole)):
        write_published(tmp_path / name, system)
        (tmp_path / name / "model.safetensors").unlink()
        write_tensors(tmp_path / name, state, "bin")
        answers.append(answer_of(tmp_path / name, root))
    assert (answers[0].masks == answers[1].masks).mean() > 0.999
    assert answers[0].score == pytest.approx(answers[1].score, rel=1e-3)
    assert answers[0].score != pytest.approx(expected[system].score, rel=1e-3), "the adapters do something"


def test_a_weight_file_and_a_preset_file_mean_the_same(root, expected, tmp_path):
    assert answer_of(root / "visa" / "model.safetensors", root) == expected["visa"]
    preset = yaml.safe_load((PRESETS / "visa-7b.yaml").read_text())
    preset |= {"checkpoint": "weights", "sample": {"sampler": "first", "num_references": 2}}
    preset["propagate"] = {"xmem": "XMem.pth", "short_side": 32}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(preset))
    (tmp_path / "weights").symlink_to(root / "visa")
    (tmp_path / "XMem.pth").symlink_to(root / "XMem.pth")
    segmenter = visa.load(tmp_path / "mine.yaml", device="cpu", dtype="fp32")
    assert segmenter.propagator.encoder.short_side == 32
    assert segmenter.segment(make_video(), "the goat").target_frame == 0


def test_a_preset_beside_the_weights_is_theirs(root, expected, tmp_path):
    write_published(tmp_path, "videolisa")
    preset = yaml.safe_load((PRESETS / "videolisa-3.8b.yaml").read_text())
    preset |= {"checkpoint": None, "sample": {"sampler": "sparse_dense", "num_sparse": 4, "num_dense": 1}}
    (tmp_path / "preset.yaml").write_text(yaml.safe_dump(preset))
    segmenter = visa.load(tmp_path, device="cpu")
    assert segmenter.sampler.num_sparse == 4
    assert segmenter.segment(make_video(), "the goat").found


def test_options_reach_the_model(root):
    segmenter = visa.load(root / "videolisa", device="cpu", attention="eager", answer="generate")
    model = segmenter.reasoner.model
    assert model.language.dtype == torch.bfloat16
    assert next(model.visual_model.mask_decoder.parameters()).dtype == torch.float32
    assert model.language.config._attn_implementation == "eager"
    assert segmenter.reasoner.settings.answer == "generate"
    assert segmenter.propagator is None


def test_the_model_that_is_asked_where_to_look(root, tmp_path):
    options = {"device": "cpu", "dtype": "fp32", "xmem": root / "XMem.pth"}
    assert visa.load(root / "visa", **options).guide is None
    guide = visa.load(root / "visa", scorer=root / "videolisa", **options).guide
    assert guide.reasoner.name.startswith("videolisa")
    preset = yaml.safe_load((PRESETS / "visa-7b.yaml").read_text())
    preset["checkpoint"] = str(root / "visa")
    preset["sample"]["scorer"] = str(root / "videolisa")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(preset))
    assert visa.load(tmp_path / "mine.yaml", **options).guide.reasoner.name == guide.reasoner.name


def test_another_architecture(refused, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2", "architectures": ["Qwen2"]}))
    write_tensors(tmp_path, {"model.embed_tokens.weight": torch.zeros(4, 4)}, "safetensors")
    assert "another architecture (qwen2, Qwen2)" in refused()


@pytest.mark.parametrize("layout", ["safetensors", "bin", "sharded safetensors"])
def test_a_truncated_file(refused, tmp_path, layout):
    write_published(tmp_path, "videolisa", layout)
    weights = max(
        (path for path in tmp_path.iterdir() if path.suffix in (".safetensors", ".bin")),
        key=lambda path: path.stat().st_size,
    )
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    assert "broken off or damaged" in refused()


def test_a_tokenizer_without_seg_and_without_room_for_it(refused, tmp_path):
    state = write_published(tmp_path, "videolisa")
    write_tokenizer(tmp_path, "videolisa", seg=False)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        state[name] = state[name][:-1]
    write_tensors(tmp_path, {k: v for k, v in state.items() if "vision_tower" not in k}, "safetensors")
    assert "[SEG]" in refused()


def test_a_config_that_names_an_unknown_tower(refused, tmp_path):
    write_published(tmp_path, "visa")
    fields = json.loads((tmp_path / "config.json").read_text())
    fields |= {"mm_vision_tower": "acme/eye-9000", "vision_tower": "acme/eye-9000"}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    message = refused()
    assert "acme/eye-9000" in message
    assert "clip-vit-large-patch14" in message


def test_missing_keys_are_named(refused, tmp_path):
    state = write_published(tmp_path, "visa")
    state = {k: v for k, v in state.items() if "vision_tower" not in k and "text_hidden_fcs.0.2" not in k}
    write_tensors(tmp_path, {**state, "model.surplus": torch.zeros(1)}, "safetensors")
    message = refused()
    assert "seg_head.2.weight" in message
    assert "model.surplus" in message


def test_xmem_is_asked_for_before_anything_large_is_read(refused, root, tmp_path, monkeypatch):
    monkeypatch.setenv("VISA_CACHE", str(tmp_path))
    monkeypatch.setattr("visa.published_loading.load_preset", None)
    message = refused(root / "visa", xmem=None)
    assert "XMem.pth is not there" in message
    (tmp_path / "XMem.pth").write_bytes((root / "XMem.pth").read_bytes()[:1000])
    assert "XMem.pth" in refused(root / "visa", xmem=None)
    other = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(1)}, other)
    assert "not XMem weights" in refused(root / "visa", xmem=other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"answer": "loud"}, "answer must be forced or generate"),
        ({"dtype": "int4"}, "dtype must be one of"),
        ({"quantise": 4}, "no load option quantise"),
        ({"bits": 3}, "bits must be 4 or 8"),
    ],
)
def test_options_that_do_not_exist(refused, root, options, message):
    assert message in refused(root / "videolisa", **options)


def test_the_embedded_system_takes_no_such_options():
    with pytest.raises(InputError, match="embedded takes no load options, got dtype"):
        visa.load("embedded", dtype="fp32")


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("reason", {"system": "lisa"}, "reason.system must be visa or videolisa"),
        ("reason", {"forced_answer": "Sure."}, r"must hold \[SEG\]"),
        ("segment", {"frames": "some"}, "frames must be"),
        ("sample", {"sampler": "clever"}, "clever"),
        ("sample", {"num_references": -1}, "num_references"),
        ("propagate", {"xmem": None}, "propagate.xmem must name"),
    ],
)
def test_presets_that_make_no_sense(root, tmp_path, section, change, message):
    preset = yaml.safe_load((PRESETS / "visa-7b.yaml").read_text())
    preset[section] |= change
    preset["checkpoint"] = str(root / "visa")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(preset))
    with pytest.raises(InputError, match=message) as caught:
        visa.load(tmp_path / "mine.yaml", device="cpu")
    assert "\n" not in str(caught.value)


def test_weights_that_cannot_be_had(refused, root, monkeypatch):
    assert "no public download" in refused("visa-7b", xmem=None)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match="acme/no-such-model"):
        visa.load("acme/no-such-model")
    assert "expected one of embedded" in refused("no-such-model")


def test_the_command_line_takes_a_checkpoint(root, tmp_path, capsys):
    clip = write_clip(tmp_path / "clip.mp4", 3)
    arguments = ["--video", str(clip), "--query", "the goat", "--output", str(tmp_path / "out")]
    assert inference.main([*arguments, "--model", str(root / "videolisa")]) == 0
    assert "\n  Sure.\n" in capsys.readouterr().out
    assert (tmp_path / "out" / "clip" / "0" / "00002.png").exists()
    assert inference.main([*arguments, "--output", str(tmp_path / "other"), "--model", str(tmp_path)]) == 2
    assert f"error: the folder {tmp_path} holds no model: " in capsys.readouterr().err
