"""Building a reference catalogue: complete or absent, continued after an interruption, cached."""

import gzip

import numpy as np
import pytest

from blocks.site import Site
from imaging.io.reference import catalogue_partitions, read_properties, read_reference_cone
from imaging.reference.mapping import shipped_mapping
from imaging.reference.settings import ReferenceCatalogueSettings
from imaging.schemas.reference import CALIBRATED_STARS, REFERENCE_GALAXIES
from imaging.tables import column
from tasks.engine.cache import read_record
from tasks.engine.final_state import summary_of
from tasks.import_catalogue import CataloguePlan, find_sources, pieces_folder

pytestmark = pytest.mark.server

HEAD = "# %ECSV 1.0\n# ---\n# delimiter: ','\nsolution_id,source_id,ref_epoch,ra,dec,phot_g_mean_mag,bp_rp,ruwe\n"


def write_source(path, first, n=400, seed=1):
    random = np.random.default_rng(seed)
    ra, dec, mag = random.uniform(10, 14, n), random.uniform(-2, 2, n), random.uniform(14, 20, n)
    rows = [f"1,{first + k},2016.0,{ra[k]:.10f},{dec[k]:.10f},{mag[k]:.4f},null,1.0" for k in range(n)]
    path.write_bytes(gzip.compress((HEAD + "\n".join(rows) + "\n").encode()))


def build(site, sources, **options):
    from blocks.cluster import ComputeCluster
    from flows.reference_catalogue import reference_catalogue
    from tasks.engine.task_runner import with_options

    run = with_options(reference_catalogue, cluster=ComputeCluster(n_workers=1, processes=False))
    return run((str(sources),), site=str(site.root), return_state=True, **options)


def test_a_catalogue_is_complete_or_absent_and_an_interrupted_build_continues(tmp_path, prefect_server):
    site, sources = Site.at(tmp_path / "site"), tmp_path / "sources"
    sources.mkdir()
    for n in range(3):
        write_source(sources / f"GaiaSource_{n}.csv.gz", 1000 * n, seed=n)
    good = (sources / "GaiaSource_2.csv.gz").read_bytes()
    (sources / "GaiaSource_2.csv.gz").write_bytes(good[: len(good) // 2])

    broken = build(site, sources)
    assert not broken.is_completed()
    assert "bad_input import_source catalogue-gaia GaiaSource_2.csv.gz" in broken.message
    assert not (site.reference / "gaia").exists()

    (sources / "GaiaSource_2.csv.gz").write_bytes(good)
    summary = summary_of(build(site, sources))
    assert summary["n_cached"] == 2  # the two files that had been read
    assert summary["n_stars"] == 1200
    assert summary["n_partitions"] == len(catalogue_partitions(site.reference / "gaia")[5])
    assert read_properties(site.reference / "gaia")["hats_nrows"] == "1200"
    assert column(read_reference_cone(site.reference / "gaia", 12.0, 0.0, 5.0), "source_id").size == 1200
    assert not pieces_folder(site, "gaia").exists()

    # What is left in the memory of what is done can be checked: nothing in it is missing.
    records = [read_record(path) for path in (site.records / "catalogue-gaia").iterdir()]
    assert records
    assert all(file.is_intact(site) for record in records for file in record.products.values())

    again = summary_of(build(site, sources))
    assert again["already_built"]
    assert again["n_computed"] == again["n_cached"] == 0


def test_a_survey_with_a_mapping(tmp_path, prefect_server):
    site, path = Site.at(tmp_path / "site"), tmp_path / "refcat.csv"
    path.write_text("objid,RA,Dec,g,dg,r,dr,i,di,z,dz\n1,10.0,0.1,18,0.01,17.5,0.01,17.3,0.01,17.2,0.01\n")
    state = build(site, path, name="refcat2", mapping=shipped_mapping("refcat2"))
    assert summary_of(state)["n_stars"] == 1
    stars = read_reference_cone(site.reference / "refcat2", 10.0, 0.1, 0.1, CALIBRATED_STARS)
    assert column(stars, "mag_g")[0] == pytest.approx(18.0 + 0.0994 * 0.5 - 0.0076, abs=2e-4)


def test_a_lost_partition_is_noticed(tmp_path):
    site, path = Site.at(tmp_path / "site"), tmp_path / "a.csv.gz"
    write_source(path, 0)
    plan = CataloguePlan("gaia", find_sources([str(tmp_path / "*.csv.gz")]), site, ReferenceCatalogueSettings())
    from tasks.import_catalogue import assemble, import_source

    imported = [import_source(job) for job in plan.import_jobs()]
    plan.finish([assemble(job) for job in plan.assemble_jobs(imported)])
    assert plan.is_built()
    assert not CataloguePlan("gaia", [path], site, ReferenceCatalogueSettings(faint_limit_mag=18.0)).is_built()
    next((site.reference / "gaia" / "dataset").rglob("Npix=*.parquet")).unlink()
    assert not plan.is_built()


def test_galaxies_of_a_survey(tmp_path, prefect_server):
    site, path = Site.at(tmp_path / "site"), tmp_path / "GLADE+.txt"
    middle = " ".join(["null"] * 16)
    path.write_text(f"1 45657 NGC4993 null null null null G 197.44877 -23.38389 13.1 {middle} 0.0098 0.0109 0 null "
                    "0.0001 42.9 3.1 3 4.1 0.4 1 -0.5 0.1\n")  # fmt: skip
    state = build(site, path, name="gladeplus", survey="gladeplus")
    assert summary_of(state)["n_stars"] == 1
    (row,) = read_reference_cone(site.reference / "gladeplus", 197.45, -23.38, 0.1, REFERENCE_GALAXIES).to_pylist()
    assert (row["distance_mpc"], row["distance_method"]) == (pytest.approx(42.9), 2)
    path.write_text("1 2 3\n")
    refused = build(site, path, name="gladeplus", survey="gladeplus")
    assert "bad_input import_source catalogue-gladeplus GLADE+.txt" in refused.message
