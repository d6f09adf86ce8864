"""Accuracy and cost of measuring a CCD: PSF, photometry, astrometry, zero points, stars against galaxies.

Simulated full-size CCDs with a seeing of 0.8, 1.1 and 1.4 arcsec are processed and compared with the simulated truth.
SExtractor and PSFEx, if installed, measure the same pixels.
"""

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.measure_scores import (
    BrightStars,
    Scores,
    Truth,
    counterparts,
    photon_noise,
    score_photometry,
    score_psf,
    separation_share,
    windowed_centres,
)
from bench.peers import PeerResult, peers_installed, run_peers
from bench.prepared import PreparedExposure, prepare_exposure
from bench.report import Row, at_least, at_most, main
from bench.scamp import run_scamp, scamp_installed
from imaging.astrometry.reference import reference_at_epoch
from imaging.astrometry.tie import tie_exposure
from imaging.catalogue.build import place_on_sky
from imaging.detector.distortion import seed_wcs
from imaging.measure.chain import MeasuredCcd, measure_ccd
from imaging.measure.settings import MeasureSettings
from imaging.photometry.colours import band_magnitudes
from imaging.photometry.match import match_reference
from imaging.photometry.settings import PhotometrySettings
from imaging.photometry.solve import solve_exposure_zeropoints
from imaging.photometry.zeropoint import ccd_zeropoint

SHAPE = (4096, 2048)
RUNS = ((11, 0.8), (12, 1.1), (13, 1.4))
"""Seed and seeing of the simulated exposures."""

CCDS = (3, 12, 27, 28, 40, 60)

SMALL_NOISE_MAS = 4.0
"""Photon noise of a centroid, mas, above which it dominates over the definition of the centre."""


def measure(quick: bool, ccds: tuple[int, ...] = CCDS) -> list[Row]:
    """Measure accuracy and cost of some CCDs; ``quick`` takes one exposure of two and no other programs."""
    runs, ccds = (RUNS[1:2], CCDS[2:4]) if quick else (RUNS, ccds)
    scores, peers = Scores(), PeerScores()
    for seed, seeing in runs:
        with tempfile.TemporaryDirectory() as folder:
            prepared = prepare_exposure(Path(folder) / "night", seed, seeing, ccds)
            measured = _measure_exposure(prepared, scores)
            if not quick and peers_installed():
                peers.add(prepared, measured, CCDS[2], Path(folder) / "peers")
    seeds = [seed for seed, _ in runs]
    return accuracy_rows(scores, seeds) + cost_rows(scores, seeds) + peers.rows(seeds)


def _measure_exposure(prepared: PreparedExposure, scores: Scores) -> dict[int, MeasuredCcd]:
    exposure, settings = prepared.exposure, MeasureSettings()
    warm_up = next(iter(prepared.images))
    measure_ccd(prepared.images[warm_up], exposure, warm_up, prepared.reference, settings)
    measured = {
        ccd: measure_ccd(image, exposure, ccd, prepared.reference, settings) for ccd, image in prepared.images.items()
    }
    for ccd, result in measured.items():
        scores.cpu_s.append(dict(result.times.cpu_s))
        score_psf(scores, prepared, ccd, result.psf.model)
        score_photometry(scores, Truth.of(prepared.sources[ccd]), result.catalogue)
    _score_astrometry(prepared, measured, scores)
    _score_zeropoints(prepared, measured, scores)
    return measured


def _score_astrometry(prepared: PreparedExposure, measured: dict[int, MeasuredCcd], scores: Scores) -> None:
    exposure = prepared.exposure
    seeds = {ccd: seed_wcs(ccd, exposure.ra_deg, exposure.dec_deg) for ccd in measured}
    matches = {ccd: result.matches for ccd, result in measured.items()}
    tie = tie_exposure(matches, seeds, SHAPE, MeasureSettings().astrometry)
    for ccd, result in measured.items():
        stars = BrightStars.of(Truth.of(prepared.sources[ccd]), result.catalogue)
        tied, stated = partial(tie.ccds[ccd].sky, shape=SHAPE), stars.stated_errors()
        scores.alone.append(stars.position_errors(result.wcs.pixel_to_sky))
        scores.tied.append(stars.position_errors(tied))
        centres = windowed_centres(prepared, ccd, stars, result.psf.model.fwhm_pixels)
        scores.coordinates_alone.append(stars.coordinate_errors(result.wcs.pixel_to_sky, centres))
        scores.coordinates_tied.append(stars.coordinate_errors(tied, centres))
        scores.centroid_error.append(stars.centroid_errors())
        scores.centroid_noise.append(stated)
        scores.photon_noise.append(photon_noise(prepared, ccd, stars))
        weight = 1.0 / (stated**2 + 5.0**2)
        scores.mean_offset_mas += np.average(scores.tied[-1], axis=1, weights=weight).tolist()


def _score_zeropoints(prepared: PreparedExposure, measured: dict[int, MeasuredCcd], scores: Scores) -> None:
    exposure, settings = prepared.exposure, PhotometrySettings()
    stars = reference_at_epoch(prepared.reference, exposure.mjd_mid, MeasureSettings().astrometry)
    magnitudes = band_magnitudes(prepared.reference, exposure.band, prepared.colour_terms)
    own = {}
    for ccd, result in measured.items():
        catalogue = place_on_sky(result.catalogue, result.wcs)
        own[ccd], _ = ccd_zeropoint(match_reference(catalogue, stars, magnitudes, settings), settings)
    for row in solve_exposure_zeropoints(own, exposure, settings).to_pylist():
        true = Truth.of(prepared.sources[row["ccd"]]).zeropoint_mag()
        scores.own_zeropoint_mmag.append(1000.0 * (row["own_zeropoint_mag"] - true))
        scores.zeropoint_mmag.append(1000.0 * (row["zeropoint_mag"] - true))
        scores.zeropoint_pull.append((row["zeropoint_mag"] - true) / row["zeropoint_error_mag"])


def accuracy_rows(scores: Scores, seeds: Sequence[int]) -> list[Row]:
    """Return the rows of accuracy; the limits are typical of a survey's single-epoch processing."""
    flux, n_ccds = np.array(scores.flux_difference_mmag), len(scores.cpu_s)
    stars, galaxies = np.concatenate(scores.stars), np.concatenate(scores.galaxies)
    share = separation_share(stars, galaxies)
    n = stars.size + galaxies.size
    return [
        at_most("PSF, rms error", 100 * _root_mean(scores.psf_error), "%", 0.5, n=n_ccds, seeds=seeds),
        at_most("PSF, flux bias", 100 * abs(float(np.mean(scores.psf_bias))), "%", 0.1, n=n_ccds, seeds=seeds),
        at_most("PSF flux, stars 16.5 to 18.5, scatter", float(flux.std()), "mmag", 3.0, n=flux.size, seeds=seeds),
        at_most("the same, bias", abs(float(np.median(flux))), "mmag", 5.0, n=flux.size, seeds=seeds),
        *_position_rows(scores, seeds),
        *_zeropoint_rows(scores, seeds),
        at_least("stars against galaxies, 19 to 22 mag, area under the curve", share, "", 0.95, n=n, seeds=seeds),
    ]


def _position_rows(scores: Scores, seeds: Sequence[int]) -> list[Row]:
    """Return the errors of the coordinates at the stars above S/N 30, and those of their measured positions.

    The second include the photon noise of the stars themselves, which no astrometric solution can remove.
    """
    stated, least = (np.concatenate(parts, axis=1) for parts in (scores.centroid_noise, scores.photon_noise))
    centroids = np.concatenate(scores.centroid_error, axis=1)
    n, faint = least.shape[1], least.max(axis=0) > SMALL_NOISE_MAS
    rows = []
    for name, errors, limit in (
        ("CCD alone", scores.coordinates_alone, 10.0),
        ("tied over the exposure", scores.coordinates_tied, 7.0),
    ):
        title = f"coordinates at stars above S/N 30, {name}"
        worst = max(_rms(axis) for ccd in errors for axis in ccd)
        rows += [
            at_most(f"{title}, rms per axis", _joined(errors), "mas", limit, n=n, seeds=seeds),
            at_most("the same, worst CCD and axis", worst, "mas", limit, n=2 * len(errors), seeds=seeds),
        ]
    offsets = scores.mean_offset_mas
    rows.append(at_most("mean offset of a CCD, rms", _rms(offsets), "mas", 2.0, n=len(offsets), seeds=seeds))
    for name, errors, limit in (("CCD alone", scores.alone, 10.0), ("tied over the exposure", scores.tied, 7.0)):
        title = f"measured positions of those stars, photon noise included, {name}, rms"
        rows.append(at_most(title, _joined(errors), "mas", limit, n=n, seeds=seeds))
    identity = tuple(seeds)
    pull, efficiency = centroids[:, faint] / stated[:, faint], centroids[:, faint] / least[:, faint]
    return [
        *rows,
        Row(
            "photon noise of those stars, the least possible error (Cramer-Rao), rms",
            _rms(least),
            "mas",
            n=n,
            seeds=identity,
        ),
        Row(
            "centroids of stars with more than 4 mas of it, over that bound, rms",
            _rms(efficiency),
            "",
            n=int(faint.sum()),
            seeds=identity,
        ),
        Row(
            "centroids of those stars, over their stated errors, rms",
            _rms(pull),
            "",
            n=int(faint.sum()),
            seeds=identity,
        ),
    ]


def _zeropoint_rows(scores: Scores, seeds: Sequence[int]) -> list[Row]:
    adopted, n, identity = scores.zeropoint_mmag, len(scores.zeropoint_mmag), tuple(seeds)
    return [
        at_most("zero point of a CCD, bias", abs(float(np.mean(adopted))), "mmag", 2.0, n=n, seeds=seeds),
        at_most("zero point of a CCD, rms", _rms(adopted), "mmag", 3.0, n=n, seeds=seeds),
        Row("zero point, the CCD's stars alone, rms", _rms(scores.own_zeropoint_mmag), "mmag", n=n, seeds=identity),
        Row("zero point, width of the pull", float(np.std(scores.zeropoint_pull)), "", n=n, seeds=identity),
    ]


def cost_rows(scores: Scores, seeds: Sequence[int]) -> list[Row]:
    """Return CPU seconds per CCD, step by step and in total."""
    n = len(scores.cpu_s)
    rows = [
        Row(f"cost, {step}", float(np.median([cpu[step] for cpu in scores.cpu_s])), "CPU s", n=n, seeds=tuple(seeds))
        for step in scores.cpu_s[0]
    ]
    total = float(np.median([sum(cpu.values()) for cpu in scores.cpu_s]))
    return [*rows, at_most("cost, total", total, "CPU s", 2.5, n=n, seeds=seeds)]


class PeerScores:
    """Results of SExtractor and PSFEx on the same CCDs."""

    def __init__(self) -> None:
        self.theirs, self.ours = Scores(), Scores()
        self.their_cpu_s: list[float] = []
        self.scamp_cpu_s: list[float] = []

    def add(self, prepared: PreparedExposure, measured: dict[int, MeasuredCcd], ccd: int, folder: Path) -> None:
        """Run the programs on one CCD."""
        image, result = prepared.images[ccd], measured[ccd]
        peer = run_peers(image, folder, result.psf.model.fwhm_pixels, 1.2e5)
        truth = Truth.of(prepared.sources[ccd])
        score_psf(self.theirs, prepared, ccd, peer.psf)
        score_psf(self.ours, prepared, ccd, result.psf.model)
        score_photometry(self.ours, truth, result.catalogue)
        _score_peer_photometry(self.theirs, truth, peer, self.ours.clean_sources[-1])
        self.their_cpu_s.append(sum(peer.cpu_s.values()))
        self.ours.cpu_s.append(dict(result.times.cpu_s))
        if scamp_installed():
            self._add_scamp(prepared, result, ccd, folder, truth)

    def _add_scamp(self, prepared: PreparedExposure, result: MeasuredCcd, ccd: int, folder: Path, truth: Truth) -> None:
        """Run SCAMP; compare positions of our catalogue, with SCAMP's coordinates and with ours, with the truth."""
        exposure = prepared.exposure
        stars = reference_at_epoch(prepared.reference, exposure.mjd_mid, MeasureSettings().astrometry)
        seed = seed_wcs(ccd, exposure.ra_deg, exposure.dec_deg)
        scamp = run_scamp(prepared.images[ccd], seed, stars, folder / "scamp")
        self.scamp_cpu_s.append(sum(scamp.cpu_s.values()))
        bright = BrightStars.of(truth, result.catalogue)
        centres = windowed_centres(prepared, ccd, bright, result.psf.model.fwhm_pixels)
        for scores, wcs in ((self.theirs, scamp.wcs), (self.ours, result.wcs)):
            scores.coordinates_alone.append(bright.coordinate_errors(wcs.pixel_to_sky, centres))

    def rows(self, seeds: Sequence[int]) -> list[Row]:
        """Return their results and ours on the same CCDs; no rows if the programs are not installed."""
        if not self.their_cpu_s:
            return []
        figures = [
            ("PSFEx", "rms error of the PSF", "%", lambda s: 100 * _root_mean(s.psf_error)),
            ("PSFEx", "flux bias of the PSF", "%", lambda s: 100 * float(np.mean(s.psf_bias))),
            (
                "SExtractor",
                "PSF flux of stars 16.5 to 18.5, scatter",
                "mmag",
                lambda s: float(np.std(s.flux_difference_mmag)),
            ),
            ("SExtractor", "the same, bias", "mmag", lambda s: float(np.median(s.flux_difference_mmag))),
        ]
        if self.scamp_cpu_s:
            figures.append(
                (
                    "SCAMP",
                    "coordinates at stars above S/N 30, CCD alone, rms",
                    "mas",
                    lambda s: _joined(s.coordinates_alone),
                )
            )
        n, identity = len(self.their_cpu_s), tuple(seeds)
        rows = []
        for program, what, unit, figure in figures:
            theirs, ours = figure(self.theirs), figure(self.ours)
            rows += [
                Row(f"{what}: {program}", theirs, unit, n=n, seeds=identity),
                Row(f"{what}: ours on the same CCDs", ours, unit, n=n, seeds=identity),
                Row(f"{what}: theirs over ours", abs(theirs / ours), "", n=n, seeds=identity),
            ]
        theirs, ours = _separation(self.theirs), _separation(self.ours)
        rows.append(at_least("stars against galaxies, ours against SPREAD_MODEL", ours, "", theirs, n=n, seeds=seeds))
        return rows + self._costs(seeds)

    def _costs(self, seeds: Sequence[int]) -> list[Row]:
        n, identity = len(self.their_cpu_s), tuple(seeds)
        ours = float(np.mean([sum(cpu.values()) for cpu in self.ours.cpu_s]))
        theirs = float(np.mean(self.their_cpu_s))
        rows = [Row("cost, SExtractor, PSFEx, SExtractor with the PSF", theirs, "CPU s", n=n, seeds=identity)]
        if self.scamp_cpu_s:
            scamp = float(np.mean(self.scamp_cpu_s))
            theirs += scamp
            rows.append(Row("cost, SExtractor and SCAMP", scamp, "CPU s", n=n, seeds=identity))
        return [
            *rows,
            Row("cost, ours for the same on the same CCDs", ours, "CPU s", n=n, seeds=identity),
            at_least("their cost over ours", theirs / ours, "", 10.0, n=n, seeds=seeds),
        ]


def _separation(scores: Scores) -> float:
    return separation_share(np.concatenate(scores.stars), np.concatenate(scores.galaxies))


def _score_peer_photometry(scores: Scores, truth: Truth, peer: PeerResult, clean_sources: NDArray[np.int64]) -> None:
    """Score the measurements of another program on sources without masked pixels."""
    pairs = counterparts(truth, peer.x, peer.y)
    mag = truth.mag[pairs.index]
    clean = pairs.same & np.isin(pairs.index, clean_sources) & ((peer.flags & 12) == 0) & (peer.flux_psf > 0)
    bright = clean & truth.is_star[pairs.index] & (mag > 16.5) & (mag < 18.5)
    difference = -2500 * np.log10(peer.flux_psf[bright] / truth.flux[pairs.index][bright])
    scores.flux_difference_mmag += difference.tolist()
    faint = clean & (mag > 19.0) & (mag < 22.0)
    scores.stars.append(peer.spread_model[faint & truth.is_star[pairs.index]])
    scores.galaxies.append(peer.spread_model[faint & truth.is_galaxy[pairs.index]])


def _joined(errors: Sequence[NDArray[np.float64]]) -> float:
    return _rms(np.concatenate(errors, axis=1))


def _rms(values: NDArray[np.float64] | Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _root_mean(squares: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(squares)))


if __name__ == "__main__":
    main("measurement of a CCD", measure)
