"""Send bulk reports to the Transient Name Server and fetch its feedback on every candidate.

The protocol is that of the TNS API manual: ``api_key`` and ``data``, form-encoded, to ``/api/set/bulk-report``, which
returns a report number; with this number ``/api/get/bulk-report-reply`` returns the feedback, one entry per candidate
in the order of the report, or 404 until the report has been processed. Finding charts go to ``/api/set/file-upload``
before, which returns the names by which the reports refer to them.
"""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx

from blocks.receivers import TnsCredentials
from deployments.reports.ledger import Ledger, State
from deployments.reports.reports import CandidateReport, Report
from deployments.reports.sending import (
    TIMEOUT_S,
    Delivery,
    UnansweredError,
    Wait,
    ask,
    is_delivered,
    json_of,
    unfinished,
)
from imaging.candidates.tns import MAX_ENTRIES, tns_reports, with_chart
from imaging.errors import InputError

WHAT = "at_report"
"""Name of a report of a transient in the ledger."""

CHART = "finding_chart"
"""Name of a finding chart in the ledger."""

REPORT_PATH, REPLY_PATH = "/api/set/bulk-report", "/api/get/bulk-report-reply"
UPLOAD_PATH = "/api/set/file-upload"

REPLY_WAIT_S = 5.0
"""Seconds between two requests for the feedback."""

REPLY_TURNS = 12
"""Number of requests; after them, the next run with the same candidates asks again."""


def send_to_tns(
    report: Report, credentials: TnsCredentials, ledger: Ledger, *, resend: bool = False, wait: Wait = time.sleep
) -> list[Delivery]:
    """Report the candidates that were not reported before, with their finding charts, in as few reports as allowed.

    Parameters
    ----------
    report
        Report of the form ``tns``.
    credentials
        API key and bot, for the sandbox or the real TNS.
    ledger
        Earlier reports. One without feedback is not sent again; its feedback is requested.
    resend
        Whether to report candidates again that were reported before.
    wait
        Waits for a number of seconds.
    """
    headers = {"User-Agent": credentials.user_agent}
    deliveries: list[Delivery] = []
    fresh: list[CandidateReport] = []
    waiting: dict[str, list[tuple[int, CandidateReport]]] = {}
    for item in report.entries:
        known = ledger.last(item.candidate_id, item.ra, item.dec, WHAT)
        if known is not None and known.state == "waiting" and not resend:
            ticket, _, number = known.reply.partition("#")
            waiting.setdefault(ticket, []).append((int(number), item))
        elif known is not None and is_delivered(known) and not resend:
            deliveries.append(Delivery(item.candidate_id, WHAT, unfinished(known.state), known.reply, sent=False))
        else:
            fresh.append(item)
    with httpx.Client(base_url=credentials.address, headers=headers, timeout=TIMEOUT_S) as client:
        key = credentials.api_key.get_secret_value()
        for ticket, places in waiting.items():
            deliveries += _verdicts(client, key, ticket, places, ledger, sent=False, wait=wait)
        for start in range(0, len(fresh), MAX_ENTRIES):
            items = fresh[start : start + MAX_ENTRIES]
            entries = []
            for item in items:
                entry, chart = _with_uploaded_chart(client, key, item, ledger, wait=wait)
                entries.append(entry)
                deliveries += chart
            deliveries += _send_bulk(client, key, items, entries, ledger, wait=wait)
    return deliveries


def _with_uploaded_chart(
    client: httpx.Client, key: str, item: CandidateReport, ledger: Ledger, *, wait: Wait
) -> tuple[dict[str, Any], list[Delivery]]:
    """Upload the finding chart of a candidate; return its entry, and the delivery of the chart if it failed.

    A chart that the TNS does not take does not keep back the report. One that it has is not uploaded again.
    """
    who = item.candidate_id, item.ra, item.dec
    known = ledger.last(*who, CHART)
    if known is not None and known.state == "taken":
        return with_chart(item.content, known.reply), []
    chart = None if item.chart is None else item.chart()
    if chart is None:
        return item.content, []
    ledger.note(*who, CHART, "sending")
    files = {"files[0]": (f"{item.candidate_id}.png", chart, "image/png")}
    state: State
    try:
        response = ask(client, "POST", UPLOAD_PATH, data={"api_key": key}, files=files, wait=wait)
    except UnansweredError as error:
        state, reply = "unknown", str(error)
    except InputError:
        ledger.note(*who, CHART, "refused", "not reached")
        raise
    else:
        names = json_of(response).get("data")
        if response.status_code == 200 and isinstance(names, list) and names:
            ledger.note(*who, CHART, "taken", str(names[0]))
            return with_chart(item.content, str(names[0])), []
        state, reply = "refused", _said(response)
    ledger.note(*who, CHART, state, reply)
    return item.content, [Delivery(item.candidate_id, CHART, state, reply, sent=True)]


def _said(response: httpx.Response) -> str:
    """Return status and message of an answer that is no success."""
    said = json_of(response).get("id_message") or response.text[:300] or response.reason_phrase
    return f"{response.status_code}: {said}"


def _send_bulk(
    client: httpx.Client,
    key: str,
    items: list[CandidateReport],
    entries: list[dict[str, Any]],
    ledger: Ledger,
    *,
    wait: Wait,
) -> list[Delivery]:
    (document,) = tns_reports(entries)
    for item in items:
        ledger.note(item.candidate_id, item.ra, item.dec, WHAT, "sending")
    try:
        response = ask(client, "POST", REPORT_PATH, data={"api_key": key, "data": json.dumps(document)}, wait=wait)
    except UnansweredError as error:
        return _settle(items, ledger, [("unknown", str(error))] * len(items), sent=True)
    except InputError:
        _settle(items, ledger, [("refused", "not reached")] * len(items), sent=True)
        raise
    ticket = (json_of(response).get("data") or {}).get("report_id")
    if response.status_code != 200 or ticket is None:
        return _settle(items, ledger, [("refused", _said(response))] * len(items), sent=True)
    places = list(enumerate(items))
    for number, item in places:
        ledger.note(item.candidate_id, item.ra, item.dec, WHAT, "waiting", f"{ticket}#{number}")
    return _verdicts(client, key, str(ticket), places, ledger, sent=True, wait=wait)


def _verdicts(
    client: httpx.Client,
    key: str,
    ticket: str,
    places: list[tuple[int, CandidateReport]],
    ledger: Ledger,
    *,
    sent: bool,
    wait: Wait,
) -> list[Delivery]:
    """Request the feedback on candidates at their places in a report, up to ``REPLY_TURNS`` times."""
    feedback: list[Any] | None = None
    for turn in range(REPLY_TURNS):
        if turn:
            wait(REPLY_WAIT_S)
        try:
            response = ask(client, "POST", REPLY_PATH, data={"api_key": key, "report_id": ticket}, wait=wait)
        except UnansweredError:
            continue
        answer = json_of(response)
        found = ((answer.get("data") or {}).get("feedback") or {}).get("at_report")
        if isinstance(found, list):
            feedback = found
            break
        if answer.get("id_code", response.status_code) != 404:
            break
    if feedback is None:
        return [
            Delivery(item.candidate_id, WHAT, "waiting", f"report {ticket} has no feedback yet", sent=sent)
            for _, item in places
        ]
    judged = [judge_entry(feedback[number] if number < len(feedback) else {}) for number, _ in places]
    return _settle([item for _, item in places], ledger, judged, sent=sent)


def judge_entry(entry: Any) -> tuple[State, str]:  # noqa: ANN401
    """Return state and reply from the feedback on one candidate.

    Parameters
    ----------
    entry
        JSON of any depth: a code with an ``objname`` for a new or known object, else error messages.

    Returns
    -------
    state, reply
        ``taken`` with the TNS name, or ``refused`` with the messages.
    """
    names = dict.fromkeys(str(value) for key, value in _leaves(entry) if key == "objname")
    if names:
        return "taken", ", ".join(names)
    messages = dict.fromkeys(str(value) for key, value in _leaves(entry) if key == "message")
    return "refused", "; ".join(messages) or json.dumps(entry)[:300]


def _leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    """Yield the values of a JSON document with their keys."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _leaves(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from _leaves(value, key)
    else:
        yield key, node


def _settle(
    items: list[CandidateReport], ledger: Ledger, judged: list[tuple[State, str]], *, sent: bool
) -> list[Delivery]:
    """Write the states of candidates to the ledger and return the deliveries."""
    deliveries = []
    for item, (state, reply) in zip(items, judged, strict=True):
        ledger.note(item.candidate_id, item.ra, item.dec, WHAT, state, reply)
        deliveries.append(Delivery(item.candidate_id, WHAT, state, reply, sent=sent))
    return deliveries
