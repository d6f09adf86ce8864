"""A SkyPortal and a Transient Name Server on this machine, as strict as the real ones, for the tests of sending.

SkyPortal's part follows the request bodies, database constraints and answers of its public handlers for candidates,
photometry, annotations and thumbnails; the TNS's part its bulk-report manuals, in both versions of the field names.
"""

import base64
import io
import json
import math
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote

from PIL import Image

TOKEN, KEY = "a-token-of-the-test", "a-key-of-the-test"
USER_AGENT = 'tns_marker{"tns_id":7,"type":"bot","name":"a_bot"}'

CANDIDATE = {"id", "ra", "dec", "filter_ids", "passed_at", "passing_alert_id", "origin", "score"}
PHOTOMETRY = {"obj_id", "instrument_id", "group_ids", "mjd", "filter", "flux", "fluxerr", "zp", "magsys"}
OPTIONAL_PHOTOMETRY = {"origin", "altdata", "stream_ids", "ra", "dec", "ra_unc", "dec_unc"}
FILTERS = {"desu", "desg", "desr", "desi", "desz", "desy", "sdssu"}
"""The bandpasses of sncosmo for DECam, and the one that SkyPortal's own list of instruments has for u."""
THUMBNAILS = {
    "new",
    "ref",
    "sub",
    "sdss",
    "dr8",
    "ls",
    "ps1",
    "sm",
    "hst",
    "chandra",
    "jwst",
    "new_gz",
    "ref_gz",
    "sub_gz",
}
EXACT = 2**53

ENTRY = {"ra", "dec", "reporter", "discovery_datetime", "at_type", "internal_name", "photometry", "non_detection"}
FIELDS = {
    "1.0": ("reporting_group_id", "discovery_data_source_id", "flux_units", "filter_value", "instrument_value"),
    "2.0": ("reporting_groupid", "data_source_groupid", "flux_unitid", "filterid", "instrumentid"),
}
"""Names of the fields of both versions of the manual: reporting group, data source, units, filter, instrument."""
POINT = {"obsdate", "flux", "flux_error"}
AT_TYPES = {"0", "1", "2", "3", "4", "5"}
TNS_FILTERS = {"0", "20", "21", "22", "23", "24", "81"}


class Receiver(ThreadingHTTPServer):
    """The server, what it has got, and how it is to behave.

    Attributes
    ----------
    got
        (method, path, content) of every request that was understood.
    troubles
        Answers to give before anything is looked at: a status code, or ``hang up`` after reading.
    refused
        Candidates whose reports are refused.
    verdicts_late
        How often to say that a bulk report was not looked at yet.
    annotations
        SkyPortal's annotations by object and origin, with their numbers.
    fields
        Version of the field names that the TNS knows; it refuses the others.
    uploaded
        Content of the files that the TNS has got, by the names that it has given them.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: list[tuple[str, str, object]] = []
        self.troubles: list[int | str] = []
        self.refused: set[str] = set()
        self.verdicts_late = 0
        self.reports: list[dict] = []
        self.objects: set[str] = set()
        self.annotations: dict[tuple[str, str], tuple[int, dict]] = {}
        self.fields = "1.0"
        self.uploaded: dict[str, bytes] = {}

    @property
    def address(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_port}"

    def paths(self) -> list[str]:
        """Return the paths of what it has got."""
        return [path for _, path, _ in self.got]


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_PUT(self) -> None:
        self.do_POST()

    def do_GET(self) -> None:
        if self.headers["Authorization"] != f"token {TOKEN}":
            self._answer(401, {"status": "error", "message": "Credentials malformed"})
            return
        name = unquote(self.path.split("/")[3])
        known = [
            {"id": number, "obj_id": name, "origin": origin, "data": data}
            for (owner, origin), (number, data) in self.server.annotations.items()
            if owner == name
        ]
        self._answer(200, {"status": "success", "data": known})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.server.troubles:
            trouble = self.server.troubles.pop(0)
            if trouble == "hang up":
                self.close_connection = True
                return
            self._answer(int(trouble), {"message": "not now"}, {"Retry-After": "7"} if trouble == 429 else {})
            return
        tns = self.path.startswith(("/api/set", "/api/get"))
        self._answer(*(self._tns(body) if tns else self._skyportal(body)))

    def _answer(self, status: int, document: dict, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _skyportal(self, body: bytes) -> tuple[int, dict]:
        if self.headers["Authorization"] != f"token {TOKEN}":
            return 401, {"status": "error", "message": "Credentials malformed"}
        document = json.loads(body, parse_constant=_not_json)
        try:
            data = _SKYPORTAL[self._kind()](self.server, self.command, unquote(self.path), document)
        except (KeyError, AssertionError) as error:
            return 400, {"status": "error", "message": str(error)}
        self.server.got.append((self.command, self.path, document))
        return 200, {"status": "success", "data": data}

    def _kind(self) -> str:
        return re.sub(r"^/api/sources/[0-9A-Za-z\-_.+]+/annotations(/\d+)?$", "annotations", unquote(self.path))

    def _tns(self, body: bytes) -> tuple[int, dict]:
        form, files = _form(self.headers["Content-Type"], body)
        if self.headers["User-Agent"] != USER_AGENT or form.get("api_key") != KEY:
            return 401, {"id_code": 401, "id_message": "Unauthorized"}
        if self.path == "/api/set/file-upload":
            names = [f"{len(self.server.uploaded) + n}_{name}" for n, name in enumerate(files)]
            self.server.uploaded |= dict(zip(names, files.values(), strict=True))
            self.server.got.append(("POST", self.path, names))
            return 200, {"id_code": 200, "id_message": "OK", "data": names}
        if self.path == "/api/set/bulk-report":
            report = json.loads(form["data"], parse_constant=_not_json)["at_report"]
            if len(report) > 100:
                return 400, {"id_code": 400, "id_message": "Too many entries"}
            self.server.got.append(("POST", self.path, report))
            self.server.reports.append(report)
            return 200, {"id_code": 200, "id_message": "OK", "data": {"report_id": len(self.server.reports)}}
        if self.server.verdicts_late:
            self.server.verdicts_late -= 1
            return 404, {"id_code": 404, "id_message": "Not found", "data": {}}
        report = self.server.reports[int(form["report_id"]) - 1]
        feedback = [self._verdict(n, entry) for n, entry in enumerate(report.values())]
        return 200, {"id_code": 200, "id_message": "OK", "data": {"feedback": {"at_report": feedback}}}

    def _verdict(self, number: int, entry: dict) -> dict:
        try:
            _check_entry(self.server, entry)
        except (KeyError, ValueError, AssertionError) as error:
            return {
                "at_report": {"value": {"5": {"message": f"A field is missing or wrong: {error}", "message_id": 5}}}
            }
        if entry["internal_name"] in self.server.refused:
            return {"discovery_datetime": {"value": {"5": {"message": "Wrong discovery date", "message_id": 12}}}}
        code = "101" if number == 1 else "100"
        return {code: {"message": "Object inserted", "message_id": int(code), "objname": f"2026aa{chr(97 + number)}"}}


def _not_json(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def _form(kind: str, body: bytes) -> tuple[dict[str, str], dict[str, bytes]]:
    """Return the fields and files of a form in either encoding."""
    if not kind.startswith("multipart/"):
        return {name: values[0] for name, values in parse_qs(body.decode()).items()}, {}
    parts = BytesParser().parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body).get_payload()
    fields: dict[str, str] = {}
    files: dict[str, bytes] = {}
    for part in parts:
        content, name = part.get_payload(decode=True), part.get_param("name", header="content-disposition")
        if part.get_filename() is None:
            fields[name] = content.decode()
        else:
            assert re.fullmatch(r"files\[\d+\]", name), name
            files[part.get_filename()] = content
    return fields, files


def _candidate(server: Receiver, method: str, _: str, document: dict) -> dict:
    assert method == "POST", "Method not allowed"
    assert not document.keys() - CANDIDATE, "Extra inputs are not permitted"
    assert document["filter_ids"], "At least one valid filter ID must be provided."
    datetime.fromisoformat(document["passed_at"])
    assert 0 <= document["ra"] < 360, "RA"
    assert abs(document["dec"]) <= 90, "Dec"
    assert document["id"] not in server.refused, "Insufficient permissions"
    server.objects.add(document["id"])
    return {"ids": [len(server.got)]}


def _photometry(server: Receiver, method: str, _: str, document: dict) -> dict:
    assert method == "PUT", "duplicates already exist"
    assert not PHOTOMETRY - document.keys(), "Missing data for required field."
    assert not document.keys() - PHOTOMETRY - OPTIONAL_PHOTOMETRY, "Unknown field."
    assert document["obj_id"] in server.objects, "Invalid object ID"
    lists = {name: value for name, value in document.items() if isinstance(value, list) and name != "group_ids"}
    assert {len(value) for value in lists.values()} == {len(document["mjd"])}, "All arrays must be of the same length"
    assert document["mjd"], "no photometry"
    assert set(document["filter"]) <= FILTERS, f"Filter(s) {document['filter']} is not allowed."
    assert all(math.isfinite(v) for v in (*document["flux"], *document["fluxerr"])), "must be finite"
    assert min(document["fluxerr"]) > 0, "fluxerr must be positive"
    return {"ids": list(range(len(document["mjd"])))}


def _annotation(server: Receiver, method: str, path: str, document: dict) -> dict:
    name = path.split("/")[3]
    origin, data = document["origin"], document["data"]
    assert re.match(r"^\w+", origin), "origin"
    assert isinstance(data, dict), "data"
    assert data, "data"
    large = {key for key, value in data.items() if isinstance(value, int) and abs(value) >= EXACT}
    assert not large, f"a browser cannot hold {large}"
    assert name in server.objects, f"Obj {name} not found"
    known = server.annotations.get((name, origin))
    if method == "PUT":
        assert known is not None, "Could not find any accessible annotations."
        assert path.endswith(f"/{known[0]}"), "Could not find any accessible annotations."
        server.annotations[name, origin] = known[0], data
        return {}
    assert known is None, "Annotation already exists: duplicate key value violates unique constraint"
    number = len(server.annotations) + 1
    server.annotations[name, origin] = number, data
    return {"annotation_id": number}


def _thumbnail(server: Receiver, method: str, _: str, document: dict) -> dict:
    assert method == "POST", "Method not allowed"
    assert document.keys() == {"obj_id", "data", "ttype"}, "Extra inputs are not permitted"
    assert document["ttype"] in THUMBNAILS, "Invalid ttype"
    assert document["obj_id"] in server.objects, "Invalid obj_id"
    picture = Image.open(io.BytesIO(base64.b64decode(document["data"], validate=True)))
    assert picture.format == "PNG", "Only PNG are supported."
    assert all(16 <= side <= 500 for side in picture.size), "Invalid thumbnail size."
    return {"id": len(server.got)}


_SKYPORTAL = {
    "/api/candidates": _candidate,
    "/api/photometry": _photometry,
    "annotations": _annotation,
    "/api/thumbnail": _thumbnail,
}


def _check_entry(server: Receiver, entry: dict) -> None:
    """Raise unless the TNS would take an entry of a bulk report."""
    group, source, *of_points = FIELDS[server.fields]
    other = {name for version, names in FIELDS.items() if version != server.fields for name in names}
    missing = (ENTRY | {group, source}) - entry.keys()
    assert not missing, missing
    points = entry["photometry"]
    points = list((points if server.fields == "2.0" else points["photometry_group"]).values())
    assert 1 <= len(points) <= 10, f"{len(points)} points"
    limit = entry["non_detection"]
    observations = [*points, *([limit] if "obsdate" in limit else [])]
    for point in observations:
        assert not set(of_points) - point.keys(), point
        assert point[of_points[1]] in TNS_FILTERS, point
        assert point["exptime"] == "" or float(point["exptime"]) > 0
    assert not any(other & part.keys() for part in (entry, *observations)), "unknown field"
    assert all(point.keys() >= POINT for point in points), "a point without flux"
    assert entry["at_type"] in AT_TYPES
    discovery = datetime.fromisoformat(entry["discovery_datetime"])
    assert min(datetime.fromisoformat(point["obsdate"]) for point in points) == discovery, "the discovery is no point"
    if "obsdate" in limit:
        assert datetime.fromisoformat(limit["obsdate"]) < discovery, "the non-detection is not before the discovery"
        float(limit["limiting_flux"])
    else:
        assert limit["archiveid"] and limit["archival_remarks"], "neither non-detection nor archive"
    if entry["host_redshift"]:
        assert 0 < float(entry["host_redshift"]) < 1
    files = [file["related_file_name"] for file in entry.get("related_files", {}).values()]
    assert set(files) <= server.uploaded.keys(), "no such file"


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver for as long as the ``with`` block."""
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
