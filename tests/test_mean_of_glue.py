"""The mean of two files of glue."""

import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from visa.weights_conversion.mean_of_glue import main, mean_of_glue


def test_weights_lie_between_and_what_one_lacks_is_zero_there():
    first = {"a": torch.tensor([0.0, 4.0]), "old": torch.tensor([2.0])}
    second = {"a": torch.tensor([2.0, 0.0]).bfloat16(), "new": torch.tensor([8.0])}
    mean = mean_of_glue(first, second, 0.25)
    assert {name: value.tolist() for name, value in mean.items()} == {
        "a": [0.5, 3.0],
        "old": [1.5],
        "new": [2.0],
    }
    assert all(value.dtype == torch.bfloat16 for value in mean.values())
    for share, whole in ((0.0, first), (1.0, second)):
        for name, value in mean_of_glue(first, second, share).items():
            assert torch.equal(value, whole.get(name, torch.zeros_like(value)).bfloat16())


def test_what_cannot_be_averaged_is_said():
    with pytest.raises(ValueError, match=r"a is \[2\] in the first and \[3\] in the second"):
        mean_of_glue({"a": torch.zeros(2)}, {"a": torch.zeros(3)})
    with pytest.raises(ValueError, match="from 0 to 1, got 2"):
        mean_of_glue({}, {}, 2.0)


def test_the_command_writes_a_file(tmp_path, monkeypatch, capsys):
    for name, value in (("one", 1.0), ("two", 2.0)):
        save_file({"w": torch.full((3,), value)}, tmp_path / name)
    out = tmp_path / "mean.safetensors"
    monkeypatch.setattr(sys, "argv", ["mean", str(tmp_path / "one"), str(tmp_path / "two"), str(out)])
    main()
    assert load_file(out)["w"].tolist() == [1.5] * 3
    assert "bytes" in capsys.readouterr().out
    assert out.stat().st_mode & 0o044 == 0o044
