"""Every step of the pipeline (name, stage, what it is mapped over, nominal CPU time, products), and shared limits.

This is the only list of steps, used by progress, status, timings, housekeeping, provenance and benches. It imports no
science, so that commands that only inspect a site start quickly. CPU seconds are for full-size CCDs, or exposures of 60
CCDs, on one core, as measured by ``python -m bench.chain``.
"""

from collections.abc import Iterable

from tasks.engine.jobs import StepInfo

EXPOSURES = "gw-exposures"
DISK = "gw-disk"
WRITE_REFERENCE = "gw-write-reference"
WRITE_NIGHTS = "gw-write-nights"

LIMITS = {EXPOSURES: 2, DISK: 16, WRITE_REFERENCE: 1, WRITE_NIGHTS: 1}
"""Global concurrency limits and their initial numbers of slots: exposures processed at the same time, over all runs;
CCDs that read raw files or write exports at the same time, over all workers; one writer each for the reference
catalogues and the tables of nights."""

CCD, EXPOSURE, NIGHT, FILE = "ccd", "exposure", "night", "file"
"""Values of :attr:`StepInfo.mapped_over`."""

DETREND = StepInfo(
    "detrend",
    "single_epoch",
    CCD,
    0.7,
    {"image": "detrend.fits", "mini_sky": "minisky.fits"},
    intermediate=("image",),
)
FIT_SKY = StepInfo("fit_sky", "single_epoch", EXPOSURE, 0.05, {"sky": "skyfit.json"})
MEASURE = StepInfo(
    "measure",
    "single_epoch",
    CCD,
    2.6,
    {
        "image": "measured.fits",
        "psf": "psf.fits",
        "catalogue": "cat.parquet",
        "matches": "matches.parquet",
        "streaks": "streaks.parquet",
        "cosmic_rays": "crays.parquet",
        "quality": "measure.json",
    },
    intermediate=("image",),
)
IMPORT_IMAGE = StepInfo("import_image", "import_images", CCD, 2.6, MEASURE.products, intermediate=MEASURE.intermediate)
TIE_ASTROMETRY = StepInfo("tie_astrometry", "single_epoch", EXPOSURE, 1.4, {"tie": "tie.json"})
CALIBRATE = StepInfo(
    "calibrate",
    "calibration",
    CCD,
    0.25,
    {"image": "immask.fits", "catalogue": "fullcat.parquet", "zero_point_matches": "zpmatches.parquet"},
)
SOLVE_ZEROPOINTS = StepInfo("solve_zeropoints", "calibration", EXPOSURE, 0.4, {"zero_points": "zeropoints.parquet"})
CHECK_PRODUCTS = StepInfo("check_products", "verification", CCD, 0.09, {"quality": "quality.json"})
VERIFY = StepInfo(
    "verify",
    "verification",
    EXPOSURE,
    0.6,
    {"quality": "quality.parquet", "summary": "summary.json", "page": "focalplane.md"},
)
CHOOSE_TEMPLATES = StepInfo("choose_templates", "difference", EXPOSURE, 0.8, {"templates": "templates.parquet"})
DIFFERENCE = StepInfo(
    "difference",
    "difference",
    CCD,
    4.1,
    {
        "difference": "diff.fits",
        "template": "template.fits",
        "psf": "diffpsf.fits",
        "detections": "detections.parquet",
        "fakes": "fakes.parquet",
        "quality": "difference.json",
        "stamps": "stamps.fits",
    },
)
COLLECT_QUALITY = StepInfo(
    "collect_quality",
    "difference",
    EXPOSURE,
    0.15,
    {"quality": "quality.parquet", "efficiency": "efficiency.parquet"},
)
ASSOCIATE = StepInfo("associate", "candidates", NIGHT, 5.0, {"candidates": "associated.parquet"}, runs_in_flow=True)
FORCED_PHOTOMETRY = StepInfo(
    "forced_photometry", "candidates", CCD, 0.07, {"forced": "forced.parquet", "direct": "direct.parquet"}
)
RANK = StepInfo(
    "rank",
    "candidates",
    NIGHT,
    10.0,
    {
        "candidates": "candidates.parquet",
        "csv": "candidates.csv",
        "forced": "lightcurves.parquet",
        "likelihood": "lightcurve_likelihood.feather",
        "searched": "searched.parquet",
        "moc": "searched.moc.fits",
        "searched_map": "searched.multiorder.fits",
        "picture": "night.png",
        "depth_picture": "depth.png",
        "search_picture": "searched.png",
        "page": "candidates.html",
        "brief": "candidates.md",
        "summary": "summary.json",
        "ranking": "ranking.json",
    },
    runs_in_flow=True,
)

EXPORT = StepInfo("export", "export", CCD, 1.0)
LIST_EXPORTS = StepInfo("list_exports", "export", EXPOSURE, 0.01)

TIDY = StepInfo("tidy", "tidy", CCD, 2.7)

MAKE_BIAS = StepInfo("make_bias", "build_calibrations", CCD, 2.0)
MAKE_FLAT = StepInfo("make_flat", "build_calibrations", CCD, 2.0)
FINISH_MASTERS = StepInfo("finish_masters", "build_calibrations", CCD, 1.0)
SIGN_FRAMES = StepInfo("sign_frames", "build_era", CCD, 2.0)
MEASURE_LINEARITY = StepInfo("measure_linearity", "build_linearity", CCD, 12.0)
MEASURE_CROSSTALK = StepInfo("measure_crosstalk", "build_crosstalk", CCD, 10.0)
MEASURE_REPULSION = StepInfo("measure_repulsion", "build_brighter_fatter", CCD, 15.0)
FIND_MODES = StepInfo("find_modes", "build_sky_modes", EXPOSURE, 1.0, runs_in_flow=True)
MAKE_TEMPLATES = StepInfo("make_templates", "build_sky_modes", CCD, 1.0)
FIT_STAR_FLATS = StepInfo("fit_star_flats", "build_star_flat", EXPOSURE, 1.0, runs_in_flow=True)
WRITE_STAR_FLAT = StepInfo("write_star_flat", "build_star_flat", CCD, 0.3)
FIT_DISPLACEMENTS = StepInfo("fit_displacements", "build_pixel_displacement", CCD, 6.0)
FIT_GHOSTS = StepInfo("fit_ghosts", "build_ghosts", EXPOSURE, 20.0)
IMPORT_SOURCE = StepInfo("import_source", "reference_catalogue", FILE, 2.0)
ASSEMBLE = StepInfo("assemble", "reference_catalogue", FILE, 2.0)

STEPS = {info.name: info for info in list(globals().values()) if isinstance(info, StepInfo)}
"""Name to :class:`StepInfo` of each step, in pipeline order."""

NIGHT_STAGES = ("single_epoch", "calibration", "verification", "difference", "candidates")
"""Stages from the raw pixels to the ranked list, in pipeline order."""

CCDS_OF_EXPOSURE = 60
"""Number of CCDs of a full exposure, for estimates."""


def steps_of(*stages: str) -> tuple[StepInfo, ...]:
    """Return the steps of some stages, in pipeline order."""
    return tuple(info for stage in stages for info in STEPS.values() if info.stage == stage)


def exposure_cpu_s(info: StepInfo, n_ccds: int = CCDS_OF_EXPOSURE) -> float:
    """Return the nominal CPU seconds of a step for a whole exposure or, for steps of a night, for the night."""
    return info.cpu_s * (n_ccds if info.mapped_over == CCD else 1)


def stage_work(subjects: Iterable[object], stages: Iterable[str]) -> dict[tuple[str, str], float]:
    """Return (subject, step) to nominal CPU seconds, for all steps of some stages.

    Parameters
    ----------
    subjects
        Exposure numbers or names of nights, as in file names.
    stages
        Names of stages.
    """
    steps = steps_of(*stages)
    return {(str(subject), step.name): exposure_cpu_s(step) for subject in subjects for step in steps}


def intermediate_suffixes() -> tuple[str, ...]:
    """Return the file-name endings of intermediate products."""
    return tuple(f"_{info.products[name]}" for info in STEPS.values() for name in info.intermediate)
