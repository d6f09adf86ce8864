"""Emit events for high-ranked candidates, for which the server sends notifications."""

import json
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from prefect.logging import get_logger
from prefect.settings import PREFECT_API_URL

from blocks.nights import RegisteredNight
from blocks.notification import NotificationTarget
from blocks.saved import saved_block
from blocks.site import Site
from imaging.io.atomic import write_text
from imaging.io.candidates import read_candidates
from tasks.engine.events import emit
from tasks.jobs import StepJob

RANKED = "gw.candidate.ranked"
"""Name of the event of new high-ranked candidates."""

SHOWN = 10
"""Maximum number of candidates listed in one event."""

COLUMNS = ("candidate_id", "rank", "rank_score", "ra", "dec", "mag_last", "flags")

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "gw-workflow/candidate")


def announce_candidates(
    registered: RegisteredNight,
    site: Site,
    *,
    emit_event: Callable[..., Any] = emit,
    minimum_score: float | None = None,
) -> list[str]:
    """Emit an event with the high-ranked candidates of a night that have not been announced before.

    If the server is unavailable, a warning is logged and the candidates are announced after the next ranking.

    Parameters
    ----------
    registered
        The night.
    site
        Site with its products.
    emit_event
        Function that emits an event, with the parameters of :func:`tasks.engine.events.emit`.
    minimum_score
        Minimum ``rank_score``; None for that of the block Notification Target.

    Returns
    -------
    names
        Names of the announced candidates.
    """
    if minimum_score is None:
        if not PREFECT_API_URL.value():
            return []
        minimum_score = (saved_block(NotificationTarget, "default") or NotificationTarget()).minimum_score
    record, known_path = registered.record, registered.folder / "candidates.announced"
    known = set(json.loads(known_path.read_text(encoding="utf-8"))) if known_path.exists() else set()
    table = read_candidates(StepJob(night=record.night, site=site).product_path("candidates.parquet"))
    rows = [row for row in table.select(COLUMNS).to_pylist() if stands_out(row, minimum_score)]
    new = sorted((row for row in rows if row["candidate_id"] not in known), key=lambda row: row["rank"])
    if not new:
        return []
    names = [str(row["candidate_id"]) for row in new]
    what = f"{len(new)} candidate{'s' * (len(new) > 1)} of {record.event}, night {record.night}"
    payload = {
        "night": record.night,
        "event": record.event,
        "candidates": new[:SHOWN],
        "subject": f"{what}, with a score of {minimum_score:g} or more",
        "text": "\n".join(candidate_lines(new)),
    }
    event_id = uuid.uuid5(_NAMESPACE, f"{record.night}/{','.join(names)}")
    try:
        emit_event(RANKED, event_id, f"gw.night.{record.night}", about=record.event, payload=payload)
    except Exception as error:  # noqa: BLE001 (after any error they are announced with the next ranking)
        get_logger(__name__).warning("cannot announce %s: %s", what, error)
        return []
    write_text(known_path, json.dumps(sorted(known | set(names))) + "\n")
    return names


def stands_out(row: dict[str, Any], minimum_score: float) -> bool:
    """Whether a ranked candidate is announced: ``rank_score`` of at least ``minimum_score`` and no flags."""
    return row["rank_score"] is not None and row["rank_score"] >= minimum_score and not row["flags"]


def candidate_lines(rows: list[dict[str, Any]]) -> Iterable[str]:
    """Yield one line of text per candidate for a notification, the best first."""
    for row in rows[:SHOWN]:
        mag = "" if row["mag_last"] is None else f", {row['mag_last']:.2f} mag"
        where = f"{row['ra']:.5f} {row['dec']:+.5f}"
        yield f"{row['rank']}. {row['candidate_id']} at {where}{mag}, score {row['rank_score']:.1f}"
    if len(rows) > SHOWN:
        yield f"and {len(rows) - SHOWN} more: gw-workflow candidates"
