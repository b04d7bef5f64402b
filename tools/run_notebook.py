"""Run the lesson from its first cell to its last and keep what it shows.

    python -m tools.run_notebook                                         # demo backbone, into docs/lesson.ipynb itself
    python -m tools.run_notebook --real PHOTOS --to build/lesson.ipynb   # ImageNet weights and real photos, elsewhere

What is kept in the repository must be of the demo alone, small, and free of names of this machine: the script refuses
to write it otherwise. It needs the extra ``notebook``.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

LESSON = Path(__file__).resolve().parents[1] / "docs" / "lesson.ipynb"
LARGEST_BYTES = 1_500_000
COLOURS = 256
CELL_SECONDS = 3600
# An absolute path in text, as on Linux, macOS and Windows.
ABSOLUTE = re.compile(r"(?<![\w.:/<])/(?:home|root|tmp|usr|opt|var|work|Users|private|mnt)/[\w.-]+|\b[A-Z]:\\\\[\w.-]+")


def run(notebook: Any, photos: Path | None) -> None:
    """Execute all cells in place, in an empty folder.

    Raises: CellExecutionError at the first cell that fails.
    """
    from nbclient import NotebookClient

    os.environ["LESSON_PHOTOS"] = "" if photos is None else str(photos.resolve())
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory(prefix="tlkeras-lesson-") as folder:
        NotebookClient(notebook, timeout=CELL_SECONDS, resources={"metadata": {"path": folder}}).execute()
    for cell in notebook.cells:
        cell.get("metadata", {}).pop("execution", None)
        if cell.cell_type == "code":
            # Libraries talk to standard error about the machine.
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]


def shrink(notebook: Any) -> None:
    """Give every PNG that is shown a palette of ``COLOURS`` where that makes it smaller: photos threefold."""
    from PIL import Image

    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()):
            before = "".join(output.get("data", {}).get("image/png", "")).replace("\n", "")
            if not before:
                continue
            file = io.BytesIO()
            picture = Image.open(io.BytesIO(base64.b64decode(before))).convert("RGB")
            picture.quantize(COLOURS, method=Image.Quantize.MEDIANCUT).save(file, "PNG", optimize=True)
            after = base64.b64encode(file.getvalue()).decode()
            if len(after) < len(before):
                output["data"]["image/png"] = after


def unfit(notebook: Any) -> str:
    """Why a notebook must not be kept, or nothing."""
    size = len(json.dumps(notebook, ensure_ascii=False).encode())
    if size > LARGEST_BYTES:
        return f"it has {size:,} bytes, {LARGEST_BYTES:,} are allowed"
    for number, cell in enumerate(notebook["cells"]):
        for output in cell.get("outputs", ()):
            shown = [output.get("text", ""), *(v for k, v in output.get("data", {}).items() if k.startswith("text/"))]
            if found := ABSOLUTE.search("\n".join("".join(text) for text in shown)):
                return f"cell {number} shows a path of this machine, {found[0]}"
    return ""


def main() -> int:
    """Run as a script: 0 done, 1 a notebook that must not be kept, 2 no photos."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--real", type=Path, help="folder of real photos; ImageNet weights must be at hand")
    parser.add_argument("--to", type=Path, help="where to write; needed with --real")
    options = parser.parse_args()
    if options.real is not None and (options.to is None or not (options.real / "cats_vs_dogs").is_dir()):
        print("error: --real takes a folder that holds cats_vs_dogs/, and --to says where to write", file=sys.stderr)
        return 2
    import nbformat

    notebook = nbformat.read(LESSON, as_version=4)
    run(notebook, options.real)
    shrink(notebook)
    to = options.to or LESSON
    if options.real is None and (reason := unfit(notebook)):
        print(f"error: {to} is left as it was: {reason}", file=sys.stderr)
        return 1
    to.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, to)
    print(f"{to}: {len(notebook.cells)} cells, {to.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
