"""Commands of images that others have calibrated: difference-images, import-images."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from cyclopts import Parameter

from deployments.cli.options import (
    DEFAULT_DISPLAY,
    DEFAULTS,
    Common,
    Destination,
    Display,
    Overwrite,
    Pnum,
    Rnum,
    Schema,
    SettingsFile,
    Workers,
    find_site,
    read_settings,
    refused,
    version_number,
)
from deployments.cli.output import Answer, table_lines
from deployments.cli.running import run_flow
from imaging.detector.ccds import format_ccd_list
from imaging.errors import InputError
from imaging.exposure import FIRST_MJD, LAST_MJD

if TYPE_CHECKING:
    from imaging.difference.engine import UserImage
    from imaging.difference.settings import SearchSettings

Value = TypeVar("Value")

FIGURES = {
    "kernel_sum": "kernel sum over the ratio of the zero points",
    "scale": "counts of the science image per count of the first template",
    "n_stamps": "stamps behind the kernel",
    "noise_width": "width of the normalised noise in blank sky",
    "lag1_correlation": "correlation of neighbouring pixels",
}
"""Figures of the result and their descriptions."""

OF_ONE_IMAGE = ("mask", "weight", "psf", "zeropoint", "gain", "mask_bits")
"""Options of the science image; those of the templates have the prefix ``template_``."""

ZEROPOINT_RANGE = (-10.0, 50.0)

SHOWN = ("x", "y", "ra", "dec", "flux", "flux_error", "snr", "mag", "real_score", "flags")
"""Columns of the table of detections."""


def _of_templates(name: str, text: str) -> Parameter:
    return Parameter(name=name, negative="", help=f"{text} Repeat the option.")


@Parameter(name="*")
@dataclass(frozen=True)
class ImageOptions:
    """Masks, weights, PSFs and zero points of the images."""

    mask: Annotated[
        str | None, Parameter(name="--mask", help="Mask, non-zero is bad: FILE, FILE[EXTENSION] or [EXTENSION].")
    ] = None
    weight: Annotated[
        str | None, Parameter(name="--weight", help="Inverse variance: FILE, FILE[EXTENSION] or [EXTENSION].")
    ] = None
    psf: Annotated[Path | None, Parameter(name="--psf", help="PSFEx file; default: fit the stars.")] = None
    zeropoint: Annotated[
        float | None, Parameter(name="--zeropoint", help="AB magnitude of one count; default: that of the header.")
    ] = None
    gain: Annotated[
        float | None, Parameter(name="--gain", help="Photo-electrons per unit of the pixels; default: from the header.")
    ] = None
    mask_bits: Annotated[
        str | None, Parameter(name="--mask-bits", help="Bits of the mask that are defects, such as 1,2,16, or all.")
    ] = None
    template_mask: Annotated[
        list[str] | None, _of_templates("--template-mask", "Masks of the templates, in their order.")
    ] = None
    template_weight: Annotated[
        list[str] | None, _of_templates("--template-weight", "Weights of the templates, in their order.")
    ] = None
    template_psf: Annotated[
        list[Path] | None, _of_templates("--template-psf", "PSFEx files of the templates, in their order.")
    ] = None
    template_zeropoint: Annotated[
        list[float] | None,
        _of_templates("--template-zeropoint", "Zero points of the templates, in their order, or one for all."),
    ] = None
    template_gain: Annotated[
        list[float] | None, _of_templates("--template-gain", "Gains of the templates, in their order, or one for all.")
    ] = None
    template_mask_bits: Annotated[
        list[str] | None,
        _of_templates("--template-mask-bits", "Defect bits of the templates' masks, in their order, or one for all."),
    ] = None


@Parameter(name="*")
@dataclass(frozen=True)
class SubtractionOptions:
    """Method and settings of the subtraction.

    Attributes
    ----------
    method
        Kernel fitted to the images (alard_lupton, the default), or proper subtraction from the PSF models (zogy).
    threshold
        Lowest significance of a detection, sigma; default: 5.
    fakes
        Inject fakes into a copy of the difference and report the completeness.
    settings
        JSON file with any settings of the search, such as {"difference": {"kernel": {"basis": "delta"}}}.
    stamps
        Draw pictures of the detections without a flag (passed, the default) or of all.
    """

    method: Annotated[Literal["alard_lupton", "zogy"] | None, Parameter(name="--method")] = None
    threshold: Annotated[float | None, Parameter(name="--threshold")] = None
    fakes: Annotated[bool, Parameter(name="--fakes", negative="")] = False
    settings: SettingsFile = None
    stamps: Annotated[Literal["passed", "all"], Parameter(name="--stamps")] = "passed"


@Parameter(name="*")
@dataclass(frozen=True)
class ImportOptions:
    """What the user states about imported images, in place of their headers.

    Attributes
    ----------
    psf
        PSFEx file of each image, in their order, one option each; default: fit the stars.
    zeropoint
        AB magnitude of one unit of the pixels; default: solved against the reference stars.
    gain
        Photo-electrons per unit of the pixels; default: from the header, or from the noise.
    mask_bits
        Bits of the masks that are defects, such as 1,2,16, or all; default: recognised.
    mjd
        Times of the first and the last exposure of stacks, MJD UTC, separated by a comma; default: from the header.
    """

    psf: Annotated[list[Path] | None, Parameter(name="--psf", negative="")] = None
    zeropoint: Annotated[float | None, Parameter(name="--zeropoint")] = None
    gain: Annotated[float | None, Parameter(name="--gain")] = None
    mask_bits: Annotated[str | None, Parameter(name="--mask-bits")] = None
    mjd: Annotated[str | None, Parameter(name="--mjd")] = None


DEFAULT_IMAGES, DEFAULT_SUBTRACTION, DEFAULT_IMPORT = ImageOptions(), SubtractionOptions(), ImportOptions()


def difference_images(
    science: Annotated[str, Parameter(help="Image to search: FILE or FILE[EXTENSION].")],
    template: Annotated[str, Parameter(help="Template to subtract: FILE or FILE[EXTENSION].")],
    /,
    *more_templates: Annotated[str, Parameter(help="Further templates, the best first; all are stacked.")],
    output: Annotated[Path, Parameter(name=["--output", "-o"], help="Output folder.")],
    images: ImageOptions = DEFAULT_IMAGES,
    subtraction: SubtractionOptions = DEFAULT_SUBTRACTION,
    display: Display = DEFAULT_DISPLAY,
) -> Answer:
    """Subtract templates from any calibrated image with coordinates, and detect sources in the difference.

    Mask and weight come from extensions with the usual names or, for a Community Pipeline image (ooi), from the ood and
    oow files beside it. Sky, noise, PSF and relative zero point are measured where an image lacks them.
    """
    from imaging.difference import engine
    from imaging.io.atomic import write_text
    from imaging.io.differences import write_image_difference
    from imaging.memory import freed_memory_reused

    del display
    settings = search_settings(subtraction)
    with freed_memory_reused():
        searched, *templates = user_images((science, template, *more_templates), images)
        result = engine.difference_images(searched, templates, settings, with_fakes=subtraction.fakes)
        drawn = write_image_difference(output, result, all_pictures=subtraction.stamps == "all")
    paths = drawn | {"summary": output / "summary.json"}
    products = {name: str(path) for name, path in paths.items()}
    document = {"command": "difference-images", **engine.summary(result), "products": products}
    write_text(paths["summary"], json.dumps(document, indent=1) + "\n")
    return Answer(document, _lines(document, output))


def import_images(
    *files: Annotated[
        Path, Parameter(help="Calibrated images, whole exposures or single CCDs, and folders with them.")
    ],
    role: Annotated[
        Literal["template", "search"],
        Parameter(name="--as", help="Use them as templates only, or search them too in their night."),
    ] = "template",
    stated: ImportOptions = DEFAULT_IMPORT,
    rnum: Rnum = "1",
    pnum: Pnum = "1",
    destination: Destination = "persistent",
    schema: Schema = "gw",
    settings: SettingsFile = None,
    overwrite: Overwrite = False,
    workers: Workers = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Import DECam images of the Community Pipeline, DES or LSST, as if they had been processed here.

    Stacks of the Legacy Surveys, Pan-STARRS, SkyMapper and the Community Pipeline become templates.
    """
    from deployments.products.import_images import StatedOfImages, record_imports
    from flows.settings import ExposureSettings
    from tasks.requests import Version

    found = find_site(common)
    numbers = {"rnum": version_number(rnum, "r"), "pnum": version_number(pnum, "p")}
    version = Version(**numbers, schema_name=schema, destination=destination)
    zeropoint = _number(stated.zeropoint, "--zeropoint", "AB magnitudes", ZEROPOINT_RANGE)
    gain = _number(stated.gain, "--gain", "electrons per unit", (0.0, math.inf))
    bits = None if stated.mask_bits is None else _bits(stated.mask_bits, "--mask-bits")
    chosen = read_settings(settings, ExposureSettings)
    given = StatedOfImages(tuple(stated.psf or ()), zeropoint, gain, bits, _times(stated.mjd))
    records = record_imports(found.site.storing_in(destination), files, role, version, given)
    parameters = {"exposures": tuple(records), "site": found.name, "overwrite": overwrite, "settings": chosen}
    images: list[dict[str, Any]] = [
        {"expnum": request.expnum, "band": request.band, "night": request.night, "ccds": record.ccds, "as": role}
        | {"forms": sorted({image.form for image in record.images})}
        for request, record in records.items()
    ]
    answer = run_flow(
        "import-images",
        common,
        found.site,
        "flows.imported_exposures:import_exposures",
        parameters,
        workers=workers,
        about={"exposures": images},
    )
    lines = [
        f"exposure {row['expnum']} ({row['band']}, {row['night']}): CCDs {ccds}, {', '.join(row['forms'])}"
        for row in images
        for ccds in [format_ccd_list(row["ccds"])]
    ]
    return replace(answer, lines=(*lines, *answer.lines))


def search_settings(options: SubtractionOptions) -> "SearchSettings":
    """Return the settings of a search: the defaults, changed by a file, changed by options.

    Raises
    ------
    InputError
        If the file cannot be read or a setting is invalid.
    """
    from pydantic import ValidationError

    from imaging.difference.settings import SearchSettings

    chosen = read_settings(options.settings, SearchSettings)
    try:
        if options.method is not None:
            chosen = chosen.with_values(difference=chosen.difference.with_values(method=options.method).model_dump())
        if options.threshold is not None:
            detection = chosen.detection.with_values(threshold_sigma=options.threshold)
            chosen = chosen.with_values(detection=detection.model_dump())
    except ValidationError as error:
        raise refused(error, "gw-workflow difference-images --help") from error
    return chosen


def user_images(names: Sequence[str], options: ImageOptions) -> list["UserImage"]:
    """Read the science image and its templates with the masks, weights, PSFs and zero points of the options.

    Parameters
    ----------
    names
        Science image and templates, each FILE or FILE[EXTENSION].
    options
        Masks, weights, PSFs and zero points.

    Raises
    ------
    InputError
        If a file is missing or invalid, or an option is not given once per template.
    """
    from imaging.difference.engine import UserImage
    from imaging.io.calibrated import Plane, Stated, read_image
    from imaging.io.psf import read_given_psf

    n = len(names) - 1
    rows = [tuple(getattr(options, name) for name in OF_ONE_IMAGE)]
    rows += zip(*(_per_template(getattr(options, f"template_{name}"), n, name) for name in OF_ONE_IMAGE), strict=True)
    read = []
    for number, (name, row) in enumerate(zip(names, rows, strict=True)):
        given = dict(zip(OF_ONE_IMAGE, row, strict=True))
        prefix = "--template-" if number else "--"
        place = Plane.named(name)
        planes = {k: Plane.named(given[k], place) for k in ("mask", "weight") if given[k] is not None}
        zeropoint = _number(given["zeropoint"], f"{prefix}zeropoint", "AB magnitudes", ZEROPOINT_RANGE)
        gain = _number(given["gain"], f"{prefix}gain", "electrons per unit", (0.0, math.inf))
        bits = None if given["mask_bits"] is None else _bits(given["mask_bits"], f"{prefix}mask-bits")
        loaded = read_image(place.path, extension=place.extension, stated=Stated(gain, zeropoint, bits), **planes)
        psf = None if given["psf"] is None else read_given_psf(given["psf"])
        read.append(UserImage(loaded, psf, zeropoint))
    return read


def _bits(text: str, option: str) -> int:
    """Return the sum of bits written as ``1,2,16``; zero for ``all``."""
    if text.strip().lower() == "all":
        return 0
    try:
        values = [int(word, 0) for word in text.split(",")]
    except ValueError:
        values = [0]
    if not all(0 < value < 1 << 62 for value in values):
        raise InputError(f"{option} is not understood", value=repr(text), limit="values of bits such as 1,2,16, or all")
    total = 0
    for value in values:
        total |= value
    return total


def _times(text: str | None) -> tuple[float, float] | None:
    """Return two times written ``59000.1,59200.3``."""
    if text is None:
        return None
    try:
        first, last = (float(word) for word in text.split(","))
    except ValueError:
        first, last = math.nan, math.nan
    if not FIRST_MJD < first <= last < LAST_MJD:
        limit = f"two times from MJD {FIRST_MJD:g} to {LAST_MJD:g}, the earlier first, such as 59000.1,59200.3"
        raise InputError("--mjd is not understood", value=repr(text), limit=limit)
    return first, last


def _number(value: float | None, option: str, unit: str, limits: tuple[float, float]) -> float | None:
    if value is not None and not (math.isfinite(value) and limits[0] < value < limits[1]):
        between = f"{unit} from {limits[0]:g} to {limits[1]:g}"
        raise InputError(f"{option} is not a number that can be meant", value=value, limit=between)
    return value


def _per_template(values: Sequence[Value] | None, n: int, name: str) -> Sequence[Value | None]:
    """Return one value per template; a single number or list of bits applies to all."""
    option = f"--template-{name.replace('_', '-')}"
    if values is None:
        return [None] * n
    if len(values) == 1 and name in ("zeropoint", "gain", "mask_bits"):
        return list(values) * n
    if len(values) != n:
        raise InputError(f"{option} is not given once per template", value=len(values), limit=n)
    return list(values)


def _lines(document: Mapping[str, Any], output: Path) -> list[str]:
    """Return the result as text."""
    figures = [f"{words}: {document[name]:.4g}" for name, words in FIGURES.items() if document[name] is not None]
    detections = document["detections"]
    passed = sum(not row["flags"] for row in detections)
    lines = [
        f"{document['search']} minus {', '.join(t['label'] for t in document['templates'])} ({document['method']})",
        *document["notes"],
        *figures,
        f"{len(detections)} detections, {passed} without a flag, written to {output}",
    ]
    if not detections:
        return lines
    rows = [[" ".join(row[k]) if k == "flags" else row[k] for k in SHOWN] for row in detections]
    return [*lines, *table_lines(SHOWN, rows)]
