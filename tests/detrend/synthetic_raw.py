"""Raw CCDs made from a known truth, for the tests of the detrending chain."""

from dataclasses import dataclass

import numpy as np

from imaging.bits import BpmBit
from imaging.detector.ccds import NX, Ccd
from imaging.detector.linearity import LinearityTable
from imaging.detector.sections import POSTSCAN, RAW_NX, raw_sections
from imaging.detrend.calibrations import DetrendCalibrations
from imaging.exposure import Exposure
from imaging.image import RawCcd

EXPOSURE = Exposure(
    expnum=1300001,
    band="i",
    night=20240510,
    mjd=60440.1,
    exptime_s=90.0,
    ra_deg=150.0,
    dec_deg=2.0,
    airmass=1.2,
    object_name="test",
)


@dataclass(frozen=True)
class Camera:
    """The imperfections of one CCD."""

    bias: np.ndarray
    flat: np.ndarray
    bad_pixels: np.ndarray
    linearity: LinearityTable

    def calibrations(self, **changes) -> DetrendCalibrations:
        values = {
            "bias": self.bias,
            "flat": self.flat,
            "bad_pixels": self.bad_pixels,
            "linearity": self.linearity,
            "names": {"bias": "bias.fits", "flat": "flat.fits", "bad_pixels": "bpm.fits", "linearity": "lin.fits"},
        }
        return DetrendCalibrations(**(values | changes))


def make_camera(ccd: Ccd, seed: int = 1) -> Camera:
    """Draw bias, flat, bad pixels and linearity of a CCD."""
    random = np.random.default_rng(seed)
    bias = (random.normal(0, 1.0, NX)[None, :] + np.linspace(-1, 1, ccd.ny)[:, None]).astype(np.float32)
    x, y = np.meshgrid(np.linspace(-1, 1, NX), np.linspace(-1, 1, ccd.ny))
    flat = (1.0 - 0.05 * (x**2 + y**2) + random.normal(0, 0.006, (ccd.ny, NX))).astype(np.float32)
    bad = np.zeros((ccd.ny, NX), dtype=np.int16)
    bad[:, :15] |= np.int16(BpmBit.EDGE)
    adu = np.arange(0.0, 64000.0, 50.0)
    linear = {"A": adu * (1 + 2e-7 * adu), "B": adu * (1 - 1e-7 * adu)}
    return Camera(bias, flat, bad, LinearityTable(adu, linear))


def make_raw(ccd: Ccd, electrons: np.ndarray, camera: Camera, seed: int = 1, *, noise: bool = True) -> RawCcd:
    """Read out a CCD: (ny, nx) electrons that were collected to a raw extension with its header."""
    random = np.random.default_rng(seed)
    sections = raw_sections(ccd)
    analog = np.zeros((ccd.ny + POSTSCAN, RAW_NX), dtype=np.float64)
    header: dict[str, object] = {"CCDNUM": ccd.ccdnum, "DETPOS": ccd.detpos}
    levels = 2000.0 + 20.0 * np.sin(np.arange(analog.shape[0]) / 300.0)
    for a in ccd.amplifiers:
        adu = electrons[:, a.columns] / a.gain
        table = camera.linearity
        measured = np.interp(adu, table.linear[a.name], table.adu)
        half = slice(0, RAW_NX // 2) if a.is_left else slice(RAW_NX // 2, RAW_NX)
        analog[sections[f"DATASEC{a.name}"].slices] += measured + camera.bias[:, a.columns]
        analog[:, half] += levels[:, None] + (0.0 if a.name == "A" else 100.0)
        if noise:
            analog[:, half] += random.normal(0, a.read_noise_electrons / a.gain, (analog.shape[0], RAW_NX // 2))
        header |= {f"GAIN{a.name}": a.gain, f"RDNOISE{a.name}": a.read_noise_electrons}
        header |= {f"SATURAT{a.name}": a.saturation_adu}
    header |= {key: str(section) for key, section in sections.items()}
    return RawCcd(header, np.clip(np.rint(analog), 0, 65535).astype(np.uint16))


def make_light(ccd: Ccd, camera: Camera, sky: float = 2800.0, seed: int = 1, *, noise: bool = True) -> np.ndarray:
    """Collect a uniform sky through the flat: (ny, nx) electrons."""
    random = np.random.default_rng(seed + 1000)
    mean = sky * camera.flat
    return mean + (random.normal(0, 1, mean.shape) * np.sqrt(mean) if noise else 0.0)
