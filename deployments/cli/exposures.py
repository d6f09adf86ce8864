"""Commands for one exposure: single-epoch, calibrate, difference, export, export-calibration."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from deployments.cli.options import (
    DEFAULTS,
    Band,
    Ccds,
    Common,
    Destination,
    ExpNum,
    Night,
    Overwrite,
    Pnum,
    Rnum,
    Schema,
    Season,
    SettingsFile,
    Workers,
    ccds_of,
    find_site,
    read_settings,
    version_number,
)
from deployments.cli.output import Answer
from deployments.cli.running import run_flow
from deployments.products.find_exposure import find_exposure, find_request
from imaging.errors import InputError
from imaging.identity import parse_season, parse_version_tag
from tasks.requests import ExposureRequest

ORIGINAL_EPOCH = "y4e1"
"""Calibration epoch of the original's switch -Y."""


def single_epoch(
    *,
    expnum: ExpNum,
    band: Band,
    night: Night,
    rnum: Rnum,
    pnum: Pnum,
    season: Season,
    ccds: Ccds = None,
    destination: Destination = "persistent",
    schema: Schema = "gw",
    calibrate: Annotated[
        bool, Parameter(name=["--calibrate", "-C"], negative="", help="Also solve for the zero points.")
    ] = False,
    skip_single_epoch: Annotated[
        bool, Parameter(name=["--skip-single-epoch", "-j"], negative="", help="Start with the calibration.")
    ] = False,
    single_process: Annotated[
        bool, Parameter(name=["--single-process", "-s"], negative="", help="One CCD at a time, in this process.")
    ] = False,
    y4_calibrations: Annotated[
        bool, Parameter(name=["--y4-calibrations", "-Y"], negative="", help="Use the calibration epoch y4e1.")
    ] = False,
    overwrite: Overwrite = False,
    template: Annotated[
        bool, Parameter(name=["--template", "-t"], negative="", help="A template: skip the verification.")
    ] = False,
    workers: Workers = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Process a raw exposure: images, astrometry and catalogues, optionally zero points, then verification."""
    found = find_site(common)
    request = ExposureRequest(
        expnum=expnum,
        band=band,
        night=night,
        rnum=version_number(rnum, "r"),
        pnum=version_number(pnum, "p"),
        season=parse_season(season),
        schema_name=schema,
        destination=destination,
        calibration_epoch=ORIGINAL_EPOCH if y4_calibrations else None,
    )
    wanted = {"single_epoch": not skip_single_epoch, "calibration": calibrate or skip_single_epoch}
    stages = tuple(stage for stage, is_wanted in (wanted | {"verification": not template}).items() if is_wanted)
    chosen = ccds_of(ccds)
    about = {"ccds": chosen, "stages": stages}
    return run_flow(
        "single-epoch",
        common,
        found.site,
        "flows.exposure:process_exposure",
        {"exposure": request, "site": found.name, "overwrite": overwrite, **about},
        workers=workers,
        in_process=single_process,
        plain=True,
        about={"expnum": expnum, **about},
    )


def calibrate(
    *,
    expnum: Annotated[int, Parameter(name="--expnum", help="Exposure number.")],
    reqnum: Annotated[str, Parameter(name="--reqnum", help="Request number of the single-epoch run.")],
    attnum: Annotated[str, Parameter(name="--attnum", help="Processing number of the single-epoch run.")],
    ccds: Annotated[str | None, Parameter(name=["--ccd", "--ccds"], help="CCDs such as 1,3-5,25.")] = None,
    magnitudes: Annotated[
        str,
        Parameter(
            name=["--magsType", "--magType", "--magnitudes"],
            help="Magnitudes with zero points of their own: mag_psf, mag_auto, mag_aper_1 to mag_aper_12.",
        ),
    ] = "mag_psf",
    instrumental_zeropoint: Annotated[
        float, Parameter(name=["--sex_mag_zeropoint", "--instrumental-zeropoint"], help="Copied to the JSON document.")
    ] = 25.0,
    debug: Annotated[bool, Parameter(name="--debug", negative="", help="The same as --verbose.")] = False,
    destination: Destination = "persistent",
    schema: Schema = "gw",
    overwrite: Overwrite = False,
    workers: Workers = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Match a processed exposure to the reference stars and solve for its zero points."""
    common = replace(common, verbose=max(common.verbose, int(debug)))
    found = find_site(common)
    numbers = version_number(reqnum, "r"), version_number(attnum, "p")
    request = find_request(found.site, expnum, *numbers, schema, destination)
    chosen = ccds_of(ccds)
    parameters = {"exposure": request, "site": found.name, "ccds": chosen, "overwrite": overwrite}
    parameters["magnitudes"] = magnitudes
    answer = run_flow(
        "calibrate",
        common,
        found.site,
        "flows.calibration:calibration",
        parameters,
        workers=workers,
        plain=True,
        about={"expnum": expnum, "ccds": chosen, "instrumental_zeropoint_mag": instrumental_zeropoint},
    )
    solved = dict(answer.document["summary"].get("zeropoints", {}))
    lines = [f"zero point of {name}: {value:.4f} mag" for name, value in solved.items() if isinstance(value, float)]
    lines += [f"zero points of the CCDs: {solved['file']}"] if "file" in solved else []
    return replace(answer, lines=(*answer.lines, *lines))


def difference(
    *,
    expnum: ExpNum,
    rpnum: Annotated[str, Parameter(name=["--rpnum", "-r"], help="Version tag of the single-epoch run: r4p5.")],
    season: Annotated[str, Parameter(name=["--season", "-p"], help="Season of the products: 60 or dp60.")],
    night: Night,
    band: Band,
    ccds: Ccds = None,
    destination: Destination = "persistent",
    schema: Schema = "gw",
    label: Annotated[str, Parameter(name=["--version-label", "-v"], help="Label of the run on its page.")] = "",
    full_copy: Annotated[
        bool, Parameter(name=["--full-copy", "-F"], negative="", help="Keep every product (always the case).")
    ] = False,
    settings: SettingsFile = None,
    overwrite: Overwrite = False,
    workers: Workers = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Subtract the templates from a processed exposure and detect sources in the difference."""
    found = find_site(common)
    rnum, pnum = parse_version_tag(rpnum)
    request = ExposureRequest(
        expnum=expnum,
        band=band,
        night=night,
        rnum=rnum,
        pnum=pnum,
        season=parse_season(season),
        schema_name=schema,
        destination=destination,
        label=label,
    )
    from flows.settings import DifferenceStageSettings

    chosen = ccds_of(ccds)
    rules = {} if settings is None else {"settings": read_settings(settings, DifferenceStageSettings)}
    parameters = {"exposure": request, "site": found.name, **rules, "ccds": chosen, "overwrite": overwrite}
    flow, about = "flows.difference:difference", {"expnum": expnum, "ccds": chosen, "full_copy": full_copy}
    return run_flow("difference", common, found.site, flow, parameters, workers=workers, plain=True, about=about)


def export(
    *,
    expnum: ExpNum,
    rnum: Rnum,
    pnum: Pnum,
    ccds: Ccds = None,
    destination: Destination = "persistent",
    schema: Schema = "gw",
    plain: Annotated[
        bool, Parameter(name="--uncompressed", negative="", help="Images without tile compression.")
    ] = False,
    source_noise: Annotated[
        bool,
        Parameter(name="--source-noise", negative="", help="Include the shot noise of the sources in the weights."),
    ] = False,
    overwrite: Overwrite = False,
    workers: Workers = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Export images, catalogues, PSFs, regions and corners of a calibrated exposure in the original's formats."""
    from imaging.export.settings import ExportSettings

    found = find_site(common)
    numbers = version_number(rnum, "r"), version_number(pnum, "p")
    request = find_request(found.site, expnum, *numbers, schema, destination)
    chosen, settings = ccds_of(ccds), ExportSettings(compress=not plain, source_noise=source_noise)
    parameters = {
        "exposure": request,
        "site": found.name,
        "ccds": chosen,
        "overwrite": overwrite,
        "settings": settings,
    }
    flow, about = "flows.export:export_exposure", {"expnum": expnum, "ccds": chosen}
    return run_flow("export", common, found.site, flow, parameters, workers=workers, about=about)


def export_calibration(
    *,
    expnum: Annotated[int, Parameter(name="--expnum", help="Exposure number.")],
    reqnum: Annotated[str, Parameter(name="--reqnum", help="Request number of the single-epoch run.")],
    attnum: Annotated[str, Parameter(name="--attnum", help="Processing number of the single-epoch run.")],
    directory: Annotated[Path, Parameter(name=["--directory", "-o"], help="Output folder.")] = Path(),
    ccds: Annotated[str | None, Parameter(name=["--ccd", "--ccds"], help="CCDs such as 1,3-5,25.")] = None,
    star_lists: Annotated[
        bool, Parameter(name="--star-lists", negative="", help="Also write the lists SNSTAR and SNVETO.")
    ] = False,
    magnitudes: Annotated[
        str, Parameter(name=["--magsType", "--magType", "--magnitudes"], help="Magnitudes of the zero points.")
    ] = "mag_psf",
    stars_from: Annotated[
        str | None,
        Parameter(
            name="--stars-from", help="Exposures whose stars SNSTAR lists, such as 1270601,1277501; default: this one."
        ),
    ] = None,
    destination: Destination = "persistent",
    schema: Schema = "gw",
    common: Common = DEFAULTS,
) -> Answer:
    """Write the original's CSV tables of a calibrated exposure, optionally its star and veto lists."""
    from deployments.products.original_calibration import export_star_lists, export_tables, read_calibrated
    from imaging.photometry.star_lists import StarListSettings

    site = find_site(common).site.storing_in(destination)
    rnum, pnum = version_number(reqnum, "r"), version_number(attnum, "p")
    exposure = find_exposure(site, expnum, rnum, pnum, schema)
    calibrated = read_calibrated(exposure, site, ccds_of(ccds), magnitudes)
    paths = export_tables(calibrated, directory)
    if star_lists or stars_from:
        others = [
            read_calibrated(find_exposure(site, number, rnum, pnum, schema), site) for number in _numbers(stars_from)
        ]
        paths += export_star_lists(calibrated, others, site, directory, StarListSettings())
    document = {"command": "export-calibration", "expnum": expnum, "files": [str(path) for path in paths]}
    return Answer(document, (f"{len(paths)} files written to {directory}",))


def _numbers(text: str | None) -> list[int]:
    words = [] if text is None else text.replace(" ", "").split(",")
    if not all(word.isascii() and word.isdigit() for word in words):
        raise InputError("invalid exposure numbers", value=repr(text), limit="numbers such as 1270601,1277501")
    return [int(word) for word in words]
