"""Commands of calibrations: build-calibrations, build-sky-modes, build-star-flat, import-calibrations."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

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
    is_a_night,
    version_number,
)
from deployments.cli.output import Answer
from deployments.cli.running import run_flow
from deployments.products.find_exposure import find_request
from imaging.identity import check_night
from imaging.io.manifest import Kind

Epoch = Annotated[str, Parameter(name="--epoch", help="Name of the calibration epoch of the new files.")]


def build_calibrations(
    night: Annotated[int, Parameter(validator=is_a_night, help="Night of the bias and dome-flat exposures, YYYYMMDD.")],
    /,
    *,
    ccds: Ccds = None,
    epoch: Annotated[
        str | None, Parameter(name="--epoch", help="Name of the calibration epoch; default: nYYYYMMDD.")
    ] = None,
    overwrite: Overwrite = False,
    workers: Workers = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Build master bias, dome flats and bad-pixel maps from a night's raw frames, and add them to the library."""
    check_night(night)
    found, chosen = find_site(common), ccds_of(ccds)
    parameters = {"night": night, "site": found.name, "ccds": chosen, "epoch": epoch, "overwrite": overwrite}
    flow, about = "flows.build_calibrations:build_calibrations", {"night": night, "ccds": chosen}
    return run_flow("build-calibrations", common, found.site, flow, parameters, workers=workers, about=about)


def build_sky_modes(
    *expnums: Annotated[int, Parameter(help="Exposure numbers, of one band and of different fields.")],
    epoch: Epoch,
    rnum: Rnum = "1",
    pnum: Pnum = "1",
    overwrite: Overwrite = False,
    workers: Workers = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Build the sky modes of a band from processed exposures, and add them to the library."""
    flow = "flows.build_sky_modes:build_sky_modes"
    return _build("build-sky-modes", flow, expnums, epoch, (rnum, pnum), workers, common, overwrite=overwrite)


def build_star_flat(
    *expnums: Annotated[int, Parameter(help="Exposure numbers, of one band, pointed differently.")],
    epoch: Epoch,
    rnum: Rnum = "1",
    pnum: Pnum = "1",
    overwrite: Overwrite = False,
    workers: Workers = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Build the star flat of a band from calibrated exposures, and add it to the library."""
    flow = "flows.build_star_flat:build_star_flat"
    return _build("build-star-flat", flow, expnums, epoch, (rnum, pnum), workers, common, overwrite=overwrite)


def import_calibrations(
    *files: Annotated[Path, Parameter(help="Files of DES, the Community Pipeline, the observatory or LSST.")],
    kind: Annotated[
        Kind | None, Parameter(name="--kind", help="Kind of calibration of files that do not say it.")
    ] = None,
    night: Annotated[
        int | None, Parameter(name="--night", validator=is_a_night, help="Night of files that do not say it, YYYYMMDD.")
    ] = None,
    epoch: Annotated[
        str | None, Parameter(name="--epoch", help="Name of the epoch; default: maker and night of each file.")
    ] = None,
    first: Annotated[
        int | None, Parameter(name="--from", validator=is_a_night, help="First night for which they hold, YYYYMMDD.")
    ] = None,
    last: Annotated[
        int | None, Parameter(name="--to", validator=is_a_night, help="Last night for which they hold, YYYYMMDD.")
    ] = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Add calibrations that others have made to the library: recognised by what they say, or refused."""
    from deployments.products.import_calibrations import import_calibrations as import_files
    from imaging.io.manifest import FIRST_OF_ALL, LAST_OF_ALL

    validity = None if first is None and last is None else (first or FIRST_OF_ALL, last or LAST_OF_ALL)
    rows = import_files(find_site(common).site, files, kind=kind, night=night, epoch=epoch, validity=validity)
    lines = [f"{row['file']}: {row['classified']} -> epoch {row['epoch']}, checksum {row['checksum']}" for row in rows]
    return Answer({"command": "import-calibrations", "files": rows}, lines)


def _build(
    command: str,
    flow: str,
    expnums: Sequence[int],
    epoch: str,
    version: tuple[str, str],
    workers: int | None,
    common: Common,
    *,
    overwrite: bool,
) -> Answer:
    """Run a flow that builds from processed exposures of a version."""
    found = find_site(common)
    numbers = version_number(version[0], "r"), version_number(version[1], "p")
    requests = tuple(find_request(found.site, expnum, *numbers) for expnum in expnums)
    parameters = {"exposures": requests, "epoch": epoch, "site": found.name, "overwrite": overwrite}
    about = {"expnums": expnums, "epoch": epoch}
    return run_flow(command, common, found.site, flow, parameters, workers=workers, about=about)
