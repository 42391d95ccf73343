"""The glue file: all that training changes and nothing else, there and back, and no other system's."""

import copy

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import nn

from tests.tiny_training import tiny_example, tiny_trainable
from visa.embedded_mllm import glue_state, load_glue, merge_lora, read_class_names, save_glue
from visa.training.glue_step import glue_losses


def decoder(seed):
    torch.manual_seed(seed)
    return nn.Linear(4, 4)


def shaken(seed):
    """A model whose every trained parameter is far from where it started."""
    mllm = tiny_trainable()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in mllm.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.2, generator=generator)
    return mllm


def without_adapters(mllm):
    """The same model as if its adapters had learnt nothing."""
    copied = copy.deepcopy(mllm)
    for name, parameter in copied.named_parameters():
        if "lora_B" in name:
            parameter.zero_()
    return copied


def trained(mllm):
    return {name: value for name, value in mllm.named_parameters() if value.requires_grad}


def test_there_and_back(tmp_path):
    one, other = shaken(1), shaken(2)
    path = tmp_path / "deep" / "glue.safetensors"
    save_glue(path, one, decoder(1))
    other_decoder = decoder(2)
    load_glue(path, other, other_decoder)
    theirs = trained(other)
    for name, value in trained(one).items():
        assert torch.equal(value.to(torch.bfloat16).float(), theirs[name]), name
    for name, value in decoder(1).state_dict().items():
        assert torch.equal(value.to(torch.bfloat16).float(), other_decoder.state_dict()[name])
    # What is loaded is what is computed with: the model that was saved and rounded says the same.
    load_glue(path, one, decoder(3))
    with torch.no_grad():
        mine, again = glue_losses(one, [tiny_example()]), glue_losses(other, [tiny_example()])
    assert all(torch.equal(mine[name], again[name]) for name in mine)


def test_the_file_holds_what_is_trained_and_nothing_that_is_public(tmp_path):
    mllm = shaken(1)
    save_glue(tmp_path / "glue.safetensors", mllm, decoder(1))
    glue = load_file(tmp_path / "glue.safetensors")
    assert all(value.dtype == torch.bfloat16 for value in glue.values())
    count = sum(value.numel() for value in trained(mllm).values()) + sum(
        p.numel() for p in decoder(1).parameters()
    )
    assert sum(value.numel() for value in glue.values()) == count
    assert {name.partition(".")[0] for name in glue} == {"mllm", "lora", "mask_decoder"}
    assert all("lora_" in name for name in glue if name.startswith("lora."))
    assert not any("tower" in name or "class_embeddings" in name for name in glue)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda glue: glue.update({"mllm.foreign": torch.zeros(1)}), r"unexpected \['mllm.foreign'\]"),
        (lambda glue: glue.pop("mllm.seg_embedding"), r"missing \['mllm.seg_embedding'\], unexpected \[\]"),
        (lambda glue: glue.pop(next(name for name in glue if "lora_A" in name)), r"missing \['lora\."),
        (lambda glue: glue.pop("mask_decoder.weight"), r"missing \['mask_decoder.weight'\]"),
    ],
    ids=["a foreign key", "no [SEG]", "a layer's adapter is missing", "no decoder"],
)
def test_another_systems_glue_is_refused_and_changes_nothing(tmp_path, change, message):
    glue = glue_state(shaken(1), decoder(1))
    change(glue)
    save_file(glue, tmp_path / "glue.safetensors")
    mllm = shaken(2)
    before = {name: value.clone() for name, value in trained(mllm).items()}
    with pytest.raises(ValueError, match=r"glue\.safetensors is not this system's glue: .*" + message):
        load_glue(tmp_path / "glue.safetensors", mllm, decoder(2))
    assert all(torch.equal(value, before[name]) for name, value in trained(mllm).items())


def test_merging_the_adapters_changes_nothing_that_is_said():
    mllm, example = shaken(1), tiny_example()
    with torch.no_grad():
        before = glue_losses(mllm, [example])
        answer = mllm.answer(mllm.read(example.frames, example.percents), "the goat", max_new_tokens=4)
        without = glue_losses(without_adapters(mllm), [example])
        merge_lora(mllm)
        after = glue_losses(mllm, [example])
        again = mllm.answer(mllm.read(example.frames, example.percents), "the goat", max_new_tokens=4)
    assert not isinstance(mllm.language, PeftModel)
    assert not any("lora_" in name for name, _ in mllm.named_parameters())
    assert all(before[name].item() == pytest.approx(after[name].item(), rel=1e-3) for name in before)
    assert any(abs(before[name] - without[name]).item() > 0.05 for name in before), "idle adapters"
    assert again.text == answer.text
    assert again.found_prob == pytest.approx(answer.found_prob, abs=1e-4)
    merge_lora(mllm)  # a second time there is nothing to do


def test_class_names_are_the_first_of_each_line(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text(
        "# where they come from\nn01440764\ttench, Tinca tinca\n\nn02\tblack swan\n", encoding="utf-8"
    )
    assert read_class_names(path) == ["tench", "black swan"]
