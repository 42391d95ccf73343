"""The table of names: what a point is called, what a kind covers, what is written and read."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch.nn import functional

from dataset.synthetic.lexicon import is_held_out
from dataset.synthetic.taxonomy import CATEGORIES
from model.name_table import NameTable, seen_from

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


def table_of(names, points):
    """Each name at the mean of its pictures, seen from the middle of all."""
    points = functional.normalize(points, dim=1)
    centre = points.mean(0)
    places = torch.stack([points[[n == name for n in names]].mean(0) - centre for name in NAMES])
    kinds = tuple(KINDS[name] for name in NAMES)
    return NameTable(NAMES, kinds, centre, torch.zeros(16), functional.normalize(places, dim=1))


def test_a_picture_is_called_what_it_lies_nearest_to():
    names, points, new = planted()
    table = table_of(names, points)
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
    table = table_of(names, points)
    assert torch.allclose(table.likeness(new), table.likeness(length * new), atol=1e-4)


def test_what_fits_a_kind_fits_all_of_that_kind():
    names, points, _ = planted()
    table = table_of(names, points)
    assert table.words == ("swan", "camel", "jeep", "water bird", "bird", "animal", "car", "vehicle")
    fits = torch.full((len(table.words),), -4.0)
    fits[table.words.index("animal")] = 5.0
    fits[table.words.index("camel")] = 7.0
    assert table.best_of_kinds(fits).tolist() == [5.0, 7.0, -4.0]
    assert table.best_of_kinds(fits.expand(2, -1)).shape == (2, 3)


def test_a_table_comes_back_as_it_was_written(tmp_path):
    names, points, new = planted()
    table = table_of(names, points)
    table.save(tmp_path / "deep" / "names.safetensors")
    again = NameTable.load(tmp_path / "deep" / "names.safetensors")
    assert (again.names, again.kinds, again.words) == (table.names, table.kinds, table.words)
    assert torch.allclose(again.likeness(new), table.likeness(new), atol=2e-3)  # half precision
    assert (tmp_path / "deep" / "names.safetensors").stat().st_mode & 0o044 == 0o044


def test_what_is_no_table_is_said(tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"not safetensors")
    save_file({"other": torch.zeros(3)}, tmp_path / "other.safetensors")
    save_file(
        {"centre": torch.zeros(4), "cell_centre": torch.zeros(4), "places": torch.zeros(2, 4)},
        tmp_path / "fewer.safetensors",
        {"names": '[["swan"]]'},
    )
    for name in ("broken", "other", "fewer"):
        with pytest.raises(ValueError, match=rf"{name}.safetensors is no table of names"):
            NameTable.load(tmp_path / f"{name}.safetensors")
    with pytest.raises(FileNotFoundError):
        NameTable.load(tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="do not match"):
        NameTable(("swan",), (), torch.zeros(4), torch.zeros(4), torch.zeros(1, 4))


@given(st.integers(0, 100), st.floats(0.1, 10))
def test_directions_are_seen_from_the_centre(seed, length):
    generator = torch.Generator().manual_seed(seed)
    points, centre = torch.randn(3, 2, 5, generator=generator), torch.randn(5, generator=generator) * 0.3
    seen = seen_from(centre, points * length)
    assert torch.allclose(seen.norm(dim=-1), torch.ones(3, 2), atol=1e-5)
    one = points[1, 0] / points[1, 0].norm() - centre
    assert torch.allclose(seen[1, 0], one / one.norm(), atol=1e-5)


def test_the_shipped_table_holds_what_it_should():
    table = NameTable.load(SHIPPED)
    assert table.places.shape == (len(table.names), 512)
    assert table.cell_centre.shape == table.centre.shape == (512,)
    assert torch.allclose(table.places.norm(dim=1), torch.ones(len(table.names)), atol=1e-5)
    assert len(table.names) == len(set(table.names)) > 1800
    kinds = dict(zip(table.names, table.kinds, strict=True))
    assert "animal" in kinds["camel"]
    assert "person" in kinds["man running"]
    # Of what nobody drew, words tell: such names may also be those that training never says.
    assert "falcon" in table.names
    assert not [kind for row in table.kinds for kind in row if is_held_out(kind) and kind not in CATEGORIES]
