"""``tlkeras ideal``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tlkeras.cli.command import LOOKING, CommandLine, Fields, NetworkArgument, SizeOption, WeightsOption, command
from tlkeras.cli.console import file_stem, table, write_results
from tlkeras.errors import ConfigError
from tlkeras.ideal import IdealConfig

if TYPE_CHECKING:
    from tlkeras.ideal.images import IdealImages


@command(LOOKING, Fields(IdealConfig))
def ideal(
    line: CommandLine,
    network: NetworkArgument,
    class_: Annotated[
        list[str] | None, typer.Option("--class", help="Class by name, number or WordNet id; may be repeated.")
    ] = None,
    count: Annotated[int, typer.Option(help="Images of each class, from different noise.")] = 4,
    layer: Annotated[str | None, typer.Option(help="Excite an inner layer instead of a class.")] = None,
    channel: Annotated[int | None, typer.Option(help="One channel of --layer.")] = None,
    judge: Annotated[
        list[str] | None, typer.Option(help="Other network to ask what it sees in the images; may be repeated.")
    ] = None,
    weights: WeightsOption = "imagenet",
    size: SizeOption = None,
    out: Annotated[Path | None, typer.Option(help="New folder for the images; default ideal/NETWORK-NUMBER.")] = None,
) -> None:
    """Make the images that a network sees most clearly as a class, from noise, and save how they came to be."""
    line.refuse(("channel",), "without --layer", unless=layer is not None)
    line.refuse(("judge",), "with --layer: other networks have other layers", unless=layer is None)
    config = IdealConfig(count=count, **line.values(IdealConfig))
    from tlkeras.ideal.images import ideal_images, ideal_layer_images
    from tlkeras.storage import new_folder
    from tlkeras.target import load_target

    if bool(class_) == bool(layer):
        raise ConfigError("give either --class or --layer", received="both" if layer else "neither")
    folder = new_folder(out, "ideal", network)
    target = load_target(network, weights=weights, size_px=size)
    judges = [load_target(name, weights=weights) for name in judge or []]
    if layer:
        made = ideal_layer_images(target, layer, channel, config, reporter=line.terminal)
    else:
        made = ideal_images(target, class_ or (), config, reporter=line.terminal)
    described = {**made.to_json(), "judges": [made.seen_by(other) for other in judges], "out": str(folder)}
    files = _files(made, described)
    described["files"] = [*files, "ideal.json"]
    write_results(folder, "ideal.json", {**described, "values": made.values.round(5).tolist()}, files)
    line.answer(described, [_ideal_table(described)], f"{len(made)} images, film and curve in {folder}")


def _files(made: IdealImages, described: dict[str, Any]) -> dict[str, bytes]:
    """The pictures by their names, which are noted in ``described``."""
    from tlkeras.ideal import images
    from tlkeras.images.arrays import figure_bytes, png_bytes

    numbers: dict[str, int] = {}
    files = {}
    for label, image in zip(made.labels, made.images, strict=True):
        stem = file_stem(label)
        numbers[stem] = numbers.get(stem, 0) + 1
        files[f"{stem}-{numbers[stem]}.png"] = png_bytes(image)
    for index, name in enumerate(files):
        described["images"][index]["file"] = name
    files["sheet.png"] = figure_bytes(images.sheet(made))
    files["film_strip.png"] = figure_bytes(images.film_strip(made))
    files["film.gif"] = images.film(made)
    files["curves.png"] = figure_bytes(images.curves(made))
    return files


def _ideal_table(described: dict[str, Any]) -> Any:
    judges = described["judges"]
    rows = []
    for index, row in enumerate(described["images"]):
        figures = ["", ""]
        if "probability" in row:
            figures = [f"{row['probability']:.4f}", f"{row['probability_before_rounding']:.4f}"]
        says = (_first(judge["images"][index]["top"]) for judge in judges)
        rows.append((row["file"], row["label"], *figures, _first(row["top"]), *says))
    columns = ("file", "class", ">probability", ">before rounding", "network's first")
    return table([*columns, *(f"{judge['network']} says" for judge in judges)], rows)


def _first(top: list[dict[str, Any]]) -> str:
    return f"{top[0]['label']} {top[0]['probability']:.3f}"
