"""Real DECam pixels: astrometry and aperture magnitudes of the Legacy Surveys' cut-outs are reproduced."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits

from imaging.astrometry.reference import ReferenceStars, reference_at_epoch
from imaging.astrometry.settings import AstrometrySettings
from imaging.bits import MaskBit
from imaging.catalogue.apertures import _circles
from imaging.catalogue.build import find_sources
from imaging.catalogue.settings import CatalogueSettings
from imaging.image import CcdImage
from imaging.io.tables import make_table
from imaging.photometry.colours import band_magnitudes, published_colour_terms
from imaging.schemas.reference import REFERENCE_STARS
from imaging.wcs.tpv import TpvWcs

pytestmark = pytest.mark.real_data

CONSTANT_STAR_MAG = {
    431608: 16.68,
    630780: 16.64,
    640615: 16.66,
    720558: 16.67,
    650104: 18.29,
    716705: 18.26,
    730182: 18.22,
    634850: 19.64,
    725257: 19.65,
}
"""Magnitude of the constant star of G = 18.00 through 7 arcsec with the survey's zero points."""


@dataclass
class CutOut:
    row: np.void
    image: CcdImage
    wcs: TpvWcs
    stars: ReferenceStars
    gaia: pa.Table

    @property
    def expnum(self):
        return int(self.row["expnum"])

    @property
    def band(self):
        return str(self.row["filter"]).strip()


def gaia_table(folder):
    rows = np.concatenate(
        [part for part in (fits.getdata(p) for p in sorted(folder.glob("chunk-*.fits"))) if len(part)]
    )
    columns = {}
    for field in REFERENCE_STARS:
        if field.name in rows.dtype.names:
            values = np.asarray(rows[field.name])
            values = values.astype(values.dtype.newbyteorder("="))
            columns[field.name] = values if field.name == "source_id" else pa.array(values, mask=~np.isfinite(values))
        elif field.name.endswith("mag_error"):
            snr = np.asarray(rows[field.name.replace("mag_error", "flux_over_error")], float)
            columns[field.name] = 1.0857 / np.maximum(snr, 1e-3)
    columns["ruwe"] = pa.nulls(len(rows), pa.float32())
    columns["variable"] = np.zeros(len(rows), bool)
    return make_table(columns, REFERENCE_STARS)


@pytest.fixture(scope="module")
def cut_outs(real_data):
    folder = real_data / "decam_epochs"
    gaia = gaia_table(folder / "gaia")
    found = []
    for row in fits.getdata(folder / "survey-ccds-1.fits.gz"):
        path = folder / "images" / row["image_filename"].strip()
        with fits.open(path) as hdus:
            header, science = hdus[-1].header, hdus[-1].data.astype(np.float32)
        quality = fits.getdata(str(path).replace("_ooi_", "_ood_"))
        weight = fits.getdata(str(path).replace("_ooi_", "_oow_")).astype(np.float32)
        mask = np.zeros(science.shape, np.int16)
        for code, bit in ((1, MaskBit.BPM), (3, MaskBit.SATURATE), (4, MaskBit.TRAIL), (5, MaskBit.CRAY)):
            mask[quality == code] = np.int16(bit)
        weight[mask != 0] = 0.0
        science -= np.float32(np.median(science[mask == 0]))
        image = CcdImage(science, mask, np.ascontiguousarray(weight), {})
        stars = reference_at_epoch(gaia, row["mjd_obs"] + row["exptime"] / 172800.0, AstrometrySettings())
        found.append(CutOut(row, image, TpvWcs.from_header(header), stars, gaia))
    return found


def gaia_stars_on(cut_out, border=8):
    x, y = cut_out.wcs.sky_to_pixel(cut_out.stars.ra, cut_out.stars.dec)
    ny, nx = cut_out.image.shape
    inside = (x > border) & (x < nx - border) & (y > border) & (y < ny - border) & (cut_out.stars.g_mag < 20)
    return np.flatnonzero(inside), x, y


def test_offsets_from_gaia_are_those_of_the_survey(cut_outs):
    for cut_out in cut_outs:
        sources = find_sources(cut_out.image, float(cut_out.row["fwhm"]), CatalogueSettings())
        indices, x, y = gaia_stars_on(cut_out)
        offsets = []
        for k in indices:
            nearest = int(np.argmin(np.hypot(sources.centroids.x - x[k], sources.centroids.y - y[k])))
            ra, dec = cut_out.wcs.pixel_to_sky(sources.centroids.x[nearest], sources.centroids.y[nearest])
            east = (ra - cut_out.stars.ra[k]) * np.cos(np.radians(dec)) * 3600
            offsets.append((float(east), float(dec - cut_out.stars.dec[k]) * 3600))
        east, north = np.mean(offsets, axis=0)
        assert len(offsets) == 3
        assert east == pytest.approx(-cut_out.row["ccdraoff"], abs=0.020)
        # Differential refraction moves the blue band along declination.
        assert north == pytest.approx(-cut_out.row["ccddecoff"], abs=0.042 if cut_out.band == "g" else 0.021)


def test_the_constant_star_keeps_its_magnitude(cut_outs):
    for cut_out in cut_outs:
        image = cut_out.image
        indices, x, y = gaia_stars_on(cut_out, border=14)
        star = indices[np.argmin(np.abs(cut_out.stars.g_mag[indices] - 18.00))]
        empty = np.zeros(image.shape, np.int32)
        flux, _ = _circles(
            image.science, image.weight, empty, x[star : star + 1], y[star : star + 1], np.array([3.5 / 0.2625])
        )
        mag = cut_out.row["ccdzpt"] - 2.5 * np.log10(flux[0, 0] / cut_out.row["exptime"])
        assert mag == pytest.approx(CONSTANT_STAR_MAG[cut_out.expnum], abs=0.02)


def test_zero_points_agree_with_gaia_within_the_stated_error(cut_outs):
    """In z the constant star, an M dwarf, reproduces the survey's zero points; in r the colour term is steep there."""
    terms = published_colour_terms()
    for cut_out in cut_outs:
        if cut_out.band == "g":
            continue
        indices, _, _ = gaia_stars_on(cut_out, border=14)
        star = indices[np.argmin(np.abs(cut_out.stars.g_mag[indices] - 18.00))]
        magnitudes = band_magnitudes(cut_out.gaia, cut_out.band, terms)
        assert magnitudes.usable[star]
        difference = CONSTANT_STAR_MAG[cut_out.expnum] - magnitudes.mag[star]
        assert abs(difference) < {"z": 0.04, "r": 0.12}[cut_out.band]
