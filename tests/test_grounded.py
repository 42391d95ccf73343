"""[SEG] systems on backbones: what is read once answers as one pass would, what was trained comes back."""

import numpy as np
import pytest
import torch
import yaml
from tiny_backbones import FAMILIES
from tiny_grounded import tiny_preset, write_backbone, write_system
from transformers import AutoConfig

import visa
from model.backbones.backbone import ChatTurn
from model.mllm.decoding import Decoding
from visa.backbone_loading import estimate
from visa.checkpoints.options import LoadOptions
from visa.errors import InputError
from visa.grounded.loading import load_grounded
from visa.grounded.weights import Adapter, part_state, read_weights, write_weights
from visa.question_wording import backbone_question
from visa.reasoning.backbone import BackboneReasoner, Showing
from visa.reasoning.pointing import AnswerSettings
from visa.sampling import FrameChoice
from visa.training.grounded.step import GroundedStep
from visa.training.grounded.videos import GroundedVideo
from visa.training.published_objective import LossWeights
from visa.video import Video
from visa.viewing import Viewing

QUESTION = ChatTurn("user", "where is it?")
OPTIONS = {"dtype": "float32"}


def noise(count=4, height=48, width=64, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    place = tmp_path_factory.mktemp(request.param)
    write_system(place, request.param)
    return place


def load_untrained(folder):
    preset = yaml.safe_load((folder / "tiny.yaml").read_text())
    options = LoadOptions(dtype="float32", sam="sam.pth")
    model = load_grounded("tiny", preset, folder, options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for parameter in (model.seg_embedding, model.seg_output):
            torch.nn.init.normal_(parameter)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def model(folder):
    return load_untrained(folder)


def save(model, folder, adapter=None, lora=None):
    folder.mkdir(parents=True)
    write_weights(folder, model, part_state(model), lora or {}, adapter)
    return folder


@pytest.mark.parametrize("stream", ["frame", "video"])
def test_a_reading_answers_as_one_pass_over_the_whole_conversation(model, stream):
    backbone, frames = model.backbone, noise(3)
    turns = [QUESTION, ChatTurn("assistant", "It is [SEG], and [SEG].")]
    packed = backbone.pack(frames, turns, stream=stream, generate=False)
    hidden = model(packed)
    assert hidden.shape == (packed.length, 64)
    ids, begin = packed.inputs["input_ids"][0], model.split_behind_frames(packed)
    start, stop = packed.layout.turns[0].answer
    reading = model.read(packed)
    assert reading.length == begin <= packed.layout.turns[0].question[0]
    told = model.forced(reading, ids[begin:start], ids[start : stop - 1])
    torch.testing.assert_close(told.embeddings, model.seg_embeddings(hidden, packed), atol=1e-4, rtol=1e-4)
    assert len(told.embeddings) == 2
    places = torch.tensor(packed.layout.turns[0].segs)
    probs = model.logits(hidden[places - 1]).softmax(-1)[:, model.seg_token_id]
    torch.testing.assert_close(told.probs, probs, atol=1e-5, rtol=1e-3)
    # Asked again behind the same reading, the same.
    again = model.forced(reading, ids[begin:start], ids[start : stop - 1])
    assert torch.equal(again.embeddings, told.embeddings)


@pytest.mark.parametrize("stream", ["frame", "video"])
def test_what_it_writes_is_what_the_backbone_would_write(model, stream):
    """Without its own [SEG] row in the way, token by token behind a reading is transformers' generation."""
    backbone = model.backbone
    packed = backbone.pack(noise(3), [QUESTION], stream=stream)
    keep, model.seg_output.data = model.seg_output.data, torch.full_like(model.seg_output, 0)
    try:
        ids = packed.inputs["input_ids"][0, model.split_behind_frames(packed) :]
        said = model.generate(model.read(packed), ids, Decoding(backbone.stop_ids, 8))
    finally:
        model.seg_output.data = keep
    expected = backbone.model.generate(**packed.inputs, max_new_tokens=8, do_sample=False)[0, packed.length :]
    expected = [token for token in expected.tolist() if token not in backbone.stop_ids]
    assert said.ids.tolist() == expected


def test_a_state_at_the_token_is_another_than_the_one_before(model):
    packed = model.backbone.pack(
        noise(2), [QUESTION, ChatTurn("assistant", "[SEG]")], stream="frame", generate=False
    )
    hidden = model(packed)
    before = model.seg_embeddings(hidden, packed)
    model.seg_state = "at_token"
    try:
        at = model.seg_embeddings(hidden, packed)
    finally:
        model.seg_state = "predicting"
    (place,) = packed.layout.turns[0].segs
    torch.testing.assert_close(at[0], model.seg_head(hidden[place]))
    torch.testing.assert_close(before[0], model.seg_head(hidden[place - 1]))
    assert not torch.allclose(at, before)


def test_weights_come_back_and_lora_is_added(model, folder, tmp_path):
    inner = model.backbone.model
    layers = [
        name
        for name, module in inner.named_modules()
        if name.endswith(("q_proj", "v_proj"))
        and isinstance(module, torch.nn.Linear)
        and not any(part in name for part in ("visual", "vision_tower", "vision_model"))
    ]
    assert len(layers) == 4
    generator = torch.Generator().manual_seed(2)
    lora = {}
    for layer in layers:
        out, width = inner.get_submodule(layer).weight.shape
        lora[f"{layer}.lora_A.weight"] = torch.randn(2, width, generator=generator) / 8
        lora[f"{layer}.lora_B.weight"] = torch.randn(out, 2, generator=generator) / 2
    where = save(model, tmp_path / "weights", Adapter(2, 4.0, layers), lora)
    plain, merged = load_untrained(folder), load_untrained(folder)
    read_weights(where, merged)
    for name, value in part_state(model).items():
        assert torch.equal(merged.state_dict()[name], value)
    layer = layers[0]
    product = lora[f"{layer}.lora_B.weight"] @ lora[f"{layer}.lora_A.weight"]
    expected = plain.backbone.model.get_submodule(layer).weight + 2 * product
    torch.testing.assert_close(merged.backbone.model.get_submodule(layer).weight, expected)
    # Left beside the weights, as on quantised ones, it computes the same.
    beside = load_untrained(folder)
    read_weights(where, beside, merge=False)
    packed = merged.backbone.pack(noise(2), [QUESTION], stream="frame")
    torch.testing.assert_close(beside.eval()(packed), merged(packed), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(plain(packed), merged(packed), atol=1e-3)


def test_a_system_segments(folder, model, tmp_path):
    where = save(model, tmp_path / "weights")
    segmenter = visa.load(folder / "tiny.yaml", device="cpu", weights=where)
    video = Video.from_frames(noise(5))
    one, two = segmenter.segment_many(video, ["the cat", "who wins?"])
    assert one.found
    assert one.answer == "It is [SEG]."
    assert one.masks.shape == (5, 48, 64)
    assert 0 < one.score <= 1
    assert one.target_frame == 2
    assert (one.masks != two.masks).any()
    # The mask is that of the prompt which one pass over the whole conversation gives.
    reasoner = segmenter.reasoner
    choice = segmenter.sampler.choose(5, "the cat", None)
    frames = video.frames([*choice.references, choice.target])
    turns = [ChatTurn("user", backbone_question("the cat")), ChatTurn("assistant", "It is [SEG].")]
    packed = reasoner.model.backbone.pack(
        frames, turns, stream="frame", generate=False, max_tokens_per_frame=32
    )
    expected = reasoner.model.seg_embeddings(reasoner.model(packed), packed)
    given = reasoner.answer(segmenter._view(video), choice, "the cat")
    torch.testing.assert_close(given.pointing, expected, atol=1e-4, rtol=1e-4)


def test_it_writes_answers_and_is_asked_where_to_look(folder, model, tmp_path):
    where = save(model, tmp_path / "weights")
    segmenter = visa.load(folder / "tiny.yaml", device="cpu", weights=where, answer="generate")
    tracklet = segmenter.segment(Video.from_frames(noise(4)), "the cat")
    assert tracklet.found == ("[SEG]" in tracklet.answer)
    scorer = segmenter.scorer(Video.from_frames(noise(4)))
    first, last = scorer([0, 3], "the cat")
    assert 0 < first < 1
    assert first != last
    assert scorer([3], "the cat") == [last]
    asked = "At which percentage of the video does the cat appear? Answer with a number."
    assert scorer.generate(asked) == scorer.generate(asked)
    assert len({scorer.generate(asked, number) for number in range(4)}) > 1


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    place = tmp_path_factory.mktemp("small")
    write_system(place, "qwen2_5_vl")
    return place


def test_a_video_that_ends_in_the_target_frame_is_shown_as_in_training(small):
    """Its last frame may be the earliest; time does not run backwards."""
    model = load_untrained(small)
    reasoner = BackboneReasoner("tiny", model, AnswerSettings("forced", "It is [SEG]."), Showing("video", 32))
    video = Video.from_frames(noise(6))
    choice = FrameChoice(0, (2, 3, 5))
    viewing = Viewing(video, reasoner.tower, reasoner.sam, None)
    given = reasoner.answer(viewing, choice, "the cat")
    frames = torch.from_numpy(video.frames([2, 3, 5, 0]))
    turns = (ChatTurn("user", backbone_question("the cat")), ChatTurn("assistant", "It is [SEG]."))
    learnt = GroundedVideo("it", frames, (turns,), torch.zeros(0), (), (0, 0), torch.zeros(0))
    packed = GroundedStep(model, LossWeights(1.0, 1.0, 1.0), reasoner.showing)._packed(learnt, turns)
    expected = model.seg_embeddings(model(packed), packed)
    torch.testing.assert_close(given.pointing, expected, atol=1e-4, rtol=1e-4)


def test_an_untrained_backbone_is_refused_in_one_line(small):
    with pytest.raises(InputError, match="not trained yet: backbone alone has no .SEG. head; train one"):
        visa.load(small / "tiny.yaml", device="cpu")


@pytest.mark.parametrize("size", ["qwen2.5-vl-3b", "qwen2.5-vl-7b", "qwen3-vl-4b", "internvl3-8b"])
def test_presets_say_what_to_do_before_anything_is_fetched(size):
    name = f"visa-{size}"
    with pytest.raises(InputError, match=f"{name} is not trained yet.*train/{name}"):
        visa.load(name, device="cpu")


def test_weights_of_another_backbone_or_none_are_refused(small, tmp_path):
    model = load_untrained(small)
    with pytest.raises(InputError, match="no trained .SEG. head: it has no grounded.safetensors"):
        visa.load(small / "tiny.yaml", device="cpu", weights=tmp_path)
    where = save(model, tmp_path / "weights")
    write_backbone(tmp_path / "other", "internvl")
    preset = tiny_preset(small, backbone=str(tmp_path / "other"))
    with pytest.raises(InputError, match="of family qwen2_5_vl, not internvl"):
        visa.load(preset, device="cpu", weights=where)
    tiny_preset(small)
    (where / "grounded.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read"):
        visa.load(small / "tiny.yaml", device="cpu", weights=where)


def test_what_is_not_there_is_named(small, tmp_path):
    where = save(load_untrained(small), tmp_path / "weights")
    for changes, told in [
        ({"backbone": "nowhere"}, "there is no nowhere"),
        ({"load": {"dtype": "float32"}}, "load.sam must name"),
        ({"load": {"dtype": "float32", "sam": "other.pth"}}, "other.pth is not there; fetch"),
        ({"reason": {"stream": "sound"}}, "does not say"),
        ({"segment": {"frames": "target", "threshold": 0.0}}, "have to be carried on"),
    ]:
        with pytest.raises(InputError, match=told):
            visa.load(tiny_preset(small, **changes), device="cpu", weights=where)
    tiny_preset(small)
    config = small / "backbone" / "config.json"
    text = config.read_text()
    try:
        config.write_text(text.replace("qwen2_5_vl", "blip"))
        with pytest.raises(InputError, match="is a blip; expected one of internvl"):
            visa.load(small / "tiny.yaml", device="cpu", weights=where)
        config.write_text(text.replace('"num_hidden_layers": 2', '"num_hidden_layers": "two"'))
        with pytest.raises(InputError, match="config.json describes no model: .*expected int") as caught:
            visa.load(small / "tiny.yaml", device="cpu", weights=where)
        assert "\n" not in str(caught.value)
        config.unlink()
        with pytest.raises(InputError, match="no config.json"):
            visa.load(small / "tiny.yaml", device="cpu", weights=where)
    finally:
        config.write_text(text)


def test_too_little_memory_is_told_before_loading(small, tmp_path, monkeypatch):
    where = save(load_untrained(small), tmp_path / "weights")
    monkeypatch.setattr("visa.memory_estimate.free_memory", lambda device: 1e5)
    monkeypatch.setattr("visa.backbone_loading.AutoModelForImageTextToText.from_pretrained", None)
    with pytest.raises(InputError, match=r"will take .* \(language .*, vision .*, keys and values .*, SAM"):
        visa.load(small / "tiny.yaml", device="cpu", weights=where)


def test_memory_of_a_7b_backbone_is_told_without_building_it():
    """Qwen2.5-VL-7B has 8.29 billion parameters, 0.68 of them in its vision tower: 16.6 GB in bfloat16."""
    text = {
        "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
        "num_key_value_heads": 4, "vocab_size": 152064, "max_position_embeddings": 128000,
        "tie_word_embeddings": False,
    }  # fmt: skip
    vision = {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 3584,
    }
    config = AutoConfig.for_model("qwen2_5_vl", text_config=text, vision_config=vision)
    needs = {
        need.part: need.num_bytes / 1e9
        for need in estimate("it", config, LoadOptions(dtype="bfloat16"), {"SAM": 2.6e9}).needs
    }
    assert needs["language"] == pytest.approx(15.2, abs=0.1)
    assert needs["vision"] == pytest.approx(1.35, abs=0.05)
    assert needs["keys and values"] == pytest.approx(2 * 28 * 4 * 128 * 6144 * 2 / 1e9)
    assert needs["SAM"] == 2.6
