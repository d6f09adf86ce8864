"""Search synthetic pairs and compare with the truth; used by the bench and by the training of the score."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from imaging.difference.chain import CcdSearchResult, search_ccd
from imaging.difference.detect import DifferenceDetections
from imaging.difference.records import Identity
from imaging.difference.score import features_of
from imaging.difference.settings import SearchSettings
from imaging.simulation.pairs import ExposureSpec, Frame, PairSky, expose, make_pair_sky
from imaging.templates.resampling_inputs import with_resampling_inputs

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

DITHERS = ((30.0, -20.0), (-45.0, 33.0), (12.0, 61.0))
MATCH_PIXELS = 2.5


@dataclass(frozen=True, slots=True)
class Scenario:
    """Conditions of a search image and its templates.

    Attributes
    ----------
    seed
        Seed of sky and noise.
    search_fwhm, template_fwhm
        Seeing, arcseconds; the templates differ by 0.05 from one to the next.
    turbulence_mas
        Rms of atmospheric shifts that the coordinates do not include, mas.
    n_templates
        Number of templates.
    missed_cosmic_rays
        Cosmic rays of the search image that its mask misses.
    shape
        (ny, nx) of the images.
    n_transients
        Transients in the search image.
    cosmic_rays
        Masked cosmic rays of every image.
    psf_width
        Width of the search image's PSF model over the true one; those of the templates are wrong the other way.
    """

    seed: int
    search_fwhm: float = 1.1
    template_fwhm: float = 0.95
    turbulence_mas: float = 10.0
    n_templates: int = 3
    missed_cosmic_rays: int = 15
    shape: tuple[int, int] = (4096, 2048)
    n_transients: int = 200
    cosmic_rays: int = 120
    psf_width: float = 1.0

    @property
    def identity(self) -> Identity:
        """Identity of the search image."""
        return Identity(self.seed, "r", 20260101, 10, 61041.1)


@dataclass(frozen=True, eq=False)
class Truth:
    """The simulated frames of a scenario.

    Attributes
    ----------
    sky
        Stars, galaxies, transients.
    search
        The search frame.
    templates
        The templates' frames.
    """

    sky: PairSky
    search: Frame
    templates: list[Frame]

    @property
    def transient_flux(self) -> FloatArray:
        """(n,) electrons of the transients in the search image."""
        return 10 ** (-0.4 * (self.sky.transient_mag - self.search.image.zeropoint_mag))


def take(scenario: Scenario, sky: PairSky | None = None) -> Truth:
    """Simulate the images of a scenario, with the given sky or one from its seed."""
    s = scenario
    sky = sky or make_pair_sky(s.seed, s.shape, s.n_transients)
    search = expose(
        sky,
        ExposureSpec(
            s.search_fwhm,
            s.seed * 100 + 1,
            turbulence_mas=s.turbulence_mas,
            transients=True,
            cosmic_rays=s.cosmic_rays,
            missed_cosmic_rays=s.missed_cosmic_rays,
        ),
        s.shape,
        f"search {s.seed}",
    )
    templates = [
        expose(
            sky,
            ExposureSpec(
                s.template_fwhm + 0.05 * k,
                s.seed * 100 + 2 + k,
                turbulence_mas=s.turbulence_mas,
                cosmic_rays=s.cosmic_rays,
                dither_pixels=DITHERS[k % len(DITHERS)],
                zeropoint_mag=31.4 + 0.1 * k,
            ),
            s.shape,
            f"template {s.seed}-{k}",
        )
        for k in range(s.n_templates)
    ]
    if s.psf_width != 1.0:
        search = _with_psf_width(search, s.psf_width)
        templates = [_with_psf_width(frame, 1.0 / s.psf_width) for frame in templates]
    return Truth(sky, search, templates)


def _with_psf_width(frame: Frame, factor: float) -> Frame:
    """Make the PSF model of a frame wider by a factor, at the same flux."""
    psf = frame.image.psf
    coefficients = (psf.coefficients / factor**2).astype(np.float32)
    wide = replace(psf, coefficients=coefficients, step=psf.step * factor, fwhm_pixels=psf.fwhm_pixels * factor)
    return replace(frame, image=replace(frame.image, psf=wide))


def run(
    truth: Truth, scenario: Scenario, settings: SearchSettings | None = None, *, with_fakes: bool = True
) -> CcdSearchResult:
    """Search the images of a scenario, with resampling inputs computed as in the calibration of a CCD."""
    settings = settings or SearchSettings()
    images = [truth.search.image, *(frame.image for frame in truth.templates)]
    search, *templates = (with_resampling_inputs(image, settings.stack.resampling_inputs) for image in images)
    return search_ccd(search, templates, scenario.identity, settings, with_fakes=with_fakes)


def is_true(detections: DifferenceDetections, truth: Truth) -> tuple[BoolArray, NDArray[np.int64]]:
    """Return which detections are true transients, (n,) bool, and the index of the nearest transient, (n,)."""
    x, y = detections.measured.x, detections.measured.y
    distance = np.hypot(x[:, None] - truth.search.true_x, y[:, None] - truth.search.true_y)
    nearest = distance.argmin(axis=1) if len(detections) else np.zeros(0, dtype=np.int64)
    near = distance[np.arange(len(detections)), nearest] < MATCH_PIXELS
    return near & (detections.score > 0), nearest


def labelled_features(searched: CcdSearchResult, truth: Truth) -> tuple[FloatArray, BoolArray, FloatArray]:
    """Return features, labels and moduli of the scores of detections: transients and fakes against everything else.

    Negative detections, none of which is real here, represent positive noise and residuals.
    """
    fwhm = searched.difference.psf.fwhm_pixels
    real, _ = is_true(searched.detections, truth)
    features = [features_of(searched.detections, fwhm)]
    labels = [real]
    scores = [np.abs(searched.detections.score)]
    if searched.fakes is not None:
        found = np.unique(searched.fakes.match[searched.fakes.detected])
        features.append(features_of(searched.fakes.detections, fwhm)[found])
        labels.append(np.ones(found.size, dtype=bool))
        scores.append(searched.fakes.detections.score[found])
    return np.concatenate(features), np.concatenate(labels), np.concatenate(scores)
