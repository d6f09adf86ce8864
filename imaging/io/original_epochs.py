"""Manifest entries for the calibration epochs of the Dark Energy Survey.

The survey's file names are unchanged: a library is a folder with its files and the manifest from
:func:`original_entries`. Its linearity, crosstalk and brighter-fatter files are valid for all epochs.
"""

import re

from imaging.io.manifest import CalibrationEntry, Kind
from imaging.package_data import read_table

_PATTERNS: tuple[tuple[Kind, str, str], ...] = (
    ("bias", "bias", "D_{span}_c{{ccd:02d}}_{tag}_biascor.fits"),
    ("bad_pixels", "bad_pixels", "D_{span}_c{{ccd:02d}}_{tag}_bpm.fits"),
    ("flat", "flat", "D_{span}_{{band}}_c{{ccd:02d}}_{tag}_norm-dflatcor.fits"),
    ("sky_templates", "sky", "{span}_{{band}}_c{{ccd:02d}}_{tag}_skypca-tmpl.fits"),
    ("sky_modes", "sky", "{span}_{{band}}_{tag}_skypca-binned-fp.fits"),
    ("star_flat", "star_flat", "{span}_{{band}}_c{{ccd:02d}}_{tag}_starflat.fits"),
)
"""Kind, column of the table, pattern of the file names."""

_COMMON: tuple[tuple[Kind, str], ...] = (
    ("linearity", "lin_tbl_v0.4.fits"),
    ("brighter_fatter", "bfmodel_20150305.fits"),
    ("crosstalk", "DECam_20130606.xtalk"),
)


def original_entries() -> tuple[CalibrationEntry, ...]:
    """Return the original pipeline's epochs by exposure number, with separate entries for band u.

    The option ``-Y`` forces the epoch ``y4e1``.
    """
    rows = read_table("imaging.detector", "des_epochs.csv")
    entries = [_entry(row, kind, row[name], pattern) for row in rows for kind, name, pattern in _PATTERNS]
    epochs = sorted({row["epoch"] for row in rows})
    common = [
        CalibrationEntry(epoch=epoch, kind=kind, files=name, made_night=20130606)
        for epoch in epochs
        for kind, name in _COMMON
    ]
    return (*entries, *common)


def _entry(row: dict[str, str], kind: Kind, made_of: str, pattern: str) -> CalibrationEntry:
    span, tag = made_of.split()
    first = re.search(r"20\d{6}", span)
    if first is None:
        raise ValueError(f"no night in {span!r}")
    return CalibrationEntry(
        epoch=row["epoch"],
        kind=kind,
        files=pattern.format(span=span, tag=tag),
        band=row["band"] or None,
        made_night=int(first[0]),
        first_expnum=int(row["first_expnum"]),
        last_expnum=int(row["last_expnum"]) if row["last_expnum"] else 10**12,
    )
