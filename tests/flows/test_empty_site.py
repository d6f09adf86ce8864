"""A site that begins with raw files and reference stars alone: own masters, then an exposure calibrated with them."""

import shutil

import numpy as np
import pyarrow.compute as pc
import pytest
from astropy.io import fits
from night_site import CCDS, NIGHT, single_epoch
from scipy.spatial import KDTree

from blocks.site import Site
from deployments.cli import calibrations
from deployments.cli.running import run_flow
from imaging.io.colour_terms import COLOUR_TERMS, write_colour_terms
from imaging.io.tables import read_table
from imaging.io.truth import source_truth_path
from imaging.simulation.night import simulate_night
from imaging.simulation.reference_catalogues import locus_colour_terms
from imaging.simulation.settings import SimulationSettings
from tasks.engine.jobs import ExitCode

pytestmark = pytest.mark.slow

EXPNUM = 1300001


@pytest.fixture(scope="module")
def empty_site(tmp_path_factory):
    """Return a site with an exposure, three biases and three dome flats of two CCDs, and no calibrations.

    The colours of the simulated stars are not those of real ones: their colour terms belong to the reference stars.
    """
    root = tmp_path_factory.mktemp("empty")
    settings = SimulationSettings(
        ccds=CCDS,
        focus_ccds=False,
        n_search_exposures=1,
        n_template_epochs=0,
        n_bias_exposures=3,
        n_flat_exposures=3,
        supernovae_per_ccd=0.0,
    )
    simulate_night(root, settings, processes=1)
    shutil.rmtree(root / "calibrations")
    write_colour_terms(root / "calibrations" / COLOUR_TERMS, locus_colour_terms())
    return Site.at(root)


def photometry_errors_mag(site, ccd):
    """Return the calibrated minus the true magnitudes of bright single stars of a CCD."""
    truth = read_table(source_truth_path(site.root, EXPNUM, ccd))
    truth = truth.filter((pc.field("kind") == "star") & ~pc.field("is_saturated"))
    (path,) = site.store.rglob(f"D0{EXPNUM}_i_{ccd}_r1p1_fullcat.parquet")
    (zeropoints,) = site.store.rglob(f"D0{EXPNUM}_i_r1p1_zeropoints.parquet")
    adopted = {row["ccd"]: row["zeropoint_mag"] for row in read_table(zeropoints).to_pylist()}[ccd]
    found = read_table(path)
    flux, error, flags = (found[name].to_numpy() for name in ("flux_psf", "flux_psf_error", "flags"))
    good = (flux > 100.0 * error) & (flags == 0)
    true = np.column_stack([truth["x"].to_numpy(), truth["y"].to_numpy()])
    distance, index = KDTree(true).query(np.column_stack([found["x"].to_numpy(), found["y"].to_numpy()])[good])
    magnitude = adopted - 2.5 * np.log10(flux[good])
    return (magnitude - truth["mag"].to_numpy()[index])[distance < 1.0]


def test_own_masters_calibrate_an_exposure_and_every_default_is_named(empty_site, command, monkeypatch):
    monkeypatch.setattr(
        calibrations, "run_flow", lambda *words, workers, about: run_flow(*words, in_process=True, about=about)
    )
    built = command(empty_site, "build-calibrations", NIGHT)
    assert built.code is ExitCode.COMPLETE, built.document

    ran = command(empty_site, *single_epoch("-C", ccds=",".join(map(str, CCDS))))
    assert ran.code is ExitCode.COMPLETE, ran.document
    stage = ran.document["summary"]["stages"]["single_epoch"]
    notes = [note for note in stage["notes"] if "no calibration of the kind" in note]
    assert len(notes) == 1
    assert "kind linearity: none known; taken as linear below 90 % of saturation" in notes[0]
    for ccd in CCDS:
        errors = photometry_errors_mag(empty_site, ccd)
        assert errors.size > 30
        # 10 mmag is the limit of the demonstration; star flat and response curves are worth 3 and 4 mmag.
        assert abs(np.median(errors)) < 0.010
        (image,) = empty_site.store.rglob(f"D0{EXPNUM}_i_{ccd}_r1p1_immask.fits")
        header = fits.getheader(image, "SCI")
        assert header["CALDEFLT"] == "crosstalk=20130606 linearity=unknown star_flat=none sky_modes=none"
        assert header["LINKNOWN"] is False and "DESLINC" not in header
        assert header["DESDCXTK"] == "20130606"
    (path,) = empty_site.store.rglob(f"D0{EXPNUM}_i_r1p1_quality.parquet")
    for row in read_table(path).to_pylist():
        assert row["calibration_defaults"] == header["CALDEFLT"]
        assert row["linearity_known"] == 0
        assert row["status"] == "good", row["reason"]
        assert row["noise_ratio"] == pytest.approx(1.0, abs=0.05)
