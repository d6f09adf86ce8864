"""Derive the colour terms from Gaia to the camera's bands from stellar spectra and measured throughputs.

Synthetic photometry: spectra of Pickles (1998, PASP 110, 863) through Gaia's passbands and zero points (Riello et al.
2021, A&A 649, A3) and through the camera's throughput (Marshall et al. 2013, averaged over the CCDs) and the standard
atmosphere of the Dark Energy Survey. Photons are counted; camera magnitudes are AB, Gaia's are Vega.

``python -m tools.derive_colour_terms --throughputs DIR --spectra DIR --passbands DIR`` compares the terms with the
shipped ones, and explains their difference in scale; ``--csv`` prints lines for
``imaging/photometry/data/colour_terms.csv``. The spectra are those in the source distribution of Barak 0.3.2
(``barak/data/templates/pickles``), the passbands those of speclite 1.0 (``speclite/data/filters/gaiadr3-*.ecsv`` and
``decam2014-u.ecsv``, which includes the atmosphere); both are on PyPI.

The shipped terms of g, r, i and z are fits to real stars, on the scale of Pan-STARRS, which is 20 to 33 mmag brighter
than AB (Scolnic et al. 2015, ApJ 815, 117); synthetic terms are AB. u and VR are shifted by the mean difference in g
and r, so that colours between bands are consistent; Y is derived from the terms of i and z with the relations of Tucker
et al. (DELVE DR2) between Pan-STARRS and the camera.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from imaging.photometry.colours import RELEASES, ColourTerm, published_colour_terms

FloatArray = NDArray[np.float64]

GRID_ANGSTROM = np.arange(3000.0, 11500.0, 5.0)

GAIA_VEGA_MINUS_AB = {
    "G": 25.6873668671 - 25.8010446445,
    "BP": 25.3385422158 - 25.3539555559,
    "RP": 24.7478955012 - 25.1039837393,
}
"""Zero points of the third data release: Vega minus AB, magnitudes."""

CAMERA_FILES = ("g", "r", "i", "z", "Y")

VR_EDGES_ANGSTROM = (5000.0, 7600.0)
"""Half-transmission wavelengths of VR, from centre and width in the header's filter name; its curve is not public."""

CLASSES = ("V", "IV", "III")
"""Luminosity classes of field stars: dwarfs, subgiants, giants."""

RANGES = {
    "u": (0.5, 1.1),
    "g": (0.3, 1.7),
    "r": (0.3, 2.0),
    "i": (0.3, 2.0),
    "z": (0.3, 2.0),
    "Y": (0.3, 2.0),
    "VR": (0.4, 2.0),
}
"""Colours BP - RP in which the stars of all classes follow one relation."""

SCALE_BANDS = ("g", "r")
"""Bands whose published terms set the scale of those that have none."""

AB_MINUS_PANSTARRS_MMAG = {"g": 20.0, "r": 33.0, "i": 24.0, "z": 28.0}
"""AB minus Pan-STARRS magnitudes, mmag (Scolnic et al. 2015)."""

LEAST_SCATTER_MAG = {"VR": 0.02}
"""Minimum scatter of bands whose passband is not well known, mag."""

COMPOSED_RANGE, COMPOSED_DEGREE = (0.4, 1.9), 5
"""Colour range of the relations from which Y is composed, and the degree of its polynomial."""

DEGREES = {"u": 2, "g": 3, "r": 3, "i": 3, "z": 3, "Y": 3, "VR": 3}


@dataclass(frozen=True)
class Synthetic:
    """Synthetic magnitudes of the library's stars: names, Gaia's and the camera's; every array is (n,)."""

    names: tuple[str, ...]
    gaia: dict[str, FloatArray]
    camera: dict[str, FloatArray]

    @property
    def colour(self) -> FloatArray:
        """BP - RP."""
        return self.gaia["BP"] - self.gaia["RP"]


def ab_magnitude(flux: FloatArray, throughput: FloatArray) -> float:
    """Return the AB magnitude, up to a constant common to all bands, of a flux per wavelength on the grid.

    Photon-counting: the mean of F_nu weighted with throughput over wavelength.
    """
    photons = np.trapezoid(flux * throughput * GRID_ANGSTROM, GRID_ANGSTROM)
    flat = np.trapezoid(throughput / GRID_ANGSTROM, GRID_ANGSTROM)
    return float(-2.5 * np.log10(photons / flat))


def read_throughputs(folder: Path, passbands: Path) -> dict[str, FloatArray]:
    """Return the camera's throughput in every band on the grid, atmosphere included, in arbitrary units."""
    table = Table.read(folder / "des_atm_std.fits")
    atmosphere = _on_grid(table["lambda"], table["throughput_atm"])
    bands = {}
    for band in CAMERA_FILES:
        table = Table.read(folder / f"{band}_band_per_detector_throughput.fits")
        bands[band] = _on_grid(table["lambda"], table["throughput_avg"]) * atmosphere
    bands["u"] = _read_passband(passbands / "decam2014-u.ecsv")
    low, high = VR_EDGES_ANGSTROM
    bands["VR"] = (np.abs(GRID_ANGSTROM - (low + high) / 2) <= (high - low) / 2) * atmosphere
    return bands


def _read_passband(path: Path) -> FloatArray:
    table = Table.read(path, format="ascii.ecsv")
    return _on_grid(table["wavelength"].quantity.to_value("Angstrom"), table["response"])


def _on_grid(wavelength: Any, values: Any) -> FloatArray:  # noqa: ANN401
    return np.interp(GRID_ANGSTROM, np.asarray(wavelength, float), np.asarray(values, float), left=0.0, right=0.0)


def synthesise(throughputs: Path, spectra: Path, passbands: Path) -> Synthetic:
    """Compute the magnitudes of the library's stars of the wanted luminosity classes."""
    camera = read_throughputs(throughputs, passbands)
    gaia = {name: _read_passband(passbands / f"gaiadr3-{name}.ecsv") for name in GAIA_VEGA_MINUS_AB}
    names, gaia_mag, camera_mag = [], [], []
    for path in sorted(spectra.glob("*.fits")):
        star_class = path.stem.lstrip("wrOBAFGKM0123456789-")
        if star_class not in CLASSES:
            continue
        table = Table.read(path)
        flux = _on_grid(table["wa"], table["fl"])
        names.append(path.stem)
        gaia_mag.append([ab_magnitude(flux, t) + GAIA_VEGA_MINUS_AB[n] for n, t in gaia.items()])
        camera_mag.append([ab_magnitude(flux, t) for t in camera.values()])
    by_gaia = dict(zip(gaia, np.array(gaia_mag).T, strict=True))
    return Synthetic(tuple(names), by_gaia, dict(zip(camera, np.array(camera_mag).T, strict=True)))


def fit_term(stars: Synthetic, band: str) -> tuple[ColourTerm, int]:
    """Fit the colour term of a band; return it and the number of stars.

    The scatter is that of the stars about the polynomial, per degree of freedom: classes and metallicities differ, and
    the spectra are calibrated to 1 to 2 %.
    """
    low, high = RANGES[band]
    chosen = (stars.colour >= low - 0.05) & (stars.colour <= high + 0.05)
    colour, offset = stars.colour[chosen], (stars.camera[band] - stars.gaia["G"])[chosen]
    fit = np.polynomial.Polynomial.fit(colour, offset, DEGREES[band])
    misfit = offset - fit(colour)
    scatter = float(np.sqrt((misfit**2).sum() / (colour.size - DEGREES[band] - 1)))
    scatter = max(scatter, LEAST_SCATTER_MAG.get(band, 0.0))
    coefficients = tuple(round(float(c), 6) for c in fit.convert().coef)
    term = ColourTerm(
        coefficients=coefficients, colour_min=low, colour_max=high, scatter_mag=round(scatter, 3), uncertain=True
    )
    return term, colour.size


def composed_y(i: ColourTerm, z: ColourTerm) -> tuple[float, ...]:
    """Return the coefficients of Y from the terms of i and z.

    The relations of Tucker et al. give the camera's i, z and Y from Pan-STARRS' i and z, each linear in i - z; they are
    solved for Pan-STARRS' magnitudes.
    """
    colour = np.linspace(*COMPOSED_RANGE, 400)
    mag_i, mag_z = (np.polynomial.Polynomial(term.coefficients)(colour) for term in (i, z))
    i_minus_z = (mag_i - mag_z - (0.0026 + 0.0074)) / (1.0 - 0.3407 + 0.2575)
    panstarrs_z = mag_z + 0.2575 * i_minus_z + 0.0074
    mag_y = panstarrs_z - 0.6032 * i_minus_z + 0.0185
    fit = np.polynomial.Polynomial.fit(colour, mag_y, COMPOSED_DEGREE).convert()
    return tuple(float(c) for c in fit.coef)


def differences(term: ColourTerm, other: ColourTerm) -> tuple[float, float]:
    """Return mean and rms difference of two terms over their common colour range, mmag."""
    colour = np.linspace(max(term.colour_min, other.colour_min), min(term.colour_max, other.colour_max), 100)
    here, there = (np.polynomial.Polynomial(t.coefficients)(colour) for t in (term, other))
    return float(1000 * np.mean(here - there)), float(1000 * np.std(here - there))


def main() -> None:
    """Print the terms."""
    parser = argparse.ArgumentParser(description="derive colour terms")
    for name in ("throughputs", "spectra", "passbands"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--csv", action="store_true", help="print lines of colour_terms.csv")
    options = parser.parse_args()
    stars = synthesise(options.throughputs, options.spectra, options.passbands)
    terms = {band: fit_term(stars, band) for band in RANGES}
    for release in RELEASES:
        published = published_colour_terms(release).bands
        if options.csv:
            _print_lines(release, terms, published)
        else:
            _print_comparison(release, terms, published)


def _print_lines(
    release: str, terms: Mapping[str, tuple[ColourTerm, int]], published: Mapping[str, ColourTerm]
) -> None:
    """Print the lines of the bands without published terms, shifted to the scale of those with."""
    scale_mmag = float(np.mean([differences(terms[band][0], published[band])[0] for band in SCALE_BANDS]))
    for band in ("u", "VR"):
        term = terms[band][0]
        moved = (term.coefficients[0] - scale_mmag / 1000, *term.coefficients[1:])
        _print_line(release, band, (term.colour_min, term.colour_max), term.scatter_mag, moved)
    _print_line(release, "Y", COMPOSED_RANGE, published["Y"].scatter_mag, composed_y(published["i"], published["z"]))


def _print_line(
    release: str, band: str, limits: tuple[float, float], scatter_mag: float, coefficients: Sequence[float]
) -> None:
    words = " ".join(f"{c:.6f}" for c in coefficients)
    print(f"{release},{band},{limits[0]},{limits[1]},{scatter_mag:.3f},1,{words}")


def _print_comparison(
    release: str, terms: Mapping[str, tuple[ColourTerm, int]], published: Mapping[str, ColourTerm]
) -> None:
    print(f"Gaia {release.upper()}: synthetic minus shipped term, mmag")
    for band, (term, n) in terms.items():
        text = f"  {band:2s} {n} spectra, BP-RP {term.colour_min} to {term.colour_max}, scatter {term.scatter_mag:.3f}"
        mean, rms = differences(term, published[band])
        text += f"; mean {mean:.1f}, rms {rms:.1f}"
        if band in AB_MINUS_PANSTARRS_MMAG:
            scale = AB_MINUS_PANSTARRS_MMAG[band]
            text += f"; Pan-STARRS to AB {scale:.0f}, unexplained {mean - scale:+.1f}"
        print(text)


if __name__ == "__main__":
    main()
