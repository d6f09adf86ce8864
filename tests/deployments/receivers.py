"""A SkyPortal and a Transient Name Server on this machine, as strict as the real ones, for the tests of sending."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

TOKEN, KEY = "a-token-of-the-test", "a-key-of-the-test"
USER_AGENT = 'tns_marker{"tns_id":7,"type":"bot","name":"a_bot"}'

CANDIDATE = {"id", "ra", "dec", "filter_ids", "passed_at", "passing_alert_id", "origin", "score"}
PHOTOMETRY = {"obj_id", "instrument_id", "group_ids", "mjd", "filter", "flux", "fluxerr", "zp", "magsys", "origin"}
FILTERS = {"desu", "desg", "desr", "desi", "desz", "desy"}
ENTRY = {"ra", "dec", "reporting_group_id", "discovery_data_source_id", "reporter", "discovery_datetime", "at_type",
         "internal_name", "photometry", "non_detection"}  # fmt: skip
POINT = {"obsdate", "flux", "flux_error", "limiting_flux", "flux_units", "filter_value", "instrument_value"}


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
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: list[tuple[str, str, object]] = []
        self.troubles: list[int | str] = []
        self.refused: set[str] = set()
        self.verdicts_late = 0
        self.reports: list[dict] = []

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
        document = json.loads(body)
        fault = _fault(self.command, self.path, document, self.server.refused)
        if fault:
            return 400, {"status": "error", "message": fault}
        self.server.got.append((self.command, self.path, document))
        return 200, {"status": "success", "data": {"ids": [len(self.server.got)]}}

    def _tns(self, body: bytes) -> tuple[int, dict]:
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        if self.headers["User-Agent"] != USER_AGENT or form.get("api_key") != KEY:
            return 401, {"id_code": 401, "id_message": "Unauthorized"}
        if self.path == "/api/set/bulk-report":
            report = json.loads(form["data"])["at_report"]
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
        points = entry["photometry"]["photometry_group"].values()
        if ENTRY - entry.keys() or any(POINT - point.keys() for point in points):
            return {"at_report": {"value": {"5": {"message": "A required field is missing", "message_id": 5}}}}
        if entry["internal_name"] in self.server.refused:
            return {"discovery_datetime": {"value": {"5": {"message": "Wrong discovery date", "message_id": 12}}}}
        code = "101" if number == 1 else "100"
        return {code: {"message": "Object inserted", "message_id": int(code), "objname": f"2026aa{chr(97 + number)}"}}


def _fault(method: str, path: str, document: dict, refused: set[str]) -> str:
    """Return what the real SkyPortal would say against a request; nothing if it is good."""
    if path == "/api/candidates":
        if document.keys() - CANDIDATE:
            return "Extra inputs are not permitted"
        if not document.get("filter_ids") or not isinstance(document.get("passed_at"), str):
            return "Missing required parameter"
        return "Insufficient permissions" if document["id"] in refused else ""
    if path == "/api/photometry":
        lengths = {len(document[name]) for name in ("mjd", "filter", "flux", "fluxerr")}
        good = method == "PUT" and document.keys() == PHOTOMETRY and len(lengths) == 1
        return "" if good and set(document["filter"]) <= FILTERS else "photometry not understood"
    good = path.endswith("/annotations") and document["data"] and document["origin"][0].isalnum()
    return "" if good else "no such path"


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
