"""What was sent to whom: a ledger, so that nothing is told twice.

``state/sent/{form}.jsonl`` has a line per step: what is about to be sent, and what became of it. The first line of a
report is on the disk before the report leaves. A report whose end is not known, because the process died or the answer
never came, is therefore not sent again unless a person says so.
"""

import fcntl
import os
from collections.abc import Container, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from blocks.site import Site
from imaging.errors import InputError
from imaging.io.atomic import storage_error
from imaging.wcs.sphere import separation_deg

SAME_ARCSEC = 1.5
"""A candidate of another night within this of one that was reported is the same source."""

State = Literal["sending", "waiting", "taken", "refused", "unknown"]


class SentRecord(BaseModel):
    """One line of the ledger."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    address: str
    """Whom it was sent to."""
    candidate_id: str
    """Name of the candidate."""
    ra: float
    """Right ascension, degrees."""
    dec: float
    """Declination, degrees."""
    what: str
    """What was sent: the path of the request, or the kind of the report."""
    state: State
    """``sending``: about to leave; ``waiting``: arrived, without a verdict; ``unknown``: it may have arrived."""
    reply: str = ""
    """What the receiver said: the name that it gave, the number of the report, or why it refused."""
    at: str = ""
    """When this was noted, UTC."""


class Ledger:
    """The ledger of one form at one receiver.

    Parameters
    ----------
    path
        Its file; it need not exist.
    address
        The receiver.
    by_place
        Whether a source at the same place under another name counts as the same; for receivers that keep sources
        rather than nights.

    Raises
    ------
    InputError
        If the file is damaged.
    """

    def __init__(self, path: Path, address: str, *, by_place: bool = False) -> None:
        self._path, self._address, self._by_place = path, address, by_place
        self._records: dict[tuple[str, str], SentRecord] = {}
        for record in read_records(path):
            if record.address == address:
                self._keep(record)

    def _keep(self, record: SentRecord) -> None:
        """Keep the last line of a report; what was once taken stays taken."""
        key = record.candidate_id, record.what
        if key not in self._records or self._records[key].state != "taken":
            self._records[key] = record

    def last(self, candidate_id: str, ra: float, dec: float, what: str) -> SentRecord | None:
        """Return the last that is known of a report; None if it was never begun."""
        record = self._records.get((candidate_id, what))
        if record is not None or not self._by_place:
            return record
        for other in self._records.values():
            near = separation_deg(other.ra, other.dec, ra, dec) * 3600.0 <= SAME_ARCSEC
            if other.what == what and near and other.state != "refused":
                return other
        return None

    def note(self, candidate_id: str, ra: float, dec: float, what: str, state: State, reply: str = "") -> SentRecord:
        """Write a line and see it on the disk.

        Raises
        ------
        StorageError
            If it cannot be written; nothing may be sent then.
        """
        record = SentRecord(
            address=self._address,
            candidate_id=candidate_id,
            ra=ra,
            dec=dec,
            what=what,
            state=state,
            reply=reply[:2000],
            at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        try:
            with self._path.open("a+b") as stream:
                stream.seek(max(stream.seek(0, os.SEEK_END) - 1, 0))
                after_cut = stream.read() not in (b"", b"\n")
                stream.write((b"\n" if after_cut else b"") + record.model_dump_json().encode() + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise storage_error(error, self._path) from error
        self._keep(record)
        return record


def ledger_path(site: Site, form: str) -> Path:
    """Return where the ledger of a form lies."""
    return site.state / "sent" / f"{form}.jsonl"


@contextmanager
def open_ledger(site: Site, form: str, address: str) -> Iterator[Ledger]:
    """Hold the ledger of a form for as long as something is being sent.

    Raises
    ------
    InputError
        If another process holds it, or it is damaged.
    StorageError
        If it cannot be written.
    """
    path = ledger_path(site, form)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock").open("ab")
    except OSError as error:
        raise storage_error(error, path) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError("another report is being sent", value=path, remedy="wait until it has ended") from None
        yield Ledger(path, address, by_place=form == "tns")


def read_records(path: Path) -> list[SentRecord]:
    """Read a ledger; a line that was cut off while it was written is left out, for nothing had left by then.

    Raises
    ------
    InputError
        If a whole line is not understood.
    """
    records = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    for number, line in enumerate(lines, start=1):
        if not line.endswith("}"):
            continue
        try:
            records.append(SentRecord.model_validate_json(line))
        except ValidationError as error:
            raise InputError(
                "the ledger of what was sent is damaged", value=f"{path}, line {number}", remedy="mend the line by hand"
            ) from error
    return records


def known_of(site: Site, form: str, candidate_ids: Container[str]) -> dict[str, list[dict[str, Any]]]:
    """Return what the ledger of a form knows of candidates: address, what, state, reply and time of the last lines."""
    last = {(r.address, r.candidate_id, r.what): r for r in read_records(ledger_path(site, form))}
    found: dict[str, list[dict[str, Any]]] = {}
    for record in last.values():
        if record.candidate_id in candidate_ids:
            about = record.model_dump(mode="json", include={"address", "what", "state", "reply", "at"})
            found.setdefault(record.candidate_id, []).append(about)
    return found
