"""Derive the transformations from SkyMapper's bands to the camera's from stellar spectra and measured throughputs.

``python -m tools.derive_survey_terms --throughputs DIR --spectra DIR --passbands DIR --filters FILE`` prints for each
band the polynomial in the mappings ``skymapper_*.json``, with its scatter. The folders are those of
``tools.derive_colour_terms``; the file is pyphot's filter library (``pyphot/libs/new_filters.hd5``, on PyPI), in which
SkyMapper's passbands (Bessell et al. 2011, PASP 123, 789) include the atmosphere; reading it requires ``h5py``.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from tools.derive_colour_terms import CLASSES, GRID_ANGSTROM, ab_magnitude, read_throughputs

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Rule:
    """Form of the transformation to a band of the camera.

    Attributes
    ----------
    magnitude
        Nearest band of the survey.
    colour
        Bands of the survey whose difference is the colour.
    limits
        Colour range of the fit.
    degree
        Degree of the polynomial.
    """

    magnitude: str
    colour: tuple[str, str]
    limits: tuple[float, float]
    degree: int = 1


RULES = {
    "u": Rule("u", ("u", "v"), (0.35, 0.65), 1),
    "g": Rule("g", ("g", "r"), (0.1, 0.7), 1),
    "r": Rule("r", ("g", "i"), (0.0, 1.4), 2),
    "i": Rule("i", ("g", "i"), (0.0, 1.4), 2),
    "z": Rule("z", ("i", "z"), (-0.1, 0.3), 1),
}
"""Colour ranges are those of dwarfs from F to K and giants to K0, which all follow one relation."""


def read_filters(path: Path) -> dict[str, FloatArray]:
    """Return SkyMapper's passbands on the grid."""
    import h5py

    with h5py.File(path) as file:
        tables = {band: file["filters"][f"SkyMapper_{band}"][()] for band in "uvgriz"}
    return {
        band: np.interp(GRID_ANGSTROM, table["WAVELENGTH"], table["THROUGHPUT"], left=0.0, right=0.0)
        for band, table in tables.items()
    }


def fit_rule(survey: Mapping[str, FloatArray], camera: FloatArray, rule: Rule) -> tuple[tuple[float, ...], float, int]:
    """Fit a transformation.

    Parameters
    ----------
    survey
        Band of the survey to the (n,) magnitudes of the stars.
    camera
        (n,) magnitudes in the camera's band.
    rule
        Form of the transformation.

    Returns
    -------
    coefficients
        Camera minus survey magnitude as a polynomial in the colour, lowest power first.
    scatter_mag
        Scatter of the stars about it.
    n
        Number of stars.
    """
    colour = survey[rule.colour[0]] - survey[rule.colour[1]]
    chosen = (colour >= rule.limits[0] - 0.05) & (colour <= rule.limits[1] + 0.05)
    offset = (camera - survey[rule.magnitude])[chosen]
    fit = np.polynomial.Polynomial.fit(colour[chosen], offset, rule.degree)
    misfit = offset - fit(colour[chosen])
    scatter = float(np.sqrt((misfit**2).sum() / max(offset.size - rule.degree - 1, 1)))
    return tuple(float(c) for c in fit.convert().coef), scatter, int(offset.size)


def main() -> None:
    """Print the transformations."""
    parser = argparse.ArgumentParser(description="derive the transformations of SkyMapper")
    for name in ("throughputs", "spectra", "passbands", "filters"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    filters = read_filters(options.filters)
    throughputs = read_throughputs(options.throughputs, options.passbands)
    spectra = [
        np.interp(GRID_ANGSTROM, table["wa"], table["fl"])
        for table in (
            Table.read(path)
            for path in sorted(options.spectra.glob("*.fits"))
            if path.stem.lstrip("wrOBAFGKM0123456789-") in CLASSES
        )
    ]
    survey = {band: np.array([ab_magnitude(flux, curve) for flux in spectra]) for band, curve in filters.items()}
    for band, rule in RULES.items():
        camera = np.array([ab_magnitude(flux, throughputs[band]) for flux in spectra])
        coefficients, scatter, n = fit_rule(survey, camera, rule)
        words = " ".join(f"{c:+.4f}" for c in coefficients)
        colour = " - ".join(rule.colour)
        print(f"{band} - {rule.magnitude}: {words} in {colour} ({rule.limits}), scatter {scatter:.4f} mag, {n} stars")


if __name__ == "__main__":
    main()
