"""Reference catalogues of a simulated night: Gaia-like stars, galaxies with distances, colour terms."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imaging.photometry.colours import ColourTerm, ColourTerms
from imaging.schemas.reference import REFERENCE_GALAXIES, REFERENCE_STARS, DistanceMethod
from imaging.simulation.galaxies import Galaxies, luminosity_distance_mpc
from imaging.simulation.stars import INTRINSIC_SCATTER_MAG, REFERENCE_EPOCH_YR, Stars, stellar_locus
from imaging.simulation.streams import random_stream
from imaging.tables import make_table

FloatArray = NDArray[np.float64]

FAINTEST_G, COMPLETENESS = 20.9, 0.975
"""Magnitude limit of the star catalogue, and its completeness above it."""

LOCUS_RANGE = (0.4, 2.8)
LOCUS_DEGREE = 6
"""Valid range of BP - RP of the exported colour terms, and the degree of their polynomials."""

GALAXY_FAINTEST_I, GALAXY_COMPLETENESS = 17.5, 0.7
"""Magnitude limit of the galaxy catalogue and its completeness; it is incomplete like GLADE+."""


def gaia_like_table(seed: int, stars: Stars) -> pa.Table:
    """Return a Gaia-like catalogue of the stars, with errors: columns of REFERENCE_STARS.

    The errors follow those of the third data release with magnitude; a twentieth of the stars are unresolved binaries
    with a poor astrometric fit.
    """
    random = random_stream(seed, "gaia")
    n = len(stars.g)
    known = (stars.g < FAINTEST_G) & (random.random(n) < COMPLETENESS) & (stars.g > 3.0)
    knots = [6.0, 13.0, 15.0, 17.0, 18.0, 19.0, 20.0, 21.0]
    error = np.exp(np.interp(stars.g, knots, np.log([0.02, 0.02, 0.025, 0.07, 0.12, 0.22, 0.45, 1.2])))
    binary = random.random(n) < 0.05
    ruwe = np.where(binary, random.uniform(1.4, 5.0, n), np.clip(random.normal(1.02, 0.05, n), 0.85, 1.35))
    true_error = error * np.where(binary, ruwe, 1.0)
    phot = {
        "g": np.interp(stars.g, [6, 17, 19, 20.9], [0.003, 0.003, 0.004, 0.008]),
        "bp": np.interp(stars.bp, [6, 15, 17, 18.5, 20, 21.5, 24], [0.003, 0.004, 0.008, 0.02, 0.07, 0.25, 0.5]),
        "rp": np.interp(stars.rp, [6, 15, 17, 18.5, 20, 21.5], [0.004, 0.005, 0.008, 0.02, 0.06, 0.2]),
    }
    cos_dec = np.maximum(np.cos(np.radians(stars.dec)), 1e-9)
    columns: dict[str, Any] = {
        "source_id": stars.source_id,
        "ra": (stars.ra + random.normal(0, 1, n) * true_error / 3.6e6 / cos_dec) % 360.0,
        "dec": np.clip(stars.dec + random.normal(0, 1, n) * true_error / 3.6e6, -90.0, 90.0),
        "ra_error": error,
        "dec_error": error,
        "ref_epoch": np.full(n, REFERENCE_EPOCH_YR),
        "pmra": stars.pmra + random.normal(0, 1, n) * 1.03 * true_error,
        "pmdec": stars.pmdec + random.normal(0, 1, n) * 1.03 * true_error,
        "pmra_error": 1.03 * error,
        "pmdec_error": 1.03 * error,
        "parallax": stars.parallax + random.normal(0, 1, n) * 1.15 * true_error,
        "parallax_error": 1.15 * error,
        "ruwe": ruwe,
        "variable": (stars.variability > 0) & (random.random(n) < 0.8),
    }
    for name in ("g", "bp", "rp"):
        truth = getattr(stars, name)
        columns[f"phot_{name}_mean_mag"] = truth + random.normal(0, 1, n) * phot[name]
        columns[f"phot_{name}_mean_mag_error"] = phot[name]
    unknown = {
        "position only": (stars.g > 20.6) & (random.random(n) < 0.3),
        "no colour": (stars.bp > 21.2) & (random.random(n) < 0.6),
    }
    table = {name: values[known] for name, values in columns.items()}
    table |= _nulls(
        table,
        ("pmra", "pmdec", "pmra_error", "pmdec_error", "parallax", "parallax_error"),
        unknown["position only"][known],
    )
    colours = [f"phot_{name}_mean_mag{suffix}" for name in ("bp", "rp") for suffix in ("", "_error")]
    table |= _nulls(table, tuple(colours), unknown["no colour"][known])
    return make_table(table, REFERENCE_STARS)


def _nulls(columns: dict[str, Any], names: tuple[str, ...], missing: NDArray[np.bool_]) -> dict[str, pa.Array]:
    return {name: pa.array(columns[name].astype(np.float32), mask=missing) for name in names}


def galaxy_table(seed: int, galaxies: Galaxies, host_id: int, distance_mpc: float) -> pa.Table:
    """Return a catalogue of bright galaxies with distances: columns of REFERENCE_GALAXIES.

    A third of the distances are spectroscopic (3 %, peculiar motion included), the rest photometric (15 %); a twentieth
    of the galaxies have none. The host of the kilonova is in the catalogue.
    """
    random = random_stream(seed, "galaxy catalogue")
    n = len(galaxies.ra)
    mag_i = galaxies.mags["i"]
    host = galaxies.source_id == host_id
    known = host | ((mag_i < GALAXY_FAINTEST_I) & (random.random(n) < GALAXY_COMPLETENESS))
    true_distance = np.where(host, distance_mpc, luminosity_distance_mpc(galaxies.redshift))
    relative = np.where(host | (random.random(n) < 1 / 3), 0.03, 0.15)
    distance = true_distance * np.exp(relative * random.normal(0, 1, n))
    none = (random.random(n) < 0.05) & ~host
    mag_b = galaxies.mags["g"] + 0.35 * (galaxies.mags["g"] - galaxies.mags["r"]) + 0.15 + random.normal(0, 0.1, n)
    columns: dict[str, Any] = {
        "source_id": galaxies.source_id,
        "ra": galaxies.ra,
        "dec": galaxies.dec,
        "redshift": galaxies.redshift * distance / true_distance,
        "distance_mpc": distance,
        "distance_error_mpc": relative * distance,
        "mag_b": mag_b,
        "mag_i": mag_i + random.normal(0, 0.05, n),
        "half_light_radius_arcsec": galaxies.radius_arcsec * np.exp(random.normal(0, 0.05, n)),
        "distance_method": np.where(relative < 0.1, DistanceMethod.SPECTROSCOPIC, DistanceMethod.PHOTOMETRIC),
    }
    table = {name: values[known] for name, values in columns.items()}
    table |= _nulls(table, ("redshift", "distance_mpc", "distance_error_mpc"), none[known])
    return make_table(table, REFERENCE_GALAXIES)


def locus_colour_terms() -> ColourTerms:
    """Return the colour terms from Gaia magnitudes to each band, as fitted to the stars."""
    colour = np.linspace(*LOCUS_RANGE, 400)
    bands = {}
    for band, offset in stellar_locus(colour).items():
        fit = np.polynomial.Polynomial.fit(colour, offset, LOCUS_DEGREE).convert()
        misfit = float(np.std(offset - fit(colour)))
        bands[band] = ColourTerm(
            coefficients=tuple(round(float(c), 7) for c in fit.coef),
            colour_min=LOCUS_RANGE[0],
            colour_max=LOCUS_RANGE[1],
            scatter_mag=round(float(np.hypot(INTRINSIC_SCATTER_MAG, misfit)), 5),
        )
    return ColourTerms(reference="simulated stars, Gaia G, BP, RP (Vega) to DECam (AB)", bands=bands)
