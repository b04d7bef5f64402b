"""Pictures of attacks as Matplotlib figures: before, change, after; the curves of robustness; who fools whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tlkeras.heads.logits import ranked

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tlkeras.attacks.attacker import AttackResult
    from tlkeras.attacks.robustness import Robustness
    from tlkeras.attacks.transfer import TransferMatrix

_BEFORE, _AFTER, _NEUTRAL = "#2a7d4f", "#b3412e", "#c9ccd1"
_DPI = 120
# The change is amplified so that its largest value nearly fills the range, by a round number that is stated.
_ROUND_FACTORS = (1, 2, 5, 10, 20, 30, 50, 100)
_MARKERS = "osv^DPX*"


def amplification(largest_255: float) -> int:
    """The round factor by which a change of at most ``largest_255`` pixel units is shown around middle grey."""
    fitting = [factor for factor in _ROUND_FACTORS if factor * largest_255 <= 128]
    return fitting[-1] if fitting else 1


def amplified(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, int]:
    """The change from ``before`` to ``after``, uint8 ``[H, W, 3]`` each, around middle grey, and its factor."""
    change = after.astype(np.float32) - before
    factor = amplification(float(np.abs(change).max()))
    return np.clip(128 + factor * change, 0, 255).astype(np.uint8), factor


def figure_of_attack(result: AttackResult, *, most: int = 8) -> Figure:
    """Before, change (amplified, the factor stated) and after, with labels and probabilities, an image a row.

    At most ``most`` images are shown.
    """
    from matplotlib.figure import Figure

    rows = min(len(result), most)
    height, width = result.original.shape[1:3]
    side = 2.9
    figure = Figure(
        figsize=(side * 3 + 0.6, rows * (side * min(1.6, height / width) + 0.95)), layout="constrained", dpi=_DPI
    )
    axes = figure.subplots(rows, 3, squeeze=False)
    for index, row in enumerate(axes):
        before, after = result.original[index], result.adversarial[index]
        shown, factor = amplified(before, after)
        texts = (
            _classes(result, result.probabilities_before[index]),
            f"change × {factor}\nL∞ {result.linf_255[index]:.0f}, L2 {result.l2_255[index]:.0f} of 255\n"
            f"{result.l0_pixels[index]:,} of {height * width:,} pixels",
            _classes(result, result.probabilities_after[index]),
        )
        colours = (_BEFORE, "#444444", _AFTER if result.success[index] else _BEFORE)
        for axis, image, text, colour in zip(row, (before, shown, after), texts, colours, strict=True):
            axis.imshow(image, interpolation="nearest" if width < 150 else "antialiased")
            axis.set_title(text, fontsize=9, color=colour, loc="left", linespacing=1.35)
            axis.set_axis_off()
    figure.suptitle(_headline(result), fontsize=10, x=0.01, ha="left")
    figure.get_layout_engine().set(h_pad=0.1)  # type: ignore[union-attr, call-arg]
    return figure


def _headline(result: AttackResult) -> str:
    attack = result.attack
    budget = "" if attack["epsilon_255"] is None else f", ε = {attack['epsilon_255']:g} of 255"
    norm = {"linf": "L∞", "l2": "L2"}[attack["norm"]]
    aim = ""
    if result.targets is not None:
        wanted = sorted({result.class_names[k].replace("_", " ") for k in result.targets})
        aim = f" → {wanted[0]}" if len(wanted) == 1 else f" → {len(wanted)} classes"
    shown = "" if len(result) == 1 else f"   {int(result.success.sum())} of {int(result.attacked.sum())} fooled"
    return f"{result.network}: {attack['method']}, {norm}{budget}, at most {attack['steps']} steps{aim}{shown}"


def _classes(result: AttackResult, row: np.ndarray) -> str:
    lines = [f"{_short(result.class_names[k])} {row[k]:.3f}" for k in ranked(row, 3)]
    return "\n".join(lines)


def _short(name: str) -> str:
    name = name.replace("_", " ")
    return name if len(name) <= 26 else name[:25] + "…"


def figure_of_transfer(matrix: TransferMatrix) -> Figure:
    """Who fools whom: the share of images fooled for each pair of networks, the counts written in."""
    from matplotlib.figure import Figure

    count = len(matrix.networks)
    figure = Figure(figsize=(1.6 + 1.4 * count, 1.3 + 1.15 * count), layout="constrained", dpi=_DPI)
    axis = figure.subplots()
    shares = matrix.fooled / np.maximum(matrix.counted, 1)
    axis.imshow(shares, cmap="Reds", vmin=0, vmax=1)
    for row in range(count):
        for column in range(count):
            text = f"{matrix.fooled[row, column]} of {matrix.counted[row, column]}"
            if matrix.reached is not None:
                text += f"\n{matrix.reached[row, column]} as wanted"
            colour = "white" if shares[row, column] > 0.6 else "#333333"
            axis.text(column, row, text, ha="center", va="center", fontsize=9, color=colour)
    axis.set_xticks(range(count), matrix.networks, rotation=20, ha="right")
    axis.set_yticks(range(count), matrix.networks)
    axis.set_xlabel("judged by")
    axis.set_ylabel("made against")
    axis.set_title("Images that fool", loc="left", fontsize=11)
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
    return figure


def figure_of_robustness(robustness: Robustness) -> Figure:
    """Accuracy over epsilon for each attack, with 95 % intervals, and accuracy under each corruption by severity."""
    from matplotlib.figure import Figure

    panels = [part for part in ("attacks", "corruptions") if getattr(robustness, part)]
    figure = Figure(figsize=(6.2 * max(len(panels), 1), 4.4), layout="constrained", dpi=_DPI)
    axes = figure.subplots(1, max(len(panels), 1), squeeze=False)[0]
    for axis, part in zip(axes, panels, strict=False):
        axis.set_ylim(-0.02, 1.02)
        axis.set_ylabel("accuracy")
        axis.axhline(robustness.clean.accuracy, color=_NEUTRAL, linewidth=1.2, linestyle="--", zorder=0)
        axis.annotate("clean", (0.99, robustness.clean.accuracy), xycoords=("axes fraction", "data"), ha="right",
                      va="bottom", fontsize=8, color="#777777")  # fmt: skip
        for spine in ("top", "right"):
            axis.spines[spine].set_visible(False)
        (_draw_sweep if part == "attacks" else _draw_corruptions)(axis, robustness)
        axis.legend(frameon=False, fontsize=8, loc="lower left")
    figure.suptitle(f"{robustness.network}: {robustness.images:,} images", fontsize=11, x=0.01, ha="left")
    return figure


def _draw_sweep(axis: Any, robustness: Robustness) -> None:
    norm = {"linf": "L∞", "l2": "L2"}[robustness.norm]
    for position, method in enumerate(dict.fromkeys(point.method for point in robustness.attacks)):
        points = [point for point in robustness.attacks if point.method == method]
        _line(axis, [point.epsilon_255 for point in points], points, method, position)
    axis.set_xscale("log", base=2)
    ticks = sorted({point.epsilon_255 for point in robustness.attacks})
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.set_xlabel(f"{norm} budget, of 255")
    axis.set_title("Under attack", loc="left", fontsize=10)


def _draw_corruptions(axis: Any, robustness: Robustness) -> None:
    for position, name in enumerate(dict.fromkeys(point.corruption for point in robustness.corruptions)):
        points = [point for point in robustness.corruptions if point.corruption == name]
        _line(axis, [point.severity for point in points], points, name, position)
    axis.set_xticks(sorted({point.severity for point in robustness.corruptions}))
    axis.set_xlabel("severity")
    axis.set_title("Under common corruptions", loc="left", fontsize=10)


def _line(axis: Any, places: list[float], points: Any, label: str, position: int) -> None:
    values = [point.accuracy for point in points]
    low, high = zip(*(point.interval for point in points), strict=True)
    (line,) = axis.plot(
        places, values, marker=_MARKERS[position % len(_MARKERS)], markersize=4, linewidth=1.5, label=label
    )
    axis.fill_between(places, low, high, color=line.get_color(), alpha=0.07, linewidth=0)
