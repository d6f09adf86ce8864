"""The commands that build calibrations: masters from raw frames, sky modes and star flats from processed exposures."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from deployments.cli.options import (
    DEFAULTS,
    Ccds,
    Common,
    Overwrite,
    Pnum,
    Rnum,
    Workers,
    ccds_of,
    find_site,
    version_number,
)
from deployments.cli.output import Answer
from deployments.cli.running import chosen_cluster, run_flow
from deployments.products import find_exposure
from imaging.identity import check_night
from tasks.requests import ExposureRequest

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

Epoch = Annotated[str, Parameter(name="--epoch", help="Name of the epoch under which the files are entered.")]


def build_calibrations(
    night: Annotated[int, Parameter(help="Night of the bias and dome-flat exposures, YYYYMMDD.")],
    /,
    *,
    ccds: Ccds = None,
    epoch: Annotated[str | None, Parameter(name="--epoch", help="Name of the epoch; nYYYYMMDD without it.")] = None,
    overwrite: Overwrite = False,
    workers: Workers = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Build master bias, dome flats and bad-pixel maps from a night's raw frames, and enter them into the library."""
    check_night(night)
    found, chosen = find_site(common), ccds_of(ccds)

    def call() -> "State[Any]":
        from flows.build_calibrations import build_calibrations as build

        with chosen_cluster(workers):
            return build(night, site=found.name, ccds=chosen, epoch=epoch, overwrite=overwrite, return_state=True)

    return run_flow("build-calibrations", common, found.site, call, night=night, ccds=chosen)


def build_sky_modes(
    *expnums: Annotated[int, Parameter(help="Exposure numbers, of one band and of different fields.")],
    epoch: Epoch,
    rnum: Rnum = "1",
    pnum: Pnum = "1",
    overwrite: Overwrite = False,
    workers: Workers = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Build the sky modes of a band from processed exposures, and enter them into the library."""

    def load() -> "Callable[..., State[Any]]":
        from flows.build_sky_modes import build_sky_modes as build

        return partial(build, overwrite=overwrite)

    return _build("build-sky-modes", load, expnums, epoch, (rnum, pnum), workers, common)


def build_star_flat(
    *expnums: Annotated[int, Parameter(help="Exposure numbers, of one band, pointed differently.")],
    epoch: Epoch,
    rnum: Rnum = "1",
    pnum: Pnum = "1",
    overwrite: Overwrite = False,
    workers: Workers = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Build the star flat of a band from calibrated exposures, and enter it into the library."""

    def load() -> "Callable[..., State[Any]]":
        from flows.build_star_flat import build_star_flat as build

        return partial(build, overwrite=overwrite)

    return _build("build-star-flat", load, expnums, epoch, (rnum, pnum), workers, common)


def _build(
    command: str,
    load: "Callable[[], Callable[..., State[Any]]]",
    expnums: Sequence[int],
    epoch: str,
    version: tuple[str, str],
    workers: int | None,
    common: Common,
) -> Answer:
    """Run a flow that builds from exposures which have been processed under a version."""
    found = find_site(common)
    numbers = version_number(version[0], "r"), version_number(version[1], "p")
    identities = [find_exposure(found.site, expnum, *numbers) for expnum in expnums]
    requests = tuple(
        ExposureRequest(expnum=who.expnum, band=who.band, night=who.night, rnum=who.rnum, pnum=who.pnum)
        for who in identities
    )

    def call() -> "State[Any]":
        with chosen_cluster(workers):
            return load()(requests, epoch, site=found.name, return_state=True)

    return run_flow(command, common, found.site, call, expnums=expnums, epoch=epoch)
