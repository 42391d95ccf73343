"""The table of names: what a point is called, what a kind covers, what is written and read."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from dataset.synthetic.lexicon import is_held_out
from dataset.synthetic.taxonomy import CATEGORIES
from model.clip_pictures import WIDTH
from model.name_table import NameTable

SHIPPED = Path(__file__).parents[1] / "visa" / "presets" / "embedded" / "names.safetensors"
NAMES = ("swan", "camel", "jeep")
KINDS = {"swan": ("water bird", "bird", "animal"), "camel": ("animal",), "jeep": ("car", "vehicle")}


def planted(seed=0, variants=3):
    """Points of pictures around one direction for each name, all shifted by what pictures have in common."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(len(NAMES), 16, generator=generator)
    common = 3 * torch.randn(16, generator=generator)
    points = [
        direction + common + 0.1 * torch.randn(16, generator=generator)
        for direction in directions
        for _ in range(variants)
    ]
    names = [name for name in NAMES for _ in range(variants)]
    return names, torch.stack(points), directions + common


def test_a_picture_is_called_what_it_lies_nearest_to():
    names, points, new = planted()
    table = NameTable.from_pictures(names, points, KINDS)
    likeness = table.likeness(new)
    assert table.names == NAMES
    assert likeness.abs().max() <= 1 + 1e-6
    assert likeness.argmax(1).tolist() == [0, 1, 2]
    # What all pictures have in common does not make all names alike: the table is seen from its centre.
    assert (likeness.diagonal() > 0.95).all()
    assert (likeness - 2 * torch.eye(3) < 0.5).all()


@given(st.floats(0.01, 100))
def test_the_length_of_a_point_says_nothing(length):
    names, points, new = planted()
    table = NameTable.from_pictures(names, points, KINDS)
    assert torch.allclose(table.likeness(new), table.likeness(length * new), atol=1e-4)


def test_what_fits_a_kind_fits_all_of_that_kind():
    names, points, _ = planted()
    table = NameTable.from_pictures(names, points, KINDS)
    assert table.words == ("swan", "camel", "jeep", "water bird", "bird", "animal", "car", "vehicle")
    fits = torch.full((len(table.words),), -4.0)
    fits[table.words.index("animal")] = 5.0
    fits[table.words.index("camel")] = 7.0
    assert table.best_of_kinds(fits).tolist() == [5.0, 7.0, -4.0]
    assert table.best_of_kinds(fits.expand(2, -1)).shape == (2, 3)


def test_a_table_comes_back_as_it_was_written(tmp_path):
    names, points, new = planted()
    table = NameTable.from_pictures(names, points, KINDS)
    table.save(tmp_path / "deep" / "names.safetensors")
    again = NameTable.load(tmp_path / "deep" / "names.safetensors")
    assert (again.names, again.kinds, again.words) == (table.names, table.kinds, table.words)
    assert torch.allclose(again.likeness(new), table.likeness(new), atol=2e-3)  # half precision
    assert (tmp_path / "deep" / "names.safetensors").stat().st_mode & 0o044 == 0o044


def test_what_is_no_table_is_said(tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"not safetensors")
    save_file({"other": torch.zeros(3)}, tmp_path / "other.safetensors")
    save_file(
        {"centre": torch.zeros(4), "places": torch.zeros(2, 4)},
        tmp_path / "fewer.safetensors",
        {"names": '[["swan"]]'},
    )
    for name in ("broken", "other", "fewer"):
        with pytest.raises(ValueError, match=rf"{name}.safetensors is no table of names"):
            NameTable.load(tmp_path / f"{name}.safetensors")
    with pytest.raises(FileNotFoundError):
        NameTable.load(tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="do not match"):
        NameTable(("swan",), (), torch.zeros(4), torch.zeros(1, 4))


def test_the_shipped_table_knows_no_name_that_the_benchmark_asks_for():
    table = NameTable.load(SHIPPED)
    assert table.places.shape == (len(table.names), WIDTH)
    assert torch.allclose(table.places.norm(dim=1), torch.ones(len(table.names)), atol=1e-5)
    assert len(table.names) > 700
    assert not [word for word in table.words if is_held_out(word) and word not in CATEGORIES]
    assert not [name for name in table.names if is_held_out(name)]
    kinds = dict(zip(table.names, table.kinds, strict=True))
    assert "animal" in kinds["camel"]
    assert "person" in kinds["man running"]
