"""The watcher: announce pending nights, and raw files of registered nights that arrive late.

A run of a night processes the raw files that exist when it starts. A later exposure is announced as soon as its file is
complete, which starts its processing. When all exposures of the night are there, or none has arrived for a while, the
night is announced again, and its next run adds differences and candidates. Marks in the night's folder record what was
announced; a watcher that is interrupted, or finds no server, loses nothing.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import xxhash

from blocks.nights import EVENT_NAME, RegisteredNight, read_night, registered_nights
from blocks.site import Site
from deployments.events.registry import RESOURCE, reconcile
from tasks.engine.events import emit
from tasks.raw_files import has_arrived
from tasks.requests import ExposureRequest

ARRIVED = "gw.exposure.arrived"
"""Name of the event of a complete raw file."""

EXPOSURE_RESOURCE = "gw.exposure.{expnum}"

PATIENCE_S = 900.0
"""Time without a new exposure after which a night is processed without its missing exposures."""

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "gw-workflow/exposure")

Emit = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Look:
    """What one look has announced.

    Attributes
    ----------
    nights
        Announced nights: pending, or complete now.
    exposures
        Announced exposure numbers.
    n_expected
        Exposures of registered nights whose raw files are missing or incomplete.
    """

    nights: tuple[int, ...] = ()
    exposures: tuple[int, ...] = ()
    n_expected: int = 0

    def __bool__(self) -> bool:
        """Whether anything was announced."""
        return bool(self.nights or self.exposures)


def look_around(site: Site, *, emit_event: Emit = emit) -> Look:
    """Announce pending nights, late exposures, and nights that are complete now.

    Parameters
    ----------
    site
        The site.
    emit_event
        Emits an event, with the parameters of :func:`tasks.engine.events.emit`.

    Raises
    ------
    Exception
        If the server does not accept an event; the others are announced at the next look.
    """
    nights, exposures, n_expected = reconcile(site, emit_event=emit_event), [], 0
    for number in registered_nights(site):
        night = read_night(site, number)
        if not night.is_started():
            continue  # its run processes every file that exists by then
        expected = list(_expected(night))
        for request in list(expected):
            if has_arrived(site, request.exposure_id()):
                _announce_exposure(request, emit_event)
                night.mark_arrived(request.expnum)
                exposures.append(request.expnum)
                expected.remove(request)
        n_expected += len(expected)
        if _announce_again(night, emit_event, waiting=bool(expected)):
            nights.append(number)
    return Look(tuple(nights), tuple(exposures), n_expected)


def _expected(night: RegisteredNight) -> Iterator[ExposureRequest]:
    """Yield the exposures of a night that were neither processed nor announced."""
    known = night.seen() | night.arrived()
    for item in night.listed():
        exposure = item.exposure
        if exposure.expnum not in known:
            yield ExposureRequest(expnum=exposure.expnum, band=exposure.band, night=exposure.night)


def _announce_exposure(request: ExposureRequest, emit_event: Emit) -> None:
    event_id = uuid.uuid5(_NAMESPACE, f"{request.night}/{request.expnum}")
    emit_event(
        ARRIVED,
        event_id,
        EXPOSURE_RESOURCE.format(expnum=request.expnum),
        about=f"exposure {request.expnum} ({request.band})",
        payload={"exposure": request.model_dump(mode="json")},
    )


def _announce_again(night: RegisteredNight, emit_event: Emit, *, waiting: bool) -> bool:
    """Announce a night again if exposures have arrived since its run started and no more are awaited."""
    new = night.arrived() - night.seen()
    if not new or (waiting and night.seconds_since_arrival() < PATIENCE_S):
        return False
    digest = xxhash.xxh3_64_hexdigest(",".join(map(str, sorted(new | night.seen()))).encode())
    if night.is_marked(f"again-{digest}"):
        return False
    record = night.record
    emit_event(
        EVENT_NAME,
        uuid.uuid5(record.event_id, digest),
        RESOURCE.format(night=record.night),
        about=record.event,
        payload=record.payload() | {"arrived": sorted(new)},
    )
    night.mark(f"again-{digest}")
    return True


def watch(
    site: Site, minutes: float, pause_s: float, *, look: Callable[[Site], Look] = look_around
) -> tuple[list[int], list[int]]:
    """Look periodically for some minutes, or until no exposure is expected.

    Parameters
    ----------
    site
        The site.
    minutes
        Duration.
    pause_s
        Seconds between two looks.
    look
        Function of one look.

    Returns
    -------
    nights, exposures
        Announced nights and exposures.
    """
    nights: list[int] = []
    exposures: list[int] = []
    deadline = time.monotonic() + 60.0 * minutes
    while True:
        found = look(site)
        nights += found.nights
        exposures += found.exposures
        if not found.n_expected or time.monotonic() + pause_s > deadline:
            return nights, exposures
        time.sleep(pause_s)
