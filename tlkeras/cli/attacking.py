"""``tlkeras attack`` and ``tlkeras robustness``: how a network is fooled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tlkeras.attacks import RobustnessConfig
from tlkeras.cli.command import (
    GROUPED,
    LOOKING,
    CommandLine,
    DataDirOption,
    Fields,
    IncludeSeenOption,
    NetworkArgument,
    SizeOption,
    WeightsOption,
    command,
)
from tlkeras.cli.console import Terminal, file_stem, table, write_results
from tlkeras.training.config import TrainConfig

if TYPE_CHECKING:
    from tlkeras.attacks.attacker import Attacker, AttackResult
    from tlkeras.attacks.base import Attack
    from tlkeras.attacks.robustness import Robustness
    from tlkeras.attacks.transfer import TransferMatrix


@command(LOOKING)
def attack(
    line: CommandLine,
    network: NetworkArgument = "",
    images: Annotated[
        list[str] | None, typer.Argument(help="Photos, folders of photos, or patterns such as '*.jpg'.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Class that they shall become, by name, number or WordNet id; default any other.")
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Their true class; by default what the network says of each.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="Name of the attack, such as pgd, apgd-ce, square or deepfool; --list shows all.")
    ] = "pgd",
    list_: Annotated[bool, typer.Option("--list", help="List the attacks with their papers instead.")] = False,
    epsilon: Annotated[
        float | None, typer.Option(help="Budget in pixel units, of 255; default 4 in linf, 765 in l2.")
    ] = None,
    norm: Annotated[str | None, typer.Option(help="linf or l2; default the method's own.")] = None,
    steps: Annotated[int | None, typer.Option(help="At most so many; default the method's own.")] = None,
    restarts: Annotated[int | None, typer.Option(help="Attempts from other random starts.")] = None,
    all_steps: Annotated[
        bool,
        typer.Option("--all-steps", help="Make all steps and keep the strongest image, not the first that does it."),
    ] = False,
    full_size: Annotated[
        bool, typer.Option("--full-size", help="Change the photo at its own size, through the resize.")
    ] = False,
    smallest: Annotated[
        bool,
        typer.Option("--smallest", help="Find the smallest epsilon that works, up to --epsilon or 16 (l2: 1530)."),
    ] = False,
    transfer: Annotated[
        list[str] | None, typer.Option(help="Other network: who fools whom? May be repeated; each is attacked too.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same images.")] = 0,
    weights: WeightsOption = "imagenet",
    size: SizeOption = None,
    out: Annotated[Path | None, typer.Option(help="New folder for the images; default attacks/NETWORK-NUMBER.")] = None,
) -> None:
    """Change photos so little that people do not see it, and so that the network sees something else."""
    from tlkeras.attacks.attacker import METHODS, Attacker, make
    from tlkeras.attacks.transfer import transfer_matrix
    from tlkeras.data.open import image_files
    from tlkeras.errors import ConfigError
    from tlkeras.storage import new_folder
    from tlkeras.target import load_target

    if list_:
        line.refuse_all_but(("list_", "as_json"), "with --list")
        attacks = [(name, kind.norms, (kind.__doc__ or "").split("\n", 1)[0]) for name, kind in METHODS.items()]
        rows = ((name, ", ".join(norms), what) for name, norms, what in attacks)
        listing = [{"method": name, "norms": list(norms), "what": what} for name, norms, what in attacks]
        line.answer({"attacks": listing}, [table("method | norms | what it is", rows)])
        return
    if not network or not images:
        raise ConfigError("name a network and photos, or give --list")
    minimal = method in METHODS and METHODS[method].minimal
    line.refuse(("smallest",), f"with {method}, which looks for the smallest change itself", unless=not minimal)
    line.refuse(("smallest",), "with --transfer", unless=not transfer)
    made = make(
        method,
        norm=norm,
        epsilon_255=None if smallest else epsilon,
        steps=steps,
        restarts=restarts,
        stop_early=False if all_steps else None,
        seed=seed,
    )
    folder = new_folder(out, "attacks", network)
    paths = image_files(images)
    attacker = Attacker(load_target(network, weights=weights, size_px=size), full_size=full_size)
    matrix = None
    if transfer:
        others = [Attacker(load_target(name, weights=weights), full_size=full_size) for name in transfer]
        matrix = transfer_matrix([attacker, *others], paths, made, to=target, labels=_all(label, paths))
        results = [matrix.results[0]]
    else:
        results = _attacked(attacker, paths, made, target, label, smallest, epsilon, line.terminal)
    described = _describe(results, matrix, folder)
    files = _files(results, matrix, described)
    described["files"] = [*files, "attack.json"]
    write_results(folder, "attack.json", described, files)
    fooled = f"{described['success']} of {described['attacked']} fooled after PNG; pictures in {folder}"
    line.answer(described, _attack_tables(described), fooled)


def _all(label: str | None, paths: list[str]) -> list[str] | None:
    return None if label is None else [label] * len(paths)


def _attacked(
    attacker: Attacker,
    paths: list[str],
    made: Attack,
    target: str | None,
    label: str | None,
    smallest: bool,
    up_to_255: float | None,
    terminal: Terminal,
) -> list[AttackResult]:
    """One result for all photos, or one for each where each has its own size or its own epsilon."""
    from tlkeras.attacks.attacker import smallest_epsilon

    with terminal.step("attack") as progress:
        if not attacker.full_size and not smallest:
            return [attacker.attack(paths, made, to=target, labels=_all(label, paths), progress=progress)]
        results = []
        for path in paths:
            labels = _all(label, [path])
            if smallest:
                results.append(smallest_epsilon(attacker, path, made, up_to_255=up_to_255, to=target, labels=labels))
            else:
                results.append(attacker.attack([path], made, to=target, labels=labels))
            progress(len(results), len(paths))
    return results


def _describe(results: list[AttackResult], matrix: TransferMatrix | None, folder: Path) -> dict[str, Any]:
    from tlkeras.errors import printable

    parts = [result.to_json() for result in results]
    rows = [
        {**row, "path": printable(row["path"]), "epsilon_255": part["attack"]["epsilon_255"]}
        for part in parts
        for row in part["results"]
    ]
    described = parts[0] | {name: sum(part[name] for part in parts) for name in ("images", "attacked", "success")}
    described["success_rate"] = described["success"] / described["attacked"] if described["attacked"] else None
    described["seconds"] = round(sum(result.seconds for result in results), 3)
    described["results"] = rows
    if matrix is not None:
        described["transfer"] = matrix.to_json()
        for place, row in enumerate(rows):
            row["judges"] = [_judgement(matrix, column, place) for column in range(1, len(matrix.networks))]
    return {**described, "out": str(folder)}


def _judgement(matrix: TransferMatrix, column: int, place: int) -> dict[str, Any]:
    """What another network says of one image that was made against the first."""
    other, names = matrix.transfers[0][column], matrix.results[0].class_names
    said = {"network": other.network, "fooled": bool(other.fooled[place])}
    for when in ("before", "after"):
        row = getattr(other, f"probabilities_{when}")[place]
        best = int(row.argmax())
        said[when] = {"label": names[best], "probability": round(float(row[best]), 6)}
    return said


def _files(results: list[AttackResult], matrix: TransferMatrix | None, described: dict[str, Any]) -> dict[str, bytes]:
    """The pictures by their names; those of the photos are noted in ``described``."""
    from tlkeras.attacks.plots import figure_of_attack, figure_of_transfer
    from tlkeras.images.arrays import figure_bytes, png_bytes

    files = {}
    pixels = [one for result in results for one in result.adversarial]
    for number, (row, image) in enumerate(zip(described["results"], pixels, strict=True), start=1):
        row["file"] = f"{file_stem(Path(row['path']).stem)}-{number}.png"
        files[row["file"]] = png_bytes(image)
    for number, result in enumerate(results, start=1):
        files["picture.png" if len(results) == 1 else f"picture-{number}.png"] = figure_bytes(figure_of_attack(result))
    if matrix is not None:
        files["transfer.png"] = figure_bytes(figure_of_transfer(matrix))
    return files


def _attack_tables(described: dict[str, Any]) -> list[Any]:
    judges = described["results"][0].get("judges", ())
    columns = ["photo", "before", "after", "fooled", ">epsilon", ">L∞", ">L2", ">pixels", ">steps"]
    rows = (
        (
            row["path"],
            *(_first(row[when][0]) for when in ("before", "after")),
            ("yes" if row["success"] else "no") if row["attacked"] else "not attacked",
            "" if row["epsilon_255"] is None else f"{row['epsilon_255']:g}",
            f"{row['linf_255']:.0f}",
            f"{row['l2_255']:.1f}",
            f"{row['l0_pixels']:,}",
            row["steps"],
            *(_first(judge["after"]) for judge in row.get("judges", ())),
        )
        for row in described["results"]
    )
    tables = [table([*columns, *(f"{judge['network']} then says" for judge in judges)], rows)]
    if "transfer" in described:
        matrix = described["transfer"]
        fooled = (
            (name, *(f"{a} of {b}" for a, b in zip(*counts, strict=True)))
            for name, *counts in zip(matrix["networks"], matrix["fooled"], matrix["images"], strict=True)
        )
        tables.append(table(["made against", *(f"fools {name}" for name in matrix["networks"])], fooled))
    return tables


def _first(ranked: dict[str, Any]) -> str:
    return f"{ranked['label']} {ranked['probability']:.3f}"


@command(LOOKING, Fields(RobustnessConfig), Fields(TrainConfig, only=GROUPED))
def robustness(
    line: CommandLine,
    network: NetworkArgument,
    data: Annotated[str, typer.Argument(help="Labelled data, as for train; its test split where it has one.")],
    weights: WeightsOption = "imagenet",
    size: SizeOption = None,
    include_seen: IncludeSeenOption = False,
    data_dir: DataDirOption = None,
    out: Annotated[
        Path | None, typer.Option(help="New folder for figures and curves; default robustness/NETWORK-NUMBER.")
    ] = None,
) -> None:
    """Measure accuracy under attacks over a sweep of budgets, and under common corruptions."""
    asked = line.values(RobustnessConfig)
    line.refuse(("epsilons_255", "norm", "steps"), "with --methods none", unless=asked["methods"] != ())
    from tlkeras.attacks.plots import figure_of_robustness
    from tlkeras.attacks.robustness import robustness as measure
    from tlkeras.data.open import open_dataset
    from tlkeras.images.arrays import figure_bytes
    from tlkeras.run_facts import trained_on
    from tlkeras.storage import new_folder
    from tlkeras.target import load_target
    from tlkeras.training.measure import unseen

    config = RobustnessConfig(**asked)
    folder = new_folder(out, "robustness", network)
    dataset = open_dataset(data, data_dir=data_dir, **line.values(TrainConfig), for_training=False)
    line.terminal.say_all(dataset.report())
    is_run = Path(network).is_dir()
    line.refuse(("include_seen",), "for a network of the table", unless=is_run)
    seen: dict[str, Any] = {}
    if is_run:
        dataset, left = unseen(dataset, trained_on(network), include_seen=include_seen)
        seen = {"seen": left.to_json()}
        line.terminal.say_all(left.report())
    found = measure(load_target(network, weights=weights, size_px=size), dataset, config, reporter=line.terminal)
    described = {**found.to_json(), **seen, "data": data, "out": str(folder)}
    pictures = {"robustness.png": figure_bytes(figure_of_robustness(found))}
    write_results(folder, "robustness.json", described, pictures)
    for flag in found.flags:
        line.terminal.say(f"warning: {flag.words}")
    line.answer(described, _robustness_tables(found), f"curves in {folder}")


def _robustness_tables(found: Robustness) -> list[Any]:
    def cell(point: Any) -> str:
        low, high = point.interval
        return f"{100 * point.accuracy:.1f} % ({100 * low:.0f}–{100 * high:.0f})"

    tables = [table(f"{found.images:,} images | accuracy (95 %)", [("clean", cell(found.clean))])]
    for kind, heading, points, name, level in (
        ("attack", "ε {:g}", found.attacks, "method", "epsilon_255"),
        ("corruption", "severity {}", found.corruptions, "corruption", "severity"),
    ):
        if points:
            levels = sorted({getattr(point, level) for point in points})
            names = dict.fromkeys(getattr(point, name) for point in points)
            rows = ((one, *(cell(point) for point in points if getattr(point, name) == one)) for one in names)
            tables.append(table([kind, *(heading.format(value) for value in levels)], rows))
    return tables
