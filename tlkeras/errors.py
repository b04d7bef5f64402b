"""Errors that users see: one line that names the rule, what was received and what to do next."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable


def printable(text: str) -> str:
    """Text that any terminal shows as it is and any UTF-8 file can hold, for names that others chose.

    Escaped are line breaks, other control characters (ESC starts what a terminal obeys), marks that turn the direction
    of writing, and bytes that are no text.
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


class TlkerasError(Exception):
    """Base of every error that tlkeras raises on purpose.

    It renders as ``rule; received X. Next step.`` on one line. The command line prints that line and ends
    with ``exit_code``; nothing else of tlkeras is lost or half written when it is raised.
    """

    exit_code = 2

    def __init__(self, rule: str, *, received: object = None, next_step: str = "") -> None:
        self.rule = rule
        self.received = received
        self.next_step = next_step
        super().__init__(str(self))

    def __str__(self) -> str:
        line = self.rule if self.received is None else f"{self.rule}; received {self.received}"
        if self.next_step:
            line = f"{line}. {self.next_step}"
        # File and class names may hold line breaks and what a terminal obeys; an error stays one line of text.
        return printable(" ".join(line.split()))

    def __reduce__(self) -> tuple[object, ...]:
        """Survive the trip between processes, which plain exceptions with keyword arguments do not."""
        return _rebuild, (type(self), dict(self.__dict__))


class ConfigError(TlkerasError, ValueError):
    """An option has a value that it cannot have."""


class DataError(TlkerasError, ValueError):
    """A data set cannot be used as it is."""


class ImageError(TlkerasError, ValueError):
    """One image cannot be decoded; ``reason`` is the short code that the audit reports."""

    def __init__(self, reason: str, rule: str, *, received: object = None, next_step: str = "") -> None:
        self.reason = reason
        super().__init__(rule, received=received, next_step=next_step)

    def of(self, image: object, index: int) -> ImageError:
        """The same error, naming the image: its path, or its number among the others where it has none."""
        name = f"'{image}'" if isinstance(image, str | os.PathLike) else f"image {index}"
        return ImageError(self.reason, f"{name}: {self.rule}", received=self.received, next_step=self.next_step)


class WeightsError(TlkerasError, ValueError):
    """Pretrained weights are missing, damaged or do not fit the network."""


class StorageError(TlkerasError, OSError):
    """The disk refused: full, read-only, or a stored file is damaged."""

    # OSError.__str__ would otherwise win for some argument counts.
    __str__ = TlkerasError.__str__


class FormatError(TlkerasError, ValueError):
    """The content of a file is not what such a file holds: damaged, made by something else, or made to do harm."""


class ClassifierError(TlkerasError, ValueError):
    """A saved classifier or run directory cannot be used."""


class ExportError(TlkerasError, ValueError):
    """An export cannot be built, opened or believed."""


class ParityError(ExportError):
    """An export answers otherwise than Python, or its files changed: it is not published, or no longer to be used.

    ``report``: plain values, what ``--json`` prints of the check.
    """

    exit_code = 1

    def __init__(self, rule: str, *, report: dict[str, object], received: object = None, next_step: str = "") -> None:
        self.report = report
        super().__init__(rule, received=received, next_step=next_step)


class ClusterError(TlkerasError, RuntimeError):
    """A Ray cluster cannot be reached, or its machines lack what the job needs."""


class ServedError(ExportError):
    """A served graph refused one request; ``code`` is TensorFlow's status code (3: invalid argument)."""

    def __init__(self, code: int, rule: str, *, received: object = None, next_step: str = "") -> None:
        self.code = code
        super().__init__(rule, received=received, next_step=next_step)


class OutOfMemoryError(ConfigError):
    """A step of training does not fit in the device's memory."""


class InterruptedRunError(TlkerasError):
    """Somebody asked a long step to stop (Ctrl-C, SIGTERM); what it had is saved, the line says how to go on."""

    exit_code = 130


def _rebuild(kind: type[TlkerasError], state: dict[str, object]) -> TlkerasError:
    error = kind.__new__(kind)
    error.__dict__.update(state)
    error.args = (str(error),)
    return error


def unknown(noun: str, received: object, choices: Iterable[str], *, next_step: str = "") -> ConfigError:
    """The error for a word that is not in a list, with the nearest listed word.

    >>> print(unknown("backbone", "vgg_16", ["vgg16", "vgg19"]))
    unknown backbone 'vgg_16'; did you mean 'vgg16'?
    """
    known = [str(choice) for choice in choices]
    near = difflib.get_close_matches(str(received).lower(), known, n=1, cutoff=0.55)
    if near:
        hint = f"; did you mean '{near[0]}'?"
    elif len(known) <= 12:
        hint = f"; known are {', '.join(known)}."
    else:
        hint = "."
    return ConfigError(f"unknown {noun} '{received}'{hint} {next_step}".strip())
