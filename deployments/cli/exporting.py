"""The command export: the products of an exposure under the names and in the formats of the original."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from deployments.cli.options import (
    DEFAULTS,
    Ccds,
    Common,
    Destination,
    ExpNum,
    Overwrite,
    Pnum,
    Rnum,
    Schema,
    Workers,
    ccds_of,
    find_site,
    version_number,
)
from deployments.cli.output import Answer
from deployments.cli.running import run_flow
from deployments.products import find_exposure
from tasks.requests import ExposureRequest

if TYPE_CHECKING:
    pass


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
        bool, Parameter(name="--source-noise", negative="", help="Weights with the shot noise of the sources as well.")
    ] = False,
    overwrite: Overwrite = False,
    workers: Workers = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Write a calibrated exposure's images, catalogues, PSFs, regions and corners as the original did."""
    from imaging.export.settings import ExportSettings

    found = find_site(common)
    numbers = version_number(rnum, "r"), version_number(pnum, "p")
    exposure = find_exposure(found.site.storing_in(destination), expnum, *numbers, schema)
    request = ExposureRequest(
        expnum=expnum,
        band=exposure.band,
        night=exposure.night,
        rnum=exposure.rnum,
        pnum=exposure.pnum,
        schema_name=schema,
        destination=destination,
    )
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
