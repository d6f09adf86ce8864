"""The command export-calibration: an exposure's calibration under the original's names."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from deployments.cli.options import DEFAULTS, Common, Destination, Schema, ccds_of, find_site, version_number
from deployments.cli.output import Answer
from deployments.products import find_exposure
from imaging.errors import InputError


def export_calibration(
    *,
    expnum: Annotated[int, Parameter(name="--expnum", help="Exposure number.")],
    reqnum: Annotated[str, Parameter(name="--reqnum", help="Request number of the single-epoch run.")],
    attnum: Annotated[str, Parameter(name="--attnum", help="Processing number of the single-epoch run.")],
    directory: Annotated[Path, Parameter(name=["--directory", "-o"], help="Folder to write into.")] = Path(),
    ccds: Annotated[str | None, Parameter(name=["--ccd", "--ccds"], help="CCDs such as 1,3-5,25.")] = None,
    star_lists: Annotated[
        bool, Parameter(name="--star-lists", negative="", help="Also the lists SNSTAR and SNVETO.")
    ] = False,
    stars_from: Annotated[
        str | None,
        Parameter(
            name="--stars-from", help="Exposures whose stars SNSTAR lists, such as 1270601,1277501; else its own."
        ),
    ] = None,
    destination: Destination = "persistent",
    schema: Schema = "gw",
    common: Common = DEFAULTS,
) -> Answer:
    """Write the original's CSV tables of a calibrated exposure, and on request its star and veto lists."""
    from deployments.original_products import export_star_lists, export_tables, read_calibrated
    from imaging.photometry.star_lists import StarListSettings

    site = find_site(common).site.storing_in(destination)
    rnum, pnum = version_number(reqnum, "r"), version_number(attnum, "p")
    calibrated = read_calibrated(find_exposure(site, expnum, rnum, pnum, schema), site, ccds_of(ccds))
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
    if not all(word.isdigit() for word in words):
        raise InputError("exposure numbers not understood", value=repr(text), limit="numbers such as 1270601,1277501")
    return [int(word) for word in words]
