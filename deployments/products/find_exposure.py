"""Find processed exposures by their products."""

import re
from typing import Literal

from blocks.site import Destination, Site
from imaging.errors import InputError
from imaging.identity import ExposureId
from tasks.requests import ExposureRequest


def find_exposure(site: Site, expnum: int, rnum: int, pnum: int, schema: str = "gw") -> ExposureId:
    """Find the identity of a processed exposure from the names of its products.

    Raises
    ------
    InputError
        If it has no products of this version, or products of several bands or nights.
    """
    pattern = re.compile(rf"D{expnum:08d}_(?P<band>[A-Za-z]+)_(?:\d\d_)?r{rnum}p{pnum}_")
    found = {
        (int(path.parent.parent.name), match["band"])
        for path in (site.store / schema / "exp").glob(f"*/{expnum}/D*")
        if (match := pattern.match(path.name))
    }
    if len(found) == 1:
        night, band = found.pop()
        return ExposureId(expnum, band, night, rnum, pnum, schema)
    raise InputError(
        "exposure has no products of this version" if not found else "exposure has products of several nights or bands",
        expnum=expnum,
        value=f"r{rnum}p{pnum} below {site.store / schema / 'exp'}",
        remedy="run gw-workflow single-epoch first, with the same version and destination",
    )


def find_request(
    site: Site,
    expnum: int,
    rnum: int,
    pnum: int,
    schema: Literal["gw", "wsdiff"] = "gw",
    destination: Destination = "persistent",
) -> ExposureRequest:
    """Return the request for a processed exposure, found by :func:`find_exposure`."""
    exposure = find_exposure(site.storing_in(destination), expnum, rnum, pnum, schema)
    return ExposureRequest(
        expnum=expnum,
        band=exposure.band,
        night=exposure.night,
        rnum=rnum,
        pnum=pnum,
        schema_name=schema,
        destination=destination,
    )


def find_requests(site: Site, first: int, last: int, band: str, rnum: int, pnum: int) -> tuple[ExposureRequest, ...]:
    """Return the requests for all processed exposures of a band and version from one night to another, in order.

    Raises
    ------
    InputError
        If there is none.
    """
    root = site.store / "gw" / "exp"
    numbers = {
        int(path.parent.name)
        for path in root.glob(f"*/*/D*_{band}_*r{rnum}p{pnum}_*")
        if path.parent.parent.name.isdigit() and first <= int(path.parent.parent.name) <= last
    }
    if not numbers:
        raise InputError(
            "no processed exposures of this band and version",
            value=f"band {band}, r{rnum}p{pnum}, nights {first} to {last} below {root}",
            remedy="run gw-workflow single-epoch first, or give other nights",
        )
    return tuple(find_request(site, expnum, rnum, pnum) for expnum in sorted(numbers))
