"""The files of the calibration library: described as inputs of steps, named, and entered into the manifest."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from blocks.site import Site
from imaging.detector.ccds import CCDS
from imaging.errors import InputError
from imaging.exposure import Exposure
from imaging.identity import ExposureId
from imaging.io.atomic import content_hash
from imaging.io.calibrations import MANIFEST, CalibrationLibrary, write_manifest
from imaging.io.locks import locked
from imaging.io.manifest import FIRST_OF_ALL, LAST_OF_ALL, CalibrationEntry, Kind
from tasks.engine.cache import fingerprint
from tasks.engine.jobs import FileRecord

LOCK = "manifest.lock"
"""File in the library that is locked by who changes the manifest."""

WHOLE_CAMERA: frozenset[Kind] = frozenset(("sky_modes", "ghosts", "crosstalk"))
"""Kinds of calibration with one file for all CCDs."""

SUFFIXES: Mapping[str, str] = {"crosstalk": "txt", "pixel_displacement": "json", "ghosts": "json"}
"""Ends of the names of files that are not FITS."""


def calibration_record(site: Site, library: CalibrationLibrary, path: Path) -> FileRecord:
    """Describe a calibration file, and check it against the checksum in the manifest, if there is one.

    Raises
    ------
    InputError
        If the checksum differs.
    """
    found, recorded = fingerprint(site, path), library.recorded_checksum(path)
    if recorded is not None and recorded != found.content_hash:
        raise InputError(
            "checksum of the calibration file differs from the manifest",
            value=f"{path}: checksum {found.content_hash}",
            limit=recorded,
            remedy="copy the file again, or record the new one in the manifest",
        )
    return found


def optional_calibration(
    site: Site,
    library: CalibrationLibrary,
    kind: Kind,
    exposure: Exposure,
    ccd: int,
    *,
    epoch: str | None = None,
) -> dict[str, FileRecord]:
    """Describe an optional calibration: its kind to its file; empty if there is none."""
    if not library.holds(kind, exposure, ccd, epoch=epoch):
        return {}
    return {kind: calibration_record(site, library, library.find(kind, exposure, ccd, epoch=epoch))}


def require_one_period(site: Site, exposures: Iterable[ExposureId]) -> None:
    """Refuse exposures whose flats are of several stable periods: what is fitted to them would be a mixture.

    Raises
    ------
    InputError
        Naming the periods.
    """
    if not (site.calibrations / MANIFEST).is_file():
        return
    entries = [e for e in CalibrationLibrary(site.calibrations).manifest.entries if e.is_of_a_period]
    periods = {
        (e.first_night, e.last_night)
        for who in exposures
        for e in entries
        if e.serves("flat", who.band) and e.first_night <= who.night <= e.last_night
    }
    if len(periods) > 1:
        raise InputError(
            "the exposures are of several stable periods of the flats",
            value=", ".join(f"{first} to {last}" for first, last in sorted(periods)),
            limit="one",
            remedy="give those of one period, with --from and --to",
        )


def record_files(
    site: Site,
    night: int,
    epoch: str,
    built: Mapping[tuple[Kind, str | None], Sequence[Path]],
    *,
    validity: tuple[int, int] | None = None,
    sources: Mapping[str, str] | None = None,
    forms: Mapping[str, str] | None = None,
) -> Path:
    """Add calibration files to the library's manifest with their checksums; entries of other epochs are kept.

    One process writes the manifest at a time, whoever it is: flows and ``import-calibrations`` wait for each other.

    Entries of the same epoch are replaced, but keep the CCDs built before. An entry applies to the CCDs with a file;
    other CCDs continue to use the entries of earlier epochs.

    Parameters
    ----------
    site, night, epoch
        Site; night of the data, YYYYMMDD; name of the calibration epoch.
    built
        (kind, band) to the files, named by :func:`master_path`.
    validity
        First and last night, YYYYMMDD, for which they hold; None for all nights, within the limits of age.
    sources, forms
        Of imported files: name of the file to its content hash, and to what it was recognised as.

    Returns
    -------
    manifest
        Path of the manifest.
    """
    manifest = site.calibrations / MANIFEST
    with locked(site.calibrations / LOCK):
        kept = CalibrationLibrary(site.calibrations).manifest if manifest.is_file() else None
        entries = list(kept.entries) if kept else []
        for (kind, band), paths in built.items():
            same = [e for e in entries if (e.epoch, e.kind, e.band) == (epoch, kind, band)]
            number = "" if kind in WHOLE_CAMERA else "_c{ccd:02d}"
            new = CalibrationEntry(
                epoch=epoch,
                kind=kind,
                files=f"{epoch}/{_file_name(kind, band or '', number)}",
                band=band,
                made_night=night,
                first_night=validity[0] if validity else FIRST_OF_ALL,
                last_night=validity[1] if validity else LAST_OF_ALL,
                checksums={path.relative_to(site.calibrations).as_posix(): content_hash(path) for path in paths},
                sources=dict(sources or {}),
                forms=dict(forms or {}),
            )
            entries = [*(e for e in entries if e not in same), _joined(new, same)]
        limits = {"age_limits": kept.age_limits} if kept else {}
        write_manifest(site.calibrations, entries, **limits)
    return manifest


def _joined(new: CalibrationEntry, same: Sequence[CalibrationEntry]) -> CalibrationEntry:
    """Return an entry with the files that earlier entries of the same epoch, kind and band have beside it."""
    update = {
        field: {name: value for entry in (*same, new) for name, value in getattr(entry, field).items()}
        for field in ("checksums", "sources", "forms")
    }
    of_ccds = None if new.kind in WHOLE_CAMERA else tuple(c for c in CCDS if new.name(c, "") in update["checksums"])
    return new.model_copy(update=update | {"ccds": of_ccds})


def master_path(site: Site, epoch: str, kind: Kind, ccd: int, band: str = "") -> Path:
    """Return the path of a master in the library; the CCD is ignored for kinds of :data:`WHOLE_CAMERA`."""
    number = "" if kind in WHOLE_CAMERA else f"_c{ccd:02d}"
    return site.calibrations / epoch / _file_name(kind, band, number)


def _file_name(kind: Kind, band: str, number: str) -> str:
    return f"{_stem(kind, band)}{number}.{SUFFIXES.get(kind, 'fits')}"


def _stem(kind: Kind, band: str) -> str:
    return f"{kind}_{band}" if band else kind
