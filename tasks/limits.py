"""Limits that protect what runs share: Prefect's global concurrency limits, which are made when it is deployed.

A run that finds no free slot waits. A slot is a lease that its holder renews, so a killed run gives it back within
:data:`LEASE_S`. A limit that nobody has made, or a server that is away, holds nobody up: limits protect disks and
datasets from too much at once, and steps are safe without them.
"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_URL

logger = logging.getLogger(__name__)

SERVER_AWAY = (httpx.HTTPError, PrefectException, ConcurrencySlotAcquisitionError)
"""What Prefect's client raises where a server is away, or does not answer in time."""

EXPOSURES = "gw-exposures"
DISK = "gw-disk"
WRITE_CALIBRATIONS = "gw-write-calibrations"
WRITE_REFERENCE = "gw-write-reference"
WRITE_NIGHTS = "gw-write-nights"

LIMITS = {EXPOSURES: 2, DISK: 16, WRITE_CALIBRATIONS: 1, WRITE_REFERENCE: 1, WRITE_NIGHTS: 1}
"""Limits and how many slots each has at first: exposures that are processed at the same time, in whatever runs; CCDs
that read raw files or write exports at the same time, over all workers; and one writer for each of three datasets: the
calibration library, the reference catalogues, the tables of nights."""

LEASE_S = 60.0
"""Seconds after which the slot of a holder that has died is free again; Prefect takes no shorter lease."""


@contextmanager
def slot(name: str | None) -> Iterator[None]:
    """Hold a slot of a limit inside the ``with`` block; wait for it as long as it takes.

    Parameters
    ----------
    name
        Name of the limit, one of :data:`LIMITS`; None to hold nothing.
    """
    if name is None or not PREFECT_API_URL.value():
        yield
        return
    held = ExitStack()
    try:
        held.enter_context(concurrency(name, lease_duration=LEASE_S, strict=False))
    except SERVER_AWAY as error:
        logger.warning("going on without a slot of %s: %s", name, error)
    try:
        yield
    finally:
        try:
            held.close()
        except SERVER_AWAY as error:
            logger.warning("the slot of %s is given back when its lease ends: %s", name, error)
