"""Subtract arbitrary calibrated images of one field (the command ``difference-images``)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from imaging.bits import MaskBit
from imaging.difference.chain import CcdSearchResult, search_ccd
from imaging.difference.efficiency import efficiency_by_place
from imaging.difference.prepare import UNKNOWN_ZEROPOINT, calibrate
from imaging.difference.records import Identity
from imaging.difference.settings import SearchSettings
from imaging.difference.stamps import cut_triplet
from imaging.difference.triplet import StampTriplet
from imaging.errors import CcdError, NoWorkError
from imaging.exposure import MJD_EPOCH, night_of
from imaging.foreign.cards import positive
from imaging.foreign.noise import SCALE_CARD
from imaging.image import CalibratedImage, LoadedImage
from imaging.psf.model import PsfModel
from imaging.schemas.difference import DetectionFlag
from imaging.templates.relative import aperture_fluxes, find_bright_sources
from imaging.templates.resample import aligned_map
from imaging.templates.resampling_inputs import with_resampling_inputs
from imaging.templates.settings import StackSettings
from imaging.wcs.sphere import footprint, overlap_fraction, polygon_centre, separation_deg

SUMMARISED = (
    *("detection_id", "x", "y", "ra", "dec", "position_error_arcsec", "flux", "flux_error", "snr", "mag", "mag_error"),
    *("chi2_psf", "spread_model", "dipole_fraction", "real_score"),
)
"""Columns of a detection in the summary."""

MAX_MJD, MAX_NUMBER = 1e6, 2**31
"""Larger numbers in MJD-OBS are no date, and in EXPNUM and CCDNUM no number of an exposure or CCD."""

STAR_SNR, MIN_RESIDUALS, MAX_RESIDUAL_SHARE = 10.0, 8, 0.15
"""Signal to noise of the peak of a bright star of the template; number and fraction of those with a detection without
a flag that no sky has: they were not subtracted."""

__all__ = ["ImageDifference", "UserImage", "difference_images", "summary"]


@dataclass(frozen=True, eq=False)
class UserImage:
    """An image given by the user.

    Attributes
    ----------
    loaded
        Content of its file.
    psf
        PSF given by the user; None if none.
    zeropoint_mag
        AB magnitude of one unit of the file, overriding the header; None uses the header's.
    """

    loaded: LoadedImage
    psf: PsfModel | None = None
    zeropoint_mag: float | None = None


@dataclass(frozen=True, eq=False)
class ImageDifference:
    """Difference of images given by the user.

    Attributes
    ----------
    searched
        Template, difference, detections, efficiency.
    stamps
        One triplet per detection.
    zeropoint_known
        Whether the zero point of the search image was known; if not, magnitudes are relative to 30.
    zeropoint_ratio
        Counts of the search image per count of the first template for one source, according to the zero points.
    notes
        What was found in the images that changes the meaning of their numbers.
    """

    searched: CcdSearchResult
    stamps: tuple[StampTriplet, ...]
    zeropoint_known: bool
    zeropoint_ratio: float
    notes: tuple[str, ...] = ()


def difference_images(
    science: UserImage,
    templates: Sequence[UserImage],
    settings: SearchSettings | None = None,
    *,
    with_fakes: bool = False,
) -> ImageDifference:
    """Subtract the stack of template images from a science image of the same field.

    Parameters
    ----------
    science
        Image to search.
    templates
        Images to subtract, best first.
    settings
        All settings; defaults if None.
    with_fakes
        Whether to measure the efficiency with fakes.

    Raises
    ------
    NoWorkError
        ``no_template_overlap`` if no template overlaps the science image.
    CcdError
        If an image is empty or has no usable star for its PSF, or for the reasons of :func:`check_stars`
        and :func:`imaging.difference.chain.search_ccd`.
    """
    settings = settings or SearchSettings()
    check_overlap(science.loaded, [template.loaded for template in templates], settings.stack.min_coverage)
    search = with_resampling_inputs(_calibrated(science), settings.stack.resampling_inputs)
    known = science.zeropoint_mag is not None or science.loaded.zeropoint_mag is not None
    prepared = []
    for template in templates:
        image = with_resampling_inputs(_calibrated(template), settings.stack.resampling_inputs)
        if not known or (template.zeropoint_mag is None and template.loaded.zeropoint_mag is None):
            image = tie_zeropoint(search, image, settings.stack)
        prepared.append(image)
    searched = search_ccd(search, prepared, _identity(science.loaded), settings, with_fakes=with_fakes)
    check_stars(searched)
    positions = searched.detections.measured
    stamps = tuple(cut_triplet(searched.difference, x, y) for x, y in zip(positions.x, positions.y, strict=True))
    unit, first = (
        image.zeropoint_mag - 2.5 * np.log10(image.pixels.header["FILEGAIN"]) for image in (search, prepared[0])
    )
    notes = [
        note
        for user, image in zip((science, *templates), (search, *prepared), strict=True)
        for note in _notes(user, image)
    ]
    for used in searched.template.inputs:
        shift = math.hypot(used.alignment.x[0], used.alignment.y[0])
        if shift > settings.stack.align_max_pixels:
            notes.append(f"{used.label}: coordinates wrong by {shift:.0f} pixels, corrected by the stars")
    return ImageDifference(searched, stamps, known, float(10 ** (0.4 * (unit - first))), tuple(notes))


def _notes(user: UserImage, image: CalibratedImage) -> list[str]:
    """Return what was found in an image that changes the meaning of its numbers."""
    notes = list(user.loaded.notes)
    gain, used = user.loaded.gain, float(image.pixels.header["FILEGAIN"])
    if gain is None:
        notes.append(f"gain measured from the noise, {used:.4g} electrons per unit")
    elif not math.isclose(gain, used):
        notes.append(f"the noise contradicts the header's gain of {gain:.4g} and shows {used:.4g} electrons per unit")
    if not user.loaded.is_own_product and (image.pixels.mask & np.int16(MaskBit.STREAK)).any():
        notes.append("a streak is masked")
    if image.noise_correlation is not None:
        lags = image.noise_correlation[0, 1], image.noise_correlation[1, 0]
        notes.append(f"resampled before: neighbouring pixels correlate by {max(lags):.2f}")
    if SCALE_CARD in image.pixels.header:
        scale = image.pixels.header[SCALE_CARD]
        notes.append(f"the weights are relative: the noise of the sky is {scale:.3g} times that of them")
    return [f"{image.label}: {note}" for note in notes]


def check_overlap(science: LoadedImage, templates: Sequence[LoadedImage], min_coverage: float) -> None:
    """Raise if the images are of different fields, before any measurement.

    Parameters
    ----------
    science, templates
        The images.
    min_coverage
        Fraction of the science image that must be covered, for the message.

    Raises
    ------
    NoWorkError
        ``no_template_overlap`` if no template overlaps it.
    """
    corners = _footprint(science)
    if any(overlap_fraction(corners, _footprint(template)) > 0.0 for template in templates):
        return
    centre, others = polygon_centre(corners), [polygon_centre(_footprint(template)) for template in templates]
    distance = min(float(separation_deg(*centre, *other)) for other in others)
    raise NoWorkError(
        f"no template overlaps the science image: the nearest is {distance:.3g} deg away",
        reason="no_template_overlap",
        step="difference_images",
        value="0.0 %",
        limit=f"at least {100 * min_coverage:g} %",
        remedy="check the coordinates of the images, or give images of one field",
    )


def _footprint(loaded: LoadedImage) -> NDArray[np.float64]:
    ny, nx = loaded.science.shape
    return footprint(loaded.wcs, nx, ny)


def _calibrated(image: UserImage) -> CalibratedImage:
    """Calibrate an image; errors include its name."""
    try:
        return calibrate(image.loaded, psf=image.psf, zeropoint_mag=image.zeropoint_mag)
    except CcdError as error:
        where = error.details() | {"reason": error.reason}
        raise type(error)(f"{image.loaded.label}: {error.problem}", **where) from error


def check_stars(searched: CcdSearchResult) -> None:
    """Raise if what is left of the template's stars was detected: then no detection can be believed.

    Parameters
    ----------
    searched
        Result of the search.

    Raises
    ------
    CcdError
        ``star_residuals`` if too many bright stars of the template have a detection without a flag.
    """
    template, detections = searched.template.image.pixels, searched.detections
    x, y, _ = find_bright_sources(template.science, template.weight, min_snr=STAR_SNR, maximum=math.inf)
    clean = detections.passed
    found = np.stack([detections.measured.x[clean], detections.measured.y[clean]], axis=1)
    if len(found) < MIN_RESIDUALS or x.size == 0:
        return
    near = KDTree(found).query(np.stack([x, y], axis=1))[0] < searched.difference.psf.fwhm_pixels
    if near.sum() >= MIN_RESIDUALS and near.mean() > MAX_RESIDUAL_SHARE:
        raise CcdError(
            "the stars of the template were not subtracted",
            reason="star_residuals",
            step="difference_images",
            value=f"{near.sum()} of {x.size} bright stars are detected",
            limit=f"at most {MAX_RESIDUAL_SHARE:.0%}",
            remedy="check the coordinates, the weights and the gains of the images",
        )


def tie_zeropoint(
    search: CalibratedImage, template: CalibratedImage, settings: StackSettings | None = None
) -> CalibratedImage:
    """Set the zero point of a template from the stars in common with the search image.

    Parameters
    ----------
    search, template
        Images of one field; the zero point of the template is not used.
    settings
        Alignment of the two images.

    Raises
    ------
    CcdError
        ``no_common_stars`` if they have no bright star in common.
    """
    pixels, other = search.pixels, template.pixels
    grid = aligned_map(template, search, settings or StackSettings())[0]
    x, y, _ = find_bright_sources(
        pixels.science, pixels.weight, min_snr=10.0, maximum=0.7 * search.saturation_electrons
    )
    px, py = (np.rint(p) for p in grid.at(x, y))
    mine, mine_error = aperture_fluxes(pixels.science, pixels.weight, x, y, 0.7 * search.saturation_electrons)
    theirs, their_error = aperture_fluxes(other.science, other.weight, px, py, 0.7 * template.saturation_electrons)
    good = (mine > 10.0 * mine_error) & (theirs > 10.0 * their_error)
    if not good.any():
        raise CcdError(
            "the images have no zero points and share no bright star",
            reason="no_common_stars",
            step="difference_images",
            value=0,
            limit="at least 1",
            remedy="give the zero points",
        )
    ratio = float(np.median(theirs[good] / mine[good]))
    return replace(template, zeropoint_mag=search.zeropoint_mag + 2.5 * float(np.log10(ratio)))


def summary(result: ImageDifference, bin_mag: float = 0.5) -> dict[str, object]:
    """Return the document of ``--json``: properties of the difference and its detections.

    Parameters
    ----------
    result
        Result of :func:`difference_images`.
    bin_mag
        Width of the bins of the efficiency, if fakes were injected.
    """
    fakes = result.searched.fakes_table
    searched, difference = result.searched, result.searched.difference
    quality = {key: value if np.isfinite(value) else None for key, value in searched.quality.items()}
    rows = searched.detections_table.to_pylist()
    return {
        "search": difference.search.label,
        "templates": [
            {
                "label": i.label,
                "share": i.share,
                "weight": i.weight,
                "alignment_rms_pixels": _known(i.alignment.rms_pixels),
            }
            for i in searched.template.inputs
        ],
        "method": difference.method,
        "convolved": difference.kernel.convolved,
        "fallback": difference.kernel.fallback,
        "zeropoint_mag": difference.search.zeropoint_mag if result.zeropoint_known else None,
        "unknown_zeropoint_mag": None if result.zeropoint_known else UNKNOWN_ZEROPOINT,
        "kernel_sum": quality["kernel_sum"],
        "scale": difference.kernel.sum * result.zeropoint_ratio,
        "n_stamps": difference.kernel.n_stamps,
        "noise_width": quality["difference_noise_width"],
        "lag1_correlation": quality["difference_lag1"],
        "notes": list(result.notes),
        "quality": quality,
        "cut_flow": searched.cut_flow,
        "efficiency": [] if fakes is None else efficiency_by_place(fakes, bin_mag).to_pylist(),
        "detections": [
            {key: row[key] for key in SUMMARISED}
            | {"flags": [f.name for f in DetectionFlag if row["flags"] & f and f.name is not None]}
            for row in rows
        ],
        "times_cpu_s": dict(searched.times.cpu_s),
    }


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _identity(loaded: LoadedImage) -> Identity:
    """Read exposure and CCD from the header; zeros if missing."""
    header = loaded.header

    def number(key: str) -> float:
        return positive(header, key) or 0.0

    mjd = number("MJD-OBS") if number("MJD-OBS") < MAX_MJD else 0.0
    night = night_of(mjd) if mjd > 0 else int(MJD_EPOCH.strftime("%Y%m%d"))
    band = str(header.get("BAND") or header.get("FILTER") or "").split(" ")[0]
    expnum, ccd = (int(n) if (n := number(key)) < MAX_NUMBER else 0 for key in ("EXPNUM", "CCDNUM"))
    return Identity(expnum, band, night, ccd, mjd + number("EXPTIME") / 2 / 86400.0)
