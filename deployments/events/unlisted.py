"""Take exposures into a registered night that nobody listed: those of the night that its settings allow."""

import time

from blocks.nights import RegisteredNight
from blocks.raw_index import RawFiles
from blocks.site import Site
from deployments.events.registry import add_to_night
from imaging.io import skymaps
from imaging.io.exposure_list import ListedExposure
from imaging.templates.night_list import choose_exposures
from imaging.templates.night_selection import NightSelection

_judged: dict[tuple[Site, int], tuple[object, RawFiles]] = {}
"""Site and night to the record and the index for which nothing was to be taken, so that both are compared once."""


def with_unlisted(site: Site, night: RegisteredNight, known: RawFiles) -> RegisteredNight:
    """Add the exposures of a night that nobody listed, with their templates; return the night with them.

    Parameters
    ----------
    site, night
        Site and night.
    known
        The raw files at hand.

    Raises
    ------
    InputError
        If the settings of the night or its sky map cannot be read.
    StorageError
        If the registry cannot be written.
    """
    record = night.record
    if record.selection is None or _judged.get((site, record.night)) == (record, known):
        return night
    rules = NightSelection.model_validate(record.selection)
    numbers = {*record.exposures, *record.templates}
    files = [f for f in known.by_path.values() if f.exposure and f.exposure.night == record.night]
    new = {f.exposure.expnum for f in files if f.exposure and f.exposure.obstype.lower() == "object"} - numbers
    if rules.unlisted == "never" or not new:
        return night
    now = time.time()
    ready = {f.exposure.expnum for f in files if f.exposure and f.is_final(now)} & new
    exposures = known.exposures()
    skymap = skymaps.read_skymap(night.skymap)
    chosen = choose_exposures(
        [e for n, e in exposures.items() if n in ready or e.night != record.night],
        record.night,
        skymap,
        rules,
        also_programs=rules.list_programs if rules.unlisted in ("program", "either") else (),
        takes_region=rules.unlisted != "program",
    )
    if chosen.search:
        night = add_to_night(site, record.night, [ListedExposure(e) for e in (*chosen.search, *chosen.templates)])
    elif ready == new:
        _judged[site, record.night] = (record, known)
    return night
