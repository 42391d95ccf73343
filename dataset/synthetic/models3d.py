"""Sprites rendered from the 3D models of Debian's `sweethome3d-furniture`: real-looking things, many views.

    python -m dataset.synthetic render sweethome3d-furniture_1.8-1_all.deb models3d-sprites.zip

The package's catalogues (CC0 and CC-BY 3.0: Blend Swap, Scopia, Kator Legaz, Reallusion) are zips of OBJ
models; those whose name is in `NAMES` are rendered once into a sprite pack, from which videos are made.
"""

import json
import posixpath
import re
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from dataset.synthetic.rasteriser import Model, read_materials, read_model, render, smooth

SIDE = 256
# (yaw, pitch) in degrees; the back is worth seeing of what moves about.
_VIEWS = ((20, 8), (-36, 14), (62, 8))
_BACK_VIEWS = ((-80, 6), (130, 10), (-155, 8))
_MOST_OF_ONE_NAME = 8
_LARGEST_MODEL = 6_000_000  # characters of its OBJ file; the few larger ones take too long
_CATALOGUES = ("BlendSwap-CC-0", "BlendSwap-CC-BY", "KatorLegaz", "Reallusion", "Scopia")

# Category -> what a catalogue calls it (lower case) -> what people call it; "" keeps the catalogue's name.
_NAMES_OF_CATEGORY = {
    "person": {"female": "woman", "male": "man", "holding male": "man", "holding female": "woman",
               "sitting male": "sitting man", "sitting female": "sitting woman",
               "lying down male": "lying man",
               "lying down female": "lying woman", "boy": "", "girl": "", "sitting boy": "",
               "sitting girl": "",
               "lying down boy": "lying boy"},
    "animal": {"horse": "", "dog": "", "cat": "", "rabbit": "", "bulldog": "", "siamese cat": "cat"},
    "bird": {"chicken": ""},
    "vehicle": {"fork lift": "forklift", "truck": "", "bike": "bicycle", "ford focus": "car", "scooter": "",
                "concept sedan 01": "car", "concept sedan 02": "car", "concept sedan 02 sport": "sports car",
                "vw new beetle": "car", "seat leon": "car", "peugeot 308 cc": "convertible car",
                "renault scenic": "car",
                "yamaha yzr r6": "motorcycle", "stroller": "", "tricycle": "", "bicycle": "", "bus": "",
                "suv": "jeep",
                "chevrolet": "sports car", "van": "", "smart car": "car", "city bus": "bus",
                "wheelbarrow": "", "wheelchair": "", "mower": "lawn mower", "car model": "toy car"},
    "boat": {"rowboat": ""},
    "aircraft": {"biplane": ""},
    "toy": {"rocking horse": "", "teddy bear": "", "doll house": "dollhouse", "doll": "", "toy train": "",
            "rubik's cube": "", "puzzle": "jigsaw puzzle", "joystick": "",
            },
    "sports equipment": {"skateboard": "", "basketball": "", "soccer ball": "", "tennis racket": "",
                         "treadmill": "",
                         "table tennis bat": "table tennis bat", "indoor bike": "exercise bike",
                         "football goal": "",
                         "punching ball": "punching bag", "trampoline": "", "pool table": "",
                         "table tennis": "table tennis table",
                         "football table": "table football", "basketball net": "basketball hoop",
                         "abdominal bench": "weight bench"},
    "furniture": {"armchair": "", "bed": "", "bedside table": "", "baby bed": "cot", "crib": "cot",
                  "desk": "",
                  "bookcase": "", "corner sofa": "sofa", "oak chair": "chair", "oak table": "table",
                  "chair": "",
                  "shelves": "", "table with tablecloth": "table with a tablecloth", "couch": "",
                  "sofa": "", "table": "",
                  "osaka chair": "chair", "winchester armchair": "armchair", "winchester sofa": "sofa",
                  "piano bench": "piano stool", "stool": "", "wardrobe": "", "cupboard": "",
                  "deck chair": "", "bench": "",
                  "folding chair": "", "relax chair": "deck chair", "round table": "", "child chair": "chair",
                  "coffee table": "", "dresser with drawers": "chest of drawers", "bunk bed": "", "chest": "",
                  "class seat": "chair", "pool lounge": "sun lounger", "futon couch": "sofa", "bar stool": "",
                  "glass table": "", "folding table": "", "cafe chair": "chair", "cafe table": "table",
                  "concrete bench": "bench", "painted bench": "bench", "filing cabinet": "",
                  "iron bed": "bed",
                  "child bed": "bed", "hospital bed": "", "futon": "", "teck chair": "chair",
                  "wood bank": "wooden bench",
                  "little bank": "bench", "beach chair": "deck chair", "rattan armchair": "wicker armchair",
                  "rattan sofa": "wicker sofa", "rattan table": "wicker table", "hammock": "",
                  "bar chair": "bar stool",
                  "baby high chair": "high chair", "clear sofa": "sofa", "black table": "table",
                  "sofa 2 seats": "sofa",
                  "sofa 3 seats": "sofa", "burlap sofa": "sofa", "modern armchair": "armchair",
                  "plastic chair": "",
                  "bar table": "", "puff": "pouffe", "table on trestles": "", "children chair": "chair",
                  "children table": "table", "ryokan chair": "chair", "wooden desk": "", "wooden table": "",
                  "wooden alder table": "wooden table", "wooden teak table": "wooden table",
                  "day bed": "sofa",
                  "dressing table": "", "washbasin": "", "toilets unit": "toilet", "bath": "bathtub",
                  "corner bathtub": "bathtub",
                  "fireplace": "", "desk table": "desk", "vanity": "washbasin",
                  "urinal": "",
                  "armchair ottoman": "footstool", "grand piano": "grand piano", "island bath": "bathtub"},
    "musical instrument": {"grand piano": "", "electric guitar": "", "keyboard": "piano keyboard",
                           "upright piano": "", "xylophone": ""},
    "plant": {"little plant": "potted plant", "plant": "potted plant", "cactus": "",
              "decorative plant": "potted plant",
              "bamboo": "", "indoor plant": "potted plant", "spathiphyllum": "peace lily", "yucca": "",
              "spider plant": "", "succulent plant": "succulent", "plant box": "planter", "flower box": "",
              "bush": "",
              "hedge": "", "ficus": "potted tree", "high hedge": "hedge"},
    "flower": {"orchids": "", "tulips": "", "white lily": "", "flowers": ""},
    "tree": {"christmas tree": "", "acacia": "", "coconut tree": "palm tree",
             "bended coconut tree": "palm tree",
             "copper beech": "", "cypress": "", "japanese maple": "", "poplar": "", "palm tree": "",
             "peach blossom": "", "pine": "", "pine under snow": "pine", "sycamore maple": "",
             "bonsai tree": "",
             "blue pine under snow": "pine"},
    "kitchenware": {"coffee cup": "", "mixer": "", "beer glass": "", "plastic cup": "", "fork": "",
                    "glass": "", "spoon": "",
                    "kitchen knife": "", "knife": "kitchen knife", "large pan": "pan", "chopping board": "",
                    "cocktail glass": "",
                    "coffee press": "", "espresso kettle": "coffee pot", "salt shaker": "", "bowl": "",
                    "coffee mug": "mug",
                    "plate": "", "oval plate": "plate", "teapot": "", "cup": "",
                    "squeezer": "citrus squeezer", "tray": "",
                    "knife stand": "knife block", "utensils pot": "pot of kitchen utensils",
                    "creamer": "milk jug",
                    "ashtray": "", "old jar": "jar", "baby bottle": ""},
    "food": {"butter": "", "bread": "", "hot dog": "", "hamburger": "", "roasted chicken": "roast chicken",
             "french fries": "",
             "steak": "", "bowl with salad": "bowl of salad",
             "sandwich maker": "sandwich toaster"},
    "dessert": {"cup cake": "cupcake", "birthday cake": ""},
    "fruit": {"apples": "bowl of apples", "bowl with fruits": "bowl of fruit"},
    "drink": {"milk": "milk carton", "wine bottle": "", "beer bottle": "", "yogurt bottle": ""},
    "device": {"tv": "television", "television": "", "wall flat tv": "television", "double oven": "oven",
               "oven": "",
               "coffee brewer": "coffee machine", "coffee maker": "coffee machine", "coffee machine": "",
               "refrigerator": "",
               "large fridge": "refrigerator", "fridge": "refrigerator", "stove": "", "large stove": "stove",
               "propane stove": "camping stove", "microwave": "", "washing machine": "",
               "clothes washing machine": "washing machine",
               "blender": "", "toaster": "", "laptop": "", "apple ibook": "laptop",
               "apple imac 2004": "computer",
               "apple imac 1998": "computer", "apple iphone": "mobile phone", "mobile phone": "",
               "wireless phone": "telephone",
               "phone": "telephone", "radio": "", "camera": "", "reflex camera": "camera",
               "table fan": "fan", "speaker": "",
               "inkjet printer and scanner": "printer", "video projector": "projector",
               "deep fryer": "", "small oven": "oven", "cooker": "", "water cooler": "",
               "kitchen scale": "kitchen scales",
               "electronic scale": "kitchen scales", "desk lamp": "", "lamp": "",
               "camping lamp": "",
               "flashlight": "", "little lamp": "lamp", "japanese lantern": "paper lantern",
               "pedestal vase lamp": "table lamp",
               "candle": "", "mini stereo": "stereo", "radiator": "",
               },
    "tool": {"scissors": "", "ruler": "", "shovel": "", "drill": "", "hammer": "",
             "screwdriver": "",
             "grinder": "angle grinder", "cutting pliers": "pliers", "tape measure": "", "step ladder": "",
             "broom": "",
             "small step ladder": "step ladder", "spray bottle": "", "extinguisher": "fire extinguisher",
             "number lock": "combination lock", "workbench": ""},
    "stationery": {"pencil": "", "stapler": "", "calendar": "",
                   "penbox": "pen holder"},
    "clothing": {"slippers": "", "sneakers": "", "woman shoes": "high-heeled shoes",
                 "cap": "", "hat": "", "helmet": "",
                 "watch": "", "sunglasses": "", "glasses": "", },
    "container": {"briefcase": "", "handbag": "", "backpack": "", "suitcase": "",
                  "barrel": "",
                  "crate": "", "cardboard box": "", "open cardboard box": "cardboard box",
                  "clothes basket": "laundry basket",
                  "shopping basket": "", "vase": "", "dustbin": "", "park trashcan": "dustbin",
                  "residential trashcan": "dustbin",
                  "bullet trash can": "dustbin", "recycling bin": "", "safe": "", "shipping container": "",
                  "mailbox": "", "basin": "", "aquarium": "", "medicine bottle": "", "bottle": "",
                  "pottery": "clay pot",
                  "potty": ""},
    "cosmetic": {"lip stick": "lipstick", "soap": ""},
    "household item": {"umbrella": "", "toilet brush": "", "sponge": "", "towel": "",
                       "folded clothes": "pile of clothes",
                       "clothes horse": "drying rack", "gift": "", "bathmat": "bath mat",
                       "paper towel holder": "paper towel roll"},
    "book": {"book": "", "newspaper": ""},
    "timepiece": {"cuckoo clock": ""},
    "building": {"child hut": "playhouse", "dog house": "doghouse", "garden hut": "garden shed",
                 "camping tent": "tent",
                 "barnum": "party tent"},
    "ornament": {"stone lantern": "", "snowman": "", "fountain": ""},
    "attraction": {"child swing": "swing", "seesaw": "", "children game": "climbing frame"},
    "street sign": {"cone": "traffic cone", "fire hydrant": "", "street lamp": "",
                    "street light": "street lamp",
                    "classic lamppost": "street lamp", "park light": "street lamp"},
    "building material": {"rock": "", "wood logs": "pile of logs", "pallet": ""},
}  # fmt: skip
_ROUND_ABOUT = frozenset({"person", "animal", "bird", "vehicle", "boat", "aircraft", "toy", "clothing",
                          "container",
                          "fruit", "food", "sports equipment"})  # fmt: skip


def _name_table() -> dict[str, tuple[str, str]]:
    table = {}
    for category, names in _NAMES_OF_CATEGORY.items():
        for called, name in names.items():
            table.setdefault(called, (name or called, category))
    return table


NAMES = _name_table()


def _open_texture(archive: zipfile.ZipFile, folder: str, name: str, present: set[str]) -> np.ndarray | None:
    path = posixpath.normpath(posixpath.join(folder, name.replace("\\", "/")))
    if path not in present:
        return None
    decoded = cv2.imdecode(np.frombuffer(archive.read(path), np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None:
        return None
    if decoded.ndim == 2:
        decoded = cv2.cvtColor(decoded, cv2.COLOR_GRAY2BGR)
    if decoded.shape[2] == 3:
        decoded = np.dstack([decoded, np.full(decoded.shape[:2], 255, np.uint8)])
    return decoded[..., [2, 1, 0, 3]]


def open_model(archive: zipfile.ZipFile, path: str) -> Model:
    """Read one OBJ model with its materials and textures out of a catalogue."""
    present, folder = set(archive.namelist()), posixpath.dirname(path)
    text = archive.read(path).decode("latin-1")
    library = re.search(r"^mtllib\s+(.*?)\s*$", text, re.MULTILINE)
    materials = {}
    if library and posixpath.join(folder, library.group(1)) in present:
        described = archive.read(posixpath.join(folder, library.group(1))).decode("latin-1")
        materials = read_materials(described, lambda name: _open_texture(archive, folder, name, present))
    return read_model(text, materials)


def list_models(archive: zipfile.ZipFile) -> Iterator[tuple[str, str, str, list[str]]]:
    """Yield (path of the OBJ, name, category, keywords) of the catalogue's models that have a name here."""
    text = archive.read("PluginFurnitureCatalog.properties").decode("latin-1")
    entries = dict(re.findall(r"^(\w+#\d+)[ \t]*=[ \t]*(.*?)[ \t\r]*$", text, re.MULTILINE))
    for key, called in entries.items():
        kind, _, number = key.partition("#")
        if kind != "name" or called.lower() not in NAMES:
            continue
        name, category = NAMES[called.lower()]
        tags = entries.get(f"tags#{number}", "").lower().split(", ")
        keywords = sorted({*name.split(), *(tag for tag in tags if tag and "blend swap" not in tag)})
        yield entries[f"model#{number}"].lstrip("/"), name, category, keywords


def _render_model(job: tuple[int, str, Path, str, str, str, list[str]]) -> list[tuple[dict, bytes]]:
    """The sprites of one model: index entries with the pictures' file contents."""
    side, source, catalogue, path, name, category, keywords = job
    try:
        with zipfile.ZipFile(catalogue) as archive:
            model = open_model(archive, path)
    except (ValueError, IndexError) as error:
        warnings.warn(f"left out {source}/{path}, which cannot be read: {error}", stacklevel=1)
        return []
    if not len(model.corners):
        return []
    if category in ("person", "animal", "bird"):
        model = smooth(model)
    made = []
    for view, (yaw, pitch) in enumerate(_VIEWS + (_BACK_VIEWS if category in _ROUND_ABOUT else ())):
        lamp = 0.5 if (zlib.crc32(path.encode()) + view) % 2 else -0.5
        picture = render(model, np.deg2rad(yaw), np.deg2rad(pitch), side, (lamp, 0.8, 0.6))
        if (picture[..., 3] > 127).mean() < 0.02:
            continue
        _, code = cv2.imencode(".webp", picture[..., [2, 1, 0, 3]], [cv2.IMWRITE_WEBP_QUALITY, 88])
        entry = {
            "file": f"{source}/{posixpath.basename(path)[:-4]}_{view}.webp",
            "name": name,
            "category": category,
            "keywords": keywords,
            "source": f"sweethome3d-furniture/{source}",
        }
        made.append((entry, code.tobytes()))
    return made


def render_pack(
    folder: Path, out: Path | str, processes: int = 1, progress=lambda items, total: items, side: int = SIDE
) -> int:
    """Render every named model from several sides into a sprite pack and return the number of sprites.

    Args:
        folder: Holds the .sh3f catalogues.
        out: The zip file to write.
        processes: How many models to render at once.
        progress: Wraps the stream of finished models, e.g. `tqdm`.
        side: Width and height of the sprites, pixels.
    """
    jobs, counts = [], Counter()
    for source in _CATALOGUES:
        catalogue = Path(folder) / f"{source}.sh3f"
        with zipfile.ZipFile(catalogue) as archive:
            for found in list_models(archive):
                fits = archive.getinfo(found[0]).file_size <= _LARGEST_MODEL
                if fits and (counts[found[1]] < _MOST_OF_ONE_NAME or found[2] != "furniture"):
                    counts[found[1]] += 1
                    jobs.append((side, source, catalogue, *found))
    index, out = [], Path(out)
    partial = out.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w") as pack, ProcessPoolExecutor(processes) as pool:
        for made in progress(pool.map(_render_model, jobs), len(jobs)):
            for entry, content in made:
                pack.writestr(zipfile.ZipInfo(entry["file"]), content)
                index.append(entry)
        pack.writestr(zipfile.ZipInfo("index.json"), json.dumps(index))
    partial.replace(out)
    return len(index)
