"""A small software renderer: textured Wavefront OBJ models to RGBA pictures, with numpy alone.

Triangles become fragments in bulk; a depth buffer of packed (depth, triangle) keys decides what is seen.
Legend: V vertices, F triangles, S side of the picture in pixels. Model axes: x right, y up, z to the viewer.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np

_FRAGMENTS_AT_ONCE = 2_000_000
_FAR = np.iinfo(np.int64).max


@dataclass(eq=False)
class Material:
    """Surface of some triangles.

    Attributes:
        colour: float [3], 0..1, RGB.
        opacity: 0..1.
        texture: uint8 [h, w, 4], RGBA, or None; replaces the colour.
        shine: 0..1, strength of highlights.
    """

    colour: np.ndarray = field(default_factory=lambda: np.full(3, 0.7))
    opacity: float = 1.0
    texture: np.ndarray | None = None
    shine: float = 0.0


@dataclass(frozen=True, eq=False)
class Model:
    """Triangles with their materials.

    Attributes:
        corners: float [F, 3, 3], (x, y, z) of every triangle's corners.
        normals: float [F, 3, 3], unit vectors at the corners.
        texture_points: float [F, 3, 2], (u, v), v upwards.
        material_indices: int [F].
        materials: What the indices mean.
    """

    corners: np.ndarray
    normals: np.ndarray
    texture_points: np.ndarray
    material_indices: np.ndarray
    materials: tuple[Material, ...]


def read_materials(text: str, open_texture: Callable[[str], np.ndarray | None]) -> dict[str, Material]:
    """Read an MTL file.

    Args:
        open_texture: From a file name as written there to uint8 [h, w, 4] RGBA, or None if there is none.
    """
    materials: dict[str, Material] = {}
    current = Material()
    for line in text.splitlines():
        key, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        if key == "newmtl":
            current = materials.setdefault(rest, Material())
        elif key == "Kd":
            current.colour = np.array([float(value) for value in rest.split()[:3]])
        elif key == "d":
            current.opacity = float(rest.split()[-1])
        elif key == "Ns":
            current.shine = min(1.0, float(rest.split()[0]) / 200)
        elif key == "map_Kd":
            current.texture = open_texture(rest.split(" ")[-1] if rest.startswith("-") else rest)
    return materials


def read_model(text: str, materials: dict[str, Material]) -> Model:
    """Read an OBJ file, polygons split into triangles and missing normals made from the faces."""
    points, texture_points, normals = [], [], []
    faces, used = [], []
    names = {name: number for number, name in enumerate(materials)}
    known = list(materials.values())
    current = len(known)
    known.append(Material())
    for line in text.splitlines():
        key, _, rest = line.partition(" ")
        if key == "v":
            points.append(rest.split()[:3])
        elif key == "vt":
            texture_points.append(rest.split()[:2])
        elif key == "vn":
            normals.append(rest.split()[:3])
        elif key == "usemtl":
            current = names.get(rest.strip(), len(known) - 1)
        elif key == "f":
            corners = []
            for corner in rest.split():
                indices = [int(part) if part else 0 for part in corner.split("/")]
                corners.append([*indices, 0, 0][:3])
            for second in range(1, len(corners) - 1):
                faces.append((corners[0], corners[second], corners[second + 1]))
                used.append(current)
    points = np.array(points, np.float64).reshape(-1, 3)
    texture_points = np.array([*texture_points, (0, 0)], np.float64).reshape(-1, 2)
    index = np.array(faces, np.int64).reshape(-1, 3, 3)
    counts = np.array([len(points), len(texture_points) - 1, len(normals)])
    index = np.where(index > 0, index - 1, np.where(index < 0, index + counts, -1))
    corners = points[index[..., 0]]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    flat = across / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-12)
    given = np.repeat(flat[:, None], 3, axis=1)
    if normals:
        table = np.array(normals, np.float64)
        table /= np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
        given = np.where(index[..., 2:] >= 0, table[index[..., 2]], given)
    return Model(corners, given, texture_points[index[..., 1]], np.array(used, np.int64), tuple(known))


def _project(model: Model, yaw: float, pitch: float, side: int):
    """Camera space: pixel corners float [F, 3, 2] (x, y), depths float [F, 3], turned normals."""
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    tilt = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    rotation = tilt @ turn
    low, high = model.corners.min(axis=(0, 1)), model.corners.max(axis=(0, 1))
    size = max(float(np.linalg.norm(high - low)), 1e-9)
    seen = ((model.corners - (low + high) / 2) / size) @ rotation.T
    # Mild perspective: the camera stands three diagonals away.
    depth = 3.0 - seen[..., 2]
    flat = seen[..., :2] / depth[..., None]
    low, high = flat.min(axis=(0, 1)), flat.max(axis=(0, 1))
    scale = (side - 8) / max(float((high - low).max()), 1e-9)
    pixels = (flat - (low + high) / 2) * (scale, -scale) + side / 2
    return pixels.astype(np.float32), depth.astype(np.float32), model.normals @ rotation.T


def _plane_coefficients(triangles: np.ndarray) -> np.ndarray:
    """How barycentric weights depend on the place: float32 [F, 2, 3] from float [F, 3, 2] triangles.

    The second and third weight at (x, y) are `coefficients @ (x, y, 1)`; NaN in degenerate triangles.
    """
    a, b, c = triangles[:, 0].astype(np.float64), triangles[:, 1], triangles[:, 2]
    (bx, by), (cx, cy) = (b - a).T, (c - a).T
    with np.errstate(divide="ignore", invalid="ignore"):
        area = bx * cy - by * cx
        second = np.stack([cy, -cx, a[:, 1] * cx - a[:, 0] * cy], axis=1) / area[:, None]
        third = np.stack([-by, bx, a[:, 0] * by - a[:, 1] * bx], axis=1) / area[:, None]
    return np.stack([second, third], axis=1).astype(np.float32)


def _evaluate(planes: np.ndarray, owner: np.ndarray, column: np.ndarray, row: np.ndarray):
    """The second and third barycentric weights, float32 [K] each, at the middles of pixels."""
    x, y = column.astype(np.float32) + 0.5, row.astype(np.float32) + 0.5
    chosen = planes[owner]
    return (
        chosen[:, 0, 0] * x + chosen[:, 0, 1] * y + chosen[:, 0, 2],
        chosen[:, 1, 0] * x + chosen[:, 1, 1] * y + chosen[:, 1, 2],
    )


def _visible_triangles(pixels: np.ndarray, depth: np.ndarray, planes: np.ndarray, side: int) -> np.ndarray:
    """The nearest triangle in every pixel: int64 [S * S], -1 for none."""
    low = np.clip(np.ceil(pixels.min(axis=1) - 0.5), 0, side).astype(np.int64)
    high = np.clip(np.floor(pixels.max(axis=1) - 0.5) + 1, 0, side).astype(np.int64)
    extent = np.maximum(high - low, 0)
    counts = extent.prod(axis=1) * np.isfinite(planes).all(axis=(1, 2))
    nearest = np.full(side * side, _FAR)
    order = np.flatnonzero(counts)
    ends = np.cumsum(counts[order])
    start = 0
    while start < len(order):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _FRAGMENTS_AT_ONCE)))
        chunk = order[start:stop]
        start = stop
        owner = np.repeat(chunk, counts[chunk])
        first = np.repeat(np.cumsum(counts[chunk]) - counts[chunk], counts[chunk])
        local = np.arange(len(owner)) - first
        x = low[owner, 0] + local % extent[owner, 0]
        y = low[owner, 1] + local // extent[owner, 0]
        second, third = _evaluate(planes, owner, x, y)
        inside = (second >= -1e-4) & (third >= -1e-4) & (second + third <= 1 + 1e-4)
        owner, second, third = owner[inside], second[inside], third[inside]
        near = depth[owner]
        distance = near[:, 0] + second * (near[:, 1] - near[:, 0]) + third * (near[:, 2] - near[:, 0])
        keys = ((distance * 2**24).astype(np.int64) << 32) | owner
        np.minimum.at(nearest, y[inside] * side + x[inside], keys)
    return np.where(nearest == _FAR, -1, nearest & 0xFFFFFFFF)


def render(model: Model, yaw: float, pitch: float, side: int = 256, light=(0.4, 0.8, 0.6)) -> np.ndarray:
    """A picture of a model, supersampled twice: uint8 [S, S, 4], RGBA, 0..255, not premultiplied.

    Args:
        yaw: Turn about the vertical, radians; 0 shows the front (positive z).
        pitch: How far it is seen from above, radians.
        light: Direction to the lamp, (x right, y up, z to the viewer).
    """
    solid = np.array([material.opacity > 0.25 for material in model.materials])[model.material_indices]
    if not solid.any():  # wholly of glass, or its file counts opacity the other way round
        solid[:] = True
    model = Model(model.corners[solid], model.normals[solid], model.texture_points[solid],
                  model.material_indices[solid], model.materials)  # fmt: skip
    fine = 2 * side
    pixels, depth, normals = _project(model, yaw, pitch, fine)
    planes = _plane_coefficients(pixels)
    owner = _visible_triangles(pixels, depth, planes, fine)
    spots = np.flatnonzero(owner >= 0)
    owner = owner[spots]
    second, third = _evaluate(planes, owner, spots % fine, spots // fine)
    weights = np.clip(np.stack([1 - second - third, second, third], axis=1), 0, 1)
    normal = (normals[owner] * weights[..., None]).sum(axis=1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    normal *= np.where(normal[:, 2:] < 0, -1, 1)  # surfaces are lit on the side that is seen
    lamp = np.array(light) / np.linalg.norm(light)
    diffuse = np.clip(normal @ lamp, 0, 1)
    sky = 0.5 + 0.5 * normal[:, 1]
    half = lamp + np.array((0, 0, 1))
    gloss = np.clip(normal @ (half / np.linalg.norm(half)), 0, 1) ** 40
    points = (model.texture_points[owner] * weights[..., None]).sum(axis=1)
    colour, alpha = np.zeros((len(spots), 3)), np.ones(len(spots))
    shine = np.zeros(len(spots))
    for number in np.unique(model.material_indices[owner]):
        chosen = model.material_indices[owner] == number
        material = model.materials[number]
        colour[chosen], shine[chosen] = material.colour * 255, material.shine
        if material.texture is not None:
            height, width = material.texture.shape[:2]
            column = (np.floor(points[chosen, 0] * width).astype(np.int64)) % width
            row = (np.floor((1 - points[chosen, 1]) * height).astype(np.int64)) % height
            texels = material.texture[row, column].astype(np.float64)
            colour[chosen], alpha[chosen] = texels[:, :3], texels[:, 3] / 255
    lit = colour * (0.42 + 0.2 * sky + 0.5 * diffuse)[:, None] + 70 * (gloss * shine)[:, None]
    canvas = np.zeros((fine * fine, 4), np.float32)
    canvas[spots, :3] = np.clip(lit, 0, 255) * alpha[:, None]
    canvas[spots, 3] = 255 * alpha
    small = cv2.resize(canvas.reshape(fine, fine, 4), (side, side), interpolation=cv2.INTER_AREA)
    small[..., :3] /= np.maximum(small[..., 3:] / 255, 1e-3)
    return np.clip(small + 0.5, 0, 255).astype(np.uint8)


def smooth(model: Model) -> Model:
    """The same model with rounded normals: at every place the mean of its triangles', weighted by area."""
    _, place = np.unique(model.corners.reshape(-1, 3).round(6), axis=0, return_inverse=True)
    place = place.reshape(-1)
    corners = model.corners
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    sums = np.zeros((place.max() + 1, 3))
    np.add.at(sums, place, np.repeat(across, 3, axis=0))
    sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    rounded = sums[place].reshape(-1, 3, 3)
    return Model(corners, rounded, model.texture_points, model.material_indices, model.materials)
