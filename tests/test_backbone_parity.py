"""Packed sequences are those of transformers' own processors, as far as these run without torchvision."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from tiny_backbones import tiny_backbone
from transformers.models.smolvlm import processing_smolvlm
from transformers.models.smolvlm.processing_smolvlm import SmolVLMProcessor

from model.backbones.backbone import ChatTurn
from model.backbones.families.smolvlm import spelled_out
from model.backbones.patches import PatchSizes, patches

QUESTION = "where is the cat?"
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
CHATML = "<|im_start|>user\n{}where is the cat?<|im_end|>\n<|im_start|>assistant\n"
QWEN = "<|vision_start|><|image_pad|><|vision_end|>"
SIZE = {"height": 56, "width": 56}
MEAN_HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
# For each family: its processor, its image processor and how it is told, what it is asked about two pictures.
PROCESSORS = {
    "qwen2_vl": ("Qwen2VLProcessor", "Qwen2VLImageProcessorPil", {}, SYSTEM + CHATML, QWEN),
    "qwen2_5_vl": ("Qwen2_5_VLProcessor", "Qwen2VLImageProcessorPil", {}, SYSTEM + CHATML, QWEN),
    "qwen3_vl": (
        "Qwen3VLProcessor",
        "Qwen2VLImageProcessorPil",
        {"patch_size": 16, **MEAN_HALF},
        CHATML,
        QWEN,
    ),
    "internvl": ("InternVLProcessor", "GotOcr2ImageProcessorPil", {"size": SIZE}, CHATML, "<IMG_CONTEXT>\n"),
    "llava_onevision": (
        "LlavaOnevisionProcessor",
        "LlavaOnevisionImageProcessorPil",
        {"size": SIZE, **MEAN_HALF},
        "<|im_start|>user {}\nwhere is the cat?<|im_end|><|im_start|>assistant\n",
        "<image>",
    ),
}


def noise(count, height, width):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def processor_of(family, backbone):
    """transformers' own, with no video processor: that needs torchvision."""
    name, images, options, *_ = PROCESSORS[family]
    if family == "internvl":
        options = {
            **options,
            "image_mean": backbone.pixel_settings.mean,
            "image_std": backbone.pixel_settings.std,
        }
    if family == "llava_onevision":
        options = {**options, "image_grid_pinpoints": backbone.model.config.image_grid_pinpoints}
    more, tokenizer = {}, backbone.tokenizer
    if family == "internvl":
        names = ("start_image", "end_image", "context_image", "video")
        for kind, token in zip(names, ("<img>", "</img>", "<IMG_CONTEXT>", "<video>"), strict=True):
            setattr(tokenizer, f"{kind}_token", token)
            setattr(tokenizer, f"{kind}_token_id", tokenizer.convert_tokens_to_ids(token))
        more = {"image_seq_length": 16}
    if family == "llava_onevision":
        more = {"num_image_tokens": 16, "vision_feature_select_strategy": "full"}
    without_check = {"check_argument_for_proper_class": lambda *_: None}
    kind = type(name, (getattr(transformers, name),), without_check)
    image_processor = getattr(transformers, images)(**options)
    return kind(image_processor=image_processor, tokenizer=tokenizer, video_processor=None, **more)


@pytest.mark.parametrize("family", PROCESSORS)
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(100, 70), (63, 211)])
def test_pictures_are_packed_as_the_processor_packs_them(family, count, height, width):
    backbone = tiny_backbone(family)
    frames = noise(count, height, width)
    *_, wording, marker = PROCESSORS[family]
    options = {"crop_to_patches": False} if family == "internvl" else {}
    text = wording.format(marker * count)
    theirs = processor_of(family, backbone)(
        images=[list(frames)], text=[text], return_tensors="pt", **options
    )
    packed = backbone.pack(frames, [ChatTurn("user", QUESTION)], stream="frame")
    assert set(packed.inputs) == set(theirs)
    for name, value in theirs.items():
        torch.testing.assert_close(packed.inputs[name].float(), value.float(), atol=1e-5, rtol=0)
    with torch.no_grad():
        expected = backbone.model(**theirs).logits[:, -1:]
        torch.testing.assert_close(backbone(packed).logits, expected, atol=1e-5, rtol=1e-5)


def test_smolvlm_pixels_are_the_processors():
    backbone = tiny_backbone("smolvlm", size={"longest_edge": 256})
    frames = noise(2, 90, 61)
    options = {"max_image_size": {"longest_edge": 64}, "do_image_splitting": False}
    try:
        images = transformers.SmolVLMImageProcessorPil(size={"longest_edge": 256}, **options)
    except ImportError:
        pytest.skip("this version of transformers has no such processor without torchvision")
    theirs = images([list(frames)], return_tensors="pt")
    packed = backbone.pack(frames, [ChatTurn("user", QUESTION)], stream="frame")
    torch.testing.assert_close(packed.inputs["pixel_values"], theirs["pixel_values"], atol=1e-5, rtol=0)
    assert bool(theirs["pixel_attention_mask"].all())  # no pixel is padding, so none is told


def test_smolvlm_pictures_are_told_as_the_processor_does():
    backbone = tiny_backbone("smolvlm")
    picture = processing_smolvlm.get_image_prompt_string(
        0, 0, 16, "<fake_token_around_image>", "<image>", "<global-img>"
    )
    messages = [
        {"role": "user", "content": [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "?"}]}
    ]
    text = backbone.tokenizer.apply_chat_template(
        messages,
        chat_template=processing_smolvlm.DEFAULT_CHAT_TEMPLATE,
        tokenize=False,
        add_generation_prompt=True,
    )
    packed = backbone.pack(noise(2, 90, 61), [ChatTurn("user", "?")], stream="frame")
    ids = backbone.tokenizer(text.replace("<image>", picture)).input_ids
    assert packed.inputs["input_ids"][0].tolist() == ids


def test_smolvlm_tells_a_video_as_the_processor_does(monkeypatch):
    backbone = tiny_backbone("smolvlm")
    seconds = [0.0, 31.5, 63.25]
    monkeypatch.setattr(processing_smolvlm, "num2words", lambda number: {3: "three"}[number])
    its = SimpleNamespace(
        image_seq_len=16,
        image_token="<image>",
        fake_image_token="<fake_token_around_image>",
        global_image_token="<global-img>",
    )
    video = {
        "pixel_values": torch.zeros(1, 3, 3, 64, 64),
        "video_metadata": [SimpleNamespace(fps=4.0, timestamps=seconds, duration=None)],
    }
    told = SmolVLMProcessor.replace_video_token(its, video, 0)
    messages = [
        {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": QUESTION}]},
        {"role": "assistant", "content": [{"type": "text", "text": "there"}]},
        {"role": "user", "content": [{"type": "text", "text": "and now?"}]},
    ]
    text = backbone.tokenizer.apply_chat_template(
        messages,
        chat_template=processing_smolvlm.DEFAULT_CHAT_TEMPLATE,
        tokenize=False,
        add_generation_prompt=True,
    )
    turns = [ChatTurn("user", QUESTION), ChatTurn("assistant", "there"), ChatTurn("user", "and now?")]
    packed = backbone.pack(noise(3, 64, 64), turns, stream="video", seconds=seconds)
    ids = backbone.tokenizer(text.replace("<video>", told)).input_ids
    assert packed.inputs["input_ids"][0].tolist() == ids


@pytest.mark.parametrize("number", [0, 7, 13, 20, 32, 99, 100, 120, 512])
def test_numbers_in_words(number):
    words = {
        0: "zero", 7: "seven", 13: "thirteen", 20: "twenty", 32: "thirty-two", 99: "ninety-nine",
        100: "one hundred", 120: "one hundred and twenty", 512: "five hundred and twelve",
    }  # fmt: skip
    assert spelled_out(number) == words[number]


def test_internvl_and_llava_tell_a_video_as_the_processors_do():
    video = {"pixel_values_videos": [torch.zeros(3, 3, 56, 56)]}
    backbone = tiny_backbone("internvl")
    told = processor_of("internvl", backbone).replace_video_token(video, 0)
    packed = backbone.pack(noise(3, 56, 56), [ChatTurn("user", QUESTION)], stream="video")
    ids = backbone.tokenizer(CHATML.format(told + "\n")).input_ids
    assert packed.inputs["input_ids"][0].tolist() == ids

    backbone = tiny_backbone("llava_onevision")
    told = processor_of("llava_onevision", backbone).replace_video_token(video, 0)
    packed = backbone.pack(noise(3, 56, 56), [ChatTurn("user", QUESTION)], stream="video")
    ids = backbone.tokenizer(PROCESSORS["llava_onevision"][3].format(told)).input_ids
    assert packed.inputs["input_ids"][0].tolist() == ids


def test_qwen3_tells_the_times_of_temporal_patches():
    backbone = tiny_backbone("qwen3_vl")
    processor = processor_of("qwen3_vl", backbone)
    # Five frames, of which a video's processor shows the last one twice.
    indices, fps = [0, 12, 30, 60, 75], 24.0
    times = processor._calculate_timestamps(list(indices), fps)
    grid = [(3, 4, 4)]
    cell = "<|vision_start|>" + "<|video_pad|>" * 4 + "<|vision_end|>"
    told = "".join(f"<{time:.1f} seconds>{cell}" for time in times)
    packed = backbone.pack(
        noise(5, 64, 64),
        [ChatTurn("user", QUESTION)],
        stream="video",
        seconds=[index / fps for index in indices],
    )
    assert packed.inputs["video_grid_thw"].tolist() == [list(grid[0])]
    assert packed.inputs["input_ids"][0].tolist() == backbone.tokenizer(CHATML.format(told)).input_ids


def test_qwen2_5_tells_the_seconds_of_a_temporal_patch():
    backbone = tiny_backbone("qwen2_5_vl")

    def interval(seconds):
        frames = noise(len(seconds) if seconds else 4, 56, 56)
        packed = backbone.pack(frames, [ChatTurn("user", QUESTION)], stream="video", seconds=seconds)
        return packed.inputs["second_per_grid_ts"].item()

    assert interval([0.0, 0.25, 0.5, 0.75]) == pytest.approx(0.5)
    assert interval(None) == 1.0
    assert interval([3.0]) == 1.0


@pytest.mark.parametrize("step", [0.1, 0.35, 0.5, 1.0, 2.6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_qwen2_5_places_temporal_patches_by_the_clock(step, dtype):
    """In every version of transformers, for parts of seconds and in few bits too."""
    backbone = tiny_backbone("qwen2_5_vl")
    backbone.model.to(dtype)
    seconds = [index * step for index in range(12)]
    packed = backbone.pack(noise(12, 56, 84), [ChatTurn("user", QUESTION)], stream="video", seconds=seconds)
    caught = []
    hook = backbone.language_model.register_forward_pre_hook(
        lambda module, args, named: caught.append(named["position_ids"]), with_kwargs=True
    )
    with torch.no_grad():
        backbone(packed)
        backbone.generate(packed, 1)
    hook.remove()
    assert len(caught) == 2
    # Two frames to a patch, two positions to a second.
    expected = [int(torch.tensor(2 * step) * 2 * patch) for patch in range(6)]
    spans, length = packed.layout.frames, packed.length
    for positions in caught:
        time, row, column = positions[-3:, 0]
        starts = [int(time[span.start]) - int(time[spans[0].start]) for span in spans]
        assert starts == expected
        assert int(row[spans[3].start]) == int(column[spans[3].start]) == int(time[spans[0].start])
        assert int(positions[-3:].max()) + 1 == backbone.core.rope_deltas.item() + length
        assert positions[-3:, 0, -1].tolist() == [backbone.position_of(packed, length - 1)] * 3


@pytest.mark.parametrize("sizes", [PatchSizes(14, 2, 2), PatchSizes(16, 2, 2)])
def test_a_video_of_two_equal_frames_has_the_patches_of_their_picture(sizes):
    """The processors' own order of pixels, shown for pictures above, holds for temporal patches."""
    side = sizes.cell
    image = torch.randn(1, 3, 2 * side, 3 * side, generator=torch.Generator().manual_seed(0))
    still, grid = patches(image.expand(2, -1, -1, -1), sizes)
    assert grid == (1, 4, 6)
    moving, grid = patches(torch.cat([image, image, -image, image]), sizes)
    assert grid == (2, 4, 6)
    assert torch.equal(moving[:24], still)
    # Of a patch's numbers the time comes second, behind the channel.
    second = moving[24:].view(24, 3, 2, -1)
    assert torch.equal(second[:, :, 0], -second[:, :, 1])
