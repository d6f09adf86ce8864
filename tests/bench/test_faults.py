"""Damaged files: every reader has a kind in the bench, and a part of the bench ends as it must."""

import importlib
import inspect
import os
import pkgutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

import blocks
import imaging.io
import imaging.reference
import tasks
import tasks.engine
from bench.faults import BAD, KINDS, QUICK, census, examine, plain, read_one
from bench.mutations import MINIMUM, mutations

PACKAGES = (imaging.io, imaging.reference, blocks, tasks, tasks.engine)

READ_ELSEWHERE = {
    "read_detrend_calibrations": "reads each calibration by the reader of its kind",
    "read_master": "finds the image of a CCD for the readers of their kinds",
    "read_event": "reads the stored alerts",
    "read_reference_polygon": "cuts what read_reference_cone reads",
    "read_calibrated": "reads image, PSF and tie by the readers of their kinds",
    "read_source": "reads a table of sources",
    "read_colour_slope": "reads the header of what read_calibration_image reads",
    "read_head": "reads the header of what read_image reads",
    "read_foreign": "reads pixels and PSF of an imported image by the readers of their kinds",
    "read_given_psf": "reads what read_psf reads",
    "read_frames": "reads raw exposures",
    "read_certificate": "names the files of a certificate, which Dask reads",
    "read_sealed": "the bytes of a sealed document, for the readers of their kinds",
}
"""Readers without a kind of their own."""


NEVER_REFUSED = ("fingerprint", "raw index")
"""Kinds that are made anew when they are damaged."""


def readers() -> set[str]:
    """Return the public functions that read, of all modules that read files."""
    found = set()
    for package in PACKAGES:
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if module.ispkg:
                continue
            for name, value in inspect.getmembers(importlib.import_module(module.name), inspect.isfunction):
                if name.startswith("read_") and value.__module__ == module.name:
                    found.add(name)
    return found


def test_every_reader_has_a_kind():
    known = {reader for kind in KINDS for reader in kind.readers}
    assert readers() - known - set(READ_ELSEWHERE) == set()
    assert set(READ_ELSEWHERE) & (known - {"read_event", "read_reference_polygon"}) == set()
    assert len({kind.name for kind in KINDS}) == len(KINDS) > 50


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_file_of_each_kind_is_read_and_damaged_in_sixty_ways(kind, tmp_path):
    path = kind.write(tmp_path)
    column, value = read_one(kind, path)
    assert column == "value", value
    assert repr(plain(read_one(kind, path)[1])) == repr(plain(value))
    damaged = mutations(path.read_bytes(), kind.form, 1)
    assert len(damaged) >= 60
    assert len({mutation.content for mutation in damaged}) > 0.8 * MINIMUM
    assert all(mutation.content != path.read_bytes() for mutation in damaged)


@pytest.mark.parametrize("kind", KINDS[::2], ids=lambda kind: kind.name)
def test_damage_ends_right_or_in_an_error_that_says_what_to_do(kind):
    ends = examine(kind, quick=True)
    assert len(ends) >= 60 // QUICK
    assert [end for end in ends if end.column in BAD] == []
    assert Counter(end.column for end in ends)["refused"] > 0 or kind.name in NEVER_REFUSED


def test_the_bench_counts_what_a_bad_reader_does(tmp_path):
    """A reader that believes everything, raises anything, dies or never ends is told from a good one."""
    kind = next(kind for kind in KINDS if kind.name == "truth text")

    def ends(read):
        return {end.column for end in examine(replace(kind, read=read, own=False), quick=True)}

    def died(path):
        return os._exit(1) if b"a" not in path.read_bytes()[:3] else 1

    assert ends(lambda path: path.read_bytes()) == {"changed"}
    assert ends(lambda path: [1.0, float("nan")] if len(path.read_bytes()) != 160 else [1.0, 1.0]) == {"wrong", "right"}
    assert ends(lambda path: path.read_bytes().decode("ascii")) >= {"untyped"}
    assert "crash" in ends(died)


def test_values_are_compared_by_their_numbers():
    some, same, other = (repr(plain(np.array([1.0, last]))) for last in (np.nan, np.nan, 2.0))
    assert some == same != other
    assert plain(pa.table({"a": [1, 2]})) != plain(pa.table({"a": [1, 3]}))
    assert census(plain({"a": [1.0, float("inf")], "b": np.array([3e9, np.nan])})) == (2, 3e9)
