"""Text of unknown origin, such as names in lists, alerts and headers, as it is shown to people.

In HTML, Markdown, comma-separated tables and terminals some characters are instructions. These functions leave the text
and take the instruction.
"""

import html
import re

HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
"""Control characters, and those that are not seen or change the direction of what follows."""

REPLACEMENT = "\ufffd"

MARKDOWN = re.compile(r"[\\`*\[\]|]")
"""Characters that make emphasis, code, links, pictures and cells of tables in Markdown."""

FORMULA = ("=", "+", "-", "@", "\t")
"""First characters of what spreadsheets compute."""


def visible(text: str) -> str:
    """Return a text whose hidden characters are shown as replacement characters; lines stay lines."""
    return HIDDEN.sub(REPLACEMENT, text)


def html_text(text: str) -> str:
    """Return a text for the content or a quoted attribute of an HTML element."""
    return html.escape(visible(text), quote=True)


def markdown_text(text: str) -> str:
    """Return a text for one paragraph, heading or cell of a Markdown page.

    References
    ----------
    https://spec.commonmark.org/0.31.2/#backslash-escapes
    """
    one_line = " ".join(visible(text).split())
    return MARKDOWN.sub(r"\\\g<0>", html.escape(one_line, quote=False))


def cell_text(text: str) -> str:
    """Return a text for a cell of a comma-separated table, with an apostrophe before what looks like a formula.

    References
    ----------
    https://owasp.org/www-community/attacks/CSV_Injection
    """
    return f"'{text}" if text.startswith(FORMULA) else text
