"""``tlkeras features`` and ``tlkeras explain``: what a network makes of photos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tlkeras.cli.command import LOOKING, CommandLine, NetworkArgument, SizeOption, WeightsOption, command
from tlkeras.cli.console import file_stem, table

if TYPE_CHECKING:
    from tlkeras.explain.feature_maps import FeatureMaps
    from tlkeras.explain.heat_maps import HeatMap


@command(LOOKING)
def features(
    line: CommandLine,
    network: NetworkArgument,
    photo: Annotated[Path | None, typer.Argument(help="The photo; not needed with --list.")] = None,
    layer: Annotated[
        list[str] | None, typer.Option(help="Layer; may be repeated. By default the last of each size.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the layers instead.")] = False,
    channels: Annotated[int, typer.Option(help="Channels in each layer's picture, the strongest.", min=1)] = 64,
    weights: WeightsOption = "imagenet",
    size: SizeOption = None,
    out: Annotated[Path | None, typer.Option(help="New folder for the pictures; default features/NAME-NUMBER.")] = None,
) -> None:
    """Show what the layers of a network extract from a photo, from the first block to the last."""
    line.refuse(("photo", "layer", "channels", "out"), "with --list", unless=not list_)
    from tlkeras.errors import ConfigError, printable
    from tlkeras.explain.feature_maps import feature_maps
    from tlkeras.storage import new_folder
    from tlkeras.target import load_target

    if list_:
        _list_layers(line, network, weights, size)
        return
    if photo is None:
        raise ConfigError("name a photo, or give --list")
    folder = new_folder(out, "features", photo.stem)
    target = load_target(network, weights=weights, size_px=size)
    found = feature_maps(target, photo, layer or ())
    files = _write_features(found, folder, channels)
    described: dict[str, Any] = {
        "network": target.name,
        "photo": printable(str(photo)),
        "layers": [maps.statistics() for maps in found.layers],
        "out": str(folder),
        "files": files,
    }
    line.answer(described, [_statistics_table(described["layers"])], f"{len(files)} pictures in {folder}")


@command(LOOKING)
def explain(
    line: CommandLine,
    network: NetworkArgument,
    photos: Annotated[list[str], typer.Argument(help="Photos, folders of photos, or patterns such as '*.jpg'.")],
    class_: Annotated[
        str | None, typer.Option("--class", help="Class to look for; by default what the network names first.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="grad-cam, layer-cam, occlusion; auto: grad-cam on fine maps, else occlusion.")
    ] = "auto",
    layer: Annotated[str | None, typer.Option(help="Layer whose maps are weighted; by default the last.")] = None,
    weights: WeightsOption = "imagenet",
    size: SizeOption = None,
    out: Annotated[Path | None, typer.Option(help="New folder for the pictures; default explain/NAME-NUMBER.")] = None,
) -> None:
    """Show where in photos a network finds a class, and whether that map is better than chance.

    Photos that cannot be read are named; exit code 1 then.
    """
    from tlkeras.data.open import image_files
    from tlkeras.errors import ImageError, printable
    from tlkeras.explain.heat_maps import Explainer
    from tlkeras.storage import new_folder, staged_folder, write_json
    from tlkeras.target import load_target

    paths = image_files(photos)
    folder = new_folder(out, "explain", network)
    target = load_target(network, weights=weights, size_px=size)
    class_index = None if class_ is None else target.class_index(class_)
    explainer = Explainer(target, method=method, layer=layer, photos=len(paths))
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    with staged_folder(folder) as staged, line.terminal.step("explain") as progress:
        for number, path in enumerate(paths, 1):
            try:
                heat_map = explainer.explain(path, class_index, name=path)
            except ImageError as error:
                problems.append(f"{printable(path)}: {error}")
            else:
                rows.append(_write_heat_map(heat_map, target, f"{number:03d}-{file_stem(Path(path).stem)}", staged))
            progress(number, len(paths))
        if not rows:
            raise ImageError("unreadable", "none of the photos can be read", received=problems[0])
        described = {
            "network": target.name,
            "method": explainer.method,
            "layers": explainer.layers,
            "photos": rows,
            "skipped": problems,
            "out": str(folder),
        }
        # By this file a folder of photos is told that the pictures beside it are ours.
        write_json(staged / "explain.json", described)
    for problem in problems:
        line.terminal.say(f"skipped: {problem}")
    cells = ((*(row[name] for name in ("path", "label")), *_figures(row), row["files"][0]) for row in rows)
    columns = "photo | class | >probability | hottest at (x, y) | >deletion | >insertion | >score | random | picture"
    shown = table(columns, cells, title=f"{explainer.method} on {target.name}")
    line.answer(described, [shown], f"{len(rows)} heat maps in {folder}")
    if problems:
        raise typer.Exit(1)


def _list_layers(line: CommandLine, network: str, weights: str, size: int | None) -> None:
    from tlkeras.backbones.layers import last_of_each_size, layer_rows
    from tlkeras.target import load_target

    target = load_target(network, weights=weights, size_px=size)
    default = set(last_of_each_size(target.network))
    rows = layer_rows(target.network)
    layers = [{"layer": r.name, "kind": r.kind, "shape": list(r.shape), "default": r.name in default} for r in rows]

    cells = ((r.name, r.kind, " × ".join(map(str, r.shape)), "yes" if r.name in default else "") for r in rows)
    shown = table("layer | kind | height × width × channels | shown by default", cells)
    line.answer({"network": target.name, "layers": layers}, [shown])


def _write_features(found: FeatureMaps, folder: Path, channels: int) -> list[str]:
    from tlkeras.explain.feature_maps import grid, overview
    from tlkeras.images.arrays import figure_bytes
    from tlkeras.storage import staged_folder, write_bytes, write_json

    files = ["overview.png"]
    with staged_folder(folder) as staged:
        write_bytes(staged / files[0], figure_bytes(overview(found)))
        for number, maps in enumerate(found.layers, 1):
            files.append(f"{number:02d}-{file_stem(maps.layer)}.png")
            write_bytes(staged / files[-1], figure_bytes(grid(maps, channels=channels)))
        write_json(staged / "feature_maps.json", {"layers": [maps.statistics() for maps in found.layers]})
    return files


def _write_heat_map(heat_map: HeatMap, target: Any, stem: str, folder: Path) -> dict[str, Any]:
    from tlkeras.errors import printable
    from tlkeras.explain.heat_maps import blended, comparison
    from tlkeras.images.arrays import figure_bytes, png_bytes
    from tlkeras.storage import write_bytes

    write_bytes(folder / f"{stem}.png", png_bytes(blended(heat_map)))
    write_bytes(folder / f"{stem}-beside.png", figure_bytes(comparison(heat_map)))
    return {
        "path": printable(heat_map.name),
        "label": heat_map.label,
        "probability": round(heat_map.probability, 6),
        "top": target.ranked(heat_map.probabilities),
        "hottest": heat_map.hottest(),
        "faithfulness": heat_map.faithfulness.to_json(),
        "files": [f"{stem}.png", f"{stem}-beside.png"],
    }


def _figures(row: dict[str, Any]) -> list[str]:
    """A heat map's own cells of the table."""
    faithful = row["faithfulness"]
    chance = f"±{faithful['random_score']:.2f}"
    if not faithful["better_than_chance"]:
        chance += ": no better than chance"
    shares = [f"{faithful[name]:.2f}" for name in ("deletion", "insertion", "score")]
    return [f"{row['probability']:.3f}", "{x}, {y}".format(**row["hottest"]), *shares, chance]


def _statistics_table(layers: list[dict[str, Any]]) -> Any:
    figures = ("mean", "std", "min", "max")
    rows = (
        (
            row["layer"],
            row["kind"],
            " × ".join(map(str, row["shape"])),
            *(f"{row[name]:.3g}" for name in figures),
            f"{row['zero_share']:.0%}",
            row["dead_channels"],
        )
        for row in layers
    )
    return table(["layer", "kind", "shape", *figures, "zero", "dead channels"], rows)
