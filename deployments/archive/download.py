"""Download files of the archive: four at a time, resumed, checked by size and MD5, never half under the final name.

A file grows as ``.NAME.MD5.part`` in its folder and is renamed when size and checksum are right. A part that exists is
continued with a range request; an archive that sends everything again starts it anew. After a busy (429) or failing
(5xx) answer, a cut connection or a wrong checksum, such as that of a page sent instead of the file, it is tried again
after growing waits.
"""

import hashlib
import queue
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import IO

import httpx

from blocks.site import Site
from deployments.archive.search import RAW_KINDS, ArchiveFile
from deployments.reports.sending import LONGEST_WAIT_S, asked_wait_s
from imaging.errors import GWWorkflowError, InputError, StorageError

CONNECTIONS = 4
"""Files downloaded at a time."""

TRIES = 8
"""Attempts at a file without progress: four minutes."""

FIRST_WAIT_S = 2.0
"""Wait before the second attempt, doubled before each further one."""

TIMEOUT = httpx.Timeout(30.0, read=60.0)
"""Time within which a connection is made, and within which data arrive, seconds."""

SPARE_BYTES = 1 << 30
"""Space that is left on the disk."""

REPORT_S = 10.0
"""Longest time between two lines of progress, seconds."""

LOOK_S = 1.0
"""Longest time until an interruption is seen that another thread received, seconds."""


@dataclass(slots=True)
class Account:
    """What became of the files.

    Attributes
    ----------
    fetched, present
        Paths that were downloaded, and that existed already.
    failed
        Name to the reason.
    """

    fetched: list[Path] = field(default_factory=list)
    present: list[Path] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


class _TryAgainError(Exception):
    """An attempt failed and may be repeated."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class _Transfer:
    """A file and its places."""

    file: ArchiveFile
    path: Path

    @property
    def part(self) -> Path:
        """Path of the incomplete file."""
        return self.path.with_name(f".{self.file.name}.{self.file.md5}.part")

    @property
    def n_there(self) -> int:
        """Bytes that the incomplete file has."""
        try:
            return self.part.stat().st_size
        except FileNotFoundError:
            return 0


def folder_of(site: Site, file: ArchiveFile) -> Path:
    """Return the folder of a site into which a file of the archive belongs."""
    if file.kind in RAW_KINDS:
        return site.raw / str(file.night)
    return site.root / "archive" / file.kind / str(file.night)


class Downloader:
    """Downloads files.

    Parameters
    ----------
    client
        Client with the archive's address, and with the header for proprietary data; on a redirect to another host httpx
        removes that header.
    say
        Writes a line of progress.
    pause
        Waits for a number of seconds; None for a wait that ends when the download is interrupted.
    """

    def __init__(
        self, client: httpx.Client, say: Callable[[str], None], pause: Callable[[float], object] | None = None
    ) -> None:
        self._client, self._say = client, say
        self._stopped = threading.Event()
        self._pause = pause or self._stopped.wait
        self._lock = threading.Lock()
        self._n_received = 0

    def fetch(self, wanted: Sequence[tuple[ArchiveFile, Path]], connections: int = CONNECTIONS) -> Account:
        """Download the files that are not there yet; one that fails does not affect the others.

        Parameters
        ----------
        wanted
            Files, each with the folder it belongs into.
        connections
            Files at a time.

        Raises
        ------
        InputError
            If two files would get one path.
        StorageError
            If the disk is too small.
        """
        account = Account()
        missing: list[_Transfer] = []
        known: dict[Path, str] = {}
        for file, folder in wanted:
            transfer = _Transfer(file, folder / file.name)
            if known.setdefault(transfer.path, file.md5) != file.md5:
                remedy = "narrow the search, or fetch them into different folders"
                raise InputError("two files of the archive have one name", value=transfer.path, remedy=remedy)
            if not transfer.path.exists():
                missing.append(transfer)
            elif transfer.path.stat().st_size == file.size:
                account.present.append(transfer.path)
            else:
                account.failed[file.name] = f"a file of another size is there; it is kept: {transfer.path}"
        _check_space(missing)
        self._fetch_all(missing, connections, account)
        return account

    def _fetch_all(self, missing: Sequence[_Transfer], connections: int, account: Account) -> None:
        n_total, n_before = sum(each.file.size for each in missing), sum(each.n_there for each in missing)
        began, said = time.monotonic(), 0.0
        todo: queue.SimpleQueue[_Transfer] = queue.SimpleQueue()
        ended: queue.SimpleQueue[tuple[_Transfer, BaseException | None]] = queue.SimpleQueue()
        for transfer in missing:
            todo.put(transfer)
        for _ in range(min(connections, len(missing))):
            threading.Thread(target=self._work, args=(todo, ended), daemon=True).start()
        n_done = 0
        try:
            while n_done < len(missing):
                with suppress(queue.Empty):
                    _settle(account, *ended.get(timeout=LOOK_S))
                    n_done += 1
                seconds = time.monotonic() - began
                if seconds - said >= REPORT_S or n_done == len(missing):
                    self._say(f"{n_done} of {len(missing)} files, {self._progress(n_before, n_total, seconds)}")
                    said = seconds
        except BaseException:
            self._stopped.set()  # the parts are kept
            raise

    def _work(
        self, todo: "queue.SimpleQueue[_Transfer]", ended: "queue.SimpleQueue[tuple[_Transfer, BaseException | None]]"
    ) -> None:
        """Download files until none is left, in a thread that does not outlive the command when it is interrupted.

        A daemon, not a thread of an executor: the command would wait for it, a minute if the archive stalls.
        """
        while not self._stopped.is_set():
            try:
                transfer = todo.get_nowait()
            except queue.Empty:
                return
            try:
                self._fetch_one(transfer)
                ended.put((transfer, None))
            except BaseException as error:  # noqa: BLE001 (told by the command's thread)
                ended.put((transfer, error))

    def _progress(self, n_before: int, n_total: int, seconds: float) -> str:
        """Return volume, rate and time left."""
        rate = self._n_received / max(seconds, 1e-3)
        n_left = max(n_total - n_before - self._n_received, 0)
        ends = f", {n_left / rate / 60.0:.0f} min left" if rate > 0 and n_left else ""
        return f"{(n_total - n_left) / 1e9:.2f} of {n_total / 1e9:.2f} GB, {rate / 1e6:.1f} MB/s{ends}"

    def _fetch_one(self, transfer: _Transfer) -> None:
        """Download a file, with repetitions."""
        turn, pause = 0, FIRST_WAIT_S
        while True:
            n_before = transfer.n_there
            try:
                self._receive(transfer)
                _check_sum(transfer)
                transfer.part.replace(transfer.path)
                return
            except OSError as error:
                raise StorageError(f"cannot be written: {error.strerror or error}", value=transfer.part) from error
            except _TryAgainError as error:
                turn, pause = (1, FIRST_WAIT_S) if transfer.n_there > n_before else (turn + 1, pause)
                if self._stopped.is_set() or turn >= TRIES:
                    remedy = "run the same command again; what has arrived is kept"
                    raise InputError(str(error), remedy=remedy) from None
                self._pause(min(max(pause, error.wait_s), LONGEST_WAIT_S))
                pause *= 2.0

    def _receive(self, transfer: _Transfer) -> None:
        """Receive what is missing of a file.

        Raises
        ------
        _TryAgainError
            If it is not complete afterwards.
        InputError
            If the archive refuses it.
        """
        file, begin = transfer.file, transfer.n_there
        transfer.part.parent.mkdir(parents=True, exist_ok=True)
        if begin >= file.size:
            return
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={begin}-"} if begin else {})
        try:
            with self._client.stream("GET", f"/api/retrieve/{file.md5}", headers=headers, timeout=TIMEOUT) as answer:
                _check_answer(transfer, answer)
                is_rest = answer.headers.get("content-range", "").startswith(f"bytes {begin}-")
                with transfer.part.open("ab" if begin and answer.status_code == 206 and is_rest else "wb") as stream:
                    self._write(answer, stream, file.size)
        except httpx.HTTPError as error:
            raise _TryAgainError(f"the connection failed ({type(error).__name__})") from None
        if transfer.n_there < file.size:
            raise _TryAgainError(f"the transfer ended after {transfer.n_there} of {file.size} bytes")

    def _write(self, answer: httpx.Response, stream: IO[bytes], size: int) -> None:
        n_there = stream.tell()
        for block in answer.iter_raw():  # with a block size, what is left of a block is lost when the connection ends
            if self._stopped.is_set():
                raise _TryAgainError("interrupted")
            n_there += len(block)
            if n_there > size:
                stream.truncate(0)
                raise _TryAgainError(f"more than {size} bytes were sent")
            stream.write(block)
            with self._lock:
                self._n_received += len(block)


def _settle(account: Account, transfer: _Transfer, error: BaseException | None) -> None:
    """Note what became of a file."""
    if error is None:
        account.fetched.append(transfer.path)
    elif isinstance(error, GWWorkflowError):
        account.failed[transfer.file.name] = error.sentence()
    else:
        raise error


def _check_answer(transfer: _Transfer, answer: httpx.Response) -> None:
    """Refuse an answer that is not the file."""
    status = answer.status_code
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        transfer.part.unlink(missing_ok=True)
        raise _TryAgainError("the archive does not know the range that is missing")
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise _TryAgainError(f"the archive answers with status {status}", asked_wait_s(answer))
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        remedy = "a token of the block Archive Access or of GW_WORKFLOW_ARCHIVE_TOKEN must give the right to it"
        public = transfer.file.release_date or "an unknown day"
        raise InputError(f"proprietary until {public} (status {status})", remedy=remedy)
    if status >= HTTPStatus.MULTIPLE_CHOICES:
        raise InputError(f"the archive does not give the file (status {status})", remedy="search again")
    if answer.headers.get("content-type", "").startswith("text/"):
        raise _TryAgainError("a page was sent instead of the file")


def _check_sum(transfer: _Transfer) -> None:
    """Remove a file whose checksum is wrong."""
    with transfer.part.open("rb") as stream:
        digest = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if digest != transfer.file.md5:
        transfer.part.unlink()
        raise _TryAgainError("the file that was sent has another MD5 checksum")


def _check_space(missing: Sequence[_Transfer]) -> None:
    """Refuse a download that does not fit on the disk, before it starts."""
    needed: dict[int, tuple[int, Path]] = {}
    for transfer in missing:
        folder = next(path for path in transfer.path.parents if path.exists())
        n_bytes, _ = needed.get(folder.stat().st_dev, (0, folder))
        needed[folder.stat().st_dev] = n_bytes + transfer.file.size - transfer.n_there, folder
    for n_bytes, folder in needed.values():
        free = shutil.disk_usage(folder).free
        if n_bytes + SPARE_BYTES > free:
            value, limit = f"{n_bytes / 1e9:.1f} GB", f"{max(free - SPARE_BYTES, 0) / 1e9:.1f} GB"
            raise StorageError(f"{folder}: the disk is too small for the files", value=value, limit=limit)
