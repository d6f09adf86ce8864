"""Send reports to SkyPortal and to alert brokers, each once.

Every report is written to the ledger (:mod:`deployments.reports.ledger`) before it is sent and when it is answered. A
report that was delivered, or may have been, is sent again only on request. An annotation of SkyPortal whose content has
changed, as it does when a night is ranked again, replaces the one that SkyPortal has. A refused candidate does not stop
the others. The Transient Name Server is in :mod:`deployments.reports.sending_tns`.
"""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
import xxhash

from blocks.receivers import BrokerCredentials, SkyPortalCredentials
from deployments.reports.ledger import Ledger, LedgerRecord, State
from deployments.reports.reports import CandidateReport, Report
from imaging.errors import InputError
from imaging.io.packets import packets_bytes

TRIES = 5
"""Number of attempts at a busy or failing receiver."""

FIRST_WAIT_S = 2.0
"""Wait before the second attempt; doubled before each further one."""

LONGEST_WAIT_S = 60.0
"""Upper limit of a wait, also of one that the receiver asks for."""

TIMEOUT_S = 60.0
"""Timeout of one answer."""

PACKET = "packet"
"""Name of an alert packet in the ledger."""

Wait = Callable[[float], None]


class UnansweredError(Exception):
    """The request was sent, but it is unknown whether it arrived."""


@dataclass(frozen=True)
class Delivery:
    """The delivery of one report on a candidate.

    Attributes
    ----------
    candidate_id
        The candidate.
    what
        Path of the request, or kind of the report.
    state
        As in :class:`deployments.reports.ledger.LedgerRecord`.
    reply
        Answer of the receiver.
    sent
        Whether it was sent now; False if an earlier run had sent it.
    """

    candidate_id: str
    what: str
    state: State
    reply: str
    sent: bool


def ask(
    client: httpx.Client,
    method: str,
    path: str,
    *,
    wait: Wait = time.sleep,
    **content: Any,  # noqa: ANN401
) -> httpx.Response:
    """Send a request; repeat it while the receiver cannot be reached, is busy (429) or fails (5xx).

    Parameters
    ----------
    client
        Client with the receiver's address and credentials.
    method, path
        The request.
    wait
        Waits for a number of seconds.
    content
        ``json`` or ``data``.

    Returns
    -------
    response
        The last answer.

    Raises
    ------
    UnansweredError
        If the request may have arrived without an answer; it must not be repeated automatically.
    InputError
        If the server cannot be reached at all.
    """
    secrets = (client.headers.get("authorization", "").partition(" ")[2], (content.get("data") or {}).get("api_key"))
    pause = FIRST_WAIT_S
    for turn in range(1, TRIES + 1):
        asked = 0.0
        try:
            response = client.request(method, path, **content)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol) as error:
            if turn == TRIES:
                raise InputError(
                    f"the server cannot be reached: {_hiding(secrets, str(error)) or type(error).__name__}",
                    value=client.base_url,
                    remedy="check the address in the block and the network, then run the same command again",
                ) from error
        except httpx.TransportError as error:
            raise UnansweredError(_hiding(secrets, str(error)) or type(error).__name__) from None
        else:
            if turn == TRIES or (response.status_code != 429 and response.status_code < 500):
                text = _hiding(secrets, response.text)
                return response if text == response.text else httpx.Response(response.status_code, text=text)
            asked = asked_wait_s(response)
        wait(min(max(pause, asked), LONGEST_WAIT_S))
        pause *= 2.0
    raise AssertionError("unreachable")


def _hiding(secrets: Iterable[str | None], text: str) -> str:
    """Return a text without the secrets of a request, which receivers and libraries repeat in their messages."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    return text


def asked_wait_s(response: httpx.Response) -> float:
    """Return the seconds that a busy receiver asks to wait; zero if it states none."""
    text = response.headers.get("retry-after") or response.headers.get("x-rate-limit-reset") or ""
    return float(text) if text.isdigit() else 0.0


def is_delivered(record: LedgerRecord) -> bool:
    """Whether the report was, or may have been, delivered."""
    return record.state != "refused"


def send_to_skyportal(
    report: Report,
    credentials: SkyPortalCredentials,
    ledger: Ledger,
    *,
    resend: bool = False,
    wait: Wait = time.sleep,
) -> list[Delivery]:
    """Send the requests of each candidate in their order; a candidate ends with its first refusal.

    Parameters
    ----------
    report
        Report of the form ``skyportal``.
    credentials
        Address and token.
    ledger
        Earlier deliveries to this receiver.
    resend
        Whether to send delivered reports again.
    wait
        Waits for a number of seconds.
    """
    headers = {"Authorization": f"token {credentials.token.get_secret_value()}"}
    deliveries = []
    with httpx.Client(base_url=credentials.address, headers=headers, timeout=TIMEOUT_S) as client:
        for item in report.entries:
            for request in item.content:
                delivery = _send_request(client, item, request, ledger, resend=resend, wait=wait)
                deliveries.append(delivery)
                if delivery.state != "taken":
                    break
    return deliveries


def _send_request(
    client: httpx.Client, item: CandidateReport, request: dict[str, Any], ledger: Ledger, *, resend: bool, wait: Wait
) -> Delivery:
    who, what = (item.candidate_id, item.ra, item.dec), _what(request)
    known, content = ledger.last(*who, what), _digest(request)
    replaces = _is_annotation(request) and known is not None and known.state == "taken" and known.content != content
    if known is not None and is_delivered(known) and not (resend or replaces):
        return Delivery(item.candidate_id, what, unfinished(known.state), known.reply, sent=False)
    try:
        request = _replacing(client, request, wait=wait) if _is_annotation(request) else request
    except UnansweredError as error:
        return Delivery(item.candidate_id, what, "refused", f"earlier annotations not told: {error}", sent=False)
    ledger.note(*who, what, "sending", content=content)
    state: State
    try:
        response = ask(client, request["method"], request["path"], json=request["json"], wait=wait)
    except UnansweredError as error:
        state, reply = "unknown", str(error)
    except InputError:
        ledger.note(*who, what, "refused", "not reached", content=content)
        raise
    else:
        state, reply = _judge(response)
    ledger.note(*who, what, state, reply, content=content)
    return Delivery(item.candidate_id, what, state, reply, sent=True)


def _what(request: dict[str, Any]) -> str:
    """Return the name of a request in the ledger: its path, and the type of a thumbnail."""
    kind = request["json"].get("ttype")
    return request["path"] if kind is None else f"{request['path']} {kind}"


def _digest(request: dict[str, Any]) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(request["json"], sort_keys=True).encode())


def _is_annotation(request: dict[str, Any]) -> bool:
    return request["path"].endswith("/annotations")


def _replacing(client: httpx.Client, request: dict[str, Any], *, wait: Wait) -> dict[str, Any]:
    """Return the request that replaces the annotation of the same origin; the same request if there is none.

    SkyPortal takes one annotation of each origin for an object, and refuses a second one.
    """
    found = json_of(ask(client, "GET", request["path"], wait=wait)).get("data")
    for annotation in found if isinstance(found, list) else ():
        if annotation.get("origin") == request["json"]["origin"]:
            return request | {"method": "PUT", "path": f"{request['path']}/{annotation['id']}"}
    return request


def unfinished(state: State) -> State:
    """Return the state that an earlier process left: a report that it was sending may have arrived."""
    return "unknown" if state == "sending" else state


def _judge(response: httpx.Response) -> tuple[State, str]:
    """Return state and reply from SkyPortal's answer."""
    answer = json_of(response)
    if response.status_code == 200 and answer.get("status") == "success":
        return "taken", str(answer.get("data") or "")
    said = answer.get("message") or response.text[:300] or response.reason_phrase
    return "refused", f"{response.status_code}: {said}"


def json_of(response: httpx.Response) -> dict[str, Any]:
    """Return the JSON object of an answer; an empty one if there is none."""
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


class Producer(Protocol):
    """The part of ``confluent_kafka.Producer`` that is used."""

    def produce(self, topic: str, value: bytes, key: str, on_delivery: Callable[[object, object], None]) -> None:
        """Queue a message."""

    def flush(self, timeout: float) -> int:
        """Send the queued messages; return how many are left."""


def open_producer(credentials: BrokerCredentials) -> Producer:
    """Connect to a broker.

    Raises
    ------
    InputError
        If the package confluent-kafka is not installed.
    """
    try:
        from confluent_kafka import Producer as KafkaProducer
    except ImportError as error:
        raise InputError(
            "sending to a broker needs a package", value="confluent-kafka", remedy="pip install 'gw-workflow[alerts]'"
        ) from error
    return KafkaProducer(credentials.options())


def send_to_broker(
    report: Report, producer: Producer, topic: str, ledger: Ledger, *, resend: bool = False
) -> list[Delivery]:
    """Send one alert packet, with its schema, per candidate.

    Parameters
    ----------
    report
        Report of the form ``avro`` or ``ztf``.
    producer, topic
        Broker and topic.
    ledger
        Earlier deliveries to them.
    resend
        Whether to send delivered reports again.
    """
    deliveries: list[Delivery] = []
    waiting: dict[tuple[str, float, float], list[object]] = {}
    for item in report.entries:
        who = (item.candidate_id, item.ra, item.dec)
        known = ledger.last(*who, PACKET)
        if known is not None and is_delivered(known) and not resend:
            deliveries.append(Delivery(item.candidate_id, PACKET, unfinished(known.state), known.reply, sent=False))
            continue
        content = packets_bytes([item.content], report.form)
        ledger.note(*who, PACKET, "sending")
        waiting[who] = []
        producer.produce(topic, value=content, key=item.candidate_id, on_delivery=_kept_in(waiting[who]))
    producer.flush(TIMEOUT_S)
    for who, said in waiting.items():
        state, reply = _delivered(said)
        ledger.note(*who, PACKET, state, reply)
        deliveries.append(Delivery(who[0], PACKET, state, reply, sent=True))
    return deliveries


def _kept_in(said: list[object]) -> Callable[[object, object], None]:
    return lambda error, _: said.append(error)


def _delivered(said: list[object]) -> tuple[State, str]:
    """Return state and reply from the broker's delivery report on a packet."""
    if not said:
        return "unknown", "no answer in time"
    return ("taken", "") if said[0] is None else ("refused", str(said[0]))


def counts(deliveries: Iterable[Delivery]) -> dict[str, int]:
    """Count candidates by state; a candidate counts with the worst state of its reports."""
    order: tuple[State, ...] = ("refused", "unknown", "sending", "waiting", "taken")
    worst: dict[str, State] = {}
    for delivery in deliveries:
        found = worst.get(delivery.candidate_id, "taken")
        worst[delivery.candidate_id] = min(found, delivery.state, key=order.index)
    return {state: list(worst.values()).count(state) for state in order if state in worst.values()}
