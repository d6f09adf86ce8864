"""What is used in place of calibrations that a library lacks, and how products, notes and reports name it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

KEY = "CALDEFLT"
"""Header keyword that names the defaults of an image."""

LINEARITY_KNOWN = "LINKNOWN"
"""Header keyword: whether response curves were applied."""


@dataclass(frozen=True, slots=True)
class Default:
    """The default of one kind of calibration.

    Attributes
    ----------
    name
        What is used, one word for the header.
    meaning
        What that does, for people.
    is_harmful
        Whether the products are less accurate for it, so that it is a warning.
    command
        Command that brings the calibration.
    """

    name: str
    meaning: str
    is_harmful: bool
    command: str


DEFAULTS: dict[str, Default] = {
    "crosstalk": Default(
        "20130606", "the observatory's matrix of 2013-06-06, which is in the package", False, "import-calibrations FILE"
    ),
    "linearity": Default(
        "unknown",
        "none known; taken as linear below 90 % of saturation, brighter pixels count as saturated",
        True,
        "import-calibrations linearity_table_v0.4.fits",
    ),
    "star_flat": Default("none", "none; the dome flat alone", False, "build-star-flat EXPNUM... --epoch NAME"),
    "sky_modes": Default("none", "none; a mesh of every CCD alone", False, "build-sky-modes EXPNUM... --epoch NAME"),
}
"""Kind of calibration to its default. Kinds without a default are needed; brighter-fatter kernels are optional."""


def describe(kinds: Iterable[str]) -> str:
    """Return the defaults of some kinds as the header states them: ``crosstalk=20130606 linearity=unknown``."""
    return " ".join(f"{kind}={DEFAULTS[kind].name}" for kind in DEFAULTS if kind in set(kinds))


def default_cards(header: Mapping[str, Any], kinds: Iterable[str]) -> dict[str, Any]:
    """Return the keyword that adds some defaults to those that a header names; empty if there are none."""
    known = str(header.get(KEY, ""))
    text = " ".join(filter(None, (known, describe(kinds))))
    return {KEY: text} if text else {}


def default_notes(kinds: Iterable[str]) -> tuple[str, ...]:
    """Return a sentence per default that makes products less accurate."""
    return tuple(
        f"no calibration of the kind {kind}: {DEFAULTS[kind].meaning}"
        for kind in DEFAULTS
        if kind in set(kinds) and DEFAULTS[kind].is_harmful
    )
