"""An archive as this project knows it from its public interface, which can misbehave."""

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass
class FakeArchive:
    """Files by MD5, rows of the search, and what to do wrong at the next requests of a file.

    Attributes
    ----------
    mishaps
        MD5 to the mishaps of its next requests: ``cut`` (half is sent), ``busy`` (429), ``fails`` (502), ``page``
        (HTML), ``wrong`` (other bytes of the same size), ``whole`` (ignores the range), ``long``, ``stall`` (half is
        sent, then nothing).
    asked
        Range, authorization and MD5 of each request of a file.
    searches
        Body of each search.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    rows: list[dict] = field(default_factory=list)
    mishaps: dict[str, list[str]] = field(default_factory=dict)
    proprietary: set[str] = field(default_factory=set)
    asked: list[tuple[str | None, str | None, str]] = field(default_factory=list)
    searches: list[dict] = field(default_factory=list)
    answer: object = None
    url: str = ""
    ends: threading.Event = field(default_factory=threading.Event)

    def add(self, content: bytes, **values) -> str:
        """Add a file with its row; return its MD5."""
        md5 = hashlib.md5(content).hexdigest()
        self.files[md5] = content
        row = {
            "md5sum": md5,
            "filesize": len(content),
            "archive_filename": "/net/archive/pipe/20230923/ct4m/2022B-715089/c4d_230924_012345_ori.fits.fz",
            "original_filename": "/home/data/DECam_01234567.fits.fz",
            "caldat": "2023-09-23",
            "dateobs_center": "2023-09-24T01:24:00",
            "ifilter": "i DECam SDSS c0003 7835.0 1470.0",
            "exposure": 80.0,
            "ra_center": 10.0,
            "dec_center": -30.0,
            "proposal": "2022B-715089",
            "release_date": "2024-09-23T00:00:00Z",
            "EXPNUM": 1234567,
            "proc_type": "raw",
            "obs_type": "object",
            "prod_type": "image",
            "instrument": "decam",
        }
        self.rows.append(row | values)
        return md5

    def search(self, body: dict) -> object:
        """Return the rows that satisfy the conditions of a search."""
        self.searches.append(body)
        if self.answer is not None:
            return self.answer
        found = [row for row in self.rows if all(_holds(row, *condition) for condition in body["search"])]
        return [{"PARAMETERS": {}}, *({name: row.get(name) for name in body["outfields"]} for row in found)]


def _holds(row: dict, name: str, *words) -> bool:
    value = row.get(name)
    if len(words) == 2 and words[1] in ("startswith", "endswith", "exact"):
        return getattr(str(value), words[1])(words[0])
    return words[0] <= value <= words[1] if len(words) == 2 else value == words[0]


@pytest.fixture
def fake_archive(monkeypatch) -> Iterator[FakeArchive]:
    """Serve an archive for a test, and let commands use it."""
    archive = FakeArchive()

    class Serve(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            text = json.dumps(archive.search(body)).encode()
            self.send_response(400 if isinstance(archive.answer, dict) else 200)
            self._end(text, "application/json")

        def do_GET(self):
            md5 = self.path.rpartition("/")[2]
            asked = self.headers["Range"]
            archive.asked.append((asked, self.headers["Authorization"], md5))
            mishap = (archive.mishaps.get(md5) or ["none"]).pop(0)
            if md5 in archive.proprietary and self.headers["Authorization"] != "right-token":
                self.send_response(403)
                self._end(b"{}", "application/json")
                return
            if mishap in ("busy", "fails"):
                self.send_response(429 if mishap == "busy" else 502)
                self.send_header("Retry-After", "7")
                self._end(b"later", "text/plain")
                return
            if mishap == "page":
                self.send_response(200)
                self._end(b"<html>sign in</html>", "text/html")
                return
            content = archive.files[md5]
            if mishap == "wrong":
                content = content[::-1]
            if mishap == "long":
                content += b"more"
            begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked and mishap != "whole" else 0
            self.send_response(206 if begin else 200)
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
            rest = content[begin:]
            self._end(rest, "application/fits", sent=rest[: len(rest) // 2] if mishap in ("cut", "stall") else rest)
            if mishap == "stall":
                archive.ends.wait()

        def _end(self, text, kind, sent=None):
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text if sent is None else sent)
            self.close_connection = True

        def log_message(self, *words):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Serve) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        archive.url = f"http://127.0.0.1:{http.server_port}"
        monkeypatch.setenv("GW_WORKFLOW_ARCHIVE", archive.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.delenv("GW_WORKFLOW_ARCHIVE_TOKEN", raising=False)
        yield archive
        archive.ends.set()
        http.shutdown()
