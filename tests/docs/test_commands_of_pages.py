"""Every command in a block of a page has a name, options and arguments that exist."""

import re
import shlex

import pytest
from cyclopts import CycloptsError
from pages import ROOT

from deployments.cli.main import app, with_numbers

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
PLACEHOLDERS = {"NIGHT": "20230923", "EXPNUM": "1300001", "N": "2"}


def commands(text: str) -> list[str]:
    """Return the commands in the blocks of a page, without what is optional, and before a pipe."""
    blocks = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)).replace("\\\n", " ")
    lines = [line.split("|")[0] for line in re.sub(r"\[[^\]\n]*\]", "", blocks).splitlines()]
    return [line.strip() for line in lines if re.match(r"\s*gw-workflow \w", line)]


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page.read_text())], ids=lambda page: page.stem)
def test_commands_of_a_page_are_understood(page):
    for line in commands(page.read_text()):
        words = [word.removesuffix("...") for word in shlex.split(line, comments=True)[1:]]
        words = [PLACEHOLDERS.get(word, word) for word in words if word]
        command, *_ = app.parse_args(with_numbers(words), exit_on_error=False, print_error=False)
        assert command.__module__.startswith("deployments.cli."), f"{line}: help, not a command"


@pytest.mark.parametrize("line", ["nights 20230923", "night 20230923 --no-such-option", "night", "night --site"])
def test_a_command_that_does_not_exist_is_noticed(line):
    with pytest.raises(CycloptsError):
        app.parse_args(with_numbers(line.split()), exit_on_error=False, print_error=False)


def test_the_pages_of_a_first_night_have_their_commands():
    assert len(commands((ROOT / "docs" / "first_night.md").read_text())) == 5
    assert len(commands((ROOT / "docs" / "public_night.md").read_text())) >= 10
