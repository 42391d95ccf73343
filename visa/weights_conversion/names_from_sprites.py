"""Make visa/presets/embedded/names.safetensors: where CLIP puts each thing that the synthetic videos show.

    python -m visa.weights_conversion.names_from_sprites [--archives FILE ...]

Only names that training may see are in it: the project's own benchmark asks for the others. Minutes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from dataset.synthetic.assets import AssetLibrary
from dataset.synthetic.lexicon import Lexicon, default_lexicon, is_held_out
from dataset.synthetic.library import PUBLIC_FILES, open_library
from dataset.synthetic.questions_view import is_taught
from model.clip_pictures import ClipPictures
from model.name_table import NameTable
from visa.downloads import fetch
from visa.second_look import cut_out

TARGET = Path(__file__).parents[1] / "presets" / "embedded" / "names.safetensors"
PICTURES = "clip_vit_b16_image.int8.onnx"
VARIANTS = 4  # pictures of one name, at most: views of a model, drawings of several hands


def make_table(assets: AssetLibrary, pictures: ClipPictures, lexicon: Lexicon) -> NameTable:
    """The table of a library's training names."""
    names, points, kinds = [], [], {}
    # A name may be shared by sprites of both splits.
    shown_names = [name for name in sorted(assets.names("train")) if not is_held_out(name)]
    for name in tqdm(shown_names, desc="names", unit="name"):
        variants = [sprite for sprite in assets.of_split("train") if sprite.name == name]
        chosen = np.unique(np.linspace(0, len(variants) - 1, VARIANTS).round().astype(int))
        for sprite in (variants[index] for index in chosen):
            picture = assets.picture(sprite)
            shown = cut_out(np.ascontiguousarray(picture[..., :3]), picture[..., 3] > 127)
            names.append(name)
            points.append(pictures(shown[None]))
        concept = lexicon.concept(name, variants[0].category)
        kinds[name] = [str(kind) for kind in concept.kinds if kind != "thing" and is_taught(str(kind))]
    return NameTable.from_pictures(names, torch.cat(points), kinds)


def main() -> None:
    """Read the command line, look at every name, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archives", nargs="+", type=Path, help="in place of those that are fetched")
    parser.add_argument("--out", type=Path, default=TARGET, help="file to write (default: %(default)s)")
    arguments = parser.parse_args()
    assets = open_library(arguments.archives or [fetch(name) for name in PUBLIC_FILES])
    table = make_table(assets, ClipPictures(fetch(PICTURES)), default_lexicon())
    table.save(arguments.out)
    print(f"{arguments.out}: {len(table.names)} names, {arguments.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
