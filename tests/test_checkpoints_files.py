"""Weight files in every layout they come in, and what is said of those that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_published import write_tensors

from visa.checkpoints.location import locate
from visa.checkpoints.tensor_files import TensorFiles
from visa.errors import DownloadError, InputError

STATE = {
    f"layer.{i}.weight": torch.randn(3, i + 1, generator=torch.Generator().manual_seed(i)) for i in range(7)
}
STATE["half"] = torch.tensor([1.5, -2.25], dtype=torch.bfloat16)
LAYOUTS = (
    *("safetensors", "safetensors sharded", "safetensors sharded unindexed"),
    *("bin", "bin sharded", "bin sharded unindexed"),
)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_reads_the_same(tmp_path: Path, layout: str) -> None:
    write_tensors(tmp_path, STATE, layout)
    files = TensorFiles(tmp_path)
    assert files.shapes == {name: tuple(value.shape) for name, value in STATE.items()}
    for name, value in STATE.items():
        assert torch.equal(files.read(name), value)
        assert files.read(name).dtype == value.dtype


def test_safetensors_are_taken_before_pickles(tmp_path: Path) -> None:
    write_tensors(tmp_path, {"new": torch.ones(1)}, "safetensors")
    write_tensors(tmp_path, {"old": torch.ones(1)}, "bin")
    assert list(TensorFiles(tmp_path).shapes) == ["new"]


@pytest.mark.parametrize("layout", ["bin", "bin sharded"])
def test_newer_zero_to_fp32_makes_a_folder_of_that_name(tmp_path: Path, layout: str) -> None:
    write_tensors(tmp_path / "pytorch_model.bin", STATE, layout)
    assert TensorFiles(tmp_path).shapes.keys() == STATE.keys()
    assert TensorFiles(tmp_path / "pytorch_model.bin").shapes.keys() == STATE.keys()


def test_one_file_and_the_format_before_torch_1_6(tmp_path: Path) -> None:
    path = tmp_path / "sam_vit_h_4b8939.pth"
    torch.save(STATE, path, _use_new_zipfile_serialization=False)
    files = TensorFiles(path)
    assert all(torch.equal(files.read(name), value) for name, value in STATE.items())


def complaint(where: Path) -> str:
    with pytest.raises(InputError) as caught:
        TensorFiles(where)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9])
def test_a_truncated_file(tmp_path: Path, layout: str, kept: float) -> None:
    write_tensors(tmp_path, {**STATE, "large": torch.randn(100, 100)}, layout)
    path = max(
        (path for path in tmp_path.iterdir() if path.suffix != ".json"), key=lambda path: path.stat().st_size
    )
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    message = complaint(tmp_path)
    assert path.name in message
    assert "damaged" in message


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if "sharded" in layout])
def test_a_missing_shard(tmp_path: Path, layout: str) -> None:
    write_tensors(tmp_path, STATE, layout)
    path = next(path for path in tmp_path.iterdir() if "00002-of" in path.name)
    path.unlink()
    message = complaint(tmp_path)
    assert "lacks" in message
    assert path.name in message or "[2] of 3" in message


@pytest.mark.parametrize("index", ["{", "[]", '{"weight_map": 3}', "{}"])
def test_an_index_that_is_none(tmp_path: Path, index: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    assert "is no index of shards" in complaint(tmp_path)


class Harmful:
    def __reduce__(self):
        return (Path.touch, (Path("/tmp/harm"),))


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2), "more": Harmful()}, tmp_path / "pytorch_model.bin")
    message = complaint(tmp_path)
    assert "only running its code could restore" in message
    assert not Path("/tmp/harm").exists()


@pytest.mark.parametrize(
    ("content", "told"), [([torch.ones(1)], "list"), ({"epoch": 3, "w": torch.ones(1)}, "epoch")]
)
def test_a_file_of_something_else(tmp_path: Path, content: object, told: str) -> None:
    torch.save(content, tmp_path / "pytorch_model.bin")
    assert told in complaint(tmp_path)


def test_folders_without_weights(tmp_path: Path) -> None:
    assert "holds no weights" in complaint(tmp_path)
    (tmp_path / "latest").write_text("global_step7")
    assert "zero_to_fp32.py" in complaint(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    assert "is no weight file" in complaint(tmp_path / "notes.txt")


def test_where_checkpoints_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clip").mkdir()
    assert locate("clip", relative_to=tmp_path) == tmp_path / "clip"
    assert locate(tmp_path / "clip") == tmp_path / "clip"
    with pytest.raises(InputError, match="there is no nowhere: expected a folder"):
        locate("nowhere")
    with pytest.raises(InputError, match="there is no /nowhere/at/all"):
        locate("/nowhere/at/all")


def test_a_repository_is_found_in_the_hubs_cache_and_missed_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DownloadError, match="owner/absent is not in the cache and the hub cannot be reached"):
        locate("owner/absent")
    repository = tmp_path / "models--owner--present"
    snapshot = repository / "snapshots" / ("0" * 40)
    write_tensors(snapshot, STATE, "safetensors")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    (snapshot / "config.json").write_text(json.dumps({}))
    found = locate("owner/present")
    assert TensorFiles(found).shapes.keys() == STATE.keys()
