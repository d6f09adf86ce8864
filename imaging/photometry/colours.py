"""Transform Gaia magnitudes to the camera's bands by colour terms.

The magnitude in a band is Gaia's G plus a polynomial in BP - RP, valid in a range of colours and with a scatter. The
package's terms are published fits and synthetic ones (listed in ``data/colour_terms.csv``), for the second and third
data release of Gaia, whose magnitudes differ by 10 to 30 mmag; a calibration library may have its own in
``colour_terms.json``. Bands without terms are uncalibrated.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from imaging.package_data import read_table
from imaging.tables import column

FloatArray = NDArray[np.float64]

REFERENCE_COLOUR_MAG = 1.0
"""BP - RP of the sources for which zero points hold on CCDs whose passband is known."""

Release = Literal["dr2", "dr3"]
RELEASES: tuple[Release, ...] = ("dr2", "dr3")
"""Gaia releases of the package's terms; the early third release has the magnitudes of the third."""

LAST_DR2_EPOCH_YR = 2015.75
"""Limit between the epochs of the second (2015.5) and the third release (2016.0)."""


class ColourTerm(BaseModel):
    """The colour term of one band."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    coefficients: tuple[float, ...] = Field(min_length=1)
    """Magnitude minus Gaia G as a polynomial in BP - RP, lowest power first, magnitudes."""
    colour_min: float
    """Smallest valid BP - RP of the polynomial, magnitudes."""
    colour_max: float
    """Largest valid BP - RP of the polynomial, magnitudes."""
    scatter_mag: float = Field(ge=0.0)
    """Scatter of stars about the polynomial."""
    uncertain: bool = False
    """Whether the term is a combination of others and not a fit."""


class ColourTerms(BaseModel):
    """The colour terms of all bands that have one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    reference: str = ""
    """Source of the terms."""
    formula: str = "mag = G + sum_k coefficients[k] * (BP - RP)^k for colour_min <= BP - RP <= colour_max"
    """Definition of the coefficients, for readers of the file."""
    bands: dict[str, ColourTerm]
    """Band name to colour term."""


def published_colour_terms(release: Release = "dr3") -> ColourTerms:
    """Return the package's colour terms for a Gaia release."""
    bands = {
        row["band"]: ColourTerm(
            coefficients=tuple(float(word) for word in row["coefficients"].split()),
            colour_min=float(row["colour_min"]),
            colour_max=float(row["colour_max"]),
            scatter_mag=float(row["scatter_mag"]),
            uncertain=row["uncertain"] == "1",
        )
        for row in read_table("imaging.photometry", "colour_terms.csv")
        if row["release"] == release
    }
    return ColourTerms(reference=f"published fits of Gaia {release.upper()} (Vega) to DECam (AB)", bands=bands)


def gaia_release(stars: pa.Table) -> Release:
    """Return the Gaia release of a table of stars, from the epoch of its positions.

    Parameters
    ----------
    stars
        Columns of :data:`imaging.schemas.reference.REFERENCE_STARS`.
    """
    epoch = column(stars, "ref_epoch").astype(float)
    return "dr2" if epoch.size and float(np.median(epoch)) < LAST_DR2_EPOCH_YR else "dr3"


@dataclass(frozen=True, eq=False)
class BandMagnitudes:
    """Magnitudes of reference stars in one band; every array is (n,).

    Attributes
    ----------
    mag, mag_error
        float64, AB magnitudes and their errors, scatter of the colour term included; NaN if not usable.
    usable
        bool; measured in all three Gaia bands, colour in range, not variable.
    catalogue
        (n,) text, catalogue of each magnitude; None if all are Gaia's.
    """

    mag: FloatArray
    mag_error: FloatArray
    usable: NDArray[np.bool_]
    catalogue: NDArray[np.str_] | None = None


def band_magnitudes(stars: pa.Table, band: str, colour_terms: ColourTerms) -> BandMagnitudes:
    """Transform Gaia magnitudes to a band of the camera.

    Parameters
    ----------
    stars
        Columns of :data:`imaging.schemas.reference.REFERENCE_STARS`.
    band
        Band name. One without a colour term has no usable stars, and its zero points are flagged ``UNCALIBRATED``.
    colour_terms
        Terms of all bands.
    """
    term = colour_terms.bands.get(band)
    n = stars.num_rows
    if term is None:
        return BandMagnitudes(np.full(n, np.nan), np.full(n, np.nan), np.zeros(n, bool))
    g, bp, rp = (_float(stars, f"phot_{name}_mean_mag") for name in ("g", "bp", "rp"))
    g_error, bp_error, rp_error = (_float(stars, f"phot_{name}_mean_mag_error") for name in ("g", "bp", "rp"))
    colour = bp - rp
    polynomial = np.polynomial.Polynomial(term.coefficients)
    usable = np.isfinite(g) & (colour >= term.colour_min) & (colour <= term.colour_max) & ~_variable(stars)
    colour = np.where(usable, colour, term.colour_min)
    slope = polynomial.deriv()(colour)
    errors = [np.nan_to_num(e) for e in (g_error, bp_error, rp_error)]
    total = np.sqrt(errors[0] ** 2 + slope**2 * (errors[1] ** 2 + errors[2] ** 2) + term.scatter_mag**2)
    mag = np.where(usable, g + polynomial(colour), np.nan)
    return BandMagnitudes(mag, np.where(usable, total, np.nan), usable)


def _float(stars: pa.Table, name: str) -> FloatArray:
    return column(stars, name).astype(np.float64)


def _variable(stars: pa.Table) -> NDArray[np.bool_]:
    return np.asarray(stars.column("variable").fill_null(False).to_numpy(), dtype=bool)
