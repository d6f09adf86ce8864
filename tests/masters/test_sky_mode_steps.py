"""The steps that build sky modes, from the products of exposures to the library that the sky fit reads."""

import numpy as np
import pytest

from blocks.site import Site
from imaging.errors import InputError
from imaging.exposure import Exposure
from imaging.identity import ExposureId
from imaging.io.calibrations import CalibrationLibrary, read_sky_modes, read_sky_templates
from imaging.io.images import write_planes
from imaging.masters.settings import SkyModeSettings
from tasks.build_sky_modes import common_ccds, find_modes, make_templates, modes_job, template_job
from tasks.calibration_files import master_path, record_files

CCDS, N, SETTINGS = (26, 33), 9, SkyModeSettings(n_modes=2)
PATTERN = np.sin(np.arange(64)[:, None] / 3.0) * np.ones(32)


@pytest.fixture(params=["i", "z"])
def processed(request, tmp_path):
    """Return a site with detrended exposures of one band: a level, and fringes of changing strength."""
    site, random = Site.at(tmp_path), np.random.default_rng(1)
    exposures = [ExposureId(1000 + k, request.param, 20240501 + k) for k in range(N)]
    for exposure in exposures:
        level, strength = random.uniform(2000.0, 4000.0), random.normal(0.0, 0.02)
        for ccd in CCDS:
            stem = site.store / exposure.folder / exposure.ccd_stem(ccd)
            image = level * (1.0 + strength * np.repeat(np.repeat(PATTERN, 8, axis=0), 8, axis=1))
            image = (image + random.normal(0.0, 20.0, image.shape)).astype(np.float32)
            blocks = image.reshape(32, 16, 16, 16).mean(axis=(1, 3)).astype(np.float32)
            write_planes(stem.with_name(f"{stem.name}_minisky.fits"), {"SKY": blocks}, {"CCDNUM": ccd})
            mask = np.zeros(image.shape, np.int16)
            write_planes(stem.with_name(f"{stem.name}_detrend.fits"), {"SCI": image, "MSK": mask}, {})
    return site, exposures


def test_modes_and_templates_reach_the_library(processed):
    site, exposures = processed
    band = exposures[0].band
    assert common_ccds(exposures, site) == CCDS
    modes = find_modes(modes_job(exposures, CCDS, site, "new", SETTINGS))
    assert modes.quality["rms_fraction"] < 3e-3
    for ccd in CCDS:
        make_templates(template_job(exposures, ccd, site, "new", modes, SETTINGS))
    paths = [master_path(site, "new", "sky_templates", ccd, band) for ccd in CCDS]
    built = {("sky_modes", band): [master_path(site, "new", "sky_modes", 0, band)], ("sky_templates", band): paths}
    record_files(site, 20240509, "new", built)
    library = CalibrationLibrary(site.calibrations)
    observed = Exposure(2000, band, 20240601, 60460.0, 90.0, 10.0, 0.0, 1.0)
    assert set(read_sky_modes(library.find("sky_modes", observed, 0)).values) == set(CCDS)
    templates = read_sky_templates(library.find("sky_templates", observed, 33), 33).values
    assert templates.shape == ((2, 64, 32) if band == "z" else (2, 32, 16))
    if band == "z":
        assert np.corrcoef(templates[1].ravel(), PATTERN.ravel())[0, 1] ** 2 > 0.9


def test_exposures_of_two_bands_are_refused(tmp_path):
    mixed = [ExposureId(1, "i", 20240501), ExposureId(2, "z", 20240501)]
    with pytest.raises(InputError, match="one band"):
        common_ccds(mixed, Site.at(tmp_path))
    with pytest.raises(InputError, match="no detrended CCD in common"):
        common_ccds(mixed[:1], Site.at(tmp_path))
