"""How options come from the fields of a configuration, and what is refused because it could not take effect."""

from dataclasses import dataclass

import pytest
import typer

from tlkeras.cli.command import REGISTERED, USING, Command, Fields, command
from tlkeras.errors import ConfigError
from tlkeras.options import NETWORK, option


@dataclass(frozen=True)
class Recipe:
    """Fields of every kind."""

    name: str = option("plain", "Its name.")
    side_px: int | None = option(None, "Its side.", flag="--side", panel=NETWORK)
    loud: bool = option(False, "Whether it is loud.")
    kept: bool = option(True, "Whether it is kept.")
    sizes: tuple[int, ...] = option((3, 4), "Sizes.")
    rates: tuple[float, ...] | None = option(None, "Rates.")
    words: tuple[str, ...] = option((), "Words.")
    last: int | str = option("all", "How many.")
    inner: int = 7  # no option


@pytest.fixture
def called(monkeypatch):
    """A program of one command that takes a Recipe; calls it and gives its line and the recipe's values."""
    monkeypatch.setattr("tlkeras.cli.command.REGISTERED", registered := dict(REGISTERED))

    def call(*arguments):
        seen = []

        @command(USING, Fields(Recipe, panel="Recipe"))
        def brew(line, count: int = 1) -> None:
            """Brew."""
            seen.append((line, line.values(Recipe)))

        app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
        app.command("brew", cls=Command)(registered["brew"][0])
        app(list(arguments), standalone_mode=False)
        return seen[0] if seen else None

    return call


def test_without_options_the_fields_have_their_defaults(called):
    line, values = called()
    assert Recipe(**values) == Recipe()
    assert line.given == set()
    assert "inner" not in values


def test_text_becomes_what_the_field_holds(called):
    typed = [
        "--side",
        "9",
        "--loud",
        "--no-kept",
        "--sizes",
        "5, 6",
        "--rates",
        "0.5,1",
        "--words",
        "none",
        "--last",
        "2",
    ]
    line, values = called(*typed)
    assert Recipe(**values) == Recipe("plain", 9, True, False, (5, 6), (0.5, 1.0), (), 2)
    assert line.given == {"side_px", "loud", "kept", "sizes", "rates", "words", "last"}


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["--sizes", "5,x"], "--sizes takes whole numbers with commas between; received '5,x'"),
        (["--rates", "fast"], "--rates takes numbers with commas between; received 'fast'"),
    ],
)
def test_text_that_is_none_of_it_is_named(called, typed, words):
    with pytest.raises(ConfigError, match=words):
        called(*typed)


def test_help_has_the_headings_with_defaults(called, capsys):
    called("--help")
    text = capsys.readouterr().out
    general, network, recipe = (text.index(f"{heading}:\n") for heading in ("Options", "Network", "Recipe"))
    assert general < text.index("--count") < network < text.index("--side") < recipe < text.index("--name")
    assert "[default: 3,4]" in text
    assert "--inner" not in text


def test_what_cannot_take_effect_is_refused_only_where_it_was_given(called):
    line, _ = called("--side", "9", "--name", "plain")
    line.refuse(("loud", "count"), "here")
    line.refuse(("side_px",), "here", unless=True)
    line.refuse_all_but(("side_px", "name"), "here")
    with pytest.raises(ConfigError, match=r"^--side has no effect without water\. Leave it out\.$"):
        line.refuse(("loud", "side_px"), "without water")
    # The default's own value counts as given when it was typed.
    with pytest.raises(ConfigError, match="--name has no effect"):
        line.refuse_all_but(("side_px",), "here")
