"""Replace the sky map of a registered night."""

import shutil
from pathlib import Path

from blocks.gw_events import current_skymap
from blocks.nights import RECORD, NightRecord, RegisteredNight, night_folder, read_night
from blocks.site import Site
from imaging.errors import InputError
from imaging.io.atomic import atomic_path, content_hash, storage_error
from imaging.io.locks import locked
from imaging.io.sealed import write_sealed
from imaging.io.skymaps import read_skymap

EVENT_NAME = "gw.skymap.received"
"""Name of the event of a new sky map; its payload has the keys ``night`` and ``skymap``, a file."""


def adopt_skymap(site: Site, night: int, skymap: Path, *, alert: str | None = None) -> RegisteredNight:
    """Store a new sky map as a revision of a registered night, for which only the ranking runs again.

    Parameters
    ----------
    site
        Site whose registry holds the night.
    night
        The night, YYYYMMDD.
    skymap
        File to copy.
    alert
        Name of the alert that brought the map; None for the newest one, because a map that a person chose replaces it.

    Returns
    -------
    night
        The night with its new map; unchanged if the map is the same as before.

    Raises
    ------
    InputError
        If the night is not registered or the file is not a sky map.
    StorageError
        If the registry cannot be written.
    """
    read_night(site, night)
    if not Path(skymap).is_file():
        raise InputError("sky map missing", value=skymap)
    read_skymap(Path(skymap))
    folder = night_folder(site, night)
    try:
        with locked(folder / "registering.lock"):
            known = read_night(site, night)
            if alert is None:
                newest = current_skymap(site, known.record.event)
                alert = newest[0].name if newest else known.record.alert
            return _adopt(site, known, Path(skymap), alert)
    except OSError as error:
        raise storage_error(error, folder) from error


def _adopt(site: Site, known: RegisteredNight, skymap: Path, alert: str) -> RegisteredNight:
    digest = content_hash(skymap)
    if (digest, alert) == (known.record.skymap_hash, known.record.alert):
        return known
    changes: dict[str, object] = {"alert": alert}
    if digest != known.record.skymap_hash:
        revision = known.record.revision + 1
        name = f"skymap-{revision}{''.join(skymap.suffixes[-2:])}"
        with atomic_path(known.folder / name) as temporary:
            shutil.copyfile(skymap, temporary)
        changes |= {"revision": revision, "skymap": name, "skymap_hash": digest}
    record = NightRecord.model_validate(known.record.model_dump() | changes)
    write_sealed(known.folder / RECORD, record.model_dump_json(indent=1) + "\n")
    return RegisteredNight(site, record)
