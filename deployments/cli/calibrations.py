"""Commands of calibrations: build-... from raw frames and processed exposures, import-calibrations."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

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
from deployments.products.find_exposure import find_request, find_requests
from imaging.errors import InputError
from imaging.io.manifest import Kind

Epoch = Annotated[str, Parameter(name="--epoch", help="Name of the calibration epoch of the new files.")]
RawNight = Annotated[int, Parameter(validator=is_a_night, help="Night of the raw dome flats, YYYYMMDD.")]
NightEpoch = Annotated[str | None, Parameter(name="--epoch", help="Name of the calibration epoch; default: nYYYYMMDD.")]


First = Annotated[
    int | None, Parameter(name="--from", validator=is_a_night, help="First night for which they hold, YYYYMMDD.")
]
Last = Annotated[
    int | None, Parameter(name="--to", validator=is_a_night, help="Last night for which they hold, YYYYMMDD.")
]
OfBand = Annotated[
    str | None, Parameter(name="--band", help="Take all processed exposures of this band from --from to --to.")
]


def build_calibrations(
    night: Annotated[
        int | None, Parameter(validator=is_a_night, help="Night of the bias and dome-flat exposures, YYYYMMDD.")
    ] = None,
    /,
    *,
    first: Annotated[
        int | None, Parameter(name="--from", validator=is_a_night, help="First night of an era, YYYYMMDD.")
    ] = None,
    last: Annotated[
        int | None, Parameter(name="--to", validator=is_a_night, help="Last night of an era, YYYYMMDD.")
    ] = None,
    ccds: Ccds = None,
    epoch: Annotated[
        str | None,
        Parameter(name="--epoch", help="Name of the calibration epoch, of an era its begin; default: nYYYYMMDD."),
    ] = None,
    overwrite: Overwrite = False,
    workers: Workers = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Build bias, dome flats, bad-pixel maps and, from a ramp, linearity of a night; masters of all nights of an era.

    An era is divided into stable periods, where bias or flats have changed; each has masters that hold for its nights.
    """
    found, chosen = find_site(common), ccds_of(ccds)
    parameters: dict[str, Any] = {"site": found.name, "ccds": chosen, "overwrite": overwrite}
    about: dict[str, object] = {"night": night, "ccds": chosen}
    if night is not None and first is None and last is None:
        flow = "flows.build_calibrations:build_calibrations"
        parameters |= {"night": night, "epoch": epoch}
        return run_flow("build-calibrations", common, found.site, flow, parameters, workers=workers, about=about)
    if night is not None or first is None or last is None:
        raise InputError("give a night, or both --from and --to", value=f"night {night}, from {first} to {last}")
    era = {"first": first, "last": last}
    parameters |= era | ({"epoch": epoch} if epoch else {})
    flow = "flows.build_era:build_era"
    answer = run_flow("build-calibrations", common, found.site, flow, parameters, workers=workers, about=era)
    return replace(answer, lines=(*answer.lines, *_periods(answer.document.get("summary"))))


def _periods(summary: Any) -> list[str]:  # noqa: ANN401
    """Return a line per stable period of an era."""
    lines = []
    for period in (summary or {}).get("periods", ()):
        what = f"bias, bad pixels, flats {', '.join(period['flats'])}" if period["flats"] else "no masters"
        lacking = f"; too few frames: {', '.join(period['lacking'])}" if period["lacking"] else ""
        why = f"; {'; '.join(period['begins_with'])}" if period["begins_with"] else ""
        nights = f"{period['first_night']} to {period['last_night']}"
        lines.append(f"  {nights}: {period['epoch']}, {what}, {period['nights_with_frames']} nights{lacking}{why}")
    return lines


def build_crosstalk(
    *expnums: Annotated[int, Parameter(help="Exposure numbers of raw exposures of the sky, with saturated stars.")],
    epoch: Epoch,
    ccds: Ccds = None,
    overwrite: Overwrite = False,
    workers: Workers = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Measure crosstalk from bright stars and cosmic rays of raw exposures, and add the matrix to the library."""
    found, chosen = find_site(common), ccds_of(ccds)
    parameters = {"expnums": expnums, "site": found.name, "ccds": chosen, "epoch": epoch, "overwrite": overwrite}
    flow, about = "flows.build_crosstalk:build_crosstalk", {"expnums": expnums, "epoch": epoch}
    return run_flow("build-crosstalk", common, found.site, flow, parameters, workers=workers, about=about)


def build_linearity(
    night: RawNight,
    /,
    *,
    ccds: Ccds = None,
    epoch: NightEpoch = None,
    overwrite: Overwrite = False,
    workers: Workers = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Build the linearity of the amplifiers from dome flats of different exposure times, and add it to the library."""
    return _build_from_flats("linearity", night, ccds, epoch, workers, common, overwrite=overwrite)


def build_brighter_fatter(
    night: RawNight,
    /,
    *,
    ccds: Ccds = None,
    epoch: NightEpoch = None,
    overwrite: Overwrite = False,
    workers: Workers = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Build the brighter-fatter kernels of the CCDs from pairs of dome flats, and add them to the library."""
    return _build_from_flats("brighter-fatter", night, ccds, epoch, workers, common, overwrite=overwrite)


def build_sky_modes(
    *expnums: Annotated[int, Parameter(help="Exposure numbers, of one band and of different fields.")],
    epoch: Epoch,
    band: OfBand = None,
    first: First = None,
    last: Last = None,
    rnum: Rnum = "1",
    pnum: Pnum = "1",
    overwrite: Overwrite = False,
    workers: Workers = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Build the sky modes of a band from processed exposures, and add them to the library."""
    chosen, version = (expnums, band, (first, last)), (rnum, pnum)
    return _build("sky-modes", chosen, epoch, version, workers, common, overwrite=overwrite)


def build_star_flat(
    *expnums: Annotated[int, Parameter(help="Exposure numbers, of one band, pointed differently.")],
    epoch: Epoch,
    band: OfBand = None,
    first: First = None,
    last: Last = None,
    rnum: Rnum = "1",
    pnum: Pnum = "1",
    overwrite: Overwrite = False,
    workers: Workers = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Build the star flat of a band from calibrated exposures, and add it to the library."""
    chosen, version = (expnums, band, (first, last)), (rnum, pnum)
    return _build("star-flat", chosen, epoch, version, workers, common, overwrite=overwrite)


def build_pixel_displacement(
    *expnums: Annotated[int, Parameter(help="Exposure numbers, of one band, best pointed differently.")],
    epoch: Epoch,
    band: OfBand = None,
    first: First = None,
    last: Last = None,
    rnum: Rnum = "1",
    pnum: Pnum = "1",
    overwrite: Overwrite = False,
    workers: Workers = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Build the maps of tree rings and edges of a band from calibrated exposures, and add them to the library."""
    chosen, version = (expnums, band, (first, last)), (rnum, pnum)
    return _build("pixel-displacement", chosen, epoch, version, workers, common, overwrite=overwrite)


def build_ghosts(
    *expnums: Annotated[int, Parameter(help="Exposure numbers, of one band, best of different fields.")],
    epoch: Epoch,
    band: OfBand = None,
    first: First = None,
    last: Last = None,
    rnum: Rnum = "1",
    pnum: Pnum = "1",
    overwrite: Overwrite = False,
    workers: Workers = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Fit the ghosts of bright stars of a band to calibrated exposures, and add the model to the library."""
    chosen, version = (expnums, band, (first, last)), (rnum, pnum)
    return _build("ghosts", chosen, epoch, version, workers, common, overwrite=overwrite)


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
    first: First = None,
    last: Last = None,
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
    kind: str,
    chosen: tuple[Sequence[int], str | None, tuple[int | None, int | None]],
    epoch: str,
    version: tuple[str, str],
    workers: int | None,
    common: Common,
    *,
    overwrite: bool,
) -> Answer:
    """Run a flow that builds a kind of calibration from the exposures given, or from all of a band and some nights."""
    expnums, band, (first, last) = chosen
    if bool(expnums) == (band is not None) or (first is None) != (last is None) or (band and first is None):
        value = f"{len(expnums)} exposures, band {band}, from {first} to {last}"
        raise InputError("give exposures, or --band with --from and --to", value=value)
    found = find_site(common)
    numbers = version_number(version[0], "r"), version_number(version[1], "p")
    if band is not None and first is not None and last is not None:
        requests = find_requests(found.site, first, last, band, *numbers)
    else:
        requests = tuple(find_request(found.site, expnum, *numbers) for expnum in expnums)
    parameters: dict[str, Any] = {"exposures": requests, "epoch": epoch, "site": found.name, "overwrite": overwrite}
    parameters |= {"first": first, "last": last}
    about = {"expnums": tuple(request.expnum for request in requests), "epoch": epoch}
    module = f"build_{kind.replace('-', '_')}"
    flow = f"flows.{module}:{module}"
    return run_flow(f"build-{kind}", common, found.site, flow, parameters, workers=workers, about=about)


def _build_from_flats(
    kind: str,
    night: int,
    ccds: str | None,
    epoch: str | None,
    workers: int | None,
    common: Common,
    *,
    overwrite: bool,
) -> Answer:
    """Run a flow that builds a kind of calibration from the dome flats of a night."""
    found, chosen = find_site(common), ccds_of(ccds)
    module = f"build_{kind.replace('-', '_')}"
    parameters = {"night": night, "site": found.name, "ccds": chosen, "epoch": epoch, "overwrite": overwrite}
    flow, about = f"flows.{module}:{module}", {"night": night, "ccds": chosen}
    return run_flow(f"build-{kind}", common, found.site, flow, parameters, workers=workers, about=about)
