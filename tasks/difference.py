"""Difference: stack templates on a search CCD, subtract, detect, score, and measure the completeness with fakes.

:class:`CcdSearch` plans the CCDs of an exposure, all at once or some ahead of the others.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from blocks.site import Site
from imaging.astrometry.reference import reference_at_epoch
from imaging.astrometry.settings import AstrometrySettings
from imaging.astrometry.solution import Chromatic
from imaging.difference.chain import CcdSearchResult, search_ccd
from imaging.difference.detect import BrightStars
from imaging.difference.ghost_fit import without_ghosts
from imaging.difference.headers import subtraction_history, template_header, template_keywords
from imaging.difference.records import Identity
from imaging.difference.settings import SearchSettings
from imaging.difference.stamps import cut_triplet
from imaging.difference.triplet import STAMP_SIDE
from imaging.errors import CcdError, InputError
from imaging.exposure import exposure_from_header
from imaging.foreign.noise import CORRELATION
from imaging.identity import ExposureId
from imaging.image import CalibratedImage, CcdImage, no_error
from imaging.io.calibrations import MANIFEST, CalibrationLibrary
from imaging.io.ghosts import read_ghosts
from imaging.io.images import read_planes, write_planes
from imaging.io.keywords import IDENTITY
from imaging.io.psf import read_psf, write_psf
from imaging.io.reference import read_reference_cone
from imaging.io.stamps import StoredStamps, write_stamps
from imaging.io.tables import write_table
from imaging.photometry.transparency import ERROR_PLANE
from imaging.quantise import DIFFERENCE_STEPS, DIFFERENCE_WEIGHT_STEP, flux_step, image_step, weight_step
from imaging.schemas.difference import FAKES
from imaging.tables import column
from imaging.templates.motions import ShownStars
from imaging.templates.resampling_inputs import EXTENSIONS, resampling_inputs_from
from imaging.templates.settings import TemplateSettings
from imaging.wcs.header import corner_keywords, stamp_keywords
from imaging.wcs.sphere import footprint, polygon_centre, separation_deg
from imaging.wcs.tpv import TpvWcs
from tasks.calibration_files import optional_calibration
from tasks.choose_templates import (
    TemplateCcd,
    choose_templates_job,
    ranked_templates,
    summaries_of,
    taken_templates,
)
from tasks.engine.jobs import FileRecord, StepResult
from tasks.engine.stage import Stage
from tasks.engine.step import step
from tasks.jobs import StepJob
from tasks.measure import reference_inputs
from tasks.products import ExposureSummary, product_inputs, write_quality
from tasks.requests import ExposureRequest
from tasks.steps import DIFFERENCE
from tasks.tie_astrometry import read_ccd_tie

BRIGHT_MAG = 18.0
"""Limit in G, mag: detections near brighter stars of the reference catalogue are vetoed."""

STAR_MARGIN_ARCSEC = 480.0
"""Margin around a CCD within which bright stars are read, arcsec, because their halos and ghosts reach into it."""

Known = Mapping[int, tuple[ExposureId, ExposureSummary]]


def difference_job(
    search: ExposureId,
    ccd: int,
    templates: Sequence[TemplateCcd],
    known: Known,
    season: int,
    site: Site,
    settings: SearchSettings,
) -> StepJob:
    """Plan the search of one CCD.

    Parameters
    ----------
    search, ccd
        Search exposure and CCD number.
    templates
        Template CCDs, the best first.
    known
        Exposure number to (identity, summary), of the search exposure and of all templates.
    season, site, settings
        Season of the products, site, settings of the search.

    Raises
    ------
    CcdError
        If no template overlaps the CCD (reason ``no_template``) or a product is missing (``no_product``).
    """
    if not templates:
        raise CcdError(
            "no template overlaps the CCD",
            reason="no_template",
            expnum=search.expnum,
            ccd=ccd,
            value=f"{len(known) - 1} processed exposures of band {search.band}",
            limit="at least 1 that overlaps and meets the template settings",
            remedy="process earlier exposures of the field; templates.parquet gives the reason for each rejected one",
        )
    inputs = _image_inputs(search, ccd, site, "search")
    inputs |= reference_inputs(site, known[search.expnum][1].exposure, ccd, STAR_MARGIN_ARCSEC)
    if (site.calibrations / MANIFEST).is_file():
        library = CalibrationLibrary(site.calibrations)
        inputs |= optional_calibration(site, library, "ghosts", known[search.expnum][1].exposure, ccd)
    zeropoints = {"search": known[search.expnum][1].ccds[ccd]["zeropoint_mag"]}
    for number, (expnum, template_ccd) in enumerate(templates):
        name = f"template_{number:02d}"
        exposure, summary = known[expnum]
        inputs |= _image_inputs(exposure, template_ccd, site, name)
        zeropoints[name] = summary.ccds[template_ccd]["zeropoint_mag"]
    return StepJob(
        exposure=search,
        ccd=ccd,
        season=season,
        site=site,
        inputs=inputs,
        settings=settings,
        parameters={"zeropoints_mag": zeropoints, "templates": [list(item) for item in templates]},
    )


def _image_inputs(exposure: ExposureId, ccd: int, site: Site, name: str) -> dict[str, FileRecord]:
    job = StepJob(exposure=exposure, ccd=ccd, site=site)
    return (
        product_inputs(job, {f"{name}_image": "immask.fits"}, "calibrate")
        | product_inputs(job, {f"{name}_psf": "psf.fits"}, "measure")
        | product_inputs(job, {f"{name}_tie": "tie.json"}, "tie_astrometry")
    )


@step(DIFFERENCE)
def difference(job: StepJob) -> StepResult:
    """Search one CCD for transients and variables relative to its templates."""
    search = read_calibrated(job, "search")
    names = sorted(name for name in job.parameters["zeropoints_mag"] if name != "search")
    observed = exposure_from_header(search.pixels.header, search.label)
    mjd = observed.mjd_mid
    identity = Identity(observed.expnum, observed.band, observed.night, job.ccd or 0, mjd)
    reference = reference_around(job, search)
    stars = bright_stars(reference, search, mjd)
    model = read_ghosts(job.input_path("ghosts"), observed.band) if "ghosts" in job.inputs else None

    def without_known_ghosts(image: CalibratedImage) -> CalibratedImage:
        return image if model is None else without_ghosts(image, bright_stars(reference, image, mjd), model)

    search = without_known_ghosts(search)
    shown = ShownStars(reference, mjd, chromatic_of(job, "search"))
    images = (without_known_ghosts(read_calibrated(job, name)) for name in names)
    templates = (shown.as_in_search(image, chromatic_of(job, name)) for name, image in zip(names, images, strict=True))
    found = search_ccd(search, templates, identity, job.settings_as(SearchSettings), stars=stars)
    quality = found.quality | {f"cut_{name.lower()}": float(n) for name, n in found.cut_flow.items()}
    quality |= {"template_stars_moved": shown.n_moved, "template_colour_shift_mas": shown.colour_shift_mas}
    return job.result(_write(job, found, identity, quality), quality=quality, cpu_s=found.times.cpu_s)


def read_calibrated(job: StepJob, name: str) -> CalibratedImage:
    """Read an input image with its PSF and with the zero point from the job's parameters."""
    path = job.input_path(f"{name}_image")
    planes, header = read_planes(path, optional=(*EXTENSIONS, CORRELATION, ERROR_PLANE))
    return CalibratedImage(
        pixels=CcdImage(planes["SCI"], planes["MSK"], planes["WGT"], header),
        wcs=TpvWcs.from_header(header),
        psf=read_psf(job.input_path(f"{name}_psf")),
        zeropoint_mag=float(job.parameters["zeropoints_mag"][name]),
        sky_electrons=float(header["SKYBRITE"]),
        saturation_electrons=float(header["SATURATE"]),
        label=path.name.removesuffix("_immask.fits"),
        resampling_inputs=resampling_inputs_from(planes),
        noise_correlation=planes.get(CORRELATION),
        transparency_error=planes.get(ERROR_PLANE, no_error()),
    )


def reference_around(job: StepJob, search: CalibratedImage) -> pa.Table:
    """Return the stars of the reference catalogue on and around a search image."""
    ny, nx = search.pixels.shape
    corners = footprint(search.wcs, nx, ny)
    centre = polygon_centre(corners)
    radius = float(separation_deg(*centre, corners[:, 0], corners[:, 1]).max()) + STAR_MARGIN_ARCSEC / 3600.0
    return read_reference_cone(job.site.reference / "gaia", *centre, radius)


def bright_stars(reference: pa.Table, search: CalibratedImage, mjd: float) -> BrightStars:
    """Return the bright stars among those of :func:`reference_around`, at epoch ``mjd``."""
    stars = reference.filter(pa.array(column(reference, "phot_g_mean_mag") < BRIGHT_MAG))
    moved = reference_at_epoch(stars, mjd, AstrometrySettings())
    x, y = search.wcs.sky_to_pixel(moved.ra, moved.dec)
    return BrightStars(x, y, moved.g_mag)


def chromatic_of(job: StepJob, name: str) -> Chromatic | None:
    """Return the displacement of stars by their colour in an input image; None if it is not known."""
    return read_ccd_tie(job.input_path(f"{name}_tie"))[0].chromatic


def _write(job: StepJob, found: CcdSearchResult, identity: Identity, quality: Mapping[str, float]) -> dict[str, Path]:
    image = found.difference.as_image()
    paths = job.product_paths(DIFFERENCE)
    pixels = image.pixels
    header = pixels.header | template_keywords(found.template.inputs)
    header |= {"MAGZERO": image.zeropoint_mag, "SEASON": job.season}
    history = subtraction_history(found)
    planes: dict[str, Any] = {"SCI": pixels.science, "MSK": pixels.mask, "WGT": pixels.weight}
    if image.transparency_error.any():
        planes[ERROR_PLANE] = image.transparency_error
    steps = {
        "SCI": image_step(pixels.weight, DIFFERENCE_STEPS),
        "WGT": weight_step(pixels.weight, DIFFERENCE_WEIGHT_STEP),
    }
    write_planes(paths["difference"], planes, header, pack=True, steps=steps, history=history)
    flux = found.difference.filtered.template_flux
    about = template_header(found) | corner_keywords(image.wcs, pixels.shape) | {"SEASON": job.season}
    steps = {"FLX": flux_step(flux, DIFFERENCE_STEPS)}
    write_planes(paths["template"], {"FLX": flux}, about, pack=True, steps=steps, history=history)
    write_psf(paths["psf"], image.psf)
    write_table(paths["detections"], found.detections_table)
    write_table(paths["fakes"], FAKES.empty_table() if found.fakes_table is None else found.fakes_table)
    ny, nx = pixels.shape
    row: dict[str, Any] = dict(quality) | {"mjd": identity.mjd, "zeropoint_mag": image.zeropoint_mag}
    write_quality(paths["quality"], row | {"corners": footprint(image.wcs, nx, ny).round(7).tolist()})
    stamps = stamps_of(found)
    if stamps:
        write_stamps(paths["stamps"], stamps, {key: header[key] for key in (*IDENTITY, "MAGZERO") if key in header})
    else:
        del paths["stamps"]
    return paths


def stamps_of(found: CcdSearchResult) -> list[StoredStamps]:
    """Cut stamps around every detection that passed the cuts, and around trails: fast movers leave them."""
    table, wcs = found.detections_table, found.difference.search.wcs
    shown = table.filter(pa.array((column(table, "flags") == 0) | (column(table, "trail_arcsec") > 0)))
    places = zip(*(column(shown, name).tolist() for name in ("detection_id", "x", "y")), strict=True)
    return [
        StoredStamps(number, cut_triplet(found.difference, x, y), stamp_keywords(wcs, x, y, STAMP_SIDE))
        for number, x, y in places
    ]


class ReadyCcds:
    """CCDs whose templates are complete, in batches, as they become so while the others are processed.

    It is given to a flow that runs in the same process. Prefect stores the parameters of a run and sends them to
    workers; so that this consumes nothing, it is not iterable, has no visible attributes, and is empty on a worker.

    Parameters
    ----------
    batches
        Numbers of CCDs, again whenever there are more; it ends when those of all CCDs have been given.
    """

    __slots__ = ("_batches",)

    def __init__(self, batches: Iterable[Collection[int]] = ()) -> None:
        self._batches = batches

    def batches(self) -> Iterator[Collection[int]]:
        """Yield the batches, waiting for each; once only."""
        yield from self._batches

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        """Travel empty."""
        return type(self), ()


class CcdSearch:
    """The search of some CCDs of an exposure.

    Parameters
    ----------
    stage
        The stage, whose job has the site.
    exposure
        The search exposure.
    wanted
        CCDs to search.
    offered
        Exposures to choose templates from.
    templates, search
        Rules for the choice of templates; settings of the search.
    """

    def __init__(
        self,
        stage: Stage,
        exposure: ExposureRequest,
        wanted: Collection[int],
        offered: Sequence[ExposureId],
        templates: TemplateSettings,
        search: SearchSettings,
    ) -> None:
        self.stage, self.site = stage, stage.about.site
        self.who, self.season = exposure.exposure_id(), exposure.season
        self.wanted, self.offered = wanted, offered
        self.templates, self.search = templates, search
        self.chosen: dict[int, list[TemplateCcd]] = {}
        self.searched: dict[int, StepResult] = {}

    def choose_templates_job(self) -> StepJob:
        """Plan the choice among the templates that have been processed so far."""
        return choose_templates_job(self.who, self.offered, self.season, self.site, self.templates)

    def search_ahead(self, ready: Collection[int]) -> None:
        """Search those of the ready CCDs that have templates and have not been searched yet."""
        new = [ccd for ccd in self.wanted if ccd in ready and ccd not in self.chosen]
        taken = taken_templates(ranked_templates(self.choose_templates_job())) if new else {}
        chosen = {ccd: taken[ccd] for ccd in new if ccd in taken}
        try:
            jobs = self._plan(chosen)
        except InputError:
            return  # search_rest raises the error if the input of all CCDs is wrong
        self.chosen |= chosen
        self.searched |= self.stage.map(difference, jobs)

    def search_rest(self, chosen: Mapping[int, list[TemplateCcd]]) -> dict[int, StepResult]:
        """Search the remaining CCDs, and again those whose final choice of templates differs from the one used ahead.

        Returns
        -------
        searched
            CCD number to result, of all CCDs searched now or ahead.

        Raises
        ------
        InputError
            If the input of every CCD is wrong.
        """
        final = {ccd: chosen.get(ccd, []) for ccd in self.wanted}
        left = {ccd for ccd, templates in final.items() if self.chosen.get(ccd) != templates}
        for ccd in left:
            self.searched.pop(ccd, None)
            self.stage.failures.pop(ccd, None)
        self.searched |= self.stage.map(difference, [job for job in self._plan(final) if job.unit in left])
        return self.searched

    def _plan(self, chosen: Mapping[int, list[TemplateCcd]]) -> list[StepJob]:
        known = summaries_of([self.who, *self.offered], self.site)
        return self.stage.plan(
            DIFFERENCE,
            chosen,
            lambda ccd: difference_job(self.who, ccd, chosen[ccd], known, self.season, self.site, self.search),
        )
