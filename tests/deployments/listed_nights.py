"""Lists of exposures and sky maps for tests that register a night."""

from imaging.errors import InputError
from imaging.exposure import Exposure
from imaging.io.exposure_list import ListedExposure, write_exposure_list

NIGHT = 20170818


def write_list(path, numbers, night=NIGHT, templates=(900001,)):
    def exposure(number, date):
        return ListedExposure(Exposure(number, "i", date, 57983.0, 90.0, 197.45, -23.38, 1.2))

    write_exposure_list(path, [exposure(n, night) for n in numbers] + [exposure(n, 20170301) for n in templates])
    return path


def check_map(path):
    if b"SIMPLE" not in path.read_bytes():
        raise InputError("sky map not readable", value=path)
