"""The page of figures: what the benches have printed as JSON, as tables in Markdown.

``python -m bench.figures FILE.json ... > docs/figures.md``; a file carries the name of the bench that printed it.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bench.report import HEADINGS, Row, cells

INTRODUCTION = """# Figures

Each table is what a bench prints; its command is given, and `--json` gives the same as one document. Where a figure was
asked for, `limit` is that figure and `met` says whether it is reached: **NO** is a miss, not an omission. Simulated
full-size CCDs are held against the simulator's truth, which the processing never sees. A commit with `+` is that commit
with changes that were not yet its own; times come from a machine that did other work too.
"""


def page(benches: Iterable[tuple[str, dict[str, Any]]]) -> str:
    """Lay out the documents of several benches.

    Parameters
    ----------
    benches
        Name of each bench and the document that it printed.
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
    """Print the page of the files that the command line names."""
    parser = argparse.ArgumentParser(description="The page of figures")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    sys.stdout.write(page((path.stem, json.loads(path.read_text(encoding="utf-8"))) for path in options.files))


if __name__ == "__main__":
    main()
