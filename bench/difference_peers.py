"""SWarp, SExtractor and HOTPANTS on the frames of a synthetic pair, if installed, with a user's typical options."""

import os
import resource
import shutil
import subprocess
import tempfile
from pathlib import Path

import fitsio
import numpy as np

from bench.difference_runs import Truth
from imaging.difference.chain import CcdSearchResult
from imaging.image import CalibratedImage

SWARP_NAMES, SEXTRACTOR_NAMES = ("SWarp", "swarp"), ("source-extractor", "sex")


def find(names: tuple[str, ...]) -> str | None:
    """Return the path of the first program that is installed."""
    return next((path for name in names if (path := shutil.which(name))), None)


def _cpu_s(command: list[str], folder: Path) -> float:
    """Run a program and return its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _write(image: CalibratedImage, path: Path, weight: Path) -> None:
    header = [{"name": key, "value": value} for key, value in image.wcs.to_header().items()]
    fitsio.write(str(path), image.pixels.science, header=header, clobber=True)
    fitsio.write(str(weight), image.pixels.weight, header=header, clobber=True)


def swarp_seconds(truth: Truth) -> float | None:
    """Return the CPU seconds of a clipped Lanczos-3 stack of the templates on the search image's grid."""
    program = find(SWARP_NAMES)
    if program is None:
        return None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for k, frame in enumerate(truth.templates):
            _write(frame.image, folder / f"t{k}.fits", folder / f"t{k}.weight.fits")
        ny, nx = truth.search.image.pixels.shape
        cards = truth.search.image.wcs.to_header() | {"NAXIS": 2, "NAXIS1": nx, "NAXIS2": ny, "EQUINOX": 2000.0}
        lines = [
            f"{key:<8}= {value!r:>20}" if not isinstance(value, str) else f"{key:<8}= '{value}'"
            for key, value in cards.items()
        ]
        (folder / "out.head").write_text("\n".join(lines) + "\nEND     \n")
        options = {
            "IMAGEOUT_NAME": "out.fits",
            "WEIGHTOUT_NAME": "out.weight.fits",
            "WEIGHT_TYPE": "MAP_WEIGHT",
            "RESAMPLING_TYPE": "LANCZOS3",
            "COMBINE_TYPE": "CLIPPED",
            "SUBTRACT_BACK": "N",
            "FSCALASTRO_TYPE": "NONE",
            "NTHREADS": "1",
            "VERBOSE_TYPE": "QUIET",
        }
        files = [f"t{k}.fits" for k in range(len(truth.templates))]
        return _cpu_s([program, *files, *(part for k, v in options.items() for part in (f"-{k}", v))], folder)


def sextractor_seconds(searched: CcdSearchResult) -> float | None:
    """Return the CPU seconds of a catalogue of the difference at one sigma per pixel."""
    program = find(SEXTRACTOR_NAMES)
    if program is None:
        return None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(searched.difference.as_image(), folder / "d.fits", folder / "w.fits")
        (folder / "p.param").write_text("NUMBER\nX_IMAGE\nY_IMAGE\nFLUX_AUTO\nFLUXERR_AUTO\nFLAGS\n")
        options = {
            "PARAMETERS_NAME": "p.param",
            "FILTER": "N",
            "DETECT_THRESH": "1.0",
            "WEIGHT_TYPE": "MAP_WEIGHT",
            "WEIGHT_IMAGE": "w.fits",
            "CATALOG_NAME": "c.cat",
            "NTHREADS": "1",
            "VERBOSE_TYPE": "QUIET",
        }
        return _cpu_s([program, "d.fits", *(part for k, v in options.items() for part in (f"-{k}", v))], folder)


def hotpants_seconds(truth: Truth, searched: CcdSearchResult) -> float | None:
    """Return the CPU seconds of HOTPANTS on the same stack; its path is in the environment variable HOTPANTS."""
    found = shutil.which(os.environ.get("HOTPANTS", "hotpants"))
    if found is None:
        return None
    program = str(Path(found).resolve())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(truth.search.image, folder / "i.fits", folder / "iw.fits")
        _write(searched.template.image, folder / "t.fits", folder / "tw.fits")
        limits = np.array([-1e4, 1.4e5])
        command = [program, "-inim", "i.fits", "-tmplim", "t.fits", "-outim", "d.fits", "-n", "i"]
        command += ["-r", "10", "-rss", "15", "-nsx", "10", "-nsy", "20", "-ko", "2", "-bgo", "2"]
        for prefix in ("i", "t"):
            command += [f"-{prefix}l", str(limits[0]), f"-{prefix}u", str(limits[1])]
        return _cpu_s(command, folder)
