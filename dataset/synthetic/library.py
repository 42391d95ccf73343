"""Opens the public archives from which videos are made, as one `AssetLibrary`.

    assets = open_library([fetch(name) for name in PUBLIC_FILES])     # `fetch` is visa.downloads.fetch

Archives are recognised by the start of their file names; a folder or a .zip file is taken as a sprite pack.
Each is read without unpacking it to disk: npm archives (.tgz), Debian packages (.deb) and .zip files. The
package of 3D models is rendered into a sprite pack, which is kept beside it for the next time.
"""

import io
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from dataset.synthetic.assets import AssetLibrary, read_emoji, read_pack
from dataset.synthetic.models3d import render_pack

# What a training run fetches, in the order in which it is read.
PUBLIC_FILES = (
    "fluent-emoji-3d-1.1.0.tgz",
    "asturur-noto-emoji-3.0.3.tgz",
    "emojibase-data-17.0.0.tgz",
    "budgie-backgrounds_3.0-1_all.deb",
    "lomiri-wallpapers-16.04_20.04.0-4_all.deb",
    "sweethome3d-furniture_1.8-1_all.deb",
)

MODELS_PACK = "models3d-sprites.zip"

# Photographs without a nameable thing that no mask would cover.
_SCENIC = frozenset(
    """beacon-street-sunset blue-periwinkle extreme-desert-hike lake-sherburne ocean-waves roman-colosseum
    singaporean-cityscape tea-gardens casa-mila aitzgorri_by_Aitzol_Berasategi life_by_Aitzol_Berasategi
    picosdeeuropa_by_Aitzol_Berasategi sunset_by_Aitzol_Berasategi""".split()
)


def _open_debian(path: Path) -> tarfile.TarFile:
    """The payload of a .deb, which is an `ar` archive of a control and a data archive."""
    content = path.read_bytes()
    if content[:8] != b"!<arch>\n":
        raise ValueError(f"expected {path} to be a Debian package, got something else")
    position = 8
    while position + 60 <= len(content):
        name = content[position : position + 16].decode("ascii").strip()
        size = int(content[position + 48 : position + 58])
        if name.startswith("data.tar"):
            return tarfile.open(fileobj=io.BytesIO(content[position + 60 : position + 60 + size]))
        position += 60 + size + size % 2
    raise ValueError(f"{path} has no data archive: is it whole?")


def read_members(path: Path | str, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of an archive's files whose name is wanted.

    Raises:
        ValueError: the file is no archive of a known kind.
    """
    path = Path(path)
    if path.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if wanted(name):
                    yield name, archive.read(name)
        return
    if path.suffix not in (".tgz", ".deb", ".gz"):
        raise ValueError(f"expected a .tgz, .whl or .deb archive, got {path}")
    with _open_debian(path) if path.suffix == ".deb" else tarfile.open(path) as archive:
        for member in archive:
            if member.isfile() and wanted(member.name):
                yield member.name, archive.extractfile(member).read()


def render_models(package: Path | str, pack: Path | str, processes: int = 1) -> int:
    """Render the package of 3D models into a sprite pack (once; minutes) and return the number of sprites."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in read_members(package, lambda name: name.endswith(".sh3f")):
            (Path(folder) / Path(name).name).write_bytes(content)
        return render_pack(
            Path(folder),
            pack,
            processes,
            lambda made, total: tqdm(made, total=total, unit="model", desc="render"),
        )


def open_library(
    paths: Iterable[Path | str], cache: Path | str | None = None, processes: int = 1
) -> AssetLibrary:
    """Read archives and sprite packs into one library, in the order given.

    Args:
        paths: Any of `PUBLIC_FILES`, folders or .zip files with an index.json.
        cache: Where the pictures of the 3D models are kept; beside their package for None.
        processes: How many 3D models to render at once, the first time.

    Raises:
        ValueError: an archive is not one of those known here, emoji came without labels or labels without
            emoji, or nothing gave a sprite.
    """
    sprites, photographs, pictures, labels = [], [], {}, None
    for path in map(Path, paths):
        if path.is_dir() or path.suffix == ".zip":
            sprites += read_pack(path)
        elif path.name.startswith("sweethome3d-furniture"):
            pack = (Path(cache) if cache else path.parent) / MODELS_PACK
            if not pack.is_file():
                pack.parent.mkdir(parents=True, exist_ok=True)
                render_models(path, pack, processes)
            sprites += read_pack(pack)
        elif path.name.startswith("fluent-emoji-3d"):
            pictures["fluent"] = dict(read_members(path, lambda name: name.endswith(".webp")))
        elif path.name.startswith("asturur-noto-emoji"):
            pictures["noto"] = dict(read_members(path, lambda name: "/png/128/emoji_u" in name))
        elif path.name.startswith("emojibase-data"):
            labels = next(
                (text for _, text in read_members(path, lambda name: name.endswith("/en/data.json"))), None
            )
        elif path.name.startswith(("budgie-backgrounds", "lomiri-wallpapers")):
            members = read_members(path, lambda name: PurePosixPath(name).stem in _SCENIC)
            photographs += [content for _, content in sorted(members) if content[:3] == b"\xff\xd8\xff"]
        else:
            raise ValueError(f"{path.name} is not an archive that this project reads; known: {PUBLIC_FILES}")
    if bool(pictures) != (labels is not None):
        raise ValueError("emoji pictures and their labels (emojibase-data) are needed together")
    for source in sorted(pictures):
        sprites += read_emoji(pictures[source], labels, source)
    return AssetLibrary(sprites, photographs)
