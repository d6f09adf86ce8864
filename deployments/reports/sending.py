"""Send reports to SkyPortal, the Transient Name Server and alert brokers: each thing once, and never by accident.

Every report is noted in the ledger of :mod:`deployments.reports.ledger` before it leaves and when it was answered. What was
taken, and what may have arrived, is not sent again unless it is asked for. One candidate that is refused does not keep
the others from being sent.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from blocks.receivers import BrokerCredentials, SkyPortalCredentials
from deployments.reports.ledger import Ledger, SentRecord, State
from deployments.reports.reports import Report, Told
from imaging.errors import InputError
from imaging.io.packets import packets_bytes

TRIES = 5
"""How often a busy or failing receiver is asked."""

FIRST_WAIT_S = 2.0
"""Wait before the second try; doubled before each further one."""

LONGEST_WAIT_S = 60.0
"""No wait is longer than this, whatever the receiver asks for."""

TIMEOUT_S = 60.0
"""How long one answer may take."""

PACKET = "packet"
"""What the ledger calls an alert packet."""

Wait = Callable[[float], None]


class UnansweredError(Exception):
    """The request left, and nobody knows whether it has arrived."""


@dataclass(frozen=True)
class Outcome:
    """What became of one report on a candidate.

    Attributes
    ----------
    candidate_id
        The candidate.
    what
        What was to be sent.
    state
        As in :class:`deployments.reports.ledger.SentRecord`.
    reply
        What the receiver said.
    sent
        Whether it was sent now; otherwise it was known before.
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
    """Send a request, again while the receiver cannot be reached, is busy (429) or fails (5xx).

    Parameters
    ----------
    client
        Client with the receiver's address and the credentials.
    method, path
        The request.
    wait
        Waits so many seconds.
    content
        ``json`` or ``data``.

    Returns
    -------
    response
        The last answer.

    Raises
    ------
    UnansweredError
        If the request may have arrived without an answer: it must not be repeated blindly.
    InputError
        If the receiver cannot be reached at all.
    """
    pause = FIRST_WAIT_S
    for turn in range(1, TRIES + 1):
        asked = 0.0
        try:
            response = client.request(method, path, **content)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol) as error:
            if turn == TRIES:
                raise InputError(
                    f"the receiver cannot be reached: {error or type(error).__name__}",
                    value=client.base_url,
                    remedy="check the address in the block and the network, then run the same command again",
                ) from error
        except httpx.TransportError as error:
            raise UnansweredError(str(error) or type(error).__name__) from error
        else:
            if turn == TRIES or (response.status_code != 429 and response.status_code < 500):
                return response
            asked = _asked_wait(response)
        wait(min(max(pause, asked), LONGEST_WAIT_S))
        pause *= 2.0
    raise AssertionError("unreachable")


def _asked_wait(response: httpx.Response) -> float:
    """Return the seconds that a busy receiver asks to wait; zero if it does not say."""
    text = response.headers.get("retry-after") or response.headers.get("x-rate-limit-reset") or ""
    return float(text) if text.isdigit() else 0.0


def settled(record: SentRecord | None, *, again: bool) -> bool:
    """Whether what is known of a report forbids to send it: it was taken, or may have arrived."""
    return record is not None and record.state != "refused" and not again


def send_to_skyportal(
    report: Report,
    credentials: SkyPortalCredentials,
    ledger: Ledger,
    *,
    again: bool = False,
    wait: Wait = time.sleep,
) -> list[Outcome]:
    """Send the requests of each candidate in their order; a candidate ends with its first refusal.

    Parameters
    ----------
    report
        Report of the form ``skyportal``.
    credentials
        Whom to send it to.
    ledger
        What was sent to it before.
    again
        Whether to send what was sent before once more.
    wait
        Waits so many seconds.
    """
    headers = {"Authorization": f"token {credentials.token.get_secret_value()}"}
    outcomes = []
    with httpx.Client(base_url=credentials.address, headers=headers, timeout=TIMEOUT_S) as client:
        for item in report.told:
            for request in item.content:
                outcome = _send_request(client, item, request, ledger, again=again, wait=wait)
                outcomes.append(outcome)
                if outcome.state != "taken":
                    break
    return outcomes


def _send_request(
    client: httpx.Client, item: Told, request: dict[str, Any], ledger: Ledger, *, again: bool, wait: Wait
) -> Outcome:
    who, what = (item.candidate_id, item.ra, item.dec), request["path"]
    known = ledger.last(*who, what)
    if known is not None and settled(known, again=again):
        return Outcome(item.candidate_id, what, unfinished(known.state), known.reply, sent=False)
    ledger.note(*who, what, "sending")
    state: State
    try:
        response = ask(client, request["method"], what, json=request["json"], wait=wait)
    except UnansweredError as error:
        state, reply = "unknown", str(error)
    except InputError:
        ledger.note(*who, what, "refused", "not reached")
        raise
    else:
        state, reply = _judge(response)
    ledger.note(*who, what, state, reply)
    return Outcome(item.candidate_id, what, state, reply, sent=True)


def unfinished(state: State) -> State:
    """Return a state from an earlier process: what was being sent when it ended may have arrived."""
    return "unknown" if state == "sending" else state


def _judge(response: httpx.Response) -> tuple[State, str]:
    """Tell from SkyPortal's answer whether a request was taken."""
    answer = json_of(response)
    if response.status_code == 200 and answer.get("status") == "success":
        return "taken", str(answer.get("data") or "")
    said = answer.get("message") or response.text[:300] or response.reason_phrase
    return "refused", f"{response.status_code}: {said}"


def json_of(response: httpx.Response) -> dict[str, Any]:
    """Return the JSON object of an answer; an empty one if it has none."""
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


class Producer(Protocol):
    """What is used of ``confluent_kafka.Producer``."""

    def produce(self, topic: str, value: bytes, key: str, on_delivery: Callable[[object, object], None]) -> None:
        """Take a message to be sent."""

    def flush(self, timeout: float) -> int:
        """Send what was taken; return how many messages are left."""


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
    report: Report, producer: Producer, topic: str, ledger: Ledger, *, again: bool = False
) -> list[Outcome]:
    """Send one alert packet, with its schema, per candidate.

    Parameters
    ----------
    report
        Report of the form ``avro``.
    producer, topic
        Where it goes.
    ledger
        What was sent there before.
    again
        Whether to send what was sent before once more.
    """
    outcomes: list[Outcome] = []
    waiting: dict[tuple[str, float, float], list[object]] = {}
    for item in report.told:
        who = (item.candidate_id, item.ra, item.dec)
        known = ledger.last(*who, PACKET)
        if known is not None and settled(known, again=again):
            outcomes.append(Outcome(item.candidate_id, PACKET, unfinished(known.state), known.reply, sent=False))
            continue
        content = packets_bytes([item.content])
        ledger.note(*who, PACKET, "sending")
        waiting[who] = []
        producer.produce(topic, value=content, key=item.candidate_id, on_delivery=_kept_in(waiting[who]))
    producer.flush(TIMEOUT_S)
    for who, said in waiting.items():
        state, reply = _delivered(said)
        ledger.note(*who, PACKET, state, reply)
        outcomes.append(Outcome(who[0], PACKET, state, reply, sent=True))
    return outcomes


def _kept_in(said: list[object]) -> Callable[[object, object], None]:
    return lambda error, _: said.append(error)


def _delivered(said: list[object]) -> tuple[State, str]:
    """Tell from what the broker has said of a packet whether it was taken."""
    if not said:
        return "unknown", "no answer in time"
    return ("taken", "") if said[0] is None else ("refused", str(said[0]))


def counts(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """Count candidates by the state of what was sent of each; a candidate stands where its worst report stands."""
    order: tuple[State, ...] = ("refused", "unknown", "sending", "waiting", "taken")
    worst: dict[str, State] = {}
    for outcome in outcomes:
        found = worst.get(outcome.candidate_id, "taken")
        worst[outcome.candidate_id] = min(found, outcome.state, key=order.index)
    return {state: list(worst.values()).count(state) for state in order if state in worst.values()}
