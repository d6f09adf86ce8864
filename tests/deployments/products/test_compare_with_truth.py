"""How well a simulated night came out: the arithmetic of the figures, on tables whose truth is known."""

import numpy as np
import pytest

from blocks.site import Site
from deployments.cli.demo import latest_run, read_document, report_lines
from deployments.cli.output import table_lines
from deployments.products.compare_with_truth import ccd_figures, completeness, kilonova_rank, stage_costs
from deployments.reports.candidates import candidate_table, read_candidates
from imaging.errors import InputError
from imaging.io.tables import write_table
from imaging.io.truth import sky_table_path, source_truth_path
from imaging.schemas.candidates import CANDIDATES
from imaging.schemas.catalogue import CATALOGUE
from imaging.schemas.difference import FAKES
from imaging.schemas.truth import TRUE_SOURCES, TRUE_TRANSIENTS
from imaging.schemas.zeropoints import ZEROPOINTS
from imaging.tables import make_table

EXPNUM, CCD, N = 1300001, 26, 400
STEM = "D01300001_i"


def fill(schema, n, **known):
    """Make a table with the given columns and zeros elsewhere."""
    columns = {}
    for field in schema:
        value = known.get(field.name, {"string": "", "bool": False}.get(str(field.type), 0))
        if str(field.type).startswith(("list", "fixed_size_list")):
            size = getattr(field.type, "list_size", 0)
            columns[field.name] = [[0] * max(size, 0)] * n
        else:
            columns[field.name] = list(value) if isinstance(value, (list, np.ndarray)) else [value] * n
    return make_table(columns, schema)


@pytest.fixture
def site(tmp_path):
    """A CCD whose stars are measured 12 mas off per axis and whose zero point is 4 mmag too high.

    Its flat has another mean than the simulated one, so that all fluxes are 2 per cent lower, and the zero point too.
    """
    site, random = Site.at(tmp_path), np.random.default_rng(1)
    folder = site.products / "gw" / "exp" / "20170818" / str(EXPNUM)
    x, y = random.uniform(20, 2000, N), random.uniform(20, 4000, N)
    ra, dec = 190.0 + x * 7e-5, -10.0 + y * 7e-5
    flux = 10 ** random.uniform(3, 5, N)
    truth = fill(
        TRUE_SOURCES,
        N,
        kind="star",
        x=x,
        y=y,
        ra=ra,
        dec=dec,
        mag=31.7 - 2.5 * np.log10(flux),
        flux_aperture_electrons=flux,
        is_saturated=False,
    )
    write_table(source_truth_path(site.root, EXPNUM, CCD), truth)
    mas = 1 / 3.6e6
    catalogue = fill(
        CATALOGUE,
        N,
        x=x + 0.05,
        y=y,
        ra=ra + 12 * mas * random.standard_normal(N) / np.cos(np.radians(dec)),
        dec=dec + 12 * mas * random.standard_normal(N),
        flux_psf=0.98 * flux,
        flux_psf_error=flux / 100,
    )
    write_table(folder / f"{STEM}_{CCD:02d}_r1p1_fullcat.parquet", catalogue)
    write_table(
        folder / f"{STEM}_r1p1_zeropoints.parquet",
        fill(ZEROPOINTS, 1, ccd=CCD, zeropoint_mag=31.704 + 2.5 * np.log10(0.98)),
    )
    snr = np.repeat([4.5, 9.0, 30.0], 100)
    fakes = fill(
        FAKES,
        300,
        snr_expected=snr,
        on_good_pixels=np.arange(300) % 10 > 0,
        detected=(snr > 20) | (np.arange(300) % 2 == 0),
        passed=snr > 20,
    )
    write_table(folder / "dp1" / "i_26" / f"{STEM}_26_r1p1_fakes.parquet", fakes)
    return site


def test_figures_of_a_ccd(site):
    (row,) = ccd_figures(site, [EXPNUM])
    assert (row["expnum"], row["ccd"]) == (EXPNUM, CCD)
    assert row["astrometry_rms_mas"] == pytest.approx(12.0, rel=4 / np.sqrt(2 * N))
    assert row["zeropoint_error_mmag"] == pytest.approx(4.0, abs=0.01)
    assert row["difference_noise_width"] is None


def test_completeness_counts_fakes_on_good_pixels(site):
    rows = {row["snr_min"]: row for row in completeness(site, [EXPNUM])}
    assert (rows[4.0]["n"], rows[8.0]["n"], rows[20.0]["n"]) == (90, 90, 90)
    assert rows[20.0]["detected"] == rows[20.0]["passed"] == 1.0
    assert rows[4.0]["detected"] == pytest.approx(40 / 90)
    assert rows[4.0]["passed"] == 0.0
    assert rows[3.0]["detected"] is None


def test_the_rank_of_the_kilonova(site):
    transients = fill(TRUE_TRANSIENTS, 2, kind=[0, 1], ra=[190.0, 190.1], dec=[-10.0, -10.0])
    write_table(sky_table_path(site.root, "transients"), transients)
    near, far = {"rank": 2, "ra": 190.0, "dec": -10.0 + 1 / 3600}, {"rank": 1, "ra": 190.1, "dec": -10.0}
    assert kilonova_rank(site, [far, near]) == 2
    assert kilonova_rank(site, [far]) is None
    assert kilonova_rank(site, []) is None


def test_costs_without_records(site):
    assert stage_costs(site, [str(EXPNUM)]) == []


def test_candidates_are_read_in_the_order_of_their_rank(site):
    with pytest.raises(InputError, match="no candidates yet"):
        read_candidates(site, 20170818)
    table = fill(CANDIDATES, 2, rank=[2, 1], candidate_id=["b", "a"])
    write_table(candidate_table(site, 20170818), table)
    assert [row["candidate_id"] for row in read_candidates(site, 20170818)] == ["a", "b"]


def test_a_document_is_read_from_a_stream():
    assert read_document(iter(['{\n "a": {\n', '  "b": 1\n', " }\n", "}\n", "more\n"])) == {"a": {"b": 1}}
    assert read_document(iter(["nothing\n"])) is None


def test_the_latest_run_is_asked_for(monkeypatch):
    asked = []

    def answer(api_url, what, question, timeout_s):
        asked.append(question)
        return [{"id": "x"}]

    monkeypatch.setattr("deployments.cli.demo.ask_server", answer)
    assert latest_run("http://127.0.0.1:1/api") == {"id": "x"}
    assert asked[0]["flows"] == {"name": {"any_": ["process-night"]}}


def test_tables_are_laid_out_in_columns():
    assert table_lines(["", "n", "what"], [["a", 1, None], ["long", 12.34567, "x"]]) == [
        "      n      what",
        "a         1     -",
        "long  12.35  x",
    ]


def test_the_report_says_what_a_person_wants_to_know():
    document = {
        "candidates": [],
        "ccds": [],
        "stages": [],
        "kilonova_rank": 1,
        "seconds": {"simulate_s": 60.2, "process_s": 200.0},
        "state": "Completed",
        "message": "done",
        "server": "http://127.0.0.1:4200",
        "serve_again": "gw-workflow serve --site gw-demo --port 4200",
    }
    text = "\n".join(report_lines(document))
    assert "the kilonova has rank 1" in text
    assert "simulate 60 s; process 200 s" in text
    assert "NOT found" in "\n".join(report_lines(document | {"kilonova_rank": None}))
