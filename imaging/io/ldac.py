"""Write catalogues as FITS_LDAC files, the format of SExtractor catalogues for SCAMP and PSFEx."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from imaging.export.catalogue import DesColumn
from imaging.io.atomic import write_bytes
from imaging.io.checksums import bytes_with_checksums

CARD = 80

OF_FILE = frozenset({"COMMENT", "HISTORY", "CHECKSUM", "DATASUM"})
"""Keywords that belong to the file of the image."""


def write_ldac(
    path: Path, columns: Mapping[str, DesColumn], header: Mapping[str, Any], comments: Sequence[str] = ()
) -> None:
    """Write a catalogue atomically.

    Parameters
    ----------
    path
        File to write.
    columns
        Column name to values.
    header
        Keywords of the image of the catalogue, written as 80-character cards to the single row of the extension
        LDAC_IMHEAD; values may be (value, comment). None values and those of :data:`OF_FILE` are omitted.
    comments
        Paragraphs of COMMENT in the header of the table of objects.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    entries = [(k, *(v if isinstance(v, tuple) else (v,))) for k, v in header.items()]
    cards = fits.Header([e for e in entries if e[1] is not None and e[0] not in OF_FILE])
    lines = [*(card.image[:CARD] for card in cards.cards), "END".ljust(CARD)]
    text = np.array([lines], dtype=f"S{CARD}")
    image_header = fits.BinTableHDU.from_columns(
        [fits.Column("Field Header Card", f"{CARD * len(lines)}A", dim=f"({CARD},{len(lines)})", array=text)],
        name="LDAC_IMHEAD",
    )
    objects = fits.BinTableHDU.from_columns(
        [fits.Column(name, item.form, unit=item.unit or None, array=item.values) for name, item in columns.items()],
        name="LDAC_OBJECTS",
    )
    for number, item in enumerate(columns.values(), start=1):
        objects.header.comments[f"TTYPE{number}"] = item.meaning
    for paragraph in comments:
        objects.header.add_comment(paragraph)
    write_bytes(path, bytes_with_checksums(fits.HDUList([fits.PrimaryHDU(), image_header, objects])))
