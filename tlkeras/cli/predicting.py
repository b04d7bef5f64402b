"""``tlkeras predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tlkeras.cli.command import USING, CommandLine, command
from tlkeras.cli.console import JsonOption, Terminal, print_json, print_tables, quiet_tensorflow
from tlkeras.cli.scaling import ActorsOption, EnvOption, OnOption, place_of, predict_to_shards


@command(USING)
def predict(
    line: CommandLine,
    run: Annotated[Path, typer.Argument(help="Run directory or saved classifier.")],
    images: Annotated[list[str], typer.Argument(help="Photos, folders of photos, or patterns such as '*.jpg'.")],
    on: OnOption = None,
    to: Annotated[
        str | None, typer.Option(help="Write Parquet shards here instead of printing; with or without --on.")
    ] = None,
    actors: ActorsOption = None,
    env: EnvOption = None,
    top: Annotated[int, typer.Option(help="How many classes to list for each photo.", min=1)] = 3,
    as_json: JsonOption = False,
) -> None:
    """Say what is in photos. Photos that cannot be read are named, the rest is answered; exit code 1 then."""
    line.refuse(("actors", "env"), "without --on", unless=on is not None)
    line.refuse(("top",), "with --to", unless=to is None)
    if on is not None or to is not None:
        predict_to_shards(run, images, to, place_of(on, actors, env), as_json)
        return
    terminal = Terminal()
    with quiet_tensorflow():
        from tlkeras.data.dataset import found_json
        from tlkeras.data.open import open_photos
        from tlkeras.trained import TrainedClassifier, find

        find(run)  # a wrong directory is told at once, before TensorFlow is loaded
        photos = open_photos(images)
        terminal.say_all(photos.report())
        classifier = TrainedClassifier.load(run)
        answers, problems = _answers(classifier, photos.paths, top, terminal)
    for problem in problems:
        terminal.say(f"skipped: {problem}")
    if as_json:
        found = found_json(len(photos.paths), photos.left_out)
        print_json({"predictions": answers, "skipped": problems, **found})
    else:
        print_tables([_table(answers)])
    if problems:
        raise typer.Exit(1)


def _answers(classifier: Any, paths: list[str], top: int, terminal: Terminal) -> tuple[list[dict[str, Any]], list[str]]:
    from tlkeras.errors import ImageError, printable
    from tlkeras.heads.logits import ranked

    answers: list[dict[str, Any]] = []
    problems: list[str] = []
    names = classifier.class_names

    def note(index: int, error: ImageError) -> None:
        problems.append(f"{printable(paths[index])}: {error}")

    with terminal.step("predict") as progress:
        for indices, probabilities in classifier.predict_batches(paths, failed=note):
            for index, row in zip(indices, probabilities, strict=True):
                best = [{"label": names[k], "probability": round(float(row[k]), 6)} for k in ranked(row, top)]
                answers.append({"path": printable(paths[index]), **best[0], "top": best})
            progress(len(answers) + len(problems), len(paths))
    return answers, problems


def _table(answers: list[dict[str, Any]]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table("photo", "class", "probability", "then", box=None, pad_edge=False)
    for answer in answers:
        others = "  ".join(f"{other['label']} {other['probability']:.3f}" for other in answer["top"][1:])
        table.add_row(escape(answer["path"]), escape(answer["label"]), f"{answer['probability']:.3f}", escape(others))
    return table
