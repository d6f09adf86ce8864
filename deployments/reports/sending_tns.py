"""Send a bulk report to the Transient Name Server and fetch its verdict on every candidate.

The form is that of the TNS's manual of its API: a form-encoded ``api_key`` and ``data`` to ``/api/set/bulk-report``,
a number in return, and under that number the feedback at ``/api/get/bulk-report-reply``, one entry per candidate in
the order of the report; 404 until it has been looked at.
"""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx

from blocks.receivers import TnsCredentials
from deployments.reports.ledger import Ledger, State
from deployments.reports.reports import Report, Told
from deployments.reports.sending import TIMEOUT_S, Outcome, UnansweredError, Wait, ask, json_of, settled, unfinished
from imaging.candidates.reports import tns_report
from imaging.errors import InputError

WHAT = "at_report"
"""What the ledger calls a report of a transient."""

REPORT_PATH, REPLY_PATH = "/api/set/bulk-report", "/api/get/bulk-report-reply"

REPLY_WAIT_S = 5.0
"""Seconds between two questions for the verdict."""

REPLY_TURNS = 12
"""How often to ask for it; later, the next run with the same candidates asks again."""


def send_to_tns(
    report: Report, credentials: TnsCredentials, ledger: Ledger, *, again: bool = False, wait: Wait = time.sleep
) -> list[Outcome]:
    """Report the candidates that the TNS does not have from here, in one bulk report.

    Parameters
    ----------
    report
        Report of the form ``tns``.
    credentials
        The bot, and whether it is the sandbox that is told.
    ledger
        What was reported before. A report that waits for its verdict is not sent again; the verdict is asked for.
    again
        Whether to report what was reported before once more.
    wait
        Waits so many seconds.
    """
    headers = {"User-Agent": credentials.user_agent}
    outcomes: list[Outcome] = []
    fresh: list[Told] = []
    waiting: dict[str, list[tuple[int, Told]]] = {}
    for item in report.told:
        known = ledger.last(item.candidate_id, item.ra, item.dec, WHAT)
        if known is not None and known.state == "waiting" and not again:
            ticket, _, number = known.reply.partition("#")
            waiting.setdefault(ticket, []).append((int(number), item))
        elif known is not None and settled(known, again=again):
            outcomes.append(Outcome(item.candidate_id, WHAT, unfinished(known.state), known.reply, sent=False))
        else:
            fresh.append(item)
    with httpx.Client(base_url=credentials.address, headers=headers, timeout=TIMEOUT_S) as client:
        key = credentials.api_key.get_secret_value()
        for ticket, places in waiting.items():
            outcomes += _verdicts(client, key, ticket, places, ledger, sent=False, wait=wait)
        if fresh:
            outcomes += _send_bulk(client, key, fresh, ledger, wait=wait)
    return outcomes


def _send_bulk(client: httpx.Client, key: str, items: list[Told], ledger: Ledger, *, wait: Wait) -> list[Outcome]:
    document = tns_report([item.content for item in items])
    for item in items:
        ledger.note(item.candidate_id, item.ra, item.dec, WHAT, "sending")
    try:
        response = ask(client, "POST", REPORT_PATH, data={"api_key": key, "data": json.dumps(document)}, wait=wait)
    except UnansweredError as error:
        return _settle(items, ledger, [("unknown", str(error))] * len(items), sent=True)
    except InputError:
        _settle(items, ledger, [("refused", "not reached")] * len(items), sent=True)
        raise
    answer = json_of(response)
    ticket = (answer.get("data") or {}).get("report_id")
    if response.status_code != 200 or ticket is None:
        said = answer.get("id_message") or response.text[:300] or response.reason_phrase
        return _settle(items, ledger, [("refused", f"{response.status_code}: {said}")] * len(items), sent=True)
    places = list(enumerate(items))
    for number, item in places:
        ledger.note(item.candidate_id, item.ra, item.dec, WHAT, "waiting", f"{ticket}#{number}")
    return _verdicts(client, key, str(ticket), places, ledger, sent=True, wait=wait)


def _verdicts(
    client: httpx.Client,
    key: str,
    ticket: str,
    places: list[tuple[int, Told]],
    ledger: Ledger,
    *,
    sent: bool,
    wait: Wait,
) -> list[Outcome]:
    """Ask for the verdict on candidates at their places in a report, until there is one or patience ends."""
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
            Outcome(item.candidate_id, WHAT, "waiting", f"report {ticket} has no verdict yet", sent=sent)
            for _, item in places
        ]
    judged = [judge_entry(feedback[number] if number < len(feedback) else {}) for number, _ in places]
    return _settle([item for _, item in places], ledger, judged, sent=sent)


def judge_entry(entry: Any) -> tuple[State, str]:  # noqa: ANN401
    """Tell from the feedback on one candidate whether it was taken.

    Parameters
    ----------
    entry
        JSON of any depth: a code with an ``objname`` for a new or known object, else messages about what was wrong.

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
    """Yield the values of a JSON document, each with the name that it has."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _leaves(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from _leaves(value, key)
    else:
        yield key, node


def _settle(items: list[Told], ledger: Ledger, judged: list[tuple[State, str]], *, sent: bool) -> list[Outcome]:
    """Note what became of candidates, and return it."""
    outcomes = []
    for item, (state, reply) in zip(items, judged, strict=True):
        ledger.note(item.candidate_id, item.ra, item.dec, WHAT, state, reply)
        outcomes.append(Outcome(item.candidate_id, WHAT, state, reply, sent=sent))
    return outcomes
