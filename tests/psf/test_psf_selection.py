"""Choosing PSF stars: galaxies and cosmic rays stay out, a PSF that varies keeps its stars."""

import numpy as np
import pytest

from imaging.errors import CcdError
from imaging.psf.select import StarCandidates, select_psf_stars, stellar_size
from imaging.psf.settings import PsfSettings

SETTINGS = PsfSettings()


def population(seed, n_stars=150, n_galaxies=250, n_rays=80):
    random = np.random.default_rng(seed)
    n = n_stars + n_galaxies + n_rays
    x, y = random.uniform(50, 1998, n), random.uniform(50, 4046, n)
    kind = np.repeat([0, 1, 2], [n_stars, n_galaxies, n_rays])
    width = np.select([kind == 0, kind == 1], [np.full(n, 4.0), 4.0 * (1.15 + random.exponential(0.5, n))], 2.3)
    width *= 1 + 0.04 * (x / 1024 - 1) + random.normal(0, 0.01, n)
    concentration = 0.9 + 0.25 * (width - 4.0) + random.normal(0, 0.01, n)
    flux = 10 ** random.uniform(4.3, 6.0, n)
    nothing = np.zeros(n)
    return kind, StarCandidates(
        x, y, flux, flux / 600.0, width, concentration, nothing + 0.05, np.ones(n, bool), nothing
    )


@pytest.mark.parametrize("seed", range(3))
def test_stars_are_chosen_and_little_else(seed):
    kind, sources = population(seed)
    chosen = select_psf_stars(sources, SETTINGS, seeing_pixels=3.9)
    assert (kind[chosen] == 0).mean() > 0.98
    bright_stars = (kind == 0) & (sources.snr > SETTINGS.minimum_snr)
    assert chosen.size > 0.9 * min(bright_stars.sum(), SETTINGS.maximum_stars)


def test_brightest_come_first():
    _, sources = population(1)
    chosen = select_psf_stars(sources, SETTINGS, seeing_pixels=4.1)
    assert (np.diff(sources.flux[chosen]) <= 0).all()


def test_crowded_stars_are_admitted_only_when_there_are_few_others():
    kind, sources = population(2, n_galaxies=0, n_rays=0)
    crowded = np.arange(kind.size) % 2 == 0
    sources.neighbour_fraction[crowded] = 0.08
    assert not crowded[select_psf_stars(sources, SETTINGS)].any()
    demanding = SETTINGS.with_values(enough_stars=140)
    assert crowded[select_psf_stars(sources, demanding)].any()


def test_too_few_stars_is_said_with_numbers():
    _, sources = population(3, n_stars=3, n_galaxies=0, n_rays=0)
    with pytest.raises(CcdError) as caught:
        select_psf_stars(sources, SETTINGS)
    assert caught.value.reason == "too_few_psf_stars"
    assert "3" in caught.value.value


def test_the_stars_size_is_found_among_more_galaxies():
    random = np.random.default_rng(0)
    sizes = np.concatenate([random.normal(3.8, 0.08, 30), random.uniform(4.2, 12.0, 300)])
    assert stellar_size(sizes) == pytest.approx(3.8, rel=0.03)


def test_galaxies_alone_are_no_stars_when_the_seeing_is_known():
    _, sources = population(4, n_stars=0, n_galaxies=200, n_rays=0)
    sources.fwhm_pixels[:] *= 1.6
    with pytest.raises(CcdError):
        select_psf_stars(sources, SETTINGS, seeing_pixels=4.0)
