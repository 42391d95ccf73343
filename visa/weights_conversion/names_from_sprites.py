"""Make visa/presets/embedded/names.safetensors: where CLIP puts each thing that has a name.

    python -m visa.weights_conversion.names_from_sprites [--archives FILE ...]

Of what the synthetic videos show, only names that training may see give their pictures: the project's own
benchmark asks for the others. Five minutes of a core.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from dataset.synthetic.assets import AssetLibrary
from dataset.synthetic.generate import film
from dataset.synthetic.lexicon import Lexicon, default_lexicon, is_held_out
from dataset.synthetic.library import PUBLIC_FILES, open_library
from dataset.synthetic.questions_view import is_taught
from model.clip_pictures import ClipPictures
from model.name_table import NameTable
from visa.clip_loading import load_clip_pictures
from visa.downloads import fetch
from visa.second_look import cut_out
from visa.training.scene_cache import draw_spec
from visa.weights_conversion.name_bridge import read_words, with_bridged

TARGET = Path(__file__).parents[1] / "presets" / "embedded" / "names.safetensors"
PICTURES = "clip_vit_b16_image.int8.onnx"
VARIANTS = 4  # pictures of one name, at most: views of a model, drawings of several hands
FILMED = range(1_000_000, 1_000_100)


def make_table(
    assets: AssetLibrary,
    pictures: ClipPictures,
    lexicon: Lexicon,
    words: dict[str, torch.Tensor],
    seeds: Sequence[int] = FILMED,
) -> NameTable:
    """The table of a library's training names, and of names that words of another CLIP are known of.

    Args:
        words: see `name_bridge.read_words`.
        seeds: of the scenes whose places have the centre's mean.
    """
    # A name may be shared by sprites of both splits.
    drawn = [name for name in sorted(assets.names("train")) if not is_held_out(name)]
    points, categories = [], {}
    for name in tqdm(drawn, desc="names", unit="name"):
        variants = [sprite for sprite in assets.of_split("train") if sprite.name == name]
        chosen = np.unique(np.linspace(0, len(variants) - 1, VARIANTS).round().astype(int))
        shown = [_shown(assets.picture(variants[index])) for index in chosen]
        points.append(functional.normalize(pictures(np.stack(shown)).cpu(), dim=1))
        categories[name] = variants[0].category
    centre = torch.cat(points).mean(0)
    places = functional.normalize(torch.stack([(point - centre).mean(0) for point in points]), dim=1)
    names, places = with_bridged(drawn, places, words)
    kinds = tuple(_kinds(name, categories.get(name, ""), lexicon) for name in names)
    return NameTable(tuple(names), kinds, centre, cell_centre(assets, pictures, seeds), places)


def _shown(picture: np.ndarray) -> np.ndarray:
    return cut_out(np.ascontiguousarray(picture[..., :3]), picture[..., 3] > 127)


def _kinds(name: str, category: str, lexicon: Lexicon) -> tuple[str, ...]:
    """Broader kinds that questions may ask for."""
    kinds = lexicon.concept(name, category).kinds
    return tuple(str(kind) for kind in kinds if kind != "thing" and is_taught(str(kind)))


def cell_centre(assets: AssetLibrary, pictures: ClipPictures, seeds: Sequence[int] = FILMED) -> torch.Tensor:
    """Mean point float [D] of places in filmed training scenes."""
    total, count = torch.zeros(pictures.width), 0
    for seed in tqdm(seeds, desc="scenes", unit="scene"):
        frames = film(seed, draw_spec(np.random.default_rng([seed, 7]), "train"), assets).frames
        points = pictures.places(frames[:1]).cpu()
        total, count = total + points.sum((0, 2, 3)), count + points[:, 0].numel()
    return total / count


def main() -> None:
    """Read the command line, look at every name, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archives", nargs="+", type=Path, help="in place of those that are fetched")
    parser.add_argument("--out", type=Path, default=TARGET, help="file to write (default: %(default)s)")
    arguments = parser.parse_args()
    assets = open_library(arguments.archives or [fetch(name) for name in PUBLIC_FILES])
    pictures = load_clip_pictures(fetch(PICTURES), torch.bfloat16)
    table = make_table(assets, pictures, default_lexicon(), read_words(fetch))
    table.save(arguments.out)
    print(f"{arguments.out}: {len(table.names)} names, {arguments.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
