"""The page for a first night: its commands take files as an archive and others give them to the ranked list.

It begins with raw files, reference stars, an alert and a template of another pipeline: no calibrations, no list.
"""

import shlex

import numpy as np
import pyarrow.compute as pc
import pytest
from astropy.io import fits
from night_site import CCDS, NIGHT, SEARCH, TEMPLATES
from scipy.spatial import KDTree

from bench.demo import found_share
from bench.first_night import AFTERNOON, hand_over, page_commands
from deployments.products.compare_with_truth import ccd_figures, completeness, kilonova_rank
from deployments.reports.candidates import read_candidates
from imaging.identity import raw_name
from imaging.io.tables import read_table
from imaging.io.truth import source_truth_path
from imaging.simulation.night import open_night, simulate_night
from imaging.simulation.settings import SimulationSettings
from tasks.engine.jobs import ExitCode

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def received(demonstration, tmp_path_factory):
    """The demonstration's search exposures and two of its templates, one calibrated; biases, dome flats, a ramp."""
    folder = tmp_path_factory.mktemp("first")
    frames = simulate_night(
        folder / "frames",
        SimulationSettings(ccds=CCDS, focus_ccds=False, n_bias_exposures=3, n_flat_exposures=3, **AFTERNOON),
        processes=1,
    )
    simulated = open_night(demonstration.site.root)
    names = {raw_name(expnum) for expnum in (*SEARCH, TEMPLATES[0])}
    raw = sorted(path for path in simulated.raw.rglob("*.fits.fz") if path.name in names)
    raw += sorted(frames.raw.rglob("*.fits.fz"))
    finals = sorted(demonstration.site.store.rglob(f"D{TEMPLATES[1]:08d}_*_immask.fits"))
    assert len(finals) == len(CCDS)
    return hand_over(folder, simulated, raw, finals)


def photometry_errors_mag(site, ccd):
    """Return the calibrated minus the true magnitudes of bright single stars of a CCD."""
    truth = read_table(source_truth_path(site.root, SEARCH[0], ccd))
    truth = truth.filter((pc.field("kind") == "star") & ~pc.field("is_saturated"))
    (path,) = site.store.rglob(f"D0{SEARCH[0]}_i_{ccd}_r1p1_fullcat.parquet")
    (zeropoints,) = site.store.rglob(f"D0{SEARCH[0]}_i_r1p1_zeropoints.parquet")
    adopted = {row["ccd"]: row["zeropoint_mag"] for row in read_table(zeropoints).to_pylist()}[ccd]
    found = read_table(path)
    flux, error, flags = (found[name].to_numpy() for name in ("flux_psf", "flux_psf_error", "flags"))
    good = (flux > 100.0 * error) & (flags == 0)
    true = np.column_stack([truth["x"].to_numpy(), truth["y"].to_numpy()])
    distance, index = KDTree(true).query(np.column_stack([found["x"].to_numpy(), found["y"].to_numpy()])[good])
    magnitude = adopted - 2.5 * np.log10(flux[good])
    return (magnitude - truth["mag"].to_numpy()[index])[distance < 1.0]


def test_the_commands_of_the_page_lead_from_an_empty_folder_to_the_ranked_list(received, command, monkeypatch):
    monkeypatch.chdir(received.folder)
    commands = page_commands()
    assert len(commands) == 5
    for line in commands:
        program, *words = shlex.split(line)
        assert program == "gw-workflow" and words[-2:] == ["--site", "SITE"]
        ran = command(received.site, *words[:-2])
        assert ran.code is ExitCode.COMPLETE, (line, ran.document)

    site = received.site
    templates = [read_table(path) for path in site.store.rglob("*_templates.parquet")]
    assert len(templates) == len(SEARCH)
    for table in templates:
        assert set(table["template_expnum"].to_pylist()) == set(TEMPLATES[:2])
        sources = dict(zip(table["template_expnum"].to_pylist(), table["source"].to_pylist(), strict=True))
        assert not sources[TEMPLATES[0]] and sources[TEMPLATES[1]].startswith("Community Pipeline")

    for row in ccd_figures(site, SEARCH):
        assert row["astrometry_rms_mas"] < 20.0
        assert abs(row["zeropoint_error_mmag"]) < 10.0
        assert row["difference_noise_width"] == pytest.approx(1.0, abs=0.05)
    share, n_fakes = found_share(completeness(site, SEARCH), 10.0)
    assert share > 0.95 and n_fakes > 100
    assert kilonova_rank(site, read_candidates(site, NIGHT)) <= 3


def test_own_masters_calibrate_and_every_default_is_named(received):
    site = received.site
    for ccd in CCDS:
        errors = photometry_errors_mag(site, ccd)
        assert errors.size > 30
        # 10 mmag is the limit of the demonstration; the star flat is worth 3 mmag.
        assert abs(np.median(errors)) < 0.010
        (image,) = site.store.rglob(f"D0{SEARCH[0]}_i_{ccd}_r1p1_immask.fits")
        header = fits.getheader(image, "SCI")
        assert header["CALDEFLT"] == "crosstalk=20130606 star_flat=none sky_modes=none"
        assert header["LINKNOWN"] is True and header["DESLINC"] == f"linearity_c{ccd}.fits"
        assert header["DESDCXTK"] == "20130606"
    (path,) = site.store.rglob(f"{SEARCH[0]}/D0{SEARCH[0]}_i_r1p1_quality.parquet")
    for row in read_table(path).to_pylist():
        assert row["calibration_defaults"] == header["CALDEFLT"]
        assert row["linearity_known"] == 1
        assert row["status"] == "good", row["reason"]
        assert row["noise_ratio"] == pytest.approx(1.0, abs=0.05)
