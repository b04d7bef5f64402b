"""The documentation as something to run: its fenced blocks, and the few commands that cannot run in a test."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "export/README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))

# Beginning of a command: why no test runs it as it stands on the page. What is at the end in brackets does it instead.
NOT_RUN = {
    "make": "sets up an environment of its own [what it calls is run by other tests and by `make` itself]",
    "pip": "installs packages",
    "docker": "needs Docker",
    "MODELS=": "needs Docker",
    "echo": "needs a server [tests/export/test_clients.py]",
    "curl": "needs a server [tests/export/test_clients.py]",
    "npm": "fetches packages [tests/export/test_clients.py]",
    "node": "needs the packages of npm [tests/export/test_clients.py]",
    "python -m http.server": "serves until it is stopped [tests/export/test_web.py]",
    "python export/rest_client.py": "needs a server [tests/export/test_clients.py]",
    "python export/grpc_client.py": "needs a server [tests/export/test_clients.py]",
    "python export/onnx_python.py": "is a script beside the package [tests/export/test_clients.py]",
    "python -m benchmarks.": "measures for minutes",
    "python -m tools.": "a maintainer's script, hours",
    "python tools/": "a maintainer's script",
    "tlkeras demo": "serves until it is stopped [tests/demo/test_page.py]",
    "tlkeras train": {"--resume": "needs a run that was interrupted [tests/fine_tuning/test_resume.py]"},
    "tlkeras extract": {"s3://": "needs a bucket and a cluster [tests/features/test_s3.py, test_on_ray.py]"},
    "tlkeras predict": {"s3://": "needs a bucket and a cluster [tests/features/test_s3.py, test_on_ray.py]"},
    "tlkeras export": {"web": "may fetch ONNX Runtime Web [tests/export/test_web.py]"},
}
# Heavier ones: run by `make test-all` only.
SLOW = (
    *("tlkeras export", "tlkeras verify", "tlkeras robustness", "tlkeras ideal", "tlkeras report", "tlkeras compare"),
    *("tlkeras few-shot", "tlkeras train demo"),
)
SLOW_OPTIONS = ("--fine-tune", "--find-rate", "--head auto")
SLOW_PAGES = ("docs/the-lesson.md", "docs/exporting.md", "docs/serving.md", "docs/onnx.md")
SLOW_PYTHON = ("OnnxClassifier", ".export(", "ideal_images(", "fit(")


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its text, and the line of the page where it begins."""

    language: str
    text: str
    line: int

    def commands(self) -> list[str]:
        """The commands of a bash block; lines that end in a backslash go on, comments are dropped."""
        joined = self.text.replace("\\\n", " ")
        return [line.strip() for line in joined.splitlines() if line.strip() and not line.strip().startswith("#")]


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = (ROOT / page).read_text()
    return [
        Block(match[1].strip(), match[2], text[: match.start()].count("\n") + 1)
        for match in re.finditer(r"^```([^\n]*)\n(.*?)^```\s*$", text, re.MULTILINE | re.DOTALL)
    ]


def words_of(command: str) -> list[str]:
    """A command as a shell splits it."""
    return shlex.split(command, comments=True)


def why_not(command: str) -> str | None:
    """Why a command is not run, or None when it is."""
    for beginning, reason in NOT_RUN.items():
        if not command.startswith(beginning):
            continue
        if isinstance(reason, str):
            return reason
        for word, because in reason.items():
            if word in command:
                return because
    return None


def is_slow(command: str) -> bool:
    """Whether a command runs only among the slow tests."""
    return command.startswith(SLOW) or any(option in command for option in SLOW_OPTIONS)
