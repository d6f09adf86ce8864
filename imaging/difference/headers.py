"""Header keywords and history of a difference image and of its template."""

from collections.abc import Sequence
from typing import Any

from imaging.difference.chain import CcdSearchResult
from imaging.templates.stack import StackInput
from imaging.version import package_version

OF_SEARCH = {"EXPNUM": "SRCHEXP", "CCDNUM": "SRCHCCD"}
"""Keyword of the search image to its name in the template, which is on the pixels of the search image."""

KEPT = ("BAND", "FILTER", "BUNIT")
"""Keywords of the search image that are also true of the template."""


def template_keywords(inputs: Sequence[StackInput]) -> dict[str, Any]:
    """Return the keywords that name the templates: their number, and exposure and CCD of each."""
    keywords: dict[str, Any] = {"NTMPL": len(inputs)}
    for number, item in enumerate(inputs, start=1):
        keywords[f"TMPL{number:03d}"] = (item.label, f"template, {item.weight:.4f} of the weight")
    return keywords


def template_header(found: CcdSearchResult) -> dict[str, Any]:
    """Return the keywords of a matched template.

    It has the coordinates, scale and PSF of the search image. Exposure, time and everything else that belongs to the
    search exposure is left out; the exposure is named as that of the pixel grid.
    """
    difference, stack = found.difference, found.template.image
    search = difference.search.pixels.header
    header: dict[str, Any] = {key: search[key] for key in KEPT if key in search}
    header |= {"OBSTYPE": "template", "OBJECT": ("matched template", "stack, on the PSF and scale of the search image")}
    grid = {ours: search[key] for key, ours in OF_SEARCH.items() if key in search}
    header |= {key: (value, "search exposure and CCD of the pixel grid") for key, value in grid.items()}
    header |= {"GAIN": stack.pixels.header["GAIN"], "SATURATE": stack.saturation_electrons}
    header |= {"COVERAGE": (found.template.coverage, "fraction of the pixels with a template")}
    header |= {"MAGZERO": difference.search.zeropoint_mag, "KERNSUM": difference.kernel.sum}
    header |= {"KERNCONV": difference.kernel.convolved, "DIFFMETH": difference.method}
    return header | template_keywords(found.template.inputs) | difference.search.wcs.to_header()


def subtraction_history(found: CcdSearchResult) -> list[str]:
    """Return how template and difference were made, for the HISTORY of their files: stack, kernel, version."""
    kernel, inputs = found.difference.kernel, found.template.inputs
    stack = f"stack of {len(inputs)} templates, resampled to the pixels of {found.difference.search.label}"
    matching = (
        f"{found.difference.method}: kernel of half width {kernel.half_width} pixels, spatial order {kernel.order}, "
        f"basis level {kernel.level}, from {kernel.n_stamps} stamps ({kernel.n_rejected} clipped), reduced chi-square "
        f"{kernel.chi2:.3f}, sum {kernel.sum:.5f} +- {kernel.sum_error:.5f}, convolves the {kernel.convolved} image"
    )
    fallback = [f"fallback of the kernel: {kernel.fallback}"] if kernel.fallback else []
    return [stack, matching, *fallback, f"gw-workflow {package_version()}"]
