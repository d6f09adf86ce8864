"""The catalogues of context that a site has: galaxies, known transients, variables, active nuclei and minor planets."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from blocks.site import Site
from imaging.candidates.known import match_known_sources, match_minor_planets
from imaging.candidates.settings import CrossmatchSettings
from imaging.io.atomic import content_hash
from imaging.io.orbits import ORBITS_FILE, read_orbits
from imaging.io.reference import read_reference_cone
from imaging.minor_planets.positions import predict_positions
from imaging.reference.surveys import KNOWN_CATALOGUES, ORBIT_CATALOGUE
from imaging.schemas.hosts import GALAXIES
from imaging.schemas.reference import KNOWN_SOURCES, REFERENCE_GALAXIES
from imaging.skymap.footprints import Footprints
from imaging.tables import column
from imaging.wcs.sphere import polygon_centre

Cone = tuple[float, float, float]

TRANSIENT_LISTS = ("tns", "ztf", "atlas")
"""Catalogues whose sources count as reported."""

MARKS = ("build.json", ORBITS_FILE, "partition_info.csv")
"""Files of a catalogue that change with its content; the first one present stands for it."""

CCD_RADIUS_DEG = 0.2
"""Radius around the centre of a CCD image in which minor planets are predicted, degrees."""


def catalogues_of(site: Site, names: Iterable[str]) -> dict[str, str]:
    """Return the names of the catalogues that a site has to hashes of their contents."""
    found = {}
    for name in names:
        folder = site.reference / name
        mark = next((folder / file for file in MARKS if (folder / file).is_file()), None)
        if mark is not None:
            found[name] = content_hash(mark)
    return found


def known_catalogues(site: Site) -> dict[str, str]:
    """Return the catalogues of known sources and of orbits that a site has, with hashes of their contents."""
    return catalogues_of(site, (*KNOWN_CATALOGUES, ORBIT_CATALOGUE))


def galaxies_near(site: Site, cones: Iterable[Cone], names: Iterable[str]) -> pa.Table:
    """Return the galaxies of several catalogues in some cones, without duplicates of one catalogue.

    Returns
    -------
    galaxies
        Rows of :data:`imaging.schemas.hosts.GALAXIES`; galaxies without a distance are omitted.
    """
    tables, places = [GALAXIES.empty_table()], list(cones)
    for name in names:
        parts = [read_reference_cone(site.reference / name, *cone, REFERENCE_GALAXIES) for cone in places]
        known = distinct(pa.concat_tables([REFERENCE_GALAXIES.empty_table(), *parts]))
        known = known.filter(pa.array(np.isfinite(column(known, "distance_mpc"))))
        columns = ("ra", "dec", "distance_mpc", "distance_error_mpc", "mag_i", "half_light_radius_arcsec")
        values = [known.column(column) for column in (*columns, "distance_method")]
        catalogue = pa.array([name] * known.num_rows, type=pa.string())
        tables.append(pa.Table.from_arrays([*values, catalogue], schema=GALAXIES))
    return pa.concat_tables(tables)


def distinct(table: pa.Table) -> pa.Table:
    """Keep the first row of every source."""
    _, first = np.unique(column(table, "source_id"), return_index=True)
    return table.take(pa.array(first))


def match_context(
    candidates: pa.Table, footprints: Footprints, cones: Iterable[Cone], site: Site, settings: CrossmatchSettings
) -> tuple[pa.Table, dict[str, Any]]:
    """Match candidates with the known sources and minor planets of a site.

    Parameters
    ----------
    candidates
        Rows of :data:`imaging.schemas.candidates.CANDIDATES`.
    footprints
        CCD images of the night.
    cones
        Cones that cover them.
    site, settings
        Site with the catalogues; radii.

    Returns
    -------
    candidates, facts
        The candidates with their matches, and catalogue to the number of its entries in the fields; beside them the
        number of orbits that are too old to be used.
    """
    present, places = known_catalogues(site), list(cones)
    sources = {
        name: distinct(
            pa.concat_tables(
                [
                    KNOWN_SOURCES.empty_table(),
                    *(read_reference_cone(site.reference / name, *cone, KNOWN_SOURCES) for cone in places),
                ]
            )
        )
        for name in KNOWN_CATALOGUES
        if name in present
    }
    facts: dict[str, Any] = {name: table.num_rows for name, table in sources.items()}
    candidates = match_known_sources(candidates, sources, TRANSIENT_LISTS, settings)
    if ORBIT_CATALOGUE in present and len(footprints):
        centres = np.array([polygon_centre(corners) for corners in footprints.corners]).T
        orbits = read_orbits(site.reference / ORBIT_CATALOGUE)
        age = np.abs(column(orbits, "epoch_mjd") - np.median(footprints.mjd))
        facts[f"{ORBIT_CATALOGUE}_too_old"] = int((age > settings.orbit_max_days).sum())
        predicted = predict_positions(
            orbits,
            footprints.mjd,
            (centres[0], centres[1]),
            CCD_RADIUS_DEG,
            faint_mag=settings.minor_planet_faint_mag,
            max_days=settings.orbit_max_days,
        )
        facts[ORBIT_CATALOGUE] = len(predicted)
        exposures = dict(zip(footprints.expnum.tolist(), footprints.mjd.tolist(), strict=True))
        candidates = match_minor_planets(candidates, predicted, exposures, settings)
    return candidates, facts
