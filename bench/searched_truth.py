"""Test of the predicted detection probability of a kilonova with kilonovae injected into the pixels.

Kilonovae are drawn from a sky map with distances and injected into search images. The search runs with its own fakes;
the detection probability that it predicts from map, footprint and fakes is compared with the share of kilonovae that it
detects. The prediction does not use the injected positions.
"""

from dataclasses import dataclass, replace

import astropy.units as u
import numpy as np
from astropy_healpix import HEALPix

from bench.difference_runs import Scenario, is_true, run, take
from bench.report import Row, at_most
from imaging.detector.distortion import seed_wcs
from imaging.simulation.pairs import CCD, POINTING, make_pair_sky
from imaging.skymap.build import skymap_from_flat
from imaging.skymap.coverage import search_coverage
from imaging.skymap.distance import norm_of
from imaging.skymap.footprints import Footprints
from imaging.skymap.model import SkyMap
from imaging.skymap.settings import CoverageSettings
from imaging.wcs.sphere import footprint, offset_position, separation_deg

DRAWS = 600
"""Number of kilonovae drawn from the map for each search image; about 60 % fall inside it."""

SIGMA_DEG, DISTANCE_MPC, DISTANCE_SIGMA_MPC = 0.08, 200.0, 50.0
"""Width of the map, about that of a CCD, so that CCD edges matter, and its distance with standard deviation."""

ABSOLUTE_MAG = -13.6
"""Absolute magnitude; at the distance of the map close to the search depth, so that the efficiency matters."""

SCENARIOS = (Scenario(71), Scenario(72, search_fwhm=1.4), Scenario(73, search_fwhm=0.9, n_templates=1))


@dataclass(frozen=True)
class Drawn:
    """Predicted and measured detection probability for one search image.

    Attributes
    ----------
    predicted, predicted_usual
        Detection probability, with the efficiency curve of the image's own fakes, and with m50 alone.
    found
        Share of the kilonovae of the map that were detected and passed all cuts.
    inside, searched
        Share of them on the image, counted and predicted.
    """

    predicted: float
    predicted_usual: float
    found: float
    inside: float
    searched: float


def narrow_skymap(ra_deg: float, dec_deg: float, order: int = 13) -> SkyMap:
    """Return the map: a circular Gaussian with one distance, in pixels of 0.5 arcmin around its centre."""
    grid = HEALPix(2**order, order="nested")
    pixel = grid.cone_search_lonlat(ra_deg * u.deg, dec_deg * u.deg, 7.0 * SIGMA_DEG * u.deg)
    ra, dec = (a.to_value("deg") for a in grid.healpix_to_lonlat(pixel))
    probability = np.exp(-0.5 * (separation_deg(ra, dec, ra_deg, dec_deg) / SIGMA_DEG) ** 2)
    mu, sigma = np.full(pixel.size, DISTANCE_MPC), np.full(pixel.size, DISTANCE_SIGMA_MPC)
    distance = {"mu_mpc": mu, "sigma_mpc": sigma, "norm": norm_of(mu, sigma)}
    return skymap_from_flat(
        probability / probability.sum(), nested=True, index=pixel, nside=2**order, distance=distance
    )


def draw(scenario: Scenario) -> Drawn:
    """Draw kilonovae from the map into the pixels of a search image, search it, and count."""
    rng = np.random.default_rng((scenario.seed, 9))
    wcs, shape = seed_wcs(CCD, *POINTING), scenario.shape
    ra0, dec0 = (float(v) for v in wcs.pixel_to_sky(0.35 * shape[1], 0.4 * shape[0]))
    ra, dec = offset_position(ra0, dec0, *rng.normal(0.0, 3600.0 * SIGMA_DEG, (2, DRAWS)))
    grid = np.linspace(0.5, 600.0, 20_000)
    density = grid**2 * np.exp(-0.5 * ((grid - DISTANCE_MPC) / DISTANCE_SIGMA_MPC) ** 2)
    distance = np.interp(rng.uniform(0, density.sum(), DRAWS), np.cumsum(density), grid)
    x, y = wcs.sky_to_pixel(ra, dec)
    on = (x > -0.5) & (x < shape[1] - 0.5) & (y > -0.5) & (y < shape[0] - 0.5)
    mag = ABSOLUTE_MAG + 5.0 * np.log10(distance[on]) + 25.0
    sky = replace(make_pair_sky(scenario.seed, shape, 0), transient_x=x[on], transient_y=y[on], transient_mag=mag)
    truth = take(scenario, sky)
    result = run(truth, scenario)
    real, nearest = is_true(result.detections, truth)
    found = np.unique(nearest[real & result.detections.passed]).size
    skymap = narrow_skymap(ra0, dec0)
    quality = result.quality
    image = Footprints(
        np.array([scenario.seed]), np.array([CCD]), np.array(["r"]), np.array([6e4]),
        footprint(truth.search.image.wcs, shape[1], shape[0])[None], np.array([quality["m50_mag"]]),
    )  # fmt: skip
    measured = replace(
        image,
        width_mag=np.array([quality["efficiency_width_mag"]]),
        efficiency_max=np.array([quality["efficiency_max"]]),
    )
    settings = CoverageSettings(order=15)
    own, usual = (search_coverage(skymap, f, settings) for f in (measured, image))
    return Drawn(
        own.probability_found_absolute({"r": ABSOLUTE_MAG}),
        usual.probability_found_absolute({"r": ABSOLUTE_MAG}),
        found / DRAWS,
        float(on.mean()),
        own.probability_searched,
    )


def truth_rows(quick: bool) -> list[Row]:
    """Compare the predictions with the counts; one search image if ``quick``."""
    scenarios = SCENARIOS[:1] if quick else SCENARIOS
    drawn = [draw(scenario) for scenario in scenarios]
    n, seeds = len(drawn) * DRAWS, [scenario.seed for scenario in scenarios]
    found, predicted, usual = (
        float(np.mean([getattr(d, name) for d in drawn])) for name in ("found", "predicted", "predicted_usual")
    )
    spread = 100 * np.sqrt(found * (1 - found) / n)
    inside = float(np.mean([d.inside - d.searched for d in drawn]))
    worst = max((d.predicted - d.found for d in drawn), key=abs)
    return [
        Row("kilonovae of the map that were detected", 100 * found, "%", n=n, seeds=tuple(seeds)),
        at_most("predicted minus detected share", abs(100 * (predicted - found)), "%", 2.5 * spread, n=n, seeds=seeds),
        Row("the same for the worst image", 100 * worst, "%", n=DRAWS),
        Row("the same with one curve for all images", 100 * (usual - found), "%", n=n),
        Row("share on the image, predicted minus counted", -100 * inside, "%", n=n),
    ]
