"""Soft prompts: where they start, what their file holds, and whose they are."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from model.steering.soft_prompt import SoftPlace, SoftPrompt

TABLE = (
    torch.randn(200, 24, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.1, 3, 200)[:, None]
)


def prompt(n: int = 8, stream: str = "video", position: str = "before_text") -> SoftPrompt:
    generator = torch.Generator().manual_seed(4)
    return SoftPrompt.from_words(TABLE, SoftPlace(n, position), "owner/model", stream, generator=generator)


def test_starts_as_words_of_the_usual_length() -> None:
    made = prompt(64)
    assert made().shape == (64, 24)
    assert made().dtype == torch.float32
    lengths = made().norm(dim=1)
    torch.testing.assert_close(lengths, TABLE.norm(dim=1).median().expand(64), atol=1e-5, rtol=0)
    likeness = torch.nn.functional.cosine_similarity(made()[:, None], TABLE[None], dim=-1)
    assert torch.all(likeness.amax(1) > 0.9999)
    assert len(set(likeness.argmax(1).tolist())) == 64
    assert torch.equal(made(), prompt(64)())
    with pytest.raises(ValueError, match="300 different words cannot be drawn from 200"):
        prompt(300)


def test_only_its_vectors_are_parameters_and_they_are_a_float32_copy() -> None:
    rows = torch.randn(3, 24).bfloat16()
    made = SoftPrompt(rows, "owner/model", "frame")
    assert [(name, p.dtype) for name, p in made.named_parameters()] == [("vectors", torch.float32)]
    made.vectors.data.zero_()
    assert rows.any()


def test_the_file_holds_the_vectors_and_whose_they_are(tmp_path: Path) -> None:
    made, path = prompt(), tmp_path / "steering" / "video.safetensors"
    made.save(path)
    with safe_open(path, "pt") as file:
        assert file.metadata() == {
            "backbone": "owner/model", "width": "24", "stream": "video", "n": "8", "position": "before_text",
        }  # fmt: skip
    assert path.stat().st_size < 8 * 24 * 2 + 400
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    read = SoftPrompt.load(path, backbone="owner/model", width=24, stream="video")
    assert torch.equal(read(), made().bfloat16().float())
    assert (read.place, read.backbone, read.stream) == (SoftPlace(8, "before_text"), "owner/model", "video")
    assert read.weights is None
    SoftPrompt(made(), "owner/model", "video", weights="abc").save(path)
    assert SoftPrompt.load(path, backbone="owner/model", width=24, stream="video").weights == "abc"
    made.save(path, torch.float32)
    assert torch.equal(SoftPrompt.load(path, backbone="owner/model", width=24, stream="video")(), made())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": "other/model"}, "of backbone 'owner/model', not 'other/model'"),
        ({"width": 32}, "of width '24', not '32'"),
        ({"stream": "frame"}, "of stream 'video', not 'frame'"),
    ],
)
def test_a_prompt_for_something_else_is_refused_in_one_line(
    tmp_path: Path, change: dict, message: str
) -> None:
    prompt().save(tmp_path / "p.safetensors")
    with pytest.raises(ValueError, match=message) as caught:
        SoftPrompt.load(
            tmp_path / "p.safetensors", **{"backbone": "owner/model", "width": 24, "stream": "video"} | change
        )
    assert "p.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_prompt_is_refused_in_one_line(tmp_path: Path) -> None:
    prompt().save(tmp_path / "cut")
    (tmp_path / "cut").write_bytes((tmp_path / "cut").read_bytes()[:-40])
    (tmp_path / "words").write_text("no tensors here")
    save_file({"other": torch.zeros(2)}, tmp_path / "other")
    belongs = {"backbone": "owner/model", "width": "24", "stream": "video", "n": "8", "position": "behind"}
    save_file({"soft_prompt": torch.zeros(8, 24)}, tmp_path / "place", belongs)
    belongs["position"] = "before_text"
    save_file({"soft_prompt": torch.full((8, 24), torch.nan)}, tmp_path / "nan", belongs)
    belongs["n"] = "64"
    save_file({"soft_prompt": torch.zeros(8, 24)}, tmp_path / "count", belongs)
    for name, message in {
        "absent": "cannot be read as a soft prompt",
        "cut": "cannot be read as a soft prompt",
        "words": "cannot be read as a soft prompt",
        "other": "holds no soft prompt",
        "place": "of position 'behind'",
        "nan": "is damaged",
        "count": "of n '64', not '8'",
    }.items():
        with pytest.raises(ValueError, match=message) as caught:
            SoftPrompt.load(tmp_path / name, backbone="owner/model", width=24, stream="video")
        assert "\n" not in str(caught.value)


def test_places_and_streams_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one token, not 0"):
        SoftPlace(0)
    with pytest.raises(ValueError, match="before_vision or before_text, not 'behind'"):
        SoftPlace(4, "behind")
    with pytest.raises(ValueError, match="frame or video, not 'both'"):
        SoftPrompt(torch.zeros(2, 4), "owner/model", "both")
