"""Convert tables of photometric surveys to the camera's bands by a mapping of columns and colour terms.

A mapping gives the columns of identifier and position, the rows to keep, and for each band of the camera the survey's
magnitude, its error and, if the survey's system differs, a polynomial in a survey colour with its valid range. The
package's mappings are in ``data``; other surveys need a JSON file of the same format.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from imaging.errors import InputError
from imaging.package_data import read_text
from imaging.reference.gaia import MAG_PER_RELATIVE_FLUX
from imaging.reference.positions import known_positions
from imaging.reference.rounding import MAGNITUDE_STEP, POSITION_STEP_DEG, round_columns
from imaging.reference.settings import ReferenceCatalogueSettings
from imaging.schemas.reference import CALIBRATED_BANDS, CALIBRATED_STARS
from imaging.tables import column

FloatArray = NDArray[np.float64]

SHIPPED = (
    "delve_dr2",
    "delve_dr3",
    "des_dr2",
    "des_y6",
    "gaia_xp",
    "monster",
    "ps1_dr2",
    "refcat2",
    "skymapper_dr2",
    "skymapper_dr4",
)
"""Names of the package's mappings."""

LIKELY_MAGNITUDES = (-5.0, 40.0)
"""Range of valid magnitudes; values outside are codes of missing values (99, -999)."""


class Cut(BaseModel):
    """Rows to keep by the value of a column."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    column: str
    """Column of the survey."""
    minimum: float | None = None
    """Smallest value kept; None for no limit."""
    maximum: float | None = None
    """Largest value kept; None for no limit."""


class BandRule(BaseModel):
    """Transformation of the survey's columns to the magnitude of a band."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    magnitude: str
    """Column of the survey's magnitude, or of a flux."""
    flux_zeropoint_mag: float | None = None
    """AB magnitude of a flux of one if magnitude and error are fluxes: 31.4 for nanojansky; None for magnitudes."""
    error: str | None = None
    """Column of the magnitude error; None if the survey has none; then only the scatter is used."""
    colour: tuple[str, str] | None = None
    """Columns whose difference is the colour of the polynomial; None if the survey has the camera's system."""
    coefficients: tuple[float, ...] = ()
    """Camera minus survey magnitude as a polynomial in the colour, lowest power first."""
    colour_min: float | None = None
    """Smallest valid colour of the polynomial; None for no limit."""
    colour_max: float | None = None
    """Largest valid colour; None for no limit."""
    scatter_mag: float = Field(default=0.0, ge=0.0)
    """Scatter of stars about the polynomial, or calibration error of the survey, added to the errors."""
    cuts: tuple[Cut, ...] = ()
    """Conditions on a star for the use of this band."""


class CatalogueMapping(BaseModel):
    """Mapping of a survey's table."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    """Name of the catalogue: its folder, and the name recorded per star."""
    reference: str = ""
    """Source of the transformations."""
    source_id: str
    """Column of the identifier, an integer."""
    ra: str
    """Column of the right ascension, degrees."""
    dec: str
    """Column of the declination, degrees."""
    coordinates: Literal["deg", "rad"] = "deg"
    """Unit of right ascension and declination."""
    ref_epoch: float
    """Mean epoch of the positions, Julian year."""
    cuts: tuple[Cut, ...] = ()
    """Rows to keep."""
    bands: dict[str, BandRule] = Field(min_length=1)
    """Band of the camera to its transformation."""

    @field_validator("bands")
    @classmethod
    def _known_bands(cls, bands: dict[str, BandRule]) -> dict[str, BandRule]:
        unknown = sorted(set(bands) - set(CALIBRATED_BANDS))
        if unknown:
            raise ValueError(f"unknown bands: {', '.join(unknown)}")
        return bands

    @property
    def radians(self) -> tuple[str, ...]:
        """The columns in radians, lower case."""
        return (self.ra.lower(), self.dec.lower()) if self.coordinates == "rad" else ()

    def source_types(self) -> dict[str, pa.DataType]:
        """Return the columns to read, lower case, and their Arrow types."""
        rules = self.bands.values()
        names = [self.ra, self.dec, *(cut.column for cut in self.cuts)]
        names += [name for rule in rules for name in (rule.magnitude, rule.error, *(rule.colour or ())) if name]
        names += [cut.column for rule in rules for cut in rule.cuts]
        return {name.lower(): pa.float64() for name in names} | {self.source_id.lower(): pa.int64()}


def parse_mapping(text: str, where: str) -> CatalogueMapping:
    """Parse a mapping from JSON.

    Raises
    ------
    InputError
        If it is not valid.
    """
    try:
        return CatalogueMapping.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError("mapping of a catalogue not valid", value=f"{where}: {place}: {first['msg']}") from error


def shipped_mapping(name: str) -> CatalogueMapping:
    """Return one of the package's mappings.

    Raises
    ------
    InputError
        If there is none with this name.
    """
    if name not in SHIPPED:
        raise InputError("no such mapping", value=name, limit=f"{', '.join(SHIPPED)}, or a JSON file")
    return parse_mapping(read_text("imaging.reference", f"{name}.json"), name)


def calibrated_stars(
    source: pa.Table, mapping: CatalogueMapping, settings: ReferenceCatalogueSettings, where: str = ""
) -> pa.Table:
    """Convert rows of a survey to stars with magnitudes in the camera's bands.

    Parameters
    ----------
    source
        Columns of :meth:`CatalogueMapping.source_types`, lower case.
    mapping
        The mapping.
    settings
        Rounding.
    where
        Name of the source, for error messages.

    Returns
    -------
    stars
        Columns of :data:`imaging.schemas.reference.CALIBRATED_STARS`; rows without any magnitude are omitted.

    Raises
    ------
    InputError
        If a column of the mapping is missing, or a position cannot be in its unit.
    """
    missing = sorted(set(mapping.source_types()) - set(source.column_names))
    if missing:
        raise InputError(
            f"columns of the mapping {mapping.name} are missing: {', '.join(missing)}",
            value=where,
            remedy="correct the mapping or give other files",
        )
    ra, dec = _column(source, mapping.ra), _column(source, mapping.dec)
    if mapping.coordinates == "rad":
        ra, dec = np.degrees(ra), np.degrees(dec)
    unit = "radians" if mapping.coordinates == "rad" else "degrees"
    keep = _passes(source, mapping.cuts) & known_positions(ra, dec, mapping.name, where, unit)
    columns: dict[str, Any] = {
        "source_id": source.column(mapping.source_id.lower()),
        "ra": ra % 360.0,
        "dec": dec,
        "ref_epoch": np.full(source.num_rows, mapping.ref_epoch),
    }
    any_band = np.zeros(source.num_rows, bool)
    for band in CALIBRATED_BANDS:
        mag, error = _band(source, mapping.bands.get(band))
        any_band |= np.isfinite(mag)
        columns[f"mag_{band}"] = pa.array(mag.astype(np.float32), mask=~np.isfinite(mag))
        columns[f"mag_{band}_error"] = pa.array(error.astype(np.float32), mask=~np.isfinite(error))
    stars = pa.table(columns, schema=CALIBRATED_STARS).filter(pa.array(keep & any_band))
    return round_columns(stars, STEPS) if settings.compress else stars


STEPS: Mapping[str, float] = {"ra": POSITION_STEP_DEG, "dec": POSITION_STEP_DEG} | {
    f"mag_{band}": MAGNITUDE_STEP for band in CALIBRATED_BANDS
}
"""Rounding steps of the columns of a calibrated catalogue."""


def _column(source: pa.Table, name: str) -> FloatArray:
    return column(source, name.lower()).astype(np.float64)


def _passes(source: pa.Table, cuts: tuple[Cut, ...]) -> NDArray[np.bool_]:
    passed = np.ones(source.num_rows, bool)
    for cut in cuts:
        values = _column(source, cut.column)
        passed &= np.isfinite(values)
        if cut.minimum is not None:
            passed &= values >= cut.minimum
        if cut.maximum is not None:
            passed &= values <= cut.maximum
    return passed


def _magnitude(source: pa.Table, name: str, zeropoint_mag: float | None = None) -> FloatArray:
    values = _column(source, name)
    if zeropoint_mag is not None:
        values = zeropoint_mag - 2.5 * np.log10(np.where(values > 0.0, values, np.nan))
    low, high = LIKELY_MAGNITUDES
    return np.where((values > low) & (values < high), values, np.nan)


def _band(source: pa.Table, rule: BandRule | None) -> tuple[FloatArray, FloatArray]:
    """Return the magnitudes of a band and their errors, NaN if undefined."""
    if rule is None:
        nothing = np.full(source.num_rows, np.nan)
        return nothing, nothing
    mag = _magnitude(source, rule.magnitude, rule.flux_zeropoint_mag)
    error = np.zeros_like(mag) if rule.error is None else _column(source, rule.error)
    if rule.flux_zeropoint_mag is not None:
        flux = _column(source, rule.magnitude)
        error = MAG_PER_RELATIVE_FLUX * error / np.where(flux > 0.0, flux, np.nan)
    usable = np.isfinite(mag) & np.isfinite(error) & (error >= 0.0) & _passes(source, rule.cuts)
    if rule.colour is not None:
        first, second = (_magnitude(source, name, rule.flux_zeropoint_mag) for name in rule.colour)
        colour = first - second
        usable &= np.isfinite(colour)
        if rule.colour_min is not None:
            usable &= colour > rule.colour_min
        if rule.colour_max is not None:
            usable &= colour <= rule.colour_max
        mag = mag + np.polynomial.Polynomial(rule.coefficients or (0.0,))(colour)
    return np.where(usable, mag, np.nan), np.where(usable, np.hypot(error, rule.scatter_mag), np.nan)
