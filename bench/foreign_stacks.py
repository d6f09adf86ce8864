"""Stack final images of a night on the sky, and write the stack as surveys do: with astropy and SciPy only.

Cards: legacypipe's coadds, the stacks of Pan-STARRS as legacypipe reads them, the Community Pipeline's images of 2019.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, map_coordinates

from bench.foreign_files import SATURATE, SHIFT_DEG, TRAIL, Final

DEGREE, NODES = 5, 24
"""Degree and points per axis of the polynomial from pixels of the stack to those of an input, good to 0.001 pixel."""

GROWTH = 2
"""Growth of the masks of the inputs, pixels."""

ASINH = 2.5 * np.log10(np.e)
"""Magnitudes per unit of the natural logarithm, the scale of the pixels of Pan-STARRS."""

SCALE_ARCSEC = {"legacy": 0.262, "pan-starrs": 0.25, "skymapper": 0.497, "osi": 0.27}
"""Pixel scales of the surveys' stacks."""


@dataclass(frozen=True)
class Stack:
    """A stack in nanomaggies.

    Attributes
    ----------
    flux, weight
        (ny, nx) flux per pixel, and the summed inverse variances of the inputs' skies; zero without data.
    saturated
        (ny, nx) bool.
    photons
        (ny, nx) variance by the photons of the sources.
    cards
        Coordinates.
    band, mjds, exptime_s
        Band, starts and summed exposure time of the inputs.
    """

    flux: NDArray[Any]
    weight: NDArray[Any]
    saturated: NDArray[Any]
    photons: NDArray[Any]
    cards: dict[str, Any]
    band: str
    mjds: tuple[float, ...]
    exptime_s: float


def tangent(centre: tuple[float, float], shape: tuple[int, int], scale_arcsec: float) -> dict[str, Any]:
    """Return the cards of a grid on a tangent plane, north up and east to the left."""
    step = scale_arcsec / 3600.0
    return {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRVAL1": centre[0],
        "CRVAL2": centre[1],
        "CRPIX1": shape[1] / 2 + 0.5,
        "CRPIX2": shape[0] / 2 + 0.5,
        "CD1_1": -step,
        "CD1_2": 0.0,
        "CD2_1": 0.0,
        "CD2_2": step,
    }


def stack_on_sky(
    finals: Sequence[Final],
    zeropoints_mag: Sequence[float],
    centre: tuple[float, float],
    shape: tuple[int, int],
    scale_arcsec: float,
) -> Stack:
    """Resample final images to a tangent plane with cubic splines, and average them with the weights of their skies.

    Parameters
    ----------
    finals, zeropoints_mag
        The images, and AB magnitudes of one electron.
    centre, shape, scale_arcsec
        RA and Dec of the middle, degrees; (ny, nx); pixel scale. Every pixel is the mean of as many points as keep them
        closer than an input pixel and a half.
    """
    cards = tangent(centre, shape, scale_arcsec)
    n = len(finals)
    values, weights, photons = (np.zeros((n, *shape), np.float32) for _ in range(3))
    saturated = np.zeros(shape, bool)
    for k, (final, zeropoint) in enumerate(zip(finals, zeropoints_mag, strict=True)):
        unit = 10.0 ** (-0.4 * (zeropoint - 22.5))
        box, (x, y), area = _places(final, cards, shape)
        points = max(round(scale_arcsec / 0.27), 1)
        offsets = (np.arange(points) + 0.5) / points - 0.5
        value = np.zeros(x.shape)
        for across in offsets:
            for up in offsets:
                place = [a + across * _slope(a, 1) + up * _slope(a, 0) for a in (y, x)]
                value += map_coordinates(final.science, place, order=3, mode="constant") / points**2
        near = tuple(
            np.clip(np.rint(a).astype(int), 0, size - 1) for a, size in zip((y, x), final.science.shape, strict=True)
        )
        inside = (x > 3) & (y > 3) & (x < final.science.shape[1] - 4) & (y < final.science.shape[0] - 4)
        bad = binary_dilation(final.weight <= 0, iterations=GROWTH)
        bright = binary_dilation((final.mask & (SATURATE | TRAIL)) != 0, iterations=GROWTH)
        typical = np.median(final.weight[final.weight > 0]) / (unit * area) ** 2
        weights[k][box] = np.where(inside & ~bad[near], typical, 0.0)
        values[k][box] = value * unit * area
        photons[k][box] = np.maximum(value, 0.0) * unit**2 * area
        saturated[box] |= inside & bright[near]
    _reject(values, weights)
    total = weights.sum(axis=0)
    covered = total > 0
    safe = np.where(covered, total, 1.0)
    flux, photons = (weights * values).sum(axis=0) / safe, (weights**2 * photons).sum(axis=0) / safe**2
    own = finals[0].header
    mjds = tuple(float(final.header["MJD-OBS"]) for final in finals)
    exptime = float(sum(final.header["EXPTIME"] for final in finals))
    cards |= {"CRVAL2": centre[1] + SHIFT_DEG}
    return Stack(flux, total, saturated & ~covered, photons, cards, str(own["BAND"]), mjds, exptime)


def _reject(values: NDArray[Any], weights: NDArray[Any]) -> None:
    """Take the weight from outliers among the inputs (n, ny, nx): cosmic rays, moving objects, variables."""
    seen = np.where(weights > 0, values, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # pixels without data
        middle = np.nanmedian(seen, axis=0)
    noise = np.sqrt(1.0 / np.where(weights > 0, weights, 1.0))
    weights[np.abs(seen - middle) > 5.0 * noise + 0.3 * np.abs(middle)] = 0.0


def _places(
    final: Final, cards: dict[str, Any], shape: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[NDArray[Any], NDArray[Any]], float]:
    """Return the part of the stack that an image covers, its pixels in those of the image, and their relative area."""
    ny, nx = final.science.shape
    source, target = WCS(final.header), WCS(fits.Header(cards))
    edge = np.array([(x, y) for x in np.linspace(0, nx - 1, 9) for y in np.linspace(0, ny - 1, 9)])
    across, up = target.all_world2pix(*source.all_pix2world(*edge.T, 0), 0)
    lows = [max(int(a.min()) - 2, 0) for a in (up, across)]
    highs = [min(int(a.max()) + 3, n) for a, n in zip((up, across), shape, strict=True)]
    box = (slice(lows[0], highs[0]), slice(lows[1], highs[1]))
    nodes = [np.linspace(low, high - 1, NODES) for low, high in zip(lows, highs, strict=True)]
    gy, gx = np.meshgrid(*nodes, indexing="ij")
    exact = source.all_world2pix(*target.all_pix2world(gx, gy, 0), 0)
    lines = [np.arange(low, high) for low, high in zip(lows, highs, strict=True)]
    node_v, node_u, v, u = (
        2.0 * (values - n[0]) / (n[-1] - n[0]) - 1.0
        for values, n in zip((gy, gx, *lines), [*nodes, *nodes], strict=True)
    )
    basis = np.polynomial.polynomial.polyvander2d(node_v.ravel(), node_u.ravel(), [DEGREE, DEGREE])
    terms = [np.linalg.lstsq(basis, values.ravel(), rcond=None)[0].reshape(DEGREE + 1, -1) for values in exact]
    places = [np.polynomial.polynomial.polygrid2d(v, u, term) for term in terms]
    x, y = places
    area = float(np.median(np.abs(_slope(x, 1) * _slope(y, 0) - _slope(x, 0) * _slope(y, 1))))
    return box, (x, y), area


def _slope(values: NDArray[Any], axis: int) -> NDArray[Any]:
    return np.gradient(values, axis=axis)


def write_legacy(stack: Stack, folder: Path, brick: str) -> Path:
    """Write a brick of the Legacy Surveys: image, invvar (of the sky) and maskbits; return the image."""
    tai = [Time(mjd, format="mjd", scale="utc").tai.mjd for mjd in stack.mjds]
    shared = stack.cards | {
        "SURVEY": "DECaLS",
        "SURVEYDR": "DR10",
        "BRICK": brick,
        "BRICKID": 100048,
        "TELESCOP": "CTIO 4.0-m telescope",
        "INSTRUME": "DECam",
        "FILTER": f"{stack.band} DECam SDSS c0003 7835.0 1470.0",
        "FILTERX": stack.band,
        "MJD_MIN": min(tai),
        "MJD_MAX": max(tai),
        "MJD_MEAN": float(np.mean(tai)),
    }
    image = shared | {"IMTYPE": "image", "PRODTYPE": "image", "MAGZERO": 22.5, "BUNIT": "nanomaggy"}
    invvar = shared | {"IMTYPE": "invvar", "PRODTYPE": "wtmap", "BUNIT": "1/nanomaggy^2"}
    names: tuple[str, ...] = ("NPRIMARY", "BRIGHT", "SATUR_G", "SATUR_R", "SATUR_Z", "ALLM_G", "ALLM_R", "ALLM_Z")
    names += ("WISEM1", "WISEM2", "BAILOUT", "MEDIUM", "GALAXY", "CLUSTER", "SATUR_I", "ALLM_I")
    bits = {name: 1 << number for number, name in enumerate(names)}
    mask = np.where(stack.saturated, bits["SATUR_I"] | bits["ALLM_I"], 0).astype(np.int32)
    mask[stack.flux > 30.0] |= bits["MEDIUM"]
    mask[:40] |= bits["NPRIMARY"]
    stem = f"legacysurvey-{brick}"
    path = folder / f"{stem}-image-{stack.band}.fits.fz"
    _packed(path, stack.flux.astype(np.float32), image)
    _packed(folder / f"{stem}-invvar-{stack.band}.fits.fz", stack.weight.astype(np.float32), invvar)
    _packed(folder / f"{stem}-maskbits.fits.fz", mask, stack.cards | bits | {"BRICK": brick, "EXTNAME": "MASKBITS"})
    return path


def write_pan_starrs(stack: Stack, folder: Path) -> Path:
    """Write a skycell of Pan-STARRS: counts on the asinh scale, mask with named bits, variance; return the image."""
    unit = 10.0 ** (0.4 * (25.0 + 2.5 * np.log10(stack.exptime_s) - 22.5))
    covered = stack.weight > 0
    variance = np.divide(1.0, stack.weight, out=np.full(stack.weight.shape, np.nan), where=covered) + stack.photons
    step = stack.cards["CD2_2"]
    cards = {key: value for key, value in stack.cards.items() if not key.startswith("CD")} | {
        "CDELT1": step,
        "CDELT2": step,
        "PC001001": -1.0,
        "PC001002": 0.0,
        "PC002001": 0.0,
        "PC002002": 1.0,
        "PSCAMERA": "GPC1",
        "PSFORMAT": "SKYCELL",
        "STK_TYPE": "DEEP_STACK",
        "STK_ID": "5413501",
        "SKYCELL": "skycell.1405.053",
        "TESS_ID": "RINGS.V3",
        "HIERARCH FPA.TELESCOPE": "PS1",
        "HIERARCH FPA.INSTRUMENT": "GPC1",
        "HIERARCH FPA.FILTERID": f"{stack.band}.00000",
        "HIERARCH FPA.FILTER": f"{stack.band}.00000",
        "HIERARCH FPA.ZP": 25.0,
        "HIERARCH CELL.GAIN": 1.03,
        "EXPTIME": stack.exptime_s,
        "MJD-OBS": 55900.4,
        "RADESYS": "FK5",
    }
    names: tuple[str, ...] = (
        "DETECTOR",
        "FLAT",
        "DARK",
        "BLANK",
        "CTE",
        "SAT",
        "LOW",
        "SUSPECT",
        "BURNTOOL",
        "CR",
        "SPIKE",
        "GHOST",
    )
    names += ("STREAK", "STARCORE", "CONV.BAD", "CONV.POOR")
    bits = {name: 1 << number for number, name in enumerate(names)}
    mask = np.where(covered, 0, bits["BLANK"]).astype(np.uint16)
    mask[stack.saturated] |= np.uint16(bits["SAT"])
    mask[stack.flux > 30.0] |= np.uint16(bits["STARCORE"])
    named: dict[str, Any] = {"MSKNUM": len(names)}
    for number, (name, value) in enumerate(bits.items()):
        named |= {f"MSKNAM{number:02d}": name, f"MSKVAL{number:02d}": value}
    stem = f"rings.v3.skycell.1405.053.stk.{stack.band}.unconv"
    path = folder / f"{stem}.fits"
    _asinh(path, np.where(covered, stack.flux * unit, np.nan), cards)
    _asinh(folder / f"{stem}.wt.fits", variance * unit**2, cards)
    _packed(folder / f"{stem}.mask.fits", mask, cards | named)
    return path


def _asinh(path: Path, pixels: NDArray[Any], cards: dict[str, Any]) -> None:
    """Write pixels on the asinh scale of Pan-STARRS as 16-bit integers; not a number is BLANK."""
    soften, offset = 3.0 * float(np.nanstd(pixels[pixels < np.nanpercentile(pixels, 90)])), float(np.nanmedian(pixels))
    value = ASINH * np.arcsinh((pixels - offset) / (2.0 * soften))
    low, high = float(np.nanmin(value)), float(np.nanmax(value))
    scale, zero = (high - low) / 65000.0, 0.5 * (high + low)
    stored = np.where(np.isfinite(value), np.rint((value - zero) / scale), -32768).astype(np.int16)
    header = fits.Header(cards | {"BSOFTEN": soften, "BOFFSET": offset})
    hdu = fits.CompImageHDU(stored, header, compression_type="RICE_1")
    hdu.header.update({"BSCALE": scale, "BZERO": zero, "BLANK": -32768})
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, output_verify="silentfix")


def write_skymapper(stack: Stack, folder: Path) -> Path:
    """Write an image of SkyMapper with its mask and weight beside it; return the image."""
    cards = stack.cards | {
        "TELESCOP": "SkyMapper 1.35m",
        "INSTRUME": "SkyMapper Imager",
        "ORIGIN": "SkyMapper Southern Sky Survey",
        "OBJECT": "field 1234",
        "FILTER": stack.band,
        "EXPTIME": stack.exptime_s,
        "MJD-OBS": min(stack.mjds),
        "RADESYS": "FK5",
        "EQUINOX": 2000.0,
        "ZP": 27.3,
    }
    unit = 10.0 ** (0.4 * (27.3 - 22.5))
    path = folder / f"skymapper_1234_{stack.band}.fits"
    fits.PrimaryHDU((stack.flux * unit).astype(np.float32), fits.Header(cards)).writeto(path)
    weight = (stack.weight / unit**2).astype(np.float32)
    fits.PrimaryHDU(weight, fits.Header(cards)).writeto(path.with_suffix(".weight.fits"))
    mask = stack.saturated.astype(np.uint8)
    fits.PrimaryHDU(mask, fits.Header(cards)).writeto(path.with_suffix(".mask.fits"))
    return path


def write_community_stack(stack: Stack, folder: Path) -> Path:
    """Write a stack of the Community Pipeline (osi) with its mask of codes (osd) and weight (osw); return the image."""
    primary = {
        "OBJECT": "field",
        "PROCTYPE": "Stacked",
        "TELESCOP": "CTIO 4.0-m telescope",
        "INSTRUME": "DECam",
        "OBSTYPE": "object",
        "FILTER": f"{stack.band} DECam SDSS c0003 7835.0 1470.0",
        "EXPTIME": stack.exptime_s,
        "DATE-OBS": Time(min(stack.mjds), format="mjd").isot,
        "MJD-OBS": min(stack.mjds),
        "RADESYS": "FK5",
        "EQUINOX": 2000.0,
        "PLVER": "V4.8.2",
        "MAGZERO": 30.0,
        "NCOMBINE": len(stack.mjds),
    }
    unit = 10.0 ** (0.4 * (30.0 - 22.5))
    covered = stack.weight > 0
    variance = np.divide(1.0, stack.weight, out=np.full(stack.weight.shape, np.inf), where=covered) + stack.photons
    planes = {
        "osi": ("image", (stack.flux * unit).astype(np.float32)),
        "osd": ("dqmask", np.where(stack.saturated, 3, np.where(covered, 0, 2)).astype(np.int32)),
        "osw": ("wtmap", np.where(covered, 1.0 / (variance * unit**2), 0.0).astype(np.float32)),
    }
    stem = f"c4d_{Time(min(stack.mjds), format='mjd').strftime('%y%m%d_%H%M%S')}"
    for kind, (product, pixels) in planes.items():
        _packed(
            folder / f"{stem}_{kind}_{stack.band}_v1.fits.fz",
            pixels,
            stack.cards | {"GAINA": 3.87, "GAINB": 3.88, "EXTNAME": "TILE1"},
            primary | {"PRODTYPE": product},
        )
    return folder / f"{stem}_osi_{stack.band}_v1.fits.fz"


def _packed(path: Path, pixels: NDArray[Any], cards: dict[str, Any], primary: dict[str, Any] | None = None) -> None:
    """Write a compressed image as the only extension of a file."""
    dither = {"quantize_level": 16.0, "quantize_method": 2} if pixels.dtype.kind == "f" else {}
    hdu = fits.CompImageHDU(pixels, fits.Header(cards), compression_type="RICE_1", **dither)
    fits.HDUList([fits.PrimaryHDU(header=fits.Header(primary or {})), hdu]).writeto(path)


def middle(final: Final) -> tuple[float, float]:
    """Return RA and Dec of the middle of an image, degrees."""
    ny, nx = final.science.shape
    sky: SkyCoord = WCS(final.header).pixel_to_world(nx / 2, ny / 2)
    return float(sky.ra.deg), float(sky.dec.deg)
