"""The steps that build a catalogue, one by one."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tasks.import_catalogue as steps
from blocks.site import Site
from imaging.errors import InputError
from imaging.io.reference import read_pieces, read_reference_cone
from imaging.reference.settings import ReferenceCatalogueSettings
from imaging.tables import column
from tasks.import_catalogue import CataloguePlan, assemble, find_sources, import_source, source_record
from tasks.jobs import StepJob


def write_source(path, first, n, seed=1, size=4.0):
    random = np.random.default_rng(seed)
    ra, dec, mag = random.uniform(10, 10 + size, n), random.uniform(0, size, n), random.uniform(14, 20, n)
    rows = [f"{first + k},2016.0,{ra[k]:.10f},{dec[k]:.10f},{mag[k]:.4f}" for k in range(n)]
    text = "source_id,ref_epoch,ra,dec,phot_g_mean_mag\n" + "\n".join(rows) + "\n"
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


@pytest.fixture
def site(tmp_path):
    return Site.at(tmp_path / "site")


def test_sources_are_found_by_file_folder_and_pattern(tmp_path):
    for name in ("b.csv.gz", "a.csv.gz", "c.fits", "MD5SUM.md5", "_MD5SUM.txt"):
        (tmp_path / name).write_bytes(b"x")
    names = [path.name for path in find_sources([str(tmp_path)])]
    assert names == ["a.csv.gz", "b.csv.gz", "c.fits"]
    assert [path.name for path in find_sources([str(tmp_path / "*.csv.gz")])] == ["a.csv.gz", "b.csv.gz"]
    assert len(find_sources([str(tmp_path / "c.fits"), str(tmp_path)])) == 3
    with pytest.raises(InputError, match="format"):
        find_sources([str(tmp_path / "MD5SUM.md5")])
    with pytest.raises(InputError, match="no source files"):
        find_sources([str(tmp_path / "*.vot")])


def test_a_changed_source_is_noticed_without_reading_all_of_it(tmp_path, site, monkeypatch):
    monkeypatch.setattr(steps, "SAMPLE_BYTES", 100)
    path = tmp_path / "a.csv"
    path.write_bytes(b"a" * 1000)
    first = source_record(site, path).content_hash
    assert source_record(site, path).content_hash == first
    for content in (b"a" * 1001, b"b" + b"a" * 999, b"a" * 999 + b"b"):
        path.write_bytes(content)
        assert source_record(site, path).content_hash != first


def test_a_large_source_is_held_in_pieces(tmp_path, site, monkeypatch):
    monkeypatch.setattr(steps, "STARS_PER_PIECE", 1000)
    monkeypatch.setattr("imaging.io.source_tables.BLOCK_BYTES", 16384)
    path = tmp_path / "a.csv.gz"
    write_source(path, 0, 4000)
    plan = CataloguePlan("gaia", [path], site, ReferenceCatalogueSettings())
    result = import_source(plan.import_jobs()[0])
    assert len(result.products) == 4
    assert result.quality["n_stars"] == 4000
    rows = [json.loads(result.quality[f"rows_{piece}"]) for piece in result.products]
    assert sum(sum(counts.values()) for counts in rows) == 4000
    for piece, counts in zip(result.products, rows, strict=True):
        found = read_pieces(site.path(result.products[piece].path), map(int, counts))
        assert {str(pixel): table.num_rows for pixel, table in found.items()} == counts


def test_partitions_are_shared_out_by_stars(tmp_path, site, monkeypatch):
    monkeypatch.setattr(steps, "STARS_PER_JOB", 1500)
    paths = [tmp_path / f"{n}.csv.gz" for n in range(2)]
    for n, path in enumerate(paths):
        write_source(path, 10_000 * n, 3000, seed=n)
    plan = CataloguePlan("gaia", paths, site, ReferenceCatalogueSettings())
    imported = [import_source(job) for job in plan.import_jobs()]
    jobs = plan.assemble_jobs(imported)
    pixels = [pixel for job in jobs for pixel in job.parameters["pixels"]]
    assert pixels == sorted(set(pixels))
    assert len(jobs) > 2
    assembled = [assemble(job) for job in jobs]
    for result in assembled:
        rows = json.loads(result.quality["rows"])
        assert len(rows) == 1 or sum(rows.values()) <= 1500
    assert sum(plan.finish(assembled).values()) == 6000
    assert column(read_reference_cone(plan.folder, 12.0, 2.0, 4.0), "source_id").size == 6000


def test_files_of_one_name_and_a_hats_catalogue_are_read_once_each(tmp_path, site):
    stars = {"source_id": np.arange(300), "ref_epoch": np.full(300, 2016.0), "ra": np.linspace(10.0, 14.0, 300)}
    table = pa.table(stars | {"dec": np.zeros(300), "phot_g_mean_mag": np.full(300, 17.0)})
    hats = tmp_path / "gaia"
    for place in ("Norder=1/Dir=0/Npix=7", "Norder=2/Dir=0/Npix=7", "Norder=2/Dir=0/Npix=8/part0"):
        path = hats / "dataset" / f"{place}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        part = {"1": table[:100], "2": table[100:200]}[place[7]] if "part0" not in place else table[200:]
        pq.write_table(part, path)
    pq.write_table(table[:5], hats / "dataset" / "data_thumbnail.parquet")
    (hats / "partition_info.csv").write_text("Norder,Npix\n1,7\n")
    paths = find_sources([str(hats)])
    assert len(paths) == 3
    plan = CataloguePlan("gaia", paths, site, ReferenceCatalogueSettings())
    assert len({job.name for job in plan.import_jobs()}) == 3
    assert len(plan.build["inputs"]) == 3
    plan.finish([assemble(job) for job in plan.assemble_jobs(map(import_source, plan.import_jobs()))])
    found = column(read_reference_cone(plan.folder, 12.0, 0.0, 3.0), "source_id")
    assert sorted(found) == list(range(300))


def test_the_same_sources_give_the_same_bytes(tmp_path):
    path = tmp_path / "a.csv.gz"
    write_source(path, 0, 500)
    contents = []
    for name in ("one", "two"):
        plan = CataloguePlan("gaia", [path], Site.at(tmp_path / name), ReferenceCatalogueSettings())
        plan.finish([assemble(job) for job in plan.assemble_jobs(map(import_source, plan.import_jobs()))])
        files = sorted(f for f in plan.folder.rglob("*") if f.is_file())
        contents.append({f.relative_to(plan.folder): f.read_bytes() for f in files})
    assert contents[0] == contents[1]


def test_a_catalogue_without_any_row_is_refused(tmp_path, site):
    path = tmp_path / "a.csv"
    path.write_text("source_id,ref_epoch,ra,dec,phot_g_mean_mag\n5,2016.0,,,17.0\n")
    plan = CataloguePlan("gaia", [path], site, ReferenceCatalogueSettings())
    imported = [import_source(job) for job in plan.import_jobs()]
    with pytest.raises(InputError, match=r"no row of the files has what the catalogue needs.*\(a.csv\)"):
        plan.finish([assemble(job) for job in plan.assemble_jobs(imported)])
    assert not plan.folder.exists()


def test_jobs_of_a_catalogue_have_names(site):
    job = StepJob(topic="catalogue-gaia", part="GaiaSource_1.csv.gz", site=site)
    assert (job.subject, job.name) == ("catalogue-gaia", "catalogue-gaia-GaiaSource_1.csv.gz")
    assert job.label == "catalogue-gaia GaiaSource_1.csv.gz"
    with pytest.raises(ValueError, match="a topic"):
        StepJob(site=site)
