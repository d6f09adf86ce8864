"""Replace the sky map of a registered night."""

import fcntl
import shutil
from pathlib import Path

from blocks.nights import RECORD, NightRecord, RegisteredNight, night_folder, read_night
from blocks.site import Site
from imaging.errors import InputError
from imaging.io.atomic import atomic_path, content_hash, storage_error, write_text
from imaging.io.skymaps import read_skymap

EVENT_NAME = "gw.skymap.received"
"""Name of the event of a new sky map; its payload has the keys ``night`` and ``skymap``, a file."""


def adopt_skymap(site: Site, night: int, skymap: Path) -> RegisteredNight:
    """Store a new sky map as a revision of a registered night.

    The revision inherits the markers of the previous one (announced, started), so that only the ranking runs again.

    Parameters
    ----------
    site
        Site whose registry holds the night.
    night
        The night, YYYYMMDD.
    skymap
        File to copy.

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
        with (folder / "registering.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return _adopt(site, read_night(site, night), Path(skymap))
    except OSError as error:
        raise storage_error(error, folder) from error


def _adopt(site: Site, known: RegisteredNight, skymap: Path) -> RegisteredNight:
    digest = content_hash(skymap)
    if digest == known.record.skymap_hash:
        return known
    revision = known.record.revision + 1
    name = f"skymap-{revision}{''.join(skymap.suffixes[-2:])}"
    with atomic_path(known.folder / name) as temporary:
        shutil.copyfile(skymap, temporary)
    changes = {"revision": revision, "skymap": name, "skymap_hash": digest}
    record = NightRecord.model_validate(known.record.model_dump() | changes)
    renewed = RegisteredNight(site, record)
    if known.is_started():
        renewed.mark_emitted()
        renewed.mark_started(known.seen())
    write_text(known.folder / RECORD, record.model_dump_json(indent=1) + "\n")
    return renewed
