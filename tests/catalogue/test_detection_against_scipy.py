"""The matched filter and the isophotes against scipy, flags against the drawn field, the sky against astropy."""

import galsim
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from drawn import as_image, draw, psf_model, with_noise
from scipy.ndimage import correlate, label, maximum_filter
from scipy.spatial import cKDTree

from imaging.bits import MaskBit
from imaging.catalogue.build import build_catalogue, find_sources, place_on_sky
from imaging.catalogue.detect import detect, matched_filter
from imaging.catalogue.flags import CatalogueFlag
from imaging.catalogue.settings import CatalogueSettings
from imaging.detector.distortion import seed_wcs
from imaging.exposure import Exposure

SETTINGS = CatalogueSettings()
FWHM, SIGMA = 4.0, 30.0
FWHM_TO_SIGMA = 0.42466
PSF = galsim.Moffat(beta=3.0, fwhm=FWHM)


def taps(fwhm):
    """Return the Gaussian of a width in pixels, as far as two of its sigma and two pixels at least."""
    sigma = fwhm * FWHM_TO_SIGMA
    radius = max(2, int(np.ceil(2 * sigma)))
    line = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return np.outer(line, line)


@pytest.mark.parametrize("fwhm", [1.5, 2.5, 4.0, 6.1])
def test_the_matched_filter_is_the_weighted_sum_of_scipy(fwhm):
    random = np.random.default_rng(1)
    shape = (41, 53)
    science = random.normal(0, 50, shape).astype(np.float32)
    weight = (random.uniform(0.2, 2.0, shape) * (random.random(shape) > 0.2)).astype(np.float32)
    weight[:8, :9] = 0.0
    kernel = taps(fwhm)
    signal = correlate((weight * science).astype(float), kernel, mode="constant")
    power = correlate(weight.astype(float), kernel**2, mode="constant")
    expected = np.where(power > 0, signal / np.sqrt(np.where(power > 0, power, 1.0)), 0.0)
    # What a pixel without weight holds does not matter, be it no number at all.
    found = matched_filter(np.where(weight > 0, science, np.float32(np.nan)), np.zeros(shape, np.int16), weight, fwhm)
    # The constant of the width is given here with five figures, the images with seven.
    assert np.abs(found - expected).max() < 1e-3


def test_a_saturated_pixel_takes_the_median_weight_and_a_bad_one_none():
    shape = (41, 53)
    science = np.zeros(shape, np.float32)
    weight = np.full(shape, 0.04, np.float32)
    weight[::8, ::8] = 0.01  # the pixels that the median is taken of
    mask = np.zeros(shape, np.int16)
    science[20, 20] = 1000.0
    weight[20, 20] = 0.0
    kernel = taps(FWHM)
    radius = kernel.shape[0] // 2
    for bits, share in (
        (MaskBit.SATURATE, 1.0),
        (MaskBit.SATURATE | MaskBit.TRAIL, 1.0),
        (MaskBit.SATURATE | MaskBit.BPM, 0.0),
        (MaskBit.SATURATE | MaskBit.CRAY, 0.0),
        (MaskBit.TRAIL, 0.0),
    ):
        mask[20, 20] = np.int16(bits)
        around = weight.astype(float)
        around[20, 20] = 0.01 * share
        power = correlate(around, kernel**2, mode="constant")[20, 20]
        found = matched_filter(science, mask, weight, FWHM)
        assert found[20, 20] == pytest.approx(share * 10.0 / np.sqrt(power), rel=1e-4), bits
        assert found[20, 20 + radius + 1] == 0.0


def star_field(seed, shape=(320, 300), n=45):
    random = np.random.default_rng(seed)
    x, y = random.uniform(20, shape[1] - 20, n), random.uniform(20, shape[0] - 20, n)
    noise = SIGMA * np.sqrt(4 * np.pi) * FWHM * FWHM_TO_SIGMA
    flux = noise * 10 ** random.uniform(0.5, 2.5, n)
    light = draw(shape, [(PSF * f, a, b) for a, b, f in zip(x, y, flux, strict=True)])
    return with_noise(light, SIGMA, seed).astype(np.float32), x, y


@pytest.mark.parametrize("seed", [2, 3])
def test_isophotes_are_the_groups_of_four_pixels_above_five_sigma(seed):
    """The groups are labelled by scipy on its own filtered image."""
    science, _, _ = star_field(seed)
    found = detect(as_image(science, SIGMA), FWHM, SETTINGS)
    kernel = taps(FWHM)
    power = correlate(np.full(science.shape, SIGMA**-2), kernel**2, mode="constant")
    snr = correlate(science.astype(float), kernel, mode="constant") / SIGMA**2 / np.sqrt(power)
    labels, n = label(snr > 5.0, structure=np.ones((3, 3)))
    large = [k for k in range(1, n + 1) if np.sum(labels == k) >= 4]
    assert len(large) > 25
    holders = {int(labels[y, x]) for x, y in zip(found.x.astype(int), found.y.astype(int), strict=True)}
    # A pixel at the threshold, or a wing that the search cleans away, may tip either way.
    assert len(holders ^ set(large)) <= 1
    outside = (found.segmentation > 0) & ~np.isin(labels, large)
    assert outside.sum() <= 2
    assert ((found.segmentation == 0) & np.isin(labels, sorted(holders))).mean() < 2e-4
    peaks = maximum_filter(snr, 3)[found.y.astype(int), found.x.astype(int)]
    assert snr[found.y.astype(int), found.x.astype(int)] == pytest.approx(peaks, rel=1e-3)


def test_sources_lie_where_galsim_drew_them_and_their_peaks_inside_their_isophotes():
    science, x, y = star_field(4)
    image = as_image(science, SIGMA)
    sources = find_sources(image, FWHM, SETTINGS)
    tree = cKDTree(np.stack([x, y], -1))
    lone = tree.query(np.stack([x, y], -1), k=2)[0][:, 1] > 18
    distance, nearest = tree.query(np.stack([sources.centroids.x, sources.centroids.y], -1))
    good = (distance < 2) & lone[nearest] & sources.centroids.converged & (sources.snr > 10)
    assert good.sum() > 12
    pull = (sources.centroids.x - x[nearest])[good] / sources.centroids.x_error[good]
    assert np.abs(pull).max() < 4.5
    assert np.median(sources.fwhm_pixels[good & (sources.snr > 40)]) == pytest.approx(FWHM, rel=0.03)
    found = sources.detections
    owner = found.segmentation[found.y.astype(int), found.x.astype(int)]
    assert np.array_equal(owner, np.arange(1, len(found) + 1))


def test_flags_say_what_is_wrong_with_each_source():
    shape = (200, 220)
    places = {"alone": (40, 40), "one": (120, 40), "other": (128, 40), "full": (60, 140), "edge": (217, 150)}
    light = draw(shape, [(PSF * 2e5, *place) for place in places.values()])
    image = as_image(with_noise(light, SIGMA, 5), SIGMA)
    image.mask[139:142, 59:62] |= np.int16(MaskBit.SATURATE)
    sources = find_sources(image, FWHM, SETTINGS)
    x, y = sources.centroids.x, sources.centroids.y
    flags = {name: int(sources.flags[np.hypot(x - a, y - b).argmin()]) for name, (a, b) in places.items()}
    assert len(sources) == len(places)
    assert flags["alone"] == 0
    assert flags["one"] & CatalogueFlag.DEBLENDED
    assert flags["other"] & CatalogueFlag.NEIGHBOURS
    assert flags["full"] == CatalogueFlag.SATURATED
    assert flags["edge"] & CatalogueFlag.TRUNCATED
    assert not flags["one"] & CatalogueFlag.TRUNCATED
    snr = sources.apertures.flux[:, 3] / sources.apertures.flux_error[:, 3]
    assert sources.snr == pytest.approx(snr)


def test_the_catalogue_has_the_sky_positions_of_astropy_and_the_drawn_fluxes():
    science, x, y = star_field(6, n=20)
    image = as_image(science, SIGMA)
    wcs = seed_wcs(33, 197.4, -23.4)
    exposure = Exposure(1300001, "i", 20240510, 60440.0, 90.0, 197.4, -23.4, 1.2)
    sources = find_sources(image, FWHM, SETTINGS)
    table = build_catalogue(image, sources, psf_model(PSF, FWHM), wcs, exposure, 33, SETTINGS)
    assert table.num_rows == len(sources)
    assert set(table["band"].to_pylist()) == {"i"}
    assert table["number"].to_pylist() == list(range(1, len(sources) + 1))
    for shifted in (None, seed_wcs(34, 12.0, 60.0)):
        placed = table if shifted is None else place_on_sky(table, shifted)
        header = fits.Header((wcs if shifted is None else shifted).to_header())
        header["NAXIS"] = 2
        ra, dec = WCS(header).all_pix2world(placed["x"].to_numpy(), placed["y"].to_numpy(), 0)
        assert placed["ra"].to_numpy() == pytest.approx(ra, abs=1e-8)
        assert placed["dec"].to_numpy() == pytest.approx(dec, abs=1e-8)
        assert placed.schema.equals(table.schema)
    # The 22.22 pixel aperture and the PSF flux count the same light.
    lone = cKDTree(np.stack([x, y], -1)).query(np.stack([table["x"], table["y"]], -1), k=2)[0][:, 1] > 30
    aperture = np.array(table["flux_aper"].to_pylist())[:, 7]
    error = np.array(table["flux_aper_error"].to_pylist())[:, 7]
    difference = (table["flux_psf"].to_numpy() - aperture)[lone] / error[lone]
    assert lone.sum() >= 5
    assert np.abs(difference).max() < 4.0
