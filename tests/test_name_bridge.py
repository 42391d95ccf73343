"""From words to pictures: names that nobody drew get the places that words tell."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from dataset.synthetic.lexicon import default_lexicon, is_held_out
from dataset.synthetic.library import open_library
from tests.test_clip_pictures import tiny_config, tiny_pictures
from visa.second_look import cut_out
from visa.weights_conversion.name_bridge import NameBridge, plain_name, read_words, with_bridged
from visa.weights_conversion.names_from_sprites import make_table

SPRITES = Path(__file__).parent / "sprites"
SAID = ("dog", "car", "turtle", "teapot", "bus", "horse")


def world(count=60, seed=0):
    """Words of things, and where pictures of them lie: a linear map, and a little of their own."""
    generator = torch.Generator().manual_seed(seed)
    words = functional.normalize(torch.randn(count, 12, generator=generator), dim=1)
    matrix = torch.randn(12, 10, generator=generator)
    places = words @ matrix + 0.05 * torch.randn(count, 10, generator=generator)
    return [f"thing {k}" for k in range(count)], words, functional.normalize(places, dim=1)


def test_words_alone_tell_where_a_thing_lies():
    names, words, places = world()
    told, bridged = with_bridged(names[:40], places[:40], dict(zip(names, words, strict=True)))
    assert told == names
    assert torch.allclose(bridged.norm(dim=1), torch.ones(60), atol=1e-5)
    likeness = bridged[40:] @ places.T
    assert (likeness.argmax(1) == torch.arange(40, 60)).float().mean() > 0.9
    assert (likeness.diagonal(40) > 0.9).float().mean() > 0.9


def test_what_is_left_out_lies_where_a_fit_without_it_puts_it():
    _, words, places = world(20)
    mean = words.mean(0)
    bridge = NameBridge.fit(words, places, mean)
    for index in (0, 7):
        others = [k for k in range(20) if k != index]
        alone = NameBridge.fit(words[others], places[others], mean)
        assert torch.allclose(bridge.left_out[index], alone(words[index : index + 1])[0], atol=1e-4)


def test_what_only_drawings_are_known_of_stays_where_they_are():
    names, words, places = world()
    known = dict(zip(names[5:], words[5:], strict=True))
    told, bridged = with_bridged(names[:30], places[:30], known)
    assert len(told) == 60
    assert torch.allclose(bridged[:5], places[:5], atol=1e-6)
    assert not torch.allclose(bridged[5:30], places[5:30], atol=1e-3)


@pytest.mark.parametrize(
    ("written", "said"),
    [("bow_(weapon)", "bow"), ("Tent/Canopy", "tent"), ("alarm_clock", "alarm clock"), ("Dog", "dog")],
)
def test_names_are_as_one_says_them(written, said):
    assert plain_name(written) == said


def test_both_lists_are_read_and_the_first_has_its_way(tmp_path):
    rng = np.random.default_rng(0)
    lvis, objects = rng.normal(size=(2, 4)), rng.normal(size=(3, 4))
    np.save(tmp_path / "lvis_clip_words.npy", lvis.T)
    np.save(tmp_path / "objects365_clip_words.npy", objects)
    rows = [{"name": "alarm_clock"}, {"name": "dog"}]
    (tmp_path / "lvis_categories.json").write_text(json.dumps(rows))
    (tmp_path / "objects365_names.csv").write_text("1,Dog,Dog\n2,Cup,Cup\n3,,\n")
    words = read_words(lambda name: tmp_path / name)
    assert set(words) == {"alarm clock", "dog", "cup"}
    for name, row in (("alarm clock", lvis[0]), ("dog", lvis[1]), ("cup", objects[1])):
        assert np.allclose(words[name], row / np.linalg.norm(row), atol=1e-6)


def test_a_table_is_made_of_drawings_and_of_words():
    """With a tower of random weights: which names stand where, and what of the library is left out."""
    assets = open_library([SPRITES])
    words = {name: torch.randn(6, generator=torch.Generator().manual_seed(k)) for k, name in enumerate(SAID)}
    words = {name: functional.normalize(word, dim=0) for name, word in words.items()}
    pictures = tiny_pictures(config=tiny_config(image_size=224, patch_size=56), frame_area=224 * 224)
    table = make_table(assets, pictures, default_lexicon(), words, seeds=range(2))
    drawn = [name for name in assets.names("train") if not is_held_out(name)]
    assert set(table.names) == {*drawn, *SAID}
    assert "turtle" not in drawn
    assert "turtle" in table.names  # told by words alone
    assert table.places.shape == (len(table.names), pictures.width)
    assert table.centre.norm() < 1
    assert table.cell_centre.norm() < 1
    assert not torch.equal(table.centre, table.cell_centre)
    assert "animal" in dict(zip(table.names, table.kinds, strict=True))["dog"]
    alone = drawn[[name in SAID for name in drawn].index(False)]  # a drawing lies where it is
    (sprite, *_) = [sprite for sprite in assets.of_split("train") if sprite.name == alone]
    picture = assets.picture(sprite)
    point = pictures(cut_out(picture[..., :3].copy(), picture[..., 3] > 127)[None])
    assert table.names[int(table.likeness(point).argmax())] == alone
