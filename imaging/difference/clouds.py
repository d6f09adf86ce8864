"""Divide the brightness of the search image relative to its template between the two.

Both images were corrected for clouds by their reference stars, with an error that grows with the distance from these.
What still differs is divided in the ratio of the squares of the errors at every place, so that a cloud left in a
template does not change the fluxes of transients. The mean over the CCD is a matter of zero points.
"""

from dataclasses import replace

import numpy as np

from imaging.difference.pair import Pair, Side
from imaging.difference.records import Matched
from imaging.difference.residual_noise import ResidualNoise
from imaging.photometry.transparency import Transparency, apply_transparency

LEAST_ERROR = 0.005
"""Error of the transparency of an image in which no clouds were found: half the scatter that is interpolated."""


def correct_search(pair: Pair, matched: Matched) -> tuple[Pair, Matched]:
    """Correct a difference for the share of the relative transparency that belongs to the search image.

    Parameters
    ----------
    pair
        Both sides with the errors of their transparency.
    matched
        The whitened difference, in which the template follows the search image.

    Returns
    -------
    pair, matched
        With brightness and weights changed, and the error of the transparency that is left.
    """
    clouds, own = matched.shifts.transparency, pair.search.transparency_error
    if clouds is None:
        return pair, replace(matched, transparency_error=own)
    search, template = (np.hypot(side.transparency_error, LEAST_ERROR) for side in (pair.search, pair.template))
    share = search**2 / (search**2 + template**2)
    error = np.hypot(search * template / np.hypot(search, template), share * clouds.error)
    relative = clouds.with_mean_one()
    brighter, weight = relative.power(-share), relative.power(2.0 * share)

    def weighed(side: Side) -> Side:
        return replace(side, weight=apply_transparency(side.weight, weight))

    corrected = replace(
        matched,
        image=apply_transparency(matched.image, brighter),
        model=apply_transparency(matched.model, brighter),
        transparency_error=error,
    )
    return replace(pair, search=weighed(pair.search), template=weighed(pair.template)), corrected


def add_cloud_errors(noise: ResidualNoise, clouds: Transparency | None) -> None:
    """Add to the noise of a difference the error of the template's brightness behind thin clouds, in place.

    Parameters
    ----------
    noise
        The noise.
    clouds
        Brightness of the search image relative to the template; None if it is the same everywhere.
    """
    if clouds is not None:
        flux = noise.filtered.template_flux
        noise.add_image((apply_transparency(flux, replace(clouds, excess=clouds.error)) - flux) ** 2)
