"""Accuracy and cost of measuring a CCD: PSF, photometry, astrometry, zero points, stars against galaxies.

Simulated full-size CCDs at a seeing of 0.8, 1.1 and 1.4 arcsec go through the whole chain and are held against the
simulator's truth. Where SExtractor and PSFEx are installed they measure the same pixels.
"""

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.measure_scores import (
    Scores,
    Truth,
    counterparts,
    position_errors,
    score_photometry,
    score_psf,
    separation_share,
)
from bench.peers import PeerResult, peers_installed, run_peers
from bench.prepared import PreparedExposure, prepare_exposure
from bench.report import Row, at_least, at_most, main
from bench.scamp import run_scamp, scamp_installed
from imaging.astrometry.reference import reference_at_epoch
from imaging.astrometry.tie import tie_astrometry
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
"""Photon noise of a centroid below which a star shows the coordinates rather than itself."""


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
    tie = tie_astrometry(matches, seeds, SHAPE, MeasureSettings().astrometry)
    for ccd, result in measured.items():
        truth, tied = Truth.of(prepared.sources[ccd]), tie.ccds[ccd]
        alone, noise = position_errors(truth, result.catalogue, result.wcs.pixel_to_sky)
        scores.alone.append(alone)
        scores.centroid_noise.append(noise)
        scores.tied.append(position_errors(truth, result.catalogue, tied.wcs().pixel_to_sky)[0])
        corrected, _ = position_errors(truth, result.catalogue, partial(tied.sky, shape=SHAPE))
        scores.corrected.append(corrected)
        weight = 1.0 / (noise**2 + 5.0**2)
        scores.mean_offset_mas += np.average(corrected, axis=1, weights=weight).tolist()


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
    """Return the rows of accuracy; the limits are those asked of a survey's single-epoch processing."""
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
    """Return the errors of positions: of all stars, photon noise included, and of those where it is small."""
    noise = np.concatenate(scores.centroid_noise, axis=1)
    bright = noise.max(axis=0) < SMALL_NOISE_MAS
    floor = _rms(noise)
    identity = tuple(seeds)
    rows = [Row("photon noise of positions above S/N 30, rms", floor, "mas", n=bright.size, seeds=identity)]
    for name, errors, limit in (
        ("CCD alone", scores.alone, 10.0),
        ("tied over the exposure", scores.tied, 7.0),
        ("tied, with corrections", scores.corrected, 7.0),
    ):
        joined = np.concatenate(errors, axis=1)
        title = f"positions above S/N 30, {name}"
        rows += [
            at_most(f"{title}, rms", _rms(joined), "mas", limit, n=bright.size, seeds=seeds),
            at_most(
                "the same without the photon noise, rms",
                float(np.sqrt(max(_rms(joined) ** 2 - floor**2, 0.0))),
                "mas",
                limit,
                n=bright.size,
                seeds=seeds,
            ),
            at_most(
                "the same, centroid noise below 4 mas",
                _rms(joined[:, bright]),
                "mas",
                limit,
                n=int(bright.sum()),
                seeds=seeds,
            ),
        ]
    offsets = scores.mean_offset_mas
    return [*rows, at_most("mean offset of a CCD, rms", _rms(offsets), "mas", 2.0, n=len(offsets), seeds=seeds)]


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
    """What SExtractor and PSFEx reach on the same CCDs."""

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
        _score_peer_photometry(self.theirs, truth, peer)
        score_photometry(self.ours, truth, result.catalogue)
        self.their_cpu_s.append(sum(peer.cpu_s.values()))
        self.ours.cpu_s.append(dict(result.times.cpu_s))
        if scamp_installed():
            self._add_scamp(prepared, result, ccd, folder, truth)

    def _add_scamp(self, prepared: PreparedExposure, result: MeasuredCcd, ccd: int, folder: Path, truth: Truth) -> None:
        """Run SCAMP, and hold our catalogue's positions under its coordinates and under ours against the truth."""
        exposure = prepared.exposure
        stars = reference_at_epoch(prepared.reference, exposure.mjd_mid, MeasureSettings().astrometry)
        seed = seed_wcs(ccd, exposure.ra_deg, exposure.dec_deg)
        scamp = run_scamp(prepared.images[ccd], seed, stars, folder / "scamp")
        self.scamp_cpu_s.append(sum(scamp.cpu_s.values()))
        for scores, wcs in ((self.theirs, scamp.wcs), (self.ours, result.wcs)):
            errors, noise = position_errors(truth, result.catalogue, wcs.pixel_to_sky)
            scores.alone.append(errors[:, noise.max(axis=0) < SMALL_NOISE_MAS])

    def rows(self, seeds: Sequence[int]) -> list[Row]:
        """Return their figures beside ours on the same CCDs; nothing if they are not installed."""
        if not self.their_cpu_s:
            return []
        flux = np.array(self.theirs.flux_difference_mmag)
        shares = [
            separation_share(np.concatenate(s.stars), np.concatenate(s.galaxies)) for s in (self.ours, self.theirs)
        ]
        n, ours_s = len(self.their_cpu_s), float(np.mean([sum(cpu.values()) for cpu in self.ours.cpu_s]))
        theirs_s = float(np.mean(self.their_cpu_s))
        figures = (
            ("PSFEx, rms error of the PSF", 100 * _root_mean(self.theirs.psf_error), "%"),
            ("PSFEx, flux bias of the PSF", 100 * float(np.mean(self.theirs.psf_bias)), "%"),
            ("SExtractor, PSF flux, stars 16.5 to 18.5, scatter", float(flux.std()), "mmag"),
            ("SExtractor, SPREAD_MODEL, area under the curve", shares[1], ""),
            ("ours on the same CCDs, area under the curve", shares[0], ""),
            ("SExtractor and PSFEx, cost", theirs_s, "CPU s"),
        )
        rows = [Row(name, value, unit, n=n, seeds=tuple(seeds)) for name, value, unit in figures]
        if self.scamp_cpu_s:
            scamp_s = float(np.mean(self.scamp_cpu_s))
            theirs_s += scamp_s
            more = (
                ("SCAMP, positions of stars with centroid noise below 4 mas, rms", _joined(self.theirs.alone), "mas"),
                ("ours, CCD alone, on the same stars, rms", _joined(self.ours.alone), "mas"),
                ("SExtractor and SCAMP, cost", scamp_s, "CPU s"),
            )
            rows += [Row(name, value, unit, n=n, seeds=tuple(seeds)) for name, value, unit in more]
        return [*rows, at_least("their cost over ours", theirs_s / ours_s, "", 10.0, n=n, seeds=seeds)]


def _score_peer_photometry(scores: Scores, truth: Truth, peer: PeerResult) -> None:
    pairs = counterparts(truth, peer.x, peer.y)
    mag = truth.mag[pairs.index]
    clean = pairs.same & pairs.alone & ((peer.flags & 12) == 0) & (peer.flux_psf > 0)
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
