"""The page that says what a re-run computes: each row of its table is tried."""

import functools
import os
import re
from dataclasses import replace

import pytest
from pages import ROOT, Overlay, page, table
from toy_chain import SOURCES, TOY_INFOS

from blocks.site import Site
from imaging.identity import ExposureId
from tasks.engine import cache
from tasks.engine import code_version as versions
from tasks.jobs import StepJob

EXPOSURE = ExposureId(1300001, "i", 20170818, rnum=4, pnum=5)


# How does a re-run know what is done?

RERUN = "how_a_rerun_knows"


class ToyChain:
    """The three toy steps on a site, what is about to change, and what was computed."""

    def __init__(self, overlay: Overlay, site: Site) -> None:
        self.overlay, self.site, self.exposure = overlay, site, EXPOSURE
        self.chosen, self.overwrite = {}, False
        site.raw.mkdir(parents=True)
        for ccd in (1, 2):
            (site.raw / f"{ccd}.txt").write_text(f"{ccd}.25")
        for file, text in SOURCES.items():
            overlay.write(file, text)
        self.write_steps(TOY_INFOS)
        self.load()

    def write_steps(self, added_steps: str) -> None:
        original = (ROOT / "tasks/steps.py").read_text(encoding="utf-8")
        self.overlay.write("tasks/steps.py", original.replace("\nSTEPS = ", added_steps + "\nSTEPS = "))

    def load(self) -> None:
        for file in ("tasks/steps.py", *SOURCES):
            module = self.overlay.load(file)
        self.flow = module.toy_chain

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.overlay.root / file
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))
        self.load()

    def run(self) -> str:
        """Run the flow; return what was computed, as the page writes it."""
        calls = self.site.root / "calls"
        calls.unlink(missing_ok=True)
        self.flow(self.exposure, self.site, self.chosen, self.overwrite)
        done = sorted(calls.read_text().splitlines()) if calls.exists() else []
        units = {name: [call.partition(" ")[2] for call in done if call.startswith(name)] for name in TOY_STEPS}
        return ", ".join(f"`{name}` {' '.join(found)}".strip() for name, found in units.items() if found) or "nothing"

    @property
    def product(self):
        return StepJob(exposure=EXPOSURE, ccd=2, site=self.site).product_path("scaled.txt")

    @property
    def record(self):
        (path,) = self.site.records.glob("*/scale-ccd02-*.json")
        return path


TOY_STEPS = ("scale", "level", "report")

CHANGES = {}
"""Change, as the page writes it, to the function that makes it."""


def change(words: str):
    def note(function):
        CHANGES[words] = function
        return function

    return note


@change("none")
def _(chain):
    pass


@change("an input is touched, or copied and put back")
def _(chain):
    (chain.site.raw / "1.txt").touch()
    path = chain.site.raw / "2.txt"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


@change("the content of CCD 2's input")
def _(chain):
    (chain.site.raw / "2.txt").write_text("7.25")


@change("a setting of `scale`")
def _(chain):
    chain.chosen["factor"] = 3.0


@change("a setting of `report`")
def _(chain):
    chain.chosen["digits"] = 2


@change("a setting, and back again")
def _(chain):
    chain.chosen["factor"] = 3.0
    assert chain.run() == ALL
    chain.chosen.clear()


@change("a parameter of the job of `report`")
def _(chain):
    chain.chosen["mode"] = "loud"


@change("the version (r1p1, r2p1)")
def _(chain):
    chain.exposure = replace(chain.exposure, rnum=5)


@change("the destination")
def _(chain):
    chain.site = chain.site.storing_in("scratch")


@change("a comment, a docstring or the layout of the code")
def _(chain):
    chain.edit("imaging/toy_science.py", "  # as it is", "")
    chain.edit("imaging/toy_science.py", "Scale.", "Scale, and say so.")
    chain.edit("tasks/toy_scale.py", "Scale a number.", "Scale.")
    line = "paths = job.product_paths(SCALE)"
    chain.edit("tasks/toy_scale.py", line, line.replace("= ", "= (\n        ") + "\n    )\n")


@change("a constant in the module of `scale`")
def _(chain):
    chain.edit("tasks/toy_scale.py", "OFFSET = 0.0", "OFFSET = 4.0")


@change("a function in `imaging` that `scale` calls, same result")
def _(chain):
    chain.edit("imaging/toy_science.py", "np.float64(value) * factor", "factor * np.float64(value)")


@change("the same, other result")
def _(chain):
    chain.edit("imaging/toy_science.py", "* factor", "* factor + value**2")


@change("a module that no step imports")
def _(chain):
    chain.edit("imaging/toy_unused.py", "X = 1", "X = 2")


@change("the function that plans the jobs, same jobs")
def _(chain):
    chain.edit("tasks/toy_scale.py", 'site.raw / f"{ccd}.txt"', 'site.raw.joinpath(f"{ccd}.txt")')


@change("the cost of a step in `tasks/steps.py`")
def _(chain):
    chain.write_steps(TOY_INFOS.replace("0.01", "7.5"))
    chain.load()


@change("the product suffix of `scale` in `tasks/steps.py`")
def _(chain):
    chain.write_steps(TOY_INFOS.replace("scaled.txt", "bigger.txt"))
    chain.load()


@change("another version of NumPy, which `scale` uses")
def _(chain):
    chain.monkeypatch.setattr(versions, "_library_version", functools.cache(lambda distribution: "0.0.1"))
    chain.load()


@change("the product of `scale` of CCD 2 is deleted")
def _(chain):
    chain.product.unlink()


def removed_by_tidying(chain):
    from tasks.tidy import remove_product

    remove_product(chain.site, chain.product)


@change("it is removed by tidying")
def _(chain):
    removed_by_tidying(chain)


@change("it is removed by tidying, and a setting of `report`")
def _(chain):
    removed_by_tidying(chain)
    chain.chosen["digits"] = 2


@change("it is truncated")
def _(chain):
    chain.product.write_bytes(chain.product.read_bytes()[:1])


def altered(chain):
    status = chain.product.stat()
    chain.product.write_bytes(chain.product.read_bytes()[::-1])
    os.utime(chain.product, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))
    return status


@change("it is altered, size kept")
def _(chain):
    altered(chain)


@change("it is altered, size and time kept")
def _(chain):
    status = altered(chain)
    os.utime(chain.product, ns=(status.st_atime_ns, status.st_mtime_ns))


@change("it is touched")
def _(chain):
    chain.product.touch()


@change("the record of `scale` of CCD 2 is deleted")
def _(chain):
    chain.record.unlink()


@change("the record is damaged")
def _(chain):
    chain.record.write_bytes(chain.record.read_bytes()[:40])


@change("the site is moved to another folder")
def _(chain):
    there = chain.site.root.with_name("there")
    chain.site.root.rename(there)
    chain.site = Site.at(there)


@change("CCD 2 failed in `scale` and works now")
def _(chain):
    (chain.site.root / "fails2").unlink()


@change("CCD 2 fails in `scale` again")
def _(chain):
    pass


@change("`--overwrite`")
def _(chain):
    chain.overwrite = True


ALL = "`scale` 1 2, `level`, `report` 1 2"
ROWS = {row["change"]: row["computed again"] for row in table(RERUN, "change")}


def test_every_row_of_the_page_is_tried():
    assert list(ROWS) == list(CHANGES)


@pytest.mark.parametrize("words", CHANGES)
def test_the_page_says_what_is_computed_again(words, overlay, tmp_path, prefect_server, monkeypatch):
    chain = ToyChain(overlay, Site.at(tmp_path / "here"))
    chain.monkeypatch = monkeypatch
    fails = words.startswith("CCD 2 fail")
    if fails:
        (chain.site.root / "fails2").touch()
    assert chain.run() == ("`scale` 1 2, `level`, `report` 1" if fails else ALL)
    CHANGES[words](chain)
    assert chain.run() == ROWS[words]


def test_the_page_names_what_is_in_the_engine():
    words = re.findall(r"\*\* \(`([\w.]+)`\)", page(RERUN))
    assert len(words) == 4
    assert all(any(word in vars(module) for module in (cache, versions)) for word in words)
