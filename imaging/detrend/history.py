"""Record applied corrections in the header, and refuse to apply one twice."""

from collections.abc import Mapping, MutableMapping
from typing import Any

from imaging.errors import InputError

CORRECTIONS = {
    "DESOSCN": "overscan",
    "DESDCXTK": "crosstalk",
    "DESBIAS": "bias",
    "DESLINC": "linearity",
    "DESSAT": "saturation mask",
    "DESBPM": "bad-pixel mask",
    "DESGAINC": "gain",
    "DESFIXC": "column repair",
    "DESBFC": "brighter-fatter",
    "DESFLAT": "flat",
    "DESSTAR": "star flat",
}
"""Header key of every correction that may be applied only once."""


def refuse_repetition(header: Mapping[str, Any], key: str) -> None:
    """Raise if a correction has been applied already.

    Raises
    ------
    InputError
        If the header has the correction's key.
    """
    if key in header:
        raise InputError(
            f"correction applied already: {CORRECTIONS[key]}",
            value=f"{key} = {header[key]!r}",
            remedy="start from the raw image",
        )


def record_correction(header: MutableMapping[str, Any], key: str, name: str | bool = True) -> None:
    """Write a correction's key into a header.

    Parameters
    ----------
    header
        Keywords of the image; changed.
    key
        One of :data:`CORRECTIONS`.
    name
        Name of the calibration file, or True if there is none.

    Raises
    ------
    InputError
        If the correction has been applied already.
    """
    refuse_repetition(header, key)
    header[key] = name
