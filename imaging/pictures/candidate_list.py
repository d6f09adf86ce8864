"""The best candidates of a night in Markdown, with their stamps, for the page of its run."""

from collections.abc import Mapping, Sequence
from typing import Any

from imaging.candidates.words import flags_in_words, parts_in_words
from imaging.pictures.markdown import embedded, number
from imaging.plain_text import markdown_text

LISTED = 20
"""Number of candidates on the page of a night's run; the candidate page has all."""


def candidates_page(
    rows: Sequence[Mapping[str, Any]],
    stamps: Mapping[str, Sequence[tuple[str, bytes]]],
    picture: bytes,
    title: str,
    mjd: float,
) -> str:
    """List the best candidates of a night with their stamps, below the picture of the night.

    Parameters
    ----------
    rows
        Ranked candidates, best first.
    stamps
        Candidate to its stamps (label, PNG).
    picture
        PNG of sky map, exposures and candidates.
    title
        Heading.
    mjd
        Instant of the merger, UTC.
    """
    lines = [
        f"# {markdown_text(title)}\n",
        embedded(picture, "sky map, exposures, candidates") + "\n",
        "| rank | search, template, difference | candidate | mag | real | score |",
        "|--:|---|---|--:|--:|--:|",
    ]
    reasons = ["\n## For and against\n"]  # below the table, where a narrow page does not cut it off
    for row in rows[:LISTED]:
        images = stamps.get(row["candidate_id"], ())
        shown = embedded(images[0][1], images[0][0]) if images else ""
        words = "; ".join([*parts_in_words(row, mjd).values(), *flags_in_words(row["flags"] or 0)])
        lines.append(
            f"| {row['rank']} | {shown} | {markdown_text(row['candidate_id'])} | "
            f"{number(row['mag_last'], 2)} | {number(row['real_score'], 2)} | {number(row['rank_score'], 1)} |"
        )
        reasons.append(f"{row['rank']}. `{row['ra']:.5f} {row['dec']:+.5f}` {markdown_text(words)}")
    return "\n".join([*lines, *(reasons if rows else ())]) + "\n"
