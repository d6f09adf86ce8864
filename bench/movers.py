"""Movers: how many are linked over two and three exposures, by the length of their trails, and false links.

``python -m bench.movers``. Three search images of one sky, six movers per length of trail at signal to noise 15 to 100
(matched filter), ten standing transients, and in every exposure fifteen unmasked cosmic rays and ten glints, 1 to 5
arcsec long. Each mover is linked alone among the other detections, at the density of a real field.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bench.report import Row, at_least, at_most, main
from imaging.candidates.associate import associate_detections
from imaging.candidates.settings import AssociateSettings
from imaging.difference.chain import search_ccd
from imaging.difference.records import Identity
from imaging.difference.settings import SearchSettings
from imaging.image import CalibratedImage
from imaging.schemas.candidates import CandidateFlag
from imaging.simulation.pairs import PIXEL_ARCSEC, ExposureSpec, Frame, PairSky, expose, make_pair_sky
from imaging.tables import column
from imaging.templates.resampling_inputs import with_resampling_inputs

FloatArray = NDArray[np.float64]

SHAPE = (2048, 2048)
LENGTHS = (0.5, 2.0, 4.0, 6.0, 8.0, 12.0, 20.0, 40.0, 60.0)
"""Lengths of trails, pixels, in exposures of :data:`EXPTIME_S`."""

EXPTIME_S, MINUTES = 90.0, (0.0, 10.0, 25.0)
NIGHT, MJD = 20260101, 61041.1
FWHM_ARCSEC, SKY_ELECTRONS = 1.1, 2549.0
OF_EACH, N_GLINTS, N_STANDING = 6, 10, 10
GLINT_ARCSEC = (1.0, 5.0)
REACH_PIXELS = 4.0
"""Largest distance of a detection from the line of a mover."""


@dataclass(frozen=True, eq=False)
class Lines:
    """Sources that move evenly: (n,) middle, motion per second in pixels, length of the trail, magnitude."""

    x: FloatArray
    y: FloatArray
    dx: FloatArray
    dy: FloatArray
    mag: FloatArray

    def at(self, seconds: float) -> "Lines":
        """Return them after some time."""
        return replace(self, x=self.x + seconds * self.dx, y=self.y + seconds * self.dy)

    def points(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return x, y and magnitude of the points that draw their trails, four per pixel."""
        rows = []
        for x, y, dx, dy, mag in zip(self.x, self.y, self.dx, self.dy, self.mag, strict=True):
            n = 1 + int(4.0 * EXPTIME_S * np.hypot(dx, dy))
            share = (np.arange(n) + 0.5) / n - 0.5
            rows.append([x + share * EXPTIME_S * dx, y + share * EXPTIME_S * dy, np.full(n, mag + 2.5 * np.log10(n))])
        x, y, mag = np.concatenate(rows, axis=1)
        return x, y, mag

    def near(self, x: FloatArray, y: FloatArray) -> NDArray[np.bool_]:
        """Return (m, n) whether places are on the trails."""
        ax, ay = x[:, None] - self.x, y[:, None] - self.y
        ux, uy = EXPTIME_S * self.dx, EXPTIME_S * self.dy
        share = np.clip((ax * ux + ay * uy) / np.maximum(ux**2 + uy**2, 1e-9), -0.5, 0.5)
        return np.hypot(ax - share * ux, ay - share * uy) < REACH_PIXELS


def draw_movers(rng: np.random.Generator, lengths: FloatArray, snr: FloatArray, hours: float = 0.0) -> Lines:
    """Draw movers that stay on the image for some hours."""
    n, angle = lengths.size, rng.uniform(0.0, 2.0 * np.pi, lengths.size)
    dx, dy = lengths / EXPTIME_S * np.cos(angle), lengths / EXPTIME_S * np.sin(angle)
    middle = (rng.uniform(80.0, side - 80.0 - abs(v) * hours * 3600.0)
              for v, side in ((dx, SHAPE[1]), (dy, SHAPE[0])))  # fmt: skip
    x, y = (m - np.minimum(v, 0.0) * hours * 3600.0 for m, v in zip(middle, (dx, dy), strict=True))
    sigma = FWHM_ARCSEC / PIXEL_ARCSEC / 2.355
    noise = np.sqrt(SKY_ELECTRONS * 4.0 * np.pi * sigma**2 * np.hypot(1.0, lengths / (2.0 * np.sqrt(np.pi) * sigma)))
    mag = ExposureSpec(FWHM_ARCSEC, 0).zeropoint_mag - 2.5 * np.log10(snr * noise)
    return Lines(x, y, dx, dy, np.broadcast_to(mag, n))


def exposures(seed: int) -> tuple[pa.Table, NDArray[np.int64], int]:
    """Return the detections of all exposures, the mover of each, -1 for none, and the number of movers."""
    rng = np.random.default_rng((seed, 9))
    sky = make_pair_sky(seed, SHAPE, N_STANDING)
    lengths = np.repeat(LENGTHS, OF_EACH)
    snr = np.exp(rng.uniform(np.log(15.0), np.log(100.0), lengths.size))
    movers = draw_movers(rng, lengths, snr, MINUTES[-1] / 60.0)
    templates = [
        _ready(expose(sky, ExposureSpec(0.95 + 0.05 * k, 100 * seed + k, dither_pixels=(30.0 * k, -20.0 * k)), SHAPE))
        for k in (1, 2)
    ]
    tables, owners = [], []
    for number, minutes in enumerate(MINUTES):
        glint_pixels = rng.uniform(*GLINT_ARCSEC, N_GLINTS) / PIXEL_ARCSEC
        glints = draw_movers(rng, glint_pixels, np.exp(rng.uniform(np.log(15.0), np.log(100.0), N_GLINTS)))
        now = movers.at(60.0 * minutes)
        spec = ExposureSpec(FWHM_ARCSEC, 100 * seed + 50 + number, transients=True, missed_cosmic_rays=15)
        frame = expose(_with(sky, now, glints), spec, SHAPE)
        identity = Identity(100 * seed + number, "r", NIGHT, 10, MJD + minutes / 1440.0)
        table = search_ccd(_ready(frame), templates, identity, SearchSettings(), with_fakes=False).detections_table
        x, y = (column(table, name) for name in ("x", "y"))
        near = now.near(x, y)
        owners.append(np.where(near.any(axis=1), near.argmax(axis=1), -1))
        tables.append(table)
    return pa.concat_tables(tables), np.concatenate(owners), lengths.size


def _with(sky: PairSky, *lines: Lines) -> PairSky:
    """Return the sky with trails among its transients."""
    x, y, mag = np.concatenate(
        [[sky.transient_x, sky.transient_y, sky.transient_mag], *(line.points() for line in lines)], axis=1
    )
    return replace(sky, transient_x=x, transient_y=y, transient_mag=mag)


def _ready(frame: Frame) -> CalibratedImage:
    """Return a frame with its exposure time and with resampling inputs."""
    pixels = frame.image.pixels
    image = replace(frame.image, pixels=replace(pixels, header=pixels.header | {"EXPTIME": EXPTIME_S}))
    return with_resampling_inputs(image, SearchSettings().stack.resampling_inputs)


@dataclass(frozen=True, slots=True)
class Linked:
    """How often a mover was detected and linked, and the false links around it.

    Attributes
    ----------
    length
        Length of its trail, pixels.
    n_detected, n_trails
        Exposures with a detection on it, and with one that is a trail.
    linked
        Whether a candidate with the flag MOVER has detections of it in two exposures and no other.
    rate_pull
        Its rate minus the true one over the stated error; NaN if it is not linked.
    """

    length: float
    n_detected: int
    n_trails: int
    linked: bool
    rate_pull: float


def link_each(detections: pa.Table, owner: NDArray[np.int64], n: int, used: tuple[int, ...]) -> list[Linked]:
    """Link each of n movers among the detections that belong to none, in some of the exposures."""
    times = np.array([MJD + MINUTES[number] / 1440.0 for number in used])
    seen = np.isin(column(detections, "mjd"), times)
    linked = []
    for mover in range(n):
        chosen = seen & np.isin(owner, (-1, mover))
        own = seen & (owner == mover)
        mine = set(column(detections, "detection_id")[own].tolist())
        trails = own & (column(detections, "trail_arcsec") > 0)
        length = float(np.repeat(LENGTHS, OF_EACH)[mover])
        rate, pull = length * PIXEL_ARCSEC / EXPTIME_S * 3600.0, np.nan
        for row in _movers(detections.filter(pa.array(chosen))):
            if mine.issuperset(row["detection_ids"]):
                pull = (row["motion_arcsec_per_hour"] - rate) / row["motion_error_arcsec_per_hour"]
        n_detected, n_trails = (len(np.unique(column(detections, "expnum")[which])) for which in (own, trails))
        linked.append(Linked(length, n_detected, n_trails, bool(np.isfinite(pull)), pull))
    return linked


def false_links(detections: pa.Table, owner: NDArray[np.int64], used: tuple[int, ...]) -> int:
    """Count the movers among detections of some of the exposures that belong to none."""
    seen = np.isin(column(detections, "mjd"), [MJD + MINUTES[number] / 1440.0 for number in used])
    return len(_movers(detections.filter(pa.array(seen & (owner < 0)))))


def _movers(detections: pa.Table) -> list[dict[str, Any]]:
    """Return the candidates with the flag MOVER."""
    candidates = associate_detections(detections, NIGHT, AssociateSettings())
    return [row for row in candidates.to_pylist() if row["flags"] & CandidateFlag.MOVER]


def measure(quick: bool) -> list[Row]:
    """Measure everything; ``quick`` takes one sky instead of four."""
    seeds = (1,) if quick else (1, 2, 3, 4)
    skies = [exposures(seed) for seed in seeds]
    rows = []
    for label, choices in (("three exposures", ((0, 1, 2),)), ("two exposures", ((0, 1), (1, 2), (0, 2)))):
        linked = [item for sky in skies for used in choices for item in link_each(*sky, used)]
        for length in LENGTHS:
            what = f"trail of {length:g} pixels, {label}"
            found = [item.linked for item in linked if item.length == length and item.n_detected >= 2]
            name, share = f"{what}: linked where detected twice", sum(found) / max(len(found), 1)
            graded = len(choices[0]) == 3
            rows.append(at_least(name, share, "share", 0.9, n=len(found), seeds=seeds) if graded
                        else Row(name, share, "share", n=len(found), seeds=seeds))  # fmt: skip
            found = [item.linked for item in linked if item.length == length >= 8.0 and item.n_trails >= 2]
            if found:
                name, share = f"{what}: linked where a trail in two", sum(found) / len(found)
                rows.append(at_least(name, share, "share", 0.9, n=len(found), seeds=seeds))
        pulls = np.array([item.rate_pull for item in linked if item.linked and item.length >= 8.0])
        name = f"pull of the rate of trails, rms, {label}"
        rows.append(Row(name, float(np.sqrt(np.mean(pulls**2))), "", n=pulls.size, seeds=seeds))
        n_false = sum(false_links(*sky[:2], used) for sky in skies for used in choices)
        n = len(skies) * len(choices)
        rows.append(at_most(f"false links per field, {label}", n_false / n, "", 0.1, n=n, seeds=seeds))
    return rows


if __name__ == "__main__":
    main("Movers", measure)
