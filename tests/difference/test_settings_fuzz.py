"""Whatever the settings of a search: right, or one sentence; never a traceback."""

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from imaging.difference.engine import UserImage, difference_images
from imaging.difference.prepare import moffat_psf
from imaging.difference.settings import SearchSettings
from imaging.errors import GWWorkflowError
from imaging.image import LoadedImage
from imaging.settings import Settings
from imaging.wcs.foreign import wcs_of_header

SIDE, FWHM, PLACE, FLUX = 160, 4.0, (70.0, 88.0), 4000.0
ODD_NUMBERS = (0, 1, 2, 3, 7, 40, 1000, -1, 0.01, 0.5, 1e-6, 1e6)


def image(seed: int, *, transient: bool) -> UserImage:
    """Return an image with 14 stars, and in one case a transient of S/N 30."""
    places = np.random.default_rng(1).uniform(20, SIDE - 20, (14, 2))
    fluxes = np.geomspace(3e3, 2e5, 14)
    if transient:
        places, fluxes = np.vstack([places, PLACE]), np.append(fluxes, FLUX)
    psf, grid = moffat_psf(FWHM), np.arange(SIDE, dtype=float)
    light = sum(f * psf.at_offsets(0.0, 0.0, grid - x, grid - y) for (x, y), f in zip(places, fluxes, strict=True))
    pixels = np.random.default_rng(seed).normal(light, np.sqrt(light + 400.0)).astype(np.float32)
    header: dict[str, Any] = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg"}
    header |= {"CRVAL1": 150.0, "CRVAL2": 2.0, "CRPIX1": 80.0, "CRPIX2": 80.0, "BAND": "i", "EXPNUM": seed, "CCDNUM": 1}
    header |= {"CD1_1": -7e-5, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 7e-5, "MJD-OBS": 60000.0}
    mask, wcs = np.zeros(pixels.shape, np.int16), wcs_of_header(header, (SIDE, SIDE))
    return UserImage(LoadedImage(pixels, mask, None, wcs, header, 1.0, 30.0, np.inf, False, "drawn"), psf)


@pytest.fixture(scope="module")
def pair() -> tuple[UserImage, UserImage]:
    return image(2, transient=True), image(3, transient=False)


def numbers(model: type[Settings], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], FieldInfo]]:
    """Return the path of every numeric field."""
    found = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Settings):
            found += numbers(kind, (*path, name))
        elif kind in (int, float) or {int, float} & set(get_args(kind)):
            found.append(((*path, name), field))
    return found


NUMBERS = [path for path, _ in numbers(SearchSettings)]


def changed(path: tuple[str, ...], value: object) -> dict[str, Any]:
    document: Any = value
    for name in reversed(path):
        document = {name: document}
    return document


def check(pair: tuple[UserImage, UserImage], document: dict[str, Any]) -> None:
    """Search with these settings, with fakes if they are what is changed."""
    try:
        chosen = SearchSettings.model_validate(document)
    except ValidationError:
        return
    try:
        result = difference_images(pair[0], [pair[1]], chosen, with_fakes="fakes" in document)
    except GWWorkflowError as error:
        assert len(str(error).splitlines()) == 1
        return
    found = result.searched.detections
    near = np.hypot(found.measured.x - PLACE[0], found.measured.y - PLACE[1]) < 2.0
    if near.any():
        best = np.argmax(np.where(near, found.score, -np.inf))
        assert found.measured.flux[best] == pytest.approx(FLUX, rel=0.25)


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(NUMBERS), value=st.sampled_from(ODD_NUMBERS), method=st.sampled_from(["alard_lupton", "zogy"])
)
def test_any_number_in_any_setting_is_right_or_refused(pair, path, value, method):
    document = changed(path, value)
    document["difference"] = document.get("difference", {}) | {"method": method}
    check(pair, document)


@pytest.mark.parametrize("path", NUMBERS, ids=".".join)
def test_numbers_that_mean_nothing_are_refused(path):
    for value in (float("nan"), float("inf"), -1e9):
        if (
            path[-1] in ("cosmic_ray_spread", "not_psf_spread", "veto_mag", "brightest_mag", "faintest_mag")
            and value < 0
        ):
            continue
        with pytest.raises(ValidationError):
            SearchSettings.model_validate(changed(path, value))


def test_contradictions_are_refused_by_name():
    with pytest.raises(ValidationError, match="one degree for each width"):
        SearchSettings.model_validate({"difference": {"kernel": {"degrees": [4, 3]}}})
    with pytest.raises(ValidationError, match="below min_half_width"):
        SearchSettings.model_validate({"difference": {"kernel": {"max_half_width": 5}}})
