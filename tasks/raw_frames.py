"""Raw frames of some CCDs as inputs of the steps that build calibrations."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple
from typing import Any

from blocks.site import Site
from imaging.errors import CcdError
from imaging.exposure import Exposure
from imaging.image import RawCcd
from imaging.io.raw import RawExtension, read_exposure, read_raw_ccd
from tasks.engine.jobs import FileRecord
from tasks.jobs import StepJob
from tasks.raw_files import RawFile

RAW = "raw_"
"""Begin of the name of an input that is a raw file, before the exposure number."""


def frame_inputs(
    site: Site, raws: Iterable[RawFile], ccds: Sequence[int]
) -> tuple[dict[str, FileRecord], dict[str, list[tuple[Any, ...]]]]:
    """Describe the CCDs of raw files: the inputs of a job, and its parameter ``extensions``.

    Parameters
    ----------
    site, raws
        Site and raw files.
    ccds
        The CCD of the job, and those that it reads where the files have them.
    """
    inputs, extensions = {}, {}
    for raw in raws:
        present = [ccds[0], *(ccd for ccd in ccds[1:] if ccd in raw.index.extensions)]
        name = f"{RAW}{raw.exposure.expnum}"
        inputs[name] = raw.record(site, present)
        extensions[name] = [astuple(raw.extension(ccd)) for ccd in present]
    return inputs, extensions


def read_frames(job: StepJob) -> Iterator[tuple[int, Exposure, dict[int, RawCcd]]]:
    """Read the frames of a job one by one: exposure number, exposure, and CCD number to raw extension.

    Raises
    ------
    CcdError
        If the CCD of the job is damaged; another one is left out.
    """
    for name, values in job.parameters["extensions"].items():
        path, expnum = job.input_path(name), int(name.removeprefix(RAW))
        own, *others = (RawExtension(*each) for each in values)
        raws = {own.ccdnum: read_raw_ccd(path, own, expnum)}
        for other in others:
            try:
                raws[other.ccdnum] = read_raw_ccd(path, other, expnum)
            except CcdError:
                continue
        yield expnum, read_exposure(path), raws
