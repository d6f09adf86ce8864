"""Find and read all calibrations that the detrending of a CCD needs, with defaults for those that a library lacks."""

from collections.abc import Mapping
from pathlib import Path

from imaging.detector.crosstalk import observatory_crosstalk
from imaging.detrend.calibrations import DetrendCalibrations
from imaging.exposure import Exposure
from imaging.io.calibrations import (
    CalibrationLibrary,
    read_bad_pixels,
    read_brighter_fatter,
    read_calibration_image,
    read_crosstalk,
    read_linearity,
)
from imaging.io.manifest import Kind

NEEDED: tuple[Kind, ...] = ("bias", "flat", "bad_pixels")
WITH_DEFAULT: tuple[Kind, ...] = ("linearity", "crosstalk")
OPTIONAL: tuple[Kind, ...] = ("brighter_fatter",)


def detrend_calibration_paths(
    library: CalibrationLibrary, exposure: Exposure, ccd: int, *, epoch: str | None = None
) -> dict[Kind, Path]:
    """Find the calibration files for detrending a CCD; linearity, crosstalk and brighter-fatter kernel may be absent.

    Raises
    ------
    InputError
        If a needed calibration is missing or outside its validity, or a file of the manifest is missing.
    """
    found = (kind for kind in (*WITH_DEFAULT, *OPTIONAL) if library.holds(kind, exposure, ccd, epoch=epoch))
    return {kind: library.find(kind, exposure, ccd, epoch=epoch) for kind in (*NEEDED, *found)}


def read_detrend_calibrations(paths: Mapping[Kind, Path], ccd: int, band: str) -> DetrendCalibrations:
    """Read the calibrations found by :func:`detrend_calibration_paths`.

    In place of an absent crosstalk matrix the observatory's of 2013 is used; without response curves the CCD is taken
    as linear below 90 % of saturation (:mod:`imaging.detrend.defaults`).

    Raises
    ------
    InputError
        If one is damaged, or of another CCD or band.
    """
    return DetrendCalibrations(
        bias=read_calibration_image(paths["bias"], ccd, kind="bias"),
        flat=read_calibration_image(paths["flat"], ccd, band=band, kind="flat"),
        bad_pixels=read_bad_pixels(paths["bad_pixels"], ccd),
        linearity=read_linearity(paths["linearity"], ccd) if "linearity" in paths else None,
        crosstalk=read_crosstalk(paths["crosstalk"]) if "crosstalk" in paths else observatory_crosstalk(),
        brighter_fatter=read_brighter_fatter(paths["brighter_fatter"], ccd) if "brighter_fatter" in paths else None,
        names={kind: path.name for kind, path in paths.items()},
        defaults=tuple(kind for kind in WITH_DEFAULT if kind not in paths),
    )
