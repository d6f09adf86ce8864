"""The index of raw files: 10,000 files of 62 extensions, read for the first time and again.

``python -m bench.raw_index [--json] [--quick]``: the files have headers as long as those of the observatory and
holes of the size of compressed pixels. Each of 200 exposures has 50 names, which are hard links. Quick: 10 names.
"""

import os
import tempfile
import time
from pathlib import Path

from astropy.io import fits

from bench.report import Row, at_most, main
from blocks.site import Site
from deployments.events.add_raw import add_raw

EXPOSURES, NAMES, QUICK_NAMES = 200, 50, 10
N_CCDS, CARDS = 62, 140
"""Extensions of a file, and cards of the header of each."""

DATA_BYTES = 300 * 2880

LIMIT_S = 60.0


def write_exposure(path: Path, expnum: int) -> None:
    """Write a raw file without pixels.

    Parameters
    ----------
    path
        The file.
    expnum
        Number of the exposure.
    """
    minutes = expnum % 600
    cards = {
        "SIMPLE": True,
        "BITPIX": 8,
        "NAXIS": 0,
        "NEXTEND": N_CCDS,
        "INSTRUME": "DECam",
        "EXPNUM": expnum,
        "OBSTYPE": "object",
        "FILTER": "i DECam SDSS c0003 7835.0 1470.0",
        "EXPTIME": 90.0,
        "RA": "12:41:59.00",
        "DEC": "-10:00:02.00",
        "DATE-OBS": f"2024-05-11T{minutes // 60:02d}:{minutes % 60:02d}:00.000000",
        "MJD-OBS": 60441.0 + minutes / 1440.0,
        "PROPID": "2024A-999999",
        "OBJECT": "index",
        "AIRMASS": 1.1,
    }
    extension = {"XTENSION": "BINTABLE", "BITPIX": 8, "NAXIS": 2, "NAXIS1": 1, "NAXIS2": DATA_BYTES, "PCOUNT": 0}
    extension |= {"GCOUNT": 1, "TFIELDS": 0} | {f"KEY{number}": float(number) for number in range(CARDS)}
    header = fits.Header(extension.items()).tostring().encode()
    with path.open("wb") as stream:
        stream.write(fits.Header(cards.items()).tostring().encode())
        for _ in range(N_CCDS):
            stream.write(header)
            stream.seek(DATA_BYTES, os.SEEK_CUR)
        stream.truncate(stream.tell())


def measure(quick: bool) -> list[Row]:
    """Index files in a temporary folder twice."""
    names = QUICK_NAMES if quick else NAMES
    with tempfile.TemporaryDirectory(prefix="gw-workflow-bench-") as folder:
        files, site = Path(folder) / "files", Site.at(Path(folder) / "site")
        files.mkdir()
        for expnum in range(1300001, 1300001 + EXPOSURES):
            first = files / f"DECam_{expnum:08d}.fits.fz"
            write_exposure(first, expnum)
            for number in range(1, names):
                os.link(first, files / f"c4d_{expnum}_{number:02d}_ori.fits.fz")
        spent = [_spent(site, files, EXPOSURES * names) for _ in range(2)]
    n = EXPOSURES * names
    scale = EXPOSURES * NAMES / n
    what = f"{EXPOSURES * NAMES} files of {N_CCDS} extensions" + (" (scaled)" if quick else "")
    return [
        Row(f"{what}: wall of the first call", scale * spent[0][0], "s", n=n),
        at_most("the same, CPU", scale * spent[0][1], "CPU s", LIMIT_S, n=n),
        Row("second call: wall", scale * spent[1][0], "s", n=n),
        Row("the same, CPU", scale * spent[1][1], "CPU s", n=n),
    ]


def _spent(site: Site, files: Path, n_files: int) -> tuple[float, float]:
    """Return wall clock and CPU time of a call, seconds, and require that it takes every file."""
    wall, cpu = time.perf_counter(), time.process_time()
    added = add_raw(site, [files])
    spent = time.perf_counter() - wall, time.process_time() - cpu
    if len(added.new) + len(added.known) != n_files:
        raise AssertionError(f"{len(added.left)} files were left, such as {next(iter(added.left.items()), None)}")
    return spent


if __name__ == "__main__":
    main("The index of raw files", measure)
