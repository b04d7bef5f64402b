"""A small renderer for photo-like pictures: solid shapes lit as a relief, fur, scenery and a camera's flaws.

Colours are float32 RGB in 0..1, planes are [H,W] and pictures [H,W,3]. Everything random comes from the generator
that is passed in, so equal generators give equal pictures.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Array = NDArray[np.float32]
Size = tuple[int, int]
Joint = tuple[float, float, float, float]

SIDE_PX = 160
OVERSAMPLE = 2  # Figures are drawn this many times larger than the picture and averaged down.


def vector(*values: float) -> Array:
    """A point, direction or colour as float32."""
    return np.array(values, np.float32)


@dataclass(frozen=True)
class Shape:
    """A rod with round ends ``a`` and ``b`` (x, y, z) of two radii; ``axis`` is where a coat's stripes run across."""

    a: Array
    b: Array
    radius_a: float
    radius_b: float
    material: int
    axis: Array


@dataclass
class Figure:
    """Shapes in space. New rods are turned by ``turn`` [3,3], enlarged by ``size`` and moved to ``origin``."""

    shapes: list[Shape] = field(default_factory=list)
    turn: Array = field(default_factory=lambda: np.eye(3, dtype=np.float32))
    origin: Array = field(default_factory=lambda: np.zeros(3, np.float32))
    size: float = 1.0

    def rods(self, material: int, *joints: Joint, both: bool = False, axis: tuple[float, ...] = ()) -> None:
        """A chain of rods through joints (x, y, z, radius); ``both`` adds its mirror image; one joint is a ball."""
        for side in (1, -1) if both else (1,):
            ends = [self.turn @ vector(x, y, z * side) * self.size + self.origin for x, y, z, _ in joints]
            radii = [joint[3] * self.size for joint in joints]
            for first in range(max(len(joints) - 1, 1)):
                last = min(first + 1, len(joints) - 1)
                way = self.turn @ vector(*axis) if axis else ends[last] - ends[first]
                way = way / (np.linalg.norm(way) + 1e-6)
                self.shapes.append(Shape(ends[first], ends[last], radii[first], radii[last], material, way))


@dataclass(frozen=True)
class Light:
    """Where light comes from (unit vector right, up, towards the viewer) and the colours [3] of sun and sky."""

    direction: Array
    sun: Array
    sky: Array


def random_light(rng: np.random.Generator) -> Light:
    """Daylight, lamp light or an overcast sky, from the upper half-space."""
    direction = vector(rng.uniform(-0.9, 0.9), rng.uniform(0.35, 1.0), rng.uniform(0.35, 1.0))
    warmth = np.clip(rng.normal(0.0, 0.06), -0.1, 0.1)
    sun = vector(1 + warmth, 1.0, 1 - 1.3 * warmth) * rng.uniform(0.6, 0.95)
    sky = vector(1 - 0.5 * warmth, 1.0, 1 + 0.5 * warmth) * rng.uniform(0.4, 0.6)
    return Light(direction / np.linalg.norm(direction), sun, sky)


def grid(size: Size) -> tuple[Array, Array]:
    """Row numbers [H,1] and column numbers [1,W]."""
    return np.arange(size[0], dtype=np.float32)[:, None], np.arange(size[1], dtype=np.float32)[None]


def resized(plane: Array, size: Size, rule: Image.Resampling = Image.Resampling.BICUBIC) -> Array:
    """A plane at another size (H, W)."""
    return np.asarray(Image.fromarray(plane).resize((size[1], size[0]), rule), np.float32)


def blurred(array: Array, radius_px: float) -> Array:
    """A plane or picture softened over about ``radius_px``, by way of a smaller copy."""
    if array.ndim == 3:
        return np.stack([blurred(array[..., channel], radius_px) for channel in range(array.shape[2])], axis=-1)
    height, width = array.shape
    small = max(3, round(height / max(radius_px, 1.0))), max(3, round(width / max(radius_px, 1.0)))
    return resized(resized(array, small, Image.Resampling.HAMMING), (height, width))


def noise(rng: np.random.Generator, size: Size, grain_px: float, octaves: int = 3, *, stretch: float = 1.0) -> Array:
    """Smooth noise [H,W], mean 0, deviation 1, lumps of ``grain_px`` and finer; ``stretch`` draws it out vertically."""
    total = np.zeros(size, np.float32)
    for octave in range(octaves):
        cell = max(grain_px / 2**octave, 1.0)
        cells = max(2, round(size[0] / cell / stretch)), max(2, round(size[1] / cell))
        # Bicubic lumps are rounder, which nobody sees in the finest.
        rule = Image.Resampling.BICUBIC if cell > 4 else Image.Resampling.BILINEAR
        total += resized(rng.standard_normal(cells, np.float32), size, rule) * np.float32(0.55**octave)
    return (total - total.mean()) / (total.std() + 1e-6)


def smoothstep(array: Array, low: float, high: float) -> Array:
    """0 below ``low``, 1 above ``high`` and a soft S between."""
    t = np.clip((array - low) * np.float32(1 / (high - low)), 0, 1)
    return t * t * (3 - 2 * t)


def mixed(first: Array, second: Array, weight: Array) -> Array:
    """``first`` where weight [H,W] is 0, ``second`` where it is 1."""
    return first + (second - first) * weight[..., None]


class Relief:
    """What is visible of many shapes: height towards the viewer, material and stripe coordinate per pixel.

    The view has no perspective: ``view`` [3,3] has the rows right, up and towards the viewer, ``scale`` is pixels per
    unit of length, ``centre`` the (column, row) of the origin.
    """

    def __init__(self, size: Size, view: Array, scale: float, centre: tuple[float, float]) -> None:
        self.view, self.scale, self.centre = view, scale, centre
        self.height = np.full(size, -np.inf, np.float32)
        self.material = np.full(size, -1, np.int16)
        self.along = np.zeros(size, np.float32)

    def add(self, shape: Shape) -> None:
        """Draw a shape where it is nearer to the viewer than what is there."""
        a, b = self.view @ shape.a * self.scale, self.view @ shape.b * self.scale
        ra, rb = shape.radius_a * self.scale, shape.radius_b * self.scale
        axis = self.view @ shape.axis / self.scale
        # Seen nearly end-on, the rod's formula loses the nearer ball; where one ball hides behind the other, it fails.
        apart = np.hypot(b[0] - a[0], b[1] - a[1])
        near = (a, a, ra, ra) if a[2] + ra > b[2] + rb else (b, b, rb, rb)
        pieces = [near] if shape.a is shape.b else [(a, a, ra, ra), (b, b, rb, rb)]
        if apart > abs(ra - rb) and shape.a is not shape.b:
            pieces = [(a, b, ra, rb), near] if apart < ra + rb else [(a, b, ra, rb)]
        for (x0, y0, z0), (x1, y1, z1), r0, r1 in pieces:
            top, bottom = int(self.centre[1] - max(y0 + r0, y1 + r1)), int(self.centre[1] - min(y0 - r0, y1 - r1)) + 2
            left, right = int(self.centre[0] + min(x0 - r0, x1 - r1)), int(self.centre[0] + max(x0 + r0, x1 + r1)) + 2
            window = (slice(max(top, 0), max(bottom, 0)), slice(max(left, 0), max(right, 0)))
            rows, columns = grid(self.height.shape)
            x, y = columns[:, window[1]] - self.centre[0], self.centre[1] - rows[window[0]]
            dx, dy = x1 - x0, y1 - y0
            t = np.clip(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy + 1e-6), 0, 1)
            inside = (r0 + t * (r1 - r0)) ** 2 - (x - x0 - t * dx) ** 2 - (y - y0 - t * dy) ** 2
            height = (z0 + t * (z1 - z0) + np.sqrt(np.maximum(inside, 0))).astype(np.float32)
            nearer = (inside > 0) & (height > self.height[window])
            np.copyto(self.height[window], height, where=nearer)
            np.copyto(self.material[window], shape.material, where=nearer)
            along = x * axis[0] + y * axis[1] + height * axis[2]
            np.copyto(self.along[window], along, where=nearer, casting="same_kind")

    def mask(self) -> Array:
        """1 where any shape is, else 0."""
        return (self.material >= 0).astype(np.float32)

    def normals(self, softness_px: float, step: int = 1) -> tuple[Array, Array]:
        """Unit normals [H,W,3] (right, up, towards the viewer) and how enclosed each place is [H,W], 0..1.

        With ``step`` n, at every n-th row and column only; ``softness_px`` rounds the creases between shapes.
        """
        mask = self.mask()[::step, ::step]
        height = (np.where(mask > 0, self.height[::step, ::step], 0) / step).astype(np.float32)
        soft = softness_px / step
        around = blurred(height, 5 * soft) / (blurred(mask, 5 * soft) + 1e-3)
        depth = around - height
        # A near head before a far back is a cliff that no blur makes round: its height is limited first.
        height = (around - np.clip(depth, -6 * soft, 6 * soft)) * mask
        mean = blurred(height, soft) / (blurred(mask, soft) + 1e-3)
        # Beyond the outline the surface runs on, or every figure would have a dark rim.
        down, across = np.gradient(0.65 * mean + 0.35 * np.where(mask > 0, height, mean))
        normal = np.stack([np.clip(-across, -1.8, 1.8), np.clip(down, -1.8, 1.8), np.ones_like(down)], axis=-1)
        normal /= np.sqrt((normal * normal).sum(axis=-1, keepdims=True))
        return normal, smoothstep(depth, 0, 20 * soft) * mask


def lighting(normal: Array, enclosed: Array, light: Light) -> Array:
    """What falls on a surface [H,W,3]: soft sunlight, a sky that is brighter above, darkness in folds."""
    facing = np.clip((normal @ light.direction + 0.25) / 1.25, 0, 1)
    above = 0.68 + 0.32 * normal[..., 1]
    return (facing[..., None] * light.sun + above[..., None] * light.sky) * (1 - 0.5 * enclosed)[..., None]


def _shifted(array: Array, down: Array, across: Array) -> Array:
    rows, columns = grid(array.shape[:2])
    rows = np.clip(rows + down, 0, array.shape[0] - 1).astype(np.intp)
    return array[rows, np.clip(columns + across, 0, array.shape[1] - 1).astype(np.intp)]


def fuzzy(layer: Array, rng: np.random.Generator, hair_px: Array) -> Array:
    """A layer [H,W,C] with its outlines frayed into hair, ``hair_px`` [H,W] long."""
    down, across = (noise(rng, layer.shape[:2], 2.5, 1) * hair_px for _ in range(2))
    return _shifted(layer, down, across)


def streaks(rng: np.random.Generator, direction: Array) -> Array:
    """Fur: fine noise [H,W] smeared along ``direction`` [H,W,2] (right, down), deviation 1."""
    grain = noise(rng, direction.shape[:2], 1.6, 1)
    total = sum((_shifted(grain, k * direction[..., 1], k * direction[..., 0]) for k in (-2, -1, 1, 2)), grain)
    return total / (total.std() + 1e-6)


Palette = tuple[tuple[float, float, float], ...]
GROUNDS: dict[str, Palette] = {
    "grass": ((0.36, 0.44, 0.20), (0.46, 0.48, 0.24), (0.29, 0.37, 0.20), (0.58, 0.53, 0.30)),
    "sand": ((0.76, 0.67, 0.51), (0.68, 0.60, 0.47), (0.80, 0.75, 0.64)),
    "planks": ((0.54, 0.39, 0.26), (0.66, 0.51, 0.36), (0.42, 0.32, 0.25), (0.60, 0.57, 0.53)),
    "carpet": ((0.50, 0.48, 0.47), (0.52, 0.36, 0.31), (0.38, 0.42, 0.49), (0.72, 0.68, 0.60)),
    "earth": ((0.45, 0.37, 0.29), (0.41, 0.37, 0.33), (0.52, 0.44, 0.34)),
    "snow": ((0.84, 0.87, 0.91), (0.79, 0.82, 0.87)),
}
BACKDROPS: dict[str, Palette] = {
    "sky": ((0.52, 0.66, 0.84), (0.68, 0.76, 0.84), (0.82, 0.79, 0.74)),
    "foliage": ((0.25, 0.34, 0.18), (0.36, 0.42, 0.22), (0.43, 0.37, 0.22), (0.22, 0.29, 0.21)),
    "wall": ((0.74, 0.70, 0.63), (0.60, 0.64, 0.67), (0.64, 0.52, 0.45), (0.82, 0.81, 0.78), (0.46, 0.51, 0.49)),
    "blinds": ((0.70, 0.68, 0.64), (0.52, 0.48, 0.44), (0.62, 0.65, 0.68)),
    "trunks": ((0.44, 0.45, 0.34), (0.58, 0.59, 0.52), (0.38, 0.41, 0.29)),
}
THINGS: Palette = ((0.6, 0.56, 0.5), (0.45, 0.33, 0.24), (0.32, 0.36, 0.42), (0.62, 0.34, 0.27), (0.42, 0.45, 0.32))
_SCENE: Size = (SIDE_PX, SIDE_PX)


def _pick(rng: np.random.Generator, colours: Palette) -> Array:
    chosen = np.array(colours[rng.integers(len(colours))], np.float32) * rng.uniform(0.82, 1.15)
    return np.clip(chosen + rng.normal(0, 0.015, 3), 0.03, 0.97).astype(np.float32)


def _ground(rng: np.random.Generator, horizon: float) -> Array:
    kind = str(rng.choice(list(GROUNDS)))
    rows, columns = grid(_SCENE)
    depth = 56 / np.maximum(rows - horizon, 1)
    near = smoothstep(rows - horizon, 0, 45)
    across = (columns - SIDE_PX * rng.uniform(0.3, 0.7)) * depth
    texture = noise(rng, _SCENE, 7, 3)[(depth * 45).astype(np.intp) % SIDE_PX, (across * 0.6).astype(np.intp) % SIDE_PX]
    value = 0.13 * texture * near + 0.07 * noise(rng, _SCENE, 40, 1)
    if kind == "planks":
        board = np.floor(across / 16)
        seam = np.abs(across / 16 - board - 0.5) > 0.46
        value = 0.4 * value + 0.08 * np.sin(board * 12.9) - 0.25 * seam * near
    elif kind == "grass":
        value += 0.15 * noise(rng, _SCENE, 2.5, 2, stretch=5.0) * near
    elif kind == "carpet" and rng.random() < 0.4:
        value = 0.4 * value + 0.1 * np.sign(np.sin(across / rng.uniform(2, 5)))
    return _pick(rng, GROUNDS[kind]) * (1 + value[..., None])


def _backdrop(rng: np.random.Generator) -> Array:
    kind = str(rng.choice(list(BACKDROPS)))
    base, other = _pick(rng, BACKDROPS[kind]), _pick(rng, BACKDROPS[kind])
    rows, columns = grid(_SCENE)
    slope = (rows / SIDE_PX - 0.5) * rng.uniform(-0.4, 0.4) + (columns / SIDE_PX - 0.5) * rng.uniform(-0.4, 0.4)
    value = slope + 0.04 * noise(rng, _SCENE, 50, 1)
    picture = np.broadcast_to(base, (*_SCENE, 3))
    if kind == "sky":
        picture = mixed(picture, vector(0.92, 0.92, 0.92), smoothstep(noise(rng, _SCENE, 50, 4), 0.0, 1.8) * 0.8)
        hills = SIDE_PX * rng.uniform(0.2, 0.5) + 7 * noise(rng, _SCENE, 50)[:1]
        picture = mixed(picture, _pick(rng, BACKDROPS["foliage"]), smoothstep(rows - hills, 0, 3))
    elif kind == "foliage":
        for grain_px, gain in ((18, 1.3), (8, 1.2)):
            picture = mixed(picture, other * gain, smoothstep(noise(rng, _SCENE, grain_px, 3), 0.2, 1.6) * 0.7)
        value += 0.18 * noise(rng, _SCENE, 10)
    elif kind == "blinds":
        waves = (columns if rng.random() < 0.5 else rows) * rng.uniform(0.25, 0.9) + noise(rng, _SCENE, 80, 2)
        picture = mixed(picture, other, 0.5 + 0.5 * np.sin(waves))
    elif kind == "trunks":
        stems = smoothstep(noise(rng, _SCENE, rng.uniform(10, 24), 2, stretch=30.0), 0.5, 0.9)
        picture = mixed(picture, other * rng.uniform(0.4, 0.7), stems)
        value += 0.12 * noise(rng, _SCENE, 8)
    elif rng.random() < 0.4:
        course = np.floor(rows / 9)
        brick = columns / 20 + 0.5 * (course % 2)
        value += 0.05 * np.sin(course * 7.1 + np.floor(brick) * 3.7) - 0.15 * ((rows % 9 < 1) | (brick % 1 < 0.05))
    return picture * (1 + value[..., None])


def scenery(rng: np.random.Generator, horizon: float, light: Light) -> Array:
    """A place [SIDE_PX, SIDE_PX, 3]: sky, leaves or a wall above the row ``horizon``, ground below, things on it."""
    rows, columns = grid(_SCENE)
    scene = mixed(_backdrop(rng), _ground(rng, horizon), smoothstep(rows - horizon + 0 * columns, -1, 1))
    scene = scene * (light.sun * 0.7 + light.sky)
    grain = noise(rng, _SCENE, 9, 2)[..., None]
    for _ in range(rng.integers(0, 4)):
        foot, x = rng.uniform(horizon + 4, max(SIDE_PX, horizon + 10)), rng.uniform(0, SIDE_PX)
        size = (6 + 0.28 * (foot - horizon)) * rng.uniform(0.4, 1.0)
        reach = size * rng.uniform(0.2, 2.5)
        end = vector(reach, -0.2 * size, 0) if rng.random() < 0.6 else vector(0, reach, 0)
        relief = Relief(_SCENE, np.eye(3, dtype=np.float32), 1.0, (x, foot - size))
        relief.add(Shape(vector(0, 0, 0), end, size, size * rng.uniform(0.6, 1.0), 0, end))
        normal, enclosed = relief.normals(3)
        surface = _pick(rng, THINGS) * (1 + 0.12 * grain) * lighting(normal, enclosed, light)
        middle = x + end[0] / 2
        dark = np.exp(-(((columns - middle) / (size + end[0] / 2)) ** 2) - ((rows - foot) / (0.3 * size)) ** 2)
        scene = scene * (1 - 0.5 * dark[..., None])
        scene = mixed(scene, surface, blurred(relief.mask(), 1.2))
    return scene


def cast_shadow(mask: Array, foot_row: float, light: Light) -> Array:
    """Shade [H,W], 0..1, that a figure of outline ``mask`` standing on ``foot_row`` throws on level ground."""
    lean, squash = -light.direction[0] * 0.9, 0.28
    # Image.transform wants the way back: from a place in the shade to the place in the mask that throws it.
    way_back = (1.0, lean / squash, -foot_row * lean / squash, 0.0, 1 / squash, foot_row - foot_row / squash)
    thrown = Image.fromarray(mask).transform(mask.shape[::-1], Image.Transform.AFFINE, way_back)
    contact = np.roll(mask * smoothstep(grid(mask.shape)[0], foot_row - 12, foot_row - 1), 2, axis=0)
    return np.clip(0.5 * blurred(np.asarray(thrown, np.float32), 5) + 0.6 * blurred(contact, 5), 0, 0.85)


def photographed(picture: Array, rng: np.random.Generator) -> Image.Image:
    """A picture as a camera hands it over: exposure, white balance, vignette, sometimes grey or out of focus, grain."""
    warm, green = rng.normal(0.02, 0.035), rng.normal(0, 0.012)
    cast = vector(1 + warm, 1 + green, 1 - warm)
    rows, columns = grid(picture.shape[:2])
    away = ((rows / SIDE_PX - 0.5) ** 2 + (columns / SIDE_PX - 0.5) ** 2) * rng.uniform(0, 0.8)
    exposed = np.maximum(picture * cast * (rng.uniform(1.0, 1.35) * (1 - away[..., None])), 0)
    # Bright parts roll off as film does instead of clipping to flat white.
    exposed = np.clip(1.12 - 1.12 * np.exp(-exposed * 1.5), 0, 1) ** rng.uniform(0.85, 1.1)
    if rng.random() < 0.03:
        exposed = np.repeat((exposed @ vector(0.3, 0.59, 0.11))[..., None], 3, axis=2)
    image = Image.fromarray((exposed * 255).astype(np.uint8))
    if rng.random() < 0.12:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.9)))
    sharp = np.asarray(image, np.float32)
    grain = rng.standard_normal(sharp.shape, np.float32) * 0.5 + rng.standard_normal((*sharp.shape[:2], 1), np.float32)
    return Image.fromarray(np.clip(sharp + grain * rng.uniform(0.5, 2.2), 0, 255).round().astype(np.uint8))
