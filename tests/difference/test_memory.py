"""What the search of a CCD needs in memory, per pixel of the image."""

import subprocess
import sys
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest

from imaging.difference.chain import search_ccd
from imaging.difference.settings import SearchSettings
from imaging.image import CalibratedImage
from imaging.memory import return_freed_memory

INPUT_BYTES = 4 + 2 + 4
"""Science, mask and weight of a pixel."""

MAX_BYTES = 80
"""Most bytes per pixel beyond the search image; it was 130 when all templates and all products of images were held."""

GIVEN_BACK = """
import imaging, numpy as np
def resident(): return next(int(l.split()[1]) / 1024 for l in open("/proc/self/status") if l.startswith("VmRSS"))
def ccd(): return [np.ones((4096, 2048), kind) for kind in (np.int16, bool, np.float32) for _ in range(3)]
before = resident()
kept = []
for _ in range(6):
    arrays = ccd()
    kept.append(np.ones(1 << 17))
    del arrays
print(resident() - before)
"""

USED_AGAIN = """
import resource
import imaging.memory, numpy as np
import threading
def ccds():
    with imaging.memory.freed_memory_reused():
        for number in range(4):
            if number == 1:
                before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            arrays = [np.empty((4096, 2048), np.float32) for _ in range(4)]
            for array in arrays:
                array[:, ::1024] = 1.0
            del array, arrays
        held = resident()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    print(held - resident())
def resident(): return next(int(l.split()[1]) / 1024 for l in open("/proc/self/status") if l.startswith("VmRSS"))
worker = threading.Thread(target=ccds)
worker.start()
worker.join()
"""


def test_a_search_needs_few_images_at_a_time(truth, scenario):
    """Templates are read one after the other, and no step holds more than a few images of its own."""
    frames = [frame.image for frame in truth.templates]
    n_pixels = frames[0].pixels.science.size

    def reading() -> Iterator[CalibratedImage]:
        for image in frames:
            pixels = image.pixels
            copies = {name: getattr(pixels, name).copy() for name in ("science", "mask", "weight")}
            yield type(image)(**{**vars(image), "pixels": type(pixels)(header=dict(pixels.header), **copies)})

    search_ccd(truth.search.image, reading(), scenario.identity, SearchSettings())
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    search_ccd(truth.search.image, reading(), scenario.identity, SearchSettings())
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert peak / n_pixels < MAX_BYTES
    assert peak / n_pixels > 2 * INPUT_BYTES  # the stack and the difference themselves


def test_freed_images_go_back_to_the_system():
    assert return_freed_memory() == sys.platform.startswith("linux")
    if not sys.platform.startswith("linux"):
        return
    grown = float(subprocess.run([sys.executable, "-c", GIVEN_BACK], capture_output=True, text=True, check=True).stdout)
    assert grown < 30.0, "megabytes that six CCDs leave behind"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_memory_of_freed_images_is_used_again():
    """In a thread, as on a worker; afterwards they go back to the system."""
    shown = subprocess.run([sys.executable, "-c", USED_AGAIN], capture_output=True, text=True, check=True).stdout
    faults, given_back = map(float, shown.split())
    assert faults < 100, "faults of three CCDs after the first, 32768 for each without it"
    assert given_back > 100.0, "megabytes of 128"


def test_a_shared_stack_is_not_changed_by_the_subtraction(searched, truth):
    """The difference shares pixels with its inputs; none of them may be written to."""
    search = truth.search.image.pixels
    stack = searched.template.image.pixels
    kept = [plane.copy() for plane in (search.science, search.weight, stack.science, stack.weight)]
    from imaging.difference.subtract import subtract

    subtract(truth.search.image, searched.template)
    for plane, before in zip((search.science, search.weight, stack.science, stack.weight), kept, strict=True):
        assert np.array_equal(plane, before)
