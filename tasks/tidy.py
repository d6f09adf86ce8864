"""Tidy up behind an exposure: remove the images that only the next step reads, compress those of earlier versions.

The steps write images packed (:func:`imaging.io.images.write_planes`); earlier versions did not. No pixel changes: the
steps have always rounded them (:mod:`imaging.quantise`).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from blocks.site import Site
from imaging.errors import StorageError
from imaging.identity import ExposureId
from imaging.io.atomic import atomic_path
from imaging.io.packed import is_packed, write_packed
from tasks.engine.cache import fingerprint, parse_record_name, read_record
from tasks.engine.jobs import FileRecord, StepInfo, StepResult
from tasks.engine.step import step
from tasks.engine.tidied import all_notes, forget, write_note
from tasks.jobs import StepJob, ccd_of
from tasks.steps import CALIBRATE, DETREND, DIFFERENCE, MEASURE, TIDY

PACKED: Mapping[str, tuple[StepInfo, str, tuple[str, ...]]] = {
    "image": (CALIBRATE, "image", ()),
    "difference": (DIFFERENCE, "difference", ()),
    "template": (DIFFERENCE, "template", ("SCI",)),
}
"""Images that are compressed: step, product, and planes that no step reads and that are left out."""

INTERMEDIATE = (DETREND, MEASURE)
"""Steps with images that only the next step reads."""

DONE = CALIBRATE.products["image"]
"""Product without which a CCD keeps its intermediate images, because it failed or is at work."""


def recorded_products(job: StepJob, info: StepInfo, name: str) -> Iterator[tuple[int, FileRecord]]:
    """Yield CCD number and recorded product, for every CCD of an exposure whose product is as the step wrote it."""
    for path in sorted((job.site.records / job.subject).glob(f"{info.name}-*.json")):
        found = parse_record_name(path.name)
        ccd = ccd_of(found[1]) if found and found[0] == info.name else None
        result = None if ccd is None else read_record(path)
        product = None if result is None else result.products.get(name)
        if ccd is None or product is None:
            continue
        place = job.model_copy(update={"ccd": ccd}).product_path(info.products[name])
        if job.site.path(product.path) == place and product.is_intact(job.site):
            yield ccd, product


def tidy_jobs(exposure: ExposureId, season: int | None, site: Site) -> list[StepJob]:
    """Plan the compression of an exposure's images: one job for every CCD that has some to compress.

    Parameters
    ----------
    exposure
        The exposure.
    season
        Season of its differences; None if it has none.
    site
        The site.
    """
    about = StepJob(exposure=exposure, site=site)
    inputs: dict[int, dict[str, FileRecord]] = {}
    for kind, (info, name, _) in PACKED.items():
        if info is DIFFERENCE and season is None:
            continue
        of = about.model_copy(update={"season": season}) if info is DIFFERENCE else about
        for ccd, product in recorded_products(of, info, name):
            if is_packed(site.path(product.path)):
                continue
            inputs.setdefault(ccd, {})[kind] = product
    return [about.model_copy(update={"ccd": ccd, "inputs": files}) for ccd, files in sorted(inputs.items())]


@step(TIDY)
def tidy(job: StepJob) -> StepResult:
    """Compress the images of one CCD that are kept."""
    before = after = 0
    for kind, original in job.inputs.items():
        path = job.input_path(kind)
        with atomic_path(path) as temporary:
            write_packed(path, temporary, drop=PACKED[kind][2])
            packed = FileRecord.of(job.site, temporary).model_copy(update={"path": original.path})
            if not original.is_intact(job.site):
                raise StorageError("a step has written the image anew", value=path, remedy="run the command again")
            write_note(job.site, original, packed)
        before, after = before + original.size, after + packed.size
    return job.result(quality={"bytes_before": before, "bytes_after": after})


def remove_intermediates(exposure: ExposureId, site: Site) -> tuple[int, int]:
    """Remove the intermediate images of an exposure's calibrated CCDs.

    Returns
    -------
    count, size
        Number of removed files and their bytes.
    """
    about = StepJob(exposure=exposure, site=site)
    count = size = 0
    for info in INTERMEDIATE:
        for name in info.intermediate:
            for ccd, product in recorded_products(about, info, name):
                if about.model_copy(update={"ccd": ccd}).product_path(DONE).exists():
                    remove_product(site, product)
                    count, size = count + 1, size + product.size
    return count, size


def forget_removed(exposure: ExposureId, site: Site) -> int:
    """Make the removed intermediate images of an exposure count as missing, so that the next run computes them.

    Returns
    -------
    count
        Number of these images.
    """
    folder, count = StepJob(exposure=exposure, site=site).product_path("").parent, 0
    for known in all_notes(site):
        path = site.path(known.original.path)
        if known.now is None and path.parent == folder and known.holds(site):
            forget(site, known.original.path)
            count += 1
    return count


def remove_product(site: Site, product: FileRecord | Path) -> None:
    """Remove a product in such a way that it still counts as present for the steps that are done.

    Parameters
    ----------
    site
        The site.
    product
        What its step wrote, or its path.
    """
    record = fingerprint(site, product) if isinstance(product, Path) else product
    write_note(site, record, None)
    site.path(record.path).unlink(missing_ok=True)
