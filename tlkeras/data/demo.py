"""The demo data set: drawn, photo-like pictures of four kinds of animal, made on the spot from a seed.

It stands in for photographs where none may be shipped. The kinds share fur colours, markings, scenery and light, so
that only shape, and the zebra's kind of stripe, tell them apart.
"""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from tlkeras.data import drawing
from tlkeras.data.drawing import OVERSAMPLE, SIDE_PX, Array, Figure, Light, Relief, mixed, smoothstep, vector
from tlkeras.errors import ConfigError, StorageError
from tlkeras.storage import cache_root, staged_folder

CLASSES = ("cat", "dog", "rabbit", "zebra")
# The three files that give an audit something to say: JPEG data that stops half-way, no data, EXIF orientation 6.
CUT_OFF, EMPTY, TURNED = "cat/cut_off.jpg", "dog/empty.jpg", "rabbit/turned.jpg"
# Part of the folder's name: raise it when the same seed would no longer give the same pictures.
RECIPE = "v1"
_PNG_EVERY = 6

BODY, LEG, HEAD, EAR, TAIL, MANE, BIB, MUZZLE, PAW, TIP, INNER_EAR, NOSE, DARK, TONGUE, EYE, WHISKER = range(16)
FURS = BLACK, CHARCOAL, GREY, BROWN, TAN, GINGER, CREAM, WHITE = [
    *(vector(0.12, 0.115, 0.11), vector(0.23, 0.22, 0.22), vector(0.46, 0.45, 0.44), vector(0.36, 0.25, 0.17)),
    *(vector(0.64, 0.50, 0.35), vector(0.68, 0.43, 0.22), vector(0.84, 0.76, 0.63), vector(0.90, 0.88, 0.85)),
]
MARKINGS = {
    "cat": ("tabby", "tabby", "tabby", "bib", "solid", "patches", "points"),
    "dog": ("solid", "bib", "bib", "patches", "spots", "spots", "tabby"),
    "rabbit": ("solid", "solid", "bib", "patches", "spots", "tabby"),
    "zebra": ("zebra",),
}


# Body length, radius of chest and hip, length and radius of a leg, length of the neck, radius of the head.
BUILDS = {
    "cat": ((1.2, 1.5), (0.26, 0.34), (0.27, 0.36), (0.45, 0.62), (0.085, 0.11), (0.22, 0.34), (0.28, 0.35)),
    "dog": ((1.1, 1.6), (0.28, 0.40), (0.22, 0.32), (0.55, 0.95), (0.080, 0.12), (0.36, 0.55), (0.24, 0.33)),
    "rabbit": ((0.75, 0.95), (0.28, 0.34), (0.36, 0.46), (0.30, 0.36), (0.08, 0.10), (0.16, 0.24), (0.24, 0.29)),
    "zebra": ((1.4, 1.7), (0.36, 0.43), (0.38, 0.46), (0.85, 1.05), (0.080, 0.10), (0.70, 0.90), (0.20, 0.24)),
}
POSES = {"cat": ("stand", "sit", "lie"), "dog": ("stand", "sit", "sit"), "rabbit": ("sit", "lie"), "zebra": ("stand",)}


def animal(kind: str, head_turn: float, rng: np.random.Generator) -> tuple[Figure, int]:
    """An animal of ``kind`` and the index of its head's first shape; ``head_turn`` in radians to its left."""
    f = Figure()  # x points to its front, y up from the ground, z to its left; a body is about 1.5 long.
    length, chest, hip, leg, thick, neck, skull = (float(rng.uniform(*bounds)) for bounds in BUILDS[kind])
    pose, slope = str(rng.choice(POSES[kind])), 0.0
    if pose == "stand":
        back, breast = (-length / 2, leg + hip * 0.6), (length / 2, leg + chest * 0.6)
    elif pose == "lie":
        back, breast = (-length / 2, hip * 0.85), (length / 2, chest * 1.05)
    else:
        slope = rng.uniform(0.2, 0.7) if kind == "rabbit" else rng.uniform(0.75, 1.1)
        back = (-0.25 * length, hip * 0.95)
        breast = (back[0] + 0.6 * length * np.cos(slope), back[1] + 0.6 * length * np.sin(slope))
    middle = ((back[0] + breast[0]) / 2, (back[1] + breast[1]) / 2)
    waist, trunk = (chest + hip) / 2 * rng.uniform(0.85, 1.05), (np.cos(slope), np.sin(slope), 0)
    f.rods(BODY, (*back, 0, hip), (*middle, 0, waist), (*breast, 0, chest), axis=trunk)
    f.rods(BIB, (breast[0] + chest * 0.25, breast[1] - chest * 0.2, 0, chest * 0.82), axis=trunk)
    f.rods(BIB, (middle[0], middle[1] - waist * 0.22, 0, waist * 0.84), axis=trunk)
    foot = PAW if kind != "zebra" else NOSE
    for side in (1, -1):
        z, wide = side * chest * 0.55, side * hip * 0.72
        swing, stride = rng.uniform(-0.22, 0.22, 2) * (pose == "stand")
        x = breast[0] + 0.08 * (pose != "stand")
        if pose == "lie":
            f.rods(LEG, (x - 0.08, chest * 0.6, z, thick * 1.5), (x, thick, z, thick * 1.1))
            f.rods(PAW, (x, thick, z, thick), (x + leg * 0.6, thick * 1.1, z * 0.9, thick * 1.15))
        else:
            shoulder = (breast[0] - 0.03, breast[1] - chest * 0.2, z, chest * 0.55)
            knee = (x - 0.04 + swing * 0.4, min(leg, breast[1]) * 0.55, z, thick * 1.1)
            f.rods(LEG, shoulder, knee, (x + swing, 0.12, z, thick * 0.85))
            f.rods(foot, (x + swing, 0.09, z, thick * 0.9), (x + swing + 0.07, 0.07, z, thick))
        x = back[0]
        if pose == "stand":
            knee = (x + 0.05 + stride * 0.4, leg * 0.7, z, thick * 1.6)
            hock = (x - 0.17 + stride * 0.8, leg * 0.4, z, thick)
            f.rods(LEG, (x, back[1] - 0.05, z, hip * 0.72), knee, hock, (x - 0.09 + stride, 0.12, z, thick * 0.85))
            f.rods(foot, (x - 0.08 + stride, 0.09, z, thick * 0.9), (x + stride, 0.07, z, thick))
        else:
            f.rods(LEG, (x, hip * 0.9, wide, hip * 0.62), (x + hip, hip * 0.7, wide * 1.1, hip * 0.42))
            f.rods(PAW, (x + hip, thick, wide * 1.2, thick), (x + hip + 0.3, thick, wide * 1.25, thick * 1.2))
    _tail(f, kind, (back[0] - hip * 0.8, back[1] + hip * 0.3), rng)
    lift = rng.uniform(0.55, 1.1)
    top = (breast[0] + neck * np.cos(lift) + chest * 0.3, breast[1] + chest * 0.45 + neck * np.sin(lift))
    along = (np.cos(lift), np.sin(lift), 0)
    f.rods(BODY, (*breast, 0, chest * 0.85), (*top, 0, skull * 0.9), axis=along)
    if kind == "zebra":
        crest = (0.4 * breast[0] + 0.6 * top[0] - 0.14, 0.4 * breast[1] + 0.6 * top[1] + 0.2, 0, 0.09)
        mane = (breast[0] - 0.2, breast[1] + chest, 0, 0.06), crest, (top[0] - 0.1, top[1] + 0.22, 0, 0.07)
        f.rods(MANE, *mane, axis=along)
    first = len(f.shapes)
    nod = rng.uniform(-0.95, -0.4) if kind == "zebra" else rng.normal(-0.1, 0.13)
    ahead = vector(np.cos(nod) * np.cos(head_turn), np.sin(nod), np.cos(nod) * np.sin(head_turn))
    left = vector(-np.sin(head_turn), rng.normal(0, 0.12), np.cos(head_turn))
    left -= ahead * (left @ ahead)
    left /= np.linalg.norm(left)
    # Columns: where the head's own forward, up and left point.
    f.turn = np.stack([ahead, np.cross(left, ahead), left], axis=1)
    f.origin, f.size = vector(top[0] + 0.05, top[1] + skull * 0.25, 0), skull
    _head(f, kind, rng)
    return f, first


def _head(f: Figure, kind: str, rng: np.random.Generator) -> None:
    """Add a head of radius 1 around the frame's origin, nose forward."""
    if kind == "cat":
        wide, tall = rng.uniform(0.9, 1.15), rng.uniform(0.85, 1.15)
        f.rods(HEAD, (-0.1, 0, 0, 0.95), (0.1, 0, 0, 0.93), axis=(0, 0.3, 1))
        f.rods(HEAD, (0.3, -0.3, 0.42 * wide, 0.58), both=True, axis=(0, 1, 0.3))
        f.rods(MUZZLE, (0.84, -0.36, 0.2, 0.32), both=True)
        f.rods(MUZZLE, (0.72, -0.62, 0, 0.28))
        f.rods(HEAD, (0.55, 0.3, 0, 0.4), (0.98, -0.14, 0, 0.2), axis=(0, 0.2, 1))
        f.rods(NOSE, (1.12, -0.16, 0.05, 0.08), (1.12, -0.16, -0.05, 0.08))
        f.rods(NOSE, (1.14, -0.2, 0, 0.06), (1.13, -0.27, 0, 0.03))
        f.rods(DARK, (1.13, -0.3, 0, 0.035), (1.12, -0.42, 0, 0.035), (1.05, -0.55, 0.2, 0.03), both=True)
        f.rods(EYE, (0.79, 0.1, 0.40 * wide, 0.21), both=True)
        for lift in (0.15, -0.12, -0.4):
            f.rods(WHISKER, (0.95, -0.3 + 0.2 * lift, 0.35, 0.014), (0.95, -0.3 + lift, 1.3, 0.01), both=True)
        f.rods(EAR, (-0.1, 0.55, 0.52, 0.46), (-0.1, 1.42 * tall, 0.80, 0.05), both=True)
        f.rods(INNER_EAR, (0.16, 0.62, 0.53, 0.30), (0.0, 1.26 * tall, 0.76, 0.03), both=True)
    elif kind == "dog":
        snout, heavy = rng.uniform(0.7, 1.4), rng.uniform(0.85, 1.15)
        front = 0.55 + snout
        f.rods(HEAD, (-0.15, 0, 0, 0.92), (0.25, 0.02, 0, 0.82), axis=(0, 0.3, 1))
        f.rods(HEAD, (0.45, -0.2, 0, 0.6 * heavy), (front, -0.34, 0, 0.36 * heavy), axis=(1, 0, 0))
        f.rods(MUZZLE, (front - 0.25, -0.42, 0.12, 0.36 * heavy), (front + 0.05, -0.36, 0.1, 0.32 * heavy), both=True)
        f.rods(MUZZLE, (0.5, -0.62, 0, 0.3), (front - 0.1, -0.68, 0, 0.2))
        f.rods(NOSE, (front + 0.28, -0.16, 0.1, 0.17), (front + 0.28, -0.16, -0.1, 0.17))
        f.rods(DARK, (front + 0.36, -0.3, 0, 0.04), (front + 0.3, -0.52, 0, 0.04), (0.6, -0.58, 0.46, 0.035), both=True)
        f.rods(EYE, (0.78, 0.24, 0.40, 0.165), both=True)
        if rng.random() < 0.45:
            f.rods(TONGUE, (front - 0.2, -0.72, 0, 0.2), (front + 0.12, -1.1, 0, 0.17))
        if rng.random() < 0.95:
            drop = rng.uniform(0.35, 0.95)
            f.rods(EAR, (-0.2, 0.62, 0.62, 0.26), (-0.1, 0.35, 1.0, 0.3), (0.1, -drop, 1.06, 0.3 * heavy), both=True)
        else:
            f.rods(EAR, (-0.25, 0.6, 0.55, 0.36), (-0.3, 1.5, 0.72, 0.06), both=True)
            f.rods(INNER_EAR, (-0.02, 0.68, 0.56, 0.24), (-0.18, 1.36, 0.7, 0.03), both=True)
    elif kind == "rabbit":
        f.rods(HEAD, (-0.15, 0, 0, 0.9), (0.55, -0.15, 0, 0.66), axis=(0, 0.3, 1))
        f.rods(HEAD, (0.35, -0.32, 0.35, 0.5), both=True)
        f.rods(MUZZLE, (0.98, -0.34, 0.14, 0.3), both=True)
        f.rods(NOSE, (1.24, -0.2, 0.05, 0.07), (1.24, -0.2, -0.05, 0.07))
        f.rods(DARK, (1.25, -0.28, 0, 0.03), (1.22, -0.42, 0, 0.03), (1.1, -0.52, 0.14, 0.03), both=True)
        f.rods(EYE, (0.5, 0.2, 0.60, 0.22), both=True)
        long, apart, back = rng.uniform(2.6, 3.3), rng.uniform(0.3, 0.8), rng.uniform(-1.0, -0.1)
        tip, middle = (back, long, apart, 0.1), (back * 0.4 - 0.1, 0.55 * long + 0.3, 0.6 * apart + 0.2, 0.34)
        f.rods(EAR, (-0.25, 0.6, 0.34, 0.26), middle, tip, both=True)
        inner = (middle[0] + 0.16, middle[1], middle[2], 0.24)
        f.rods(INNER_EAR, (-0.02, 0.8, 0.36, 0.12), inner, (back + 0.1, long - 0.2, apart, 0.06), both=True)
    else:
        f.rods(HEAD, (-0.1, 0, 0, 0.86), (0.5, 0, 0, 0.78), (2.0, -0.35, 0, 0.5), axis=(0.8, 0.6, 0))
        f.rods(HEAD, (0.1, -0.5, 0, 0.66), (1.2, -0.6, 0, 0.4), axis=(0.8, 0.6, 0))
        f.rods(MUZZLE, (2.2, -0.4, 0, 0.5), (2.45, -0.5, 0, 0.47))
        f.rods(DARK, (2.75, -0.28, 0.28, 0.1), both=True)
        f.rods(DARK, (2.85, -0.7, 0, 0.04), (2.4, -0.8, 0.4, 0.04), both=True)
        f.rods(EYE, (0.6, 0.3, 0.62, 0.2), both=True)
        f.rods(EAR, (-0.25, 0.65, 0.45, 0.24), (-0.3, 1.15, 0.62, 0.3), (-0.3, 1.75, 0.62, 0.06), both=True)
        f.rods(INNER_EAR, (-0.08, 0.8, 0.5, 0.14), (-0.1, 1.15, 0.62, 0.2), (-0.2, 1.6, 0.62, 0.04), both=True)
        f.rods(MANE, (0.45, 0.75, 0, 0.14), (-0.2, 1.1, 0, 0.2), (-0.8, 0.85, 0, 0.2))


def _tail(f: Figure, kind: str, root: tuple[float, float], rng: np.random.Generator) -> None:
    x, y, side = *root, rng.uniform(-0.35, 0.35)
    if kind == "rabbit":
        f.rods(TIP, (x, y - 0.12, 0, 0.13))
    elif kind == "zebra":
        f.rods(TAIL, (x, y + 0.1, 0, 0.05), (x - 0.16, y - 0.35, side * 0.3, 0.035))
        f.rods(MANE, (x - 0.16, y - 0.35, side * 0.3, 0.05), (x - 0.16, y - 0.7, side * 0.4, 0.06))
    else:
        reach, thick = (0.95, rng.uniform(0.05, 0.075)) if kind == "cat" else (rng.uniform(0.4, 0.75), 0.08)
        end = max(y + rng.uniform(-0.5, 0.9) * reach, 0.08)
        bend = (x - 0.5 * reach, max(0.5 * (y + end) - 0.2, 0.08), side * 0.4, thick * 1.1)
        f.rods(TAIL, (x, max(y, 0.1), 0, thick * 1.3), bend)
        f.rods(TIP, bend, (x - 0.6 * reach, end, side, thick * 0.8))


def _coat(kind: str, relief: Relief, rng: np.random.Generator) -> Array:
    """Colour [H,W,3] of an animal before light falls on it."""
    material, size = relief.material, relief.material.shape
    slow, middle = drawing.noise(rng, size, rng.uniform(45, 80), 1), drawing.noise(rng, size, rng.uniform(13, 22), 2)
    main, other = (FURS[index] for index in rng.choice(len(FURS), 2, replace=False))
    pale, deep = 0.3 * main + 0.7 * (WHITE if rng.random() < 0.5 else CREAM), main * rng.uniform(0.35, 0.6)
    dark, skin = BLACK * rng.uniform(0.5, 1.5), vector(0.72, 0.5, 0.46) * rng.uniform(0.6, 1.1)
    marking = str(rng.choice(MARKINGS[kind]))
    if marking == "zebra":
        main = (WHITE, WHITE, CREAM, CREAM * 0.85)[rng.integers(4)]
        deep = (BLACK, BLACK, BLACK, CHARCOAL, BROWN)[rng.integers(5)]
    table = np.tile(main, (16, 1))
    mark = np.zeros(size, np.float32)
    if marking == "zebra":
        rates = np.full(16, 5.2, np.float32)
        rates[[LEG, HEAD]] = 8.0, 10.0
        rate = rates[material] * rng.uniform(5.3, 7.5)
        mark = smoothstep(np.sin(relief.along * rate + 0.4 * middle), -0.15, 0.25)
        table[MUZZLE] = deep
    elif marking == "tabby":
        rate = np.where(material == HEAD, np.float32(44), np.float32(32)) * rng.uniform(0.8, 1.3)
        mark = smoothstep(np.sin(relief.along * rate + 1.2 * middle), 0.1, 1.2) * rng.uniform(0.45, 0.95)
        table[MUZZLE] = pale
    elif marking == "patches":
        mark, deep = smoothstep(slow, 0.25, 0.4), other
    elif marking == "spots":
        mark = smoothstep(middle, 0.9, 1.2) * rng.uniform(0.6, 1.0)
    elif marking == "points":
        table[[MUZZLE, EAR, PAW, TAIL, TIP]] = deep
    elif marking == "bib":
        table[[MUZZLE, BIB, PAW, TIP]] = pale
    if kind == "rabbit":
        table[TIP] = pale
    table[INNER_EAR] = 0.55 * skin + 0.45 * table[EAR]
    table[NOSE] = dark if kind in ("dog", "zebra") or rng.random() < 0.4 else skin
    table[DARK], table[TONGUE], table[EYE], table[WHISKER] = dark, (0.75, 0.4, 0.4), dark, 0.95
    marked = material <= (BIB if marking in ("zebra", "patches") else MANE)
    return mixed(table[material], deep, mark * marked) * (1 + 0.07 * slow[..., None])


def _eyes(colour: Array, relief: Relief, figure: Figure, rng: np.random.Generator, kind: str) -> None:
    """Paint iris, pupil and a spark of light into ``colour`` wherever an eye is visible."""
    greenish = ((0.62, 0.62, 0.2), (0.3, 0.5, 0.25), (0.7, 0.5, 0.16), (0.35, 0.5, 0.65))
    iris = vector(*greenish[rng.integers(4)]) if kind == "cat" else vector(0.24, 0.14, 0.08) * rng.uniform(0.6, 1.7)
    slit = rng.uniform(0.25, 0.65) if kind == "cat" else 0.65
    gaze = relief.view @ figure.turn @ vector(0.25, 0, 0)
    rows, columns = drawing.grid(relief.material.shape)
    for shape in (shape for shape in figure.shapes if shape.material == EYE):
        at, radius = relief.view @ shape.a * relief.scale, shape.radius_a * relief.scale
        x0, y0 = relief.centre[0] + at[0], relief.centre[1] - at[1]
        across, down = (slice(max(int(k - radius), 0), max(int(k + radius) + 2, 0)) for k in (x0, y0))
        x, y = (columns[:, across] - x0) / radius - gaze[0], (rows[down] - y0) / radius + gaze[1]
        seen = (relief.material[down, across] == EYE) & (x * x + y * y < 1)
        window = colour[down, across]
        window[seen & (np.hypot(x, y) < 0.85)] = iris
        window[seen & (np.hypot(x / slit, y) < 0.72)] = 0.02
        window[seen & (np.hypot(x + 0.28, y + 0.3) < 0.24)] = 1.5


def picture_of(kind: str, rng: np.random.Generator) -> Image.Image:
    """One picture, RGB, drawing.SIDE_PX square, of an animal of ``kind`` (one of CLASSES) somewhere, somehow."""
    light, close = drawing.random_light(rng), rng.random() < 0.7
    turn = np.radians(rng.normal(90, 30) if close else rng.uniform(15, 165))
    pitch = np.radians(rng.uniform(3, 22))
    right, level = vector(np.cos(turn), 0, -np.sin(turn)), vector(np.sin(turn), 0, np.cos(turn))
    viewer = level * float(np.cos(pitch)) + vector(0, np.sin(pitch), 0)
    view = np.stack([right, np.cross(viewer, right), viewer])
    figure, head = animal(kind, float(np.clip(np.pi / 2 - turn, -1, 1) * rng.uniform(0.1, 1)), rng)
    ends = np.array([(*(view @ p)[:2], r) for s in figure.shapes for p, r in ((s.a, s.radius_a), (s.b, s.radius_b))])
    boxes = [((e[:, :2] - e[:, 2:]).min(axis=0), (e[:, :2] + e[:, 2:]).max(axis=0)) for e in (ends, ends[2 * head :])]
    low, high = boxes[close]
    canvas = SIDE_PX * OVERSAMPLE
    scale = float(canvas * rng.uniform(0.84, 1.02) / max(high - low))
    left, top = (canvas - (high - low) * scale) * rng.uniform(0.2, 0.8, 2) + rng.normal(0, 6, 2)
    centre = (float(left - low[0] * scale), float(top + high[1] * scale))
    foot_row = float(centre[1] - low[1] * scale) / OVERSAMPLE
    horizon = rng.uniform(0.5, 1.3) * SIDE_PX if close else min(rng.uniform(0.2, 0.62) * SIDE_PX, foot_row - 15)
    scene = drawing.blurred(drawing.scenery(rng, float(horizon), light), rng.uniform(2, 8 if close else 4))
    # Only the part of the canvas that the animal may cover is drawn large; even borders average down cleanly.
    (west, south), (east, north) = (boxes[0][0] * scale - 4, boxes[0][1] * scale + 4)
    sides = (centre[0] + west, centre[0] + east, centre[1] - north, centre[1] - south)
    x0, x1, y0, y1 = (int(np.clip(side, 0, canvas)) // OVERSAMPLE for side in sides)
    size = ((y1 - y0) * OVERSAMPLE, (x1 - x0) * OVERSAMPLE)
    relief = Relief(size, view, scale, (centre[0] - x0 * OVERSAMPLE, centre[1] - y0 * OVERSAMPLE))
    layer = np.zeros((SIDE_PX, SIDE_PX, 4), np.float32)
    layer[y0:y1, x0:x1] = _figure_layer(figure, kind, relief, light, rng)
    if not close:
        scene = scene * (1 - 0.85 * drawing.cast_shadow(layer[..., 3].copy(), foot_row, light))[..., None]
    return drawing.photographed(scene * (1 - layer[..., 3:]) + layer[..., :3], rng)


def _figure_layer(figure: Figure, kind: str, relief: Relief, light: Light, rng: np.random.Generator) -> Array:
    """The lit animal [H,W,4] at the picture's scale: RGB multiplied by its coverage, and the coverage."""
    for shape in figure.shapes:
        relief.add(shape)
    furry, mask = (relief.material < NOSE).astype(np.float32), relief.mask()
    colour = _coat(kind, relief, rng) + 0.03
    _eyes(colour, relief, figure, rng, kind)
    layer = np.concatenate([colour * mask[..., None], mask[..., None]], axis=-1)
    layer = drawing.fuzzy(layer, rng, furry * rng.uniform(0.3, 1.2))
    layer = layer[::2] + layer[1::2]
    layer = (layer[:, ::2] + layer[:, 1::2]) * np.float32(0.25)
    # Light changes slowly enough to be worked out at the picture's own scale.
    normal, enclosed = relief.normals(max(3.0, 0.035 * relief.scale), OVERSAMPLE)
    way = vector(1.6, -1.6) * normal[..., :2] + vector(rng.normal(0, 0.6), rng.normal(0.3, 0.6))
    way /= np.sqrt((way * way).sum(axis=-1, keepdims=True)) + 1e-3
    fur = drawing.streaks(rng, way) * furry[::2, ::2] * rng.uniform(0.04, 0.1)
    inside = mask[::2, ::2, None]
    lit = drawing.lighting(normal, enclosed, light) * (1 + fur[..., None]) * inside
    # Hairs outside the outline are lit like the skin next to them.
    lit += (1 - inside) * drawing.blurred(lit, 4) / (drawing.blurred(inside, 4) + 0.01)
    layer[..., :3] *= lit
    return layer


def _write_kind(folder: Path, index: int, seed: int, per_class: int) -> None:
    kind = CLASSES[index]
    (folder / kind).mkdir()
    for number in range(per_class):
        rng = np.random.default_rng([seed, index, number])
        suffix = "png" if number % _PNG_EVERY == _PNG_EVERY - 1 else "jpg"
        path = folder / kind / f"{kind}_{number:03d}.{suffix}"
        picture_of(kind, rng).save(path, quality=int(rng.integers(45, 91)))


def _write_odd_files(folder: Path, seed: int) -> None:
    cut_off, turned = (picture_of(name.split("/")[0], np.random.default_rng([seed, 99])) for name in (CUT_OFF, TURNED))
    data = io.BytesIO()
    cut_off.save(data, "JPEG", quality=80)
    (folder / CUT_OFF).write_bytes(data.getvalue()[: len(data.getvalue()) // 2])
    (folder / EMPTY).write_bytes(b"")
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: to be shown turned by 90 degrees clockwise.
    turned.transpose(Image.Transpose.ROTATE_90).save(folder / TURNED, quality=80, exif=exif)


def demo_folder(*, seed: int = 0, per_class: int = 60) -> Path:
    """The folder of drawn animals, ``class/name.jpg`` (a few .png), in the cache; made on first use, then reused.

    The same seed gives the same files, and a smaller ``per_class`` a part of them. On top of ``per_class`` pictures
    of each of CLASSES come CUT_OFF and EMPTY, which no decoder can read, and TURNED, which is stored on its side.

    Raises: ConfigError for a seed below 0 or per_class below 1; StorageError when the disk refuses.
    """
    if seed < 0 or per_class < 1:
        rule, received = "the demo needs seed >= 0 and per_class >= 1", f"seed {seed}, per_class {per_class}"
        raise ConfigError(rule, received=received, next_step="Leave both out for 0 and 60.")
    target = cache_root() / "demo" / f"{RECIPE}-seed{seed}-n{per_class}"
    if target.is_dir():
        return target
    try:
        with staged_folder(target) as folder:
            with ThreadPoolExecutor(min(len(CLASSES), os.cpu_count() or 1)) as pool:
                list(pool.map(lambda index: _write_kind(folder, index, seed, per_class), range(len(CLASSES))))
            _write_odd_files(folder, seed)
    except StorageError:
        # Another process may have finished the same folder first.
        if not target.is_dir():
            raise
    return target
