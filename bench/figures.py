"""The page of figures: JSON documents of the benches as Markdown tables.

``python -m bench.figures FILE.json ... > docs/figures.md``; each file is named after its bench.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bench.report import HEADINGS, Row, cells

INTRODUCTION = """# Figures

Each table is the output of the bench command above it; `--json` prints the same as JSON. `limit` is the required value
and `met` says whether it is reached; **NO** means that it is missed. Results for simulated full-size CCDs are compared
with the simulated truth, which the processing does not use. A commit with `+` had uncommitted changes; times were
measured on a machine that also ran other work.
"""


def page(benches: Iterable[tuple[str, dict[str, Any]]]) -> str:
    """Return the Markdown page of several benches.

    Parameters
    ----------
    benches
        (name, JSON document) of each bench.
    """
    return "\n".join([INTRODUCTION, *(text for name, document in benches for text in section(name, document))])


def section(name: str, document: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of one bench."""
    machine = document["machine"]
    yield f"## {document['title']}"
    yield ""
    yield f"`python -m bench.{name}`, commit {document['commit']}, {machine['cores']} cores of {machine['processor']}"
    yield ""
    rows = [Row(**row) for row in document["rows"]]
    used = [n for n, heading in enumerate(HEADINGS) if not heading or any(cells(row)[n] for row in rows)]
    yield f"| {' | '.join(HEADINGS[n] for n in used)} |"
    yield f"|{'|'.join('---' if HEADINGS[n] in ('', 'unit') else '--:' for n in used)}|"
    for row in rows:
        texts = cells(row)
        yield f"| {' | '.join(_emphasised(texts[n]) for n in used)} |"
    yield ""


def _emphasised(text: str) -> str:
    return f"**{text}**" if text == "NO" else text.strip().replace("|", "\\|")


def main() -> None:
    """Print the page for the files on the command line."""
    parser = argparse.ArgumentParser(description="The page of figures")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    sys.stdout.write(page((path.stem, json.loads(path.read_text(encoding="utf-8"))) for path in options.files))


if __name__ == "__main__":
    main()
