"""Every command and every Python example of README and docs runs, or stands in a table with the reason why not."""

import re

import pytest

from tests.docs.pages import NOT_RUN, PAGES, ROOT, SLOW_PAGES, SLOW_PYTHON, blocks, is_slow, why_not, words_of

LANGUAGES = {"bash", "python", "text", "json", "yaml"}
WITH_CODE = [page for page in PAGES if any(block.language in ("bash", "python") for block in blocks(page))]


def run_page(page, *, slow):
    """Run a page from top to bottom; without ``slow`` the heavier commands are left out. Returns what was run."""
    from tlkeras.cli.main import main

    ran = []
    names = {"__name__": "page"}
    for block in blocks(page):
        place = f"{page}, line {block.line}"
        if block.language == "python":
            if any(word in NOT_RUN for word in re.findall(r"\w+", block.text)):
                continue
            if slow or not any(word in block.text for word in SLOW_PYTHON):
                exec(compile(block.text, place, "exec"), names)
                ran.append(block.text)
            continue
        for command in block.commands() if block.language == "bash" else ():
            if why_not(command) or (is_slow(command) and not slow):
                continue
            program, *arguments = words_of(command)
            assert program == "tlkeras", f"{place}: `{command}` is neither ours nor in the table of what is not run"
            code = main(arguments)
            assert code == 0, f"{place}: `{command}` ended with {code}"
            ran.append(command)
    return ran


@pytest.mark.parametrize("page", [page for page in WITH_CODE if page not in SLOW_PAGES])
def test_the_quick_commands_of_a_page(page, reader):
    run_page(page, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_CODE)
def test_a_whole_page(page, reader):
    run_page(page, slow=True)


@pytest.mark.parametrize("page", PAGES)
def test_fences_say_what_they_hold(page):
    assert {block.language for block in blocks(page)} <= LANGUAGES
    assert (ROOT / page).read_text().count("\n```") % 2 == 0


@pytest.mark.parametrize("page", PAGES)
def test_links_between_files_are_alive(page):
    """Also those that MkDocs does not see: README's, and from pages to files."""
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"https?:|mailto:|#", link):
            target = (ROOT / page).parent / link.partition("#")[0]
            assert target.exists(), f"{page}: {link}"


def test_the_table_of_commands_in_the_readme_is_whole():
    from tlkeras.cli.main import app

    listed = set(re.findall(r"^\| `tlkeras ([\w-]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert listed == {command.name for command in app.registered_commands}
