"""Write final images of a night as other pipelines would have: with astropy only, cards as in real headers.

Sky level, gain, units, pixels that are left out, projection and masks are those of the other pipeline. The cards are
those of the Community Pipeline's images of 2017 to 2019 and of a calexp of 2015.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS
from astropy.wcs.utils import fit_wcs_from_points
from numpy.typing import NDArray

GAIN_A, GAIN_B, SKY_ADU = 3.87047534931607, 3.88300553808994, 711.4
"""Amplifier gains of a real image, and a sky level."""

SHIFT_DEG = 0.3 / 3600.0
"""Error of the coordinates in the headers."""

BPM, SATURATE, INTERP, CRAY, TRAIL, EDGE, STREAK = 1, 2, 4, 16, 64, 512, 1024
"""Bits of the masks of the Dark Energy Survey."""


@dataclass(frozen=True)
class Final:
    """A final image: planes in electrons, header, and level of the sky that was subtracted."""

    science: NDArray[Any]
    mask: NDArray[Any]
    weight: NDArray[Any]
    header: fits.Header

    @classmethod
    def read(cls, path: Path) -> "Final":
        """Read a final image of this project."""
        with fits.open(path) as hdus:
            science, mask, weight = (np.array(hdus[name].data) for name in ("SCI", "MSK", "WGT"))
            return cls(science, mask, weight, hdus["SCI"].header.copy())

    @property
    def variance(self) -> NDArray[Any]:
        """Variance with the photons of the sources; infinite without weight."""
        sky = np.divide(1.0, self.weight, out=np.full(self.weight.shape, np.inf), where=self.weight > 0)
        return sky + np.maximum(self.science, 0.0)

    def exposure_cards(self) -> dict[str, Any]:
        """Cards that the observatory writes and every pipeline keeps."""
        own = self.header
        place = SkyCoord(own["TELRA"], own["TELDEC"], unit="deg")
        return {
            "OBJECT": own["OBJECT"],
            "TELESCOP": "CTIO 4.0-m telescope",
            "INSTRUME": "DECam",
            "EXPTIME": own["EXPTIME"],
            "DATE-OBS": Time(own["MJD-OBS"], format="mjd").isot,
            "MJD-OBS": own["MJD-OBS"],
            "TIMESYS": "UTC",
            "EXPNUM": own["EXPNUM"],
            "OBSTYPE": "object",
            "PROPID": own["PROPID"],
            "FILTER": own["FILTER"],
            "TELRA": place.ra.to_string(u.hour, sep=":", pad=True, precision=3),
            "TELDEC": place.dec.to_string(u.deg, sep=":", pad=True, alwayssign=True, precision=3),
            "AIRMASS": own["AIRMASS"],
            "DIMMSEE": "NaN",
        }

    def tpv_cards(self, cut: int) -> dict[str, Any]:
        """Coordinates of an image that lacks some pixels on every side, a little wrong."""
        keys = [f"{k}{n}" for k in ("CTYPE", "CUNIT", "CRVAL", "CRPIX") for n in (1, 2)]
        keys += [f"CD{i}_{j}" for i in (1, 2) for j in (1, 2)]
        keys += [f"PV{i}_{j}" for i in (1, 2) for j in range(11) if f"PV{i}_{j}" in self.header]
        cards = {key: self.header[key] for key in keys}
        return cards | {f"CRPIX{n}": cards[f"CRPIX{n}"] - cut for n in (1, 2)} | {"CRVAL2": cards["CRVAL2"] + SHIFT_DEG}


def write_community_pipeline(
    final: Final, folder: Path, *, version: str = "V4.8.2", packed: bool = False, zeropoint_mag: float = 30.0
) -> Path:
    """Write image, mask and weight of the Community Pipeline; return the path of the image.

    Codes in the mask since version 3.5, bits before it. The image has its sky, in counts.
    """
    inner = (slice(1, -1), slice(1, -1))
    gain = 0.5 * (GAIN_A + GAIN_B)
    image = (final.science[inner] / gain + SKY_ADU).astype(np.float32)
    weight = (gain**2 / final.variance[inner]).astype(np.float32)
    flags = final.mask[inner]
    by_codes = float(version.removeprefix("V")[:3]) >= 3.5
    pairs = ((BPM, 1), (EDGE, 6), (INTERP, 1), (CRAY, 5), (TRAIL, 4), (SATURATE, 3), (STREAK, 8))
    if not by_codes:
        pairs = ((BPM, 1), (EDGE, 1), (INTERP, 4), (CRAY, 16), (TRAIL, 64), (SATURATE, 2), (STREAK, 1))
    mask = np.zeros(flags.shape, np.int32)
    for bit, value in pairs:
        found = (flags & bit) != 0
        mask[found] = value if by_codes else mask[found] | value
    own = final.header
    primary = final.exposure_cards() | {
        "PROCTYPE": "InstCal",
        "PRODTYPE": "image",
        "RADESYS": "FK5",
        "EQUINOX": 2000.0,
        "MAGZERO": zeropoint_mag,
        "PHOTREF": "Gaia",
        "SKYSUB": SKY_ADU,
        "PLVER": version,
        "WCSCAL": "Successful",
    }
    cards = final.tpv_cards(1) | {
        "INHERIT": True,
        "CCDNUM": own["CCDNUM"],
        "DETPOS": own["DETPOS"],
        "GAINA": GAIN_A,
        "RDNOISEA": 5.959384,
        "SATURATA": own["SATURATE"] / gain,
        "GAINB": GAIN_B,
        "RDNOISEB": 6.163348,
        "SATURATB": own["SATURATE"] / gain,
        "LTV1": -1.0,
        "LTV2": -1.0,
        "LTM1_1": 1.0,
        "LTM2_2": 1.0,
        "WAT0_001": "system=image",
        "WAT1_001": "wtype=tpv axtype=ra",
        "WAT2_001": "wtype=tpv axtype=dec",
        "SATURATE": own["SATURATE"] / gain,
        "FWHM": own["FWHM"],
        "ARAWGAIN": 4.34,
        "AVSKY": SKY_ADU,
    }
    stem = f"c4d_{Time(own['MJD-OBS'], format='mjd').strftime('%y%m%d_%H%M%S')}"
    for kind, pixels, product in (("ooi", image, "image"), ("ood", mask, "dqmask"), ("oow", weight, "wtmap")):
        path = folder / f"{stem}_{kind}_{own['BAND']}_v1.fits{'.fz' if packed else ''}"
        _append(path, primary | {"PRODTYPE": product}, pixels, cards, str(own["DETPOS"]), packed=packed)
    return folder / f"{stem}_ooi_{own['BAND']}_v1.fits{'.fz' if packed else ''}"


def write_des(final: Final, folder: Path) -> Path:
    """Write a single-epoch image of the Dark Energy Survey; return its path."""
    own = final.header
    cards = (
        final.exposure_cards()
        | final.tpv_cards(0)
        | {
            "BAND": own["BAND"],
            "CCDNUM": own["CCDNUM"],
            "DETPOS": own["DETPOS"],
            "BUNIT": "electrons",
            "GAINA": 1.0,
            "GAINB": 1.0,
            "RDNOISEA": 6.0,
            "RDNOISEB": 6.1,
            "SATURATE": own["SATURATE"],
            "SKYBRITE": own["SKYBRITE"],
            "SKYSIGMA": 20.7,
            "RADESYS": "ICRS",
        }
    )
    path = folder / f"D{own['EXPNUM']:08d}_{own['BAND']}_c{own['CCDNUM']:02d}_r4000p01_immasked.fits"
    hdus = [
        fits.PrimaryHDU(final.science.astype(np.float32), fits.Header(cards | {"EXTNAME": "SCI", "DES_EXT": "IMAGE"})),
        fits.ImageHDU(final.mask.astype(np.int16), fits.Header({"DES_EXT": "MASK"}), name="MSK"),
        fits.ImageHDU(final.weight.astype(np.float32), fits.Header({"DES_EXT": "WEIGHT"}), name="WGT"),
    ]
    fits.HDUList(hdus).writeto(path)
    return path


LSST_BITS = {"BAD": 0, "SAT": 1, "INTRP": 2, "CR": 3, "EDGE": 4, "DETECTED": 5, "DETECTED_NEGATIVE": 6, "SUSPECT": 7}


def write_lsst(final: Final, folder: Path, zeropoint_mag: float) -> Path:
    """Write a calexp in nanojansky with TAN-SIP coordinates; return its path."""
    own = final.header
    unit = 10.0 ** (-0.4 * (zeropoint_mag - 31.4))
    mask = np.zeros(final.mask.shape, np.int32)
    for bit, name in (
        (BPM, "BAD"),
        (SATURATE, "SAT"),
        (INTERP, "INTRP"),
        (CRAY, "CR"),
        (TRAIL, "SAT"),
        (EDGE, "EDGE"),
        (STREAK, "BAD"),
    ):
        mask[(final.mask & bit) != 0] |= 1 << LSST_BITS[name]
    mask[final.science**2 * final.weight > 25.0] |= 1 << LSST_BITS["DETECTED"]
    middle = Time(own["MJD-OBS"] + own["EXPTIME"] / 2 / 86400.0, format="mjd", scale="utc")
    primary = final.exposure_cards() | {
        "TIMESYS": "TAI",
        "FILTER": own["BAND"],
        "EXPID": own["EXPNUM"] * 100 + own["CCDNUM"],
        "DATE-AVG": middle.tai.isot,
        "BORE-RA": own["TELRA"],
        "BORE-DEC": own["TELDEC"],
        "DETNAME": own["DETPOS"],
        "DETSER": str(own["CCDNUM"]),
        "BGMEAN": 134.3,
    }
    cards = dict(_sip(final).to_header(relax=True)) | {"BUNIT": "nJy", "EXTTYPE": "IMAGE", "INHERIT": True}
    variance = np.where(np.isfinite(final.variance), final.variance, 1e8) * unit**2
    names = {f"HIERARCH MP_{name}": bit for name, bit in LSST_BITS.items()}
    hdus = [
        fits.PrimaryHDU(header=fits.Header(primary)),
        fits.ImageHDU((final.science * unit).astype(np.float32), fits.Header(cards), name="IMAGE"),
        fits.ImageHDU(mask, fits.Header(cards | names | {"EXTTYPE": "MASK"}), name="MASK"),
        fits.ImageHDU(variance.astype(np.float32), fits.Header(cards | {"EXTTYPE": "VARIANCE"}), name="VARIANCE"),
    ]
    path = folder / f"calexp-{own['EXPNUM']:07d}_{own['CCDNUM']:02d}.fits"
    fits.HDUList(hdus).writeto(path)
    return path


def _sip(final: Final) -> WCS:
    """Return the coordinates of an image as TAN-SIP of third order."""
    ny, nx = final.science.shape
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(0, nx - 1, 15), np.linspace(0, ny - 1, 29)))
    sky = WCS(fits.Header(final.tpv_cards(0))).pixel_to_world(x, y)
    return fit_wcs_from_points((x, y), SkyCoord(sky.ra, sky.dec), sip_degree=4)


def _append(
    path: Path, primary: dict[str, Any], pixels: NDArray[Any], cards: dict[str, Any], name: str, *, packed: bool
) -> None:
    """Add an extension to a file, which is begun if it does not exist."""
    header = fits.Header(cards)
    if packed:
        dither = {"quantize_level": 4.0, "quantize_method": 1} if pixels.dtype.kind == "f" else {}
        hdu: Any = fits.CompImageHDU(pixels, header, name=name, compression_type="RICE_1", **dither)
    else:
        hdu = fits.ImageHDU(pixels, header, name=name)
    if path.exists():
        fits.append(path, hdu.data, hdu.header) if not packed else _rewrite(path, hdu)
        return
    fits.HDUList([fits.PrimaryHDU(header=fits.Header(primary)), hdu]).writeto(path)


def _rewrite(path: Path, hdu: fits.CompImageHDU) -> None:
    with fits.open(path, mode="append") as hdus:
        hdus.append(hdu)
