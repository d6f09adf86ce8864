"""The report ledger: every report that was sent, to whom, and with which result.

``state/sent/{form}.jsonl`` has a line per change of state of a report. The first line is on the disk before the report
is sent. A report whose result is unknown, because the process died or no answer came, is therefore sent again only on
request.
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
"""A candidate of another night within this distance of a reported one is the same source."""

State = Literal["sending", "waiting", "taken", "refused", "unknown"]


class LedgerRecord(BaseModel):
    """One line of the ledger."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    address: str
    """Address of the receiver."""
    candidate_id: str
    """Name of the candidate."""
    ra: float
    """Right ascension, degrees."""
    dec: float
    """Declination, degrees."""
    what: str
    """Path of the request, or kind of the report."""
    state: State
    """``sending``: about to be sent; ``waiting``: arrived, without feedback; ``unknown``: may have arrived."""
    reply: str = ""
    """Answer of the receiver: assigned name, number of the report, or reason of the refusal."""
    at: str = ""
    """Time of this line, UTC."""
    content: str = ""
    """Hash of the content; empty where it does not matter."""


class Ledger:
    """The ledger of one form at one receiver.

    Parameters
    ----------
    path
        Its file; it need not exist.
    address
        The receiver.
    by_place
        Whether a source at the same position under another name counts as the same; for receivers that store sources
        rather than nights.

    Raises
    ------
    InputError
        If the file is damaged.
    """

    def __init__(self, path: Path, address: str, *, by_place: bool = False) -> None:
        self._path, self._address, self._by_place = path, address, by_place
        self._records: dict[tuple[str, str], LedgerRecord] = {}
        for record in read_records(path):
            if record.address == address:
                self._keep(record)

    def _keep(self, record: LedgerRecord) -> None:
        """Keep the last line of a report; what was taken stays taken, until a newer content is."""
        key = record.candidate_id, record.what
        if key not in self._records or self._records[key].state != "taken" or record.state == "taken":
            self._records[key] = record

    def last(self, candidate_id: str, ra: float, dec: float, what: str) -> LedgerRecord | None:
        """Return the last record of a report; None if it was never sent."""
        record = self._records.get((candidate_id, what))
        if record is not None or not self._by_place:
            return record
        for other in self._records.values():
            near = separation_deg(other.ra, other.dec, ra, dec) * 3600.0 <= SAME_ARCSEC
            if other.what == what and near and other.state != "refused":
                return other
        return None

    def note(
        self, candidate_id: str, ra: float, dec: float, what: str, state: State, reply: str = "", *, content: str = ""
    ) -> LedgerRecord:
        """Write a line and flush it to the disk.

        Raises
        ------
        StorageError
            If it cannot be written; then nothing may be sent.
        """
        record = LedgerRecord(
            address=self._address,
            candidate_id=candidate_id,
            ra=ra,
            dec=dec,
            what=what,
            state=state,
            reply=reply[:2000],
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            content=content,
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
    """Return the path of the ledger of a form."""
    return site.state / "sent" / f"{form}.jsonl"


@contextmanager
def open_ledger(site: Site, form: str, address: str) -> Iterator[Ledger]:
    """Lock the ledger of a form while reports are sent.

    Raises
    ------
    InputError
        If another process has locked it, or it is damaged.
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
            raise InputError("another report is being sent", value=path, remedy="wait until it has finished") from None
        yield Ledger(path, address, by_place=form == "tns")


def read_records(path: Path) -> list[LedgerRecord]:
    """Read a ledger; skip a line that was cut off while it was written, before the report was sent.

    Raises
    ------
    InputError
        If a complete line is not valid.
    """
    records = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    for number, line in enumerate(lines, start=1):
        if not line.endswith("}"):
            continue
        try:
            records.append(LedgerRecord.model_validate_json(line))
        except ValidationError as error:
            raise InputError(
                "the report ledger is damaged", value=f"{path}, line {number}", remedy="correct the line by hand"
            ) from error
    return records


def earlier_deliveries(site: Site, form: str, candidate_ids: Container[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the last ledger records of candidates: address, what, state, reply and time."""
    last = {(r.address, r.candidate_id, r.what): r for r in read_records(ledger_path(site, form))}
    found: dict[str, list[dict[str, Any]]] = {}
    for record in last.values():
        if record.candidate_id in candidate_ids:
            about = record.model_dump(mode="json", include={"address", "what", "state", "reply", "at"})
            found.setdefault(record.candidate_id, []).append(about)
    return found
