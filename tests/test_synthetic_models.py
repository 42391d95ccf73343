"""The software renderer, sprite packs, and the fixed held-out benchmark."""

import json
import zipfile

import cv2
import numpy as np
import pytest

from dataset.synthetic.assets import read_pack
from dataset.synthetic.generate import film
from dataset.synthetic.library import MODELS_PACK, PUBLIC_FILES, open_library
from dataset.synthetic.models3d import NAMES, list_models, render_pack
from dataset.synthetic.rasteriser import read_materials, read_model, render, smooth
from dataset.synthetic.taxonomy import CATEGORIES
from dataset.synthetic.writer import (
    BENCHMARK_SEED,
    BENCHMARK_SPEC,
    BENCHMARK_TURNS,
    fingerprint,
    make_samples,
)
from visa.public_files import FILES

BENCHMARK_FINGERPRINT = "a1cba381818cc878dd4cfcf9f5d2bcc6495e08fb35a4a2349ef16d3733f2b42e"

# A red square at z = 0 and a smaller blue one before it at z = 1, with a polygon of four corners each.
SQUARES = """
mtllib squares.mtl
v -2 -2 0
v 2 -2 0
v 2 2 0
v -2 2 0
v -1 -1 1
v 1 -1 1
v 1 1 1
v -1 1 1
vt 0 0
vt 1 0
vt 1 1
vt 0 1
usemtl red
f 1/1 2/2 3/3 4/4
usemtl blue
f -4/1 -3/2 -2/3 -1/4
"""
COLOURS = """
newmtl red
Kd 1 0 0
newmtl blue
Kd 0 0 1
map_Kd picture.png
"""


def _texture(name: str) -> np.ndarray | None:
    assert name == "picture.png"
    picture = np.zeros((2, 2, 4), np.uint8)
    picture[..., 3] = 255
    picture[0, :, 1] = 255  # the upper half is green
    picture[1, :, 2] = 255  # the lower half is blue
    return picture


def test_the_nearer_surface_is_seen_with_its_texture_upright():
    picture = render(read_model(SQUARES, read_materials(COLOURS, _texture)), 0.0, 0.0, 64).astype(int)
    assert picture.shape == (64, 64, 4)
    assert (picture[8:56, 8:56, 3] == 255).all()
    assert picture[0, 0, 3] == 0
    assert picture[6, 32].argmax() in (0, 3)
    assert picture[10, 32, :3].argmax() == 0, "the red square is seen around the nearer one"
    assert picture[26, 32, :3].argmax() == 1, "green above"
    assert picture[38, 32, :3].argmax() == 2, "blue below"


def test_from_behind_the_other_square_is_seen():
    picture = render(read_model(SQUARES, read_materials(COLOURS, _texture)), np.pi, 0.0, 64).astype(int)
    assert picture[32, 32, :3].argmax() == 0


def test_a_model_without_triangles_of_an_area_gives_an_empty_picture():
    line = "v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n"
    assert render(read_model(line, {}), 0.0, 0.0, 32)[..., 3].max() == 0


def test_smooth_normals_point_away_from_the_middle():
    points = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    faces = [(1, 2, 4, 3), (5, 7, 8, 6), (1, 5, 6, 2), (3, 4, 8, 7), (1, 3, 7, 5), (2, 6, 8, 4)]
    text = "\n".join(
        [*(f"v {x} {y} {z}" for x, y, z in points), *("f " + " ".join(map(str, f)) for f in faces)]
    )
    model = smooth(read_model(text, {}))
    outward = (model.normals * model.corners).sum(axis=2)
    assert (outward > 1.5).all(), "every corner's normal lies along the cube's diagonal"


def _write_catalogue(path) -> None:
    entries = "id#1=a\nname#1=Dog\ntags#1=\nmodel#1=/dog/dog.obj\nname#2=Unnameable\nmodel#2=/x/x.obj\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("PluginFurnitureCatalog.properties", entries)
        archive.writestr("dog/dog.obj", SQUARES)
        archive.writestr("dog/squares.mtl", COLOURS)
        archive.writestr("dog/picture.png", cv2.imencode(".png", _texture("picture.png"))[1].tobytes())


def test_a_pack_is_rendered_and_read_back(tmp_path):
    for source in ("BlendSwap-CC-0", "BlendSwap-CC-BY", "KatorLegaz", "Reallusion", "Scopia"):
        _write_catalogue(tmp_path / f"{source}.sh3f")
    with zipfile.ZipFile(tmp_path / "Scopia.sh3f") as archive:
        assert list(list_models(archive)) == [("dog/dog.obj", "dog", "animal", ["dog"])]
    pack = tmp_path / "pack.zip"
    count = render_pack(tmp_path, pack, side=32)
    sprites = read_pack(pack)
    assert len(sprites) == count == 5 * 6
    assert len({sprite.key for sprite in sprites}) == count
    assert {(sprite.name, sprite.category, sprite.concept) for sprite in sprites} == {
        ("dog", "animal", "dog")
    }
    library = open_library([pack])
    assert library.picture(sprites[0]).shape[2] == 4
    assert not (tmp_path / "pack.partial").exists()


def test_names_of_models_have_known_categories():
    assert {category for _, category in NAMES.values()} <= set(CATEGORIES)


def test_a_folder_without_an_index_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"index\.json"):
        read_pack(tmp_path)
    (tmp_path / "index.json").write_text(json.dumps([]))
    assert read_pack(tmp_path) == []


def _public_assets():
    paths = [FILES[name].path for name in PUBLIC_FILES if name in FILES]
    if len(paths) < len(PUBLIC_FILES) or not all(path.is_file() for path in paths):
        pytest.skip("the public sprites are not in the cache")
    if not (paths[-1].parent / MODELS_PACK).is_file():
        pytest.skip("the 3D models have not been rendered")
    return open_library(paths)


def test_the_benchmark_is_the_same_everywhere():
    assets = _public_assets()
    samples = list(make_samples(assets, BENCHMARK_SPEC, 4, BENCHMARK_SEED, BENCHMARK_TURNS))
    assert all(len(sample.turns) >= 4 for sample in samples)
    found = fingerprint(samples)
    assert found == BENCHMARK_FINGERPRINT, f"the benchmark has changed: if that is meant, write {found} here"
    names = {item.name for item in film(BENCHMARK_SEED, BENCHMARK_SPEC, assets).scene.objects}
    assert not names & assets.names("train")
