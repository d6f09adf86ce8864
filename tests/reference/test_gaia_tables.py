"""Gaia source tables of every release and format give the same columns, by name."""

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from imaging.errors import InputError
from imaging.io.source_tables import source_batches
from imaging.reference.gaia import SOURCE_COLUMNS, reference_stars, source_types
from imaging.reference.settings import ReferenceCatalogueSettings
from imaging.schemas.reference import REFERENCE_STARS
from imaging.tables import column

EXACT = ReferenceCatalogueSettings(compress=False)


def read(path, settings=EXACT):
    return pa.concat_tables([reference_stars(b, settings, path.name) for b in source_batches(path, source_types())])


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "n_columns", "epoch", "has_ruwe"),
    [("gdr3_sm.fits", 152, 2016.0, True), ("gedr3_sm.fits", 99, 2016.0, True), ("gdr2_sm.fits", 96, 2015.5, False)],
)
def test_releases_give_the_same_columns(real_data, name, n_columns, epoch, has_ruwe):
    import fitsio

    path = real_data / "gaia" / "pyia" / name
    with fitsio.FITS(str(path)) as file:
        truth = file[1].read()
        assert len(truth.dtype.names) == n_columns
    stars = read(path)
    assert stars.schema == REFERENCE_STARS
    known = np.isfinite(truth["phot_g_mean_mag"])
    assert stars.num_rows == known.sum()
    truth = truth[known]
    assert column(stars, "source_id").tolist() == truth["source_id"].tolist()
    assert set(column(stars, "ref_epoch")) == {epoch}
    for wanted in ("ra", "dec", "pmra", "parallax_error", "phot_bp_mean_mag"):
        assert np.array_equal(column(stars, wanted).astype("f4"), truth[wanted].astype("f4"), equal_nan=True)
    unknown = np.isnan(truth["pmra"])
    assert unknown.any() == (stars.column("pmra").null_count > 0)
    assert stars.column("pmra").null_count == unknown.sum()
    error = 1.0857362 / truth["phot_rp_mean_flux_over_error"]
    assert np.allclose(column(stars, "phot_rp_mean_mag_error"), error, rtol=1e-5, equal_nan=True)
    assert (stars.column("ruwe").null_count < stars.num_rows) == has_ruwe


@pytest.mark.real_data
@pytest.mark.filterwarnings("ignore")
def test_votable_of_the_second_release(real_data):
    from astropy.table import Table

    path = real_data / "gaia" / "pyia" / "gdr2_sm.vot"
    truth = Table.read(path, format="votable")
    stars = read(path)
    assert column(stars, "source_id").tolist() == list(truth["source_id"])
    for name in ("ra", "ref_epoch", "pmdec", "parallax_error"):
        expected = np.ma.filled(truth[name].astype(float), np.nan)
        assert column(stars, name) == pytest.approx(expected, rel=1e-6, nan_ok=True)
    assert stars.column("ruwe").null_count == 100


@pytest.mark.real_data
def test_archive_text_and_votable_of_the_third_release(real_data):
    folder = real_data / "gaia" / "astroquery"
    text = read(folder / "1712337806100O-result.ecsv")
    assert text.num_rows == 5
    assert column(text, "source_id")[0] == 6636090334814214528
    assert column(text, "ra")[0] == 280.0002534562339
    assert column(text, "phot_g_mean_mag")[0] == pytest.approx(19.761656)
    assert column(text, "pmra_error")[0] == pytest.approx(0.3067654)
    assert text.column("variable").null_count == 5
    votable = read(folder / "1710099405832VAL-result.vot")
    assert votable.num_rows == 2
    assert set(column(votable, "ref_epoch")) == {2016.0}


HEAD = "# %ECSV 1.0\n# ---\n# delimiter: ','\n# datatype:\n# - {name: solution_id, datatype: int64}\n"
NAMES = (
    "solution_id,phot_variable_flag,SOURCE_ID,ref_epoch,dec,ra,pmra,phot_g_mean_mag,phot_g_mean_flux_over_error,ruwe"
)
ROWS = (
    '1636148068921376768,"VARIABLE",4295806720,2016.0,0.005615,44.996,null,17.6,500.0,1.02',
    '1636148068921376768,"NOT_AVAILABLE",34361129088,2016.0,0.0211,45.004,-3.25,20.5,20.0,1.5',
    '1636148068921376768,"CONSTANT",38655544960,2016.0,0.0192,45.0049,1.5,null,null,null',
)


@pytest.mark.parametrize("compressed", [True, False])
def test_archive_download(tmp_path, compressed):
    path = tmp_path / f"GaiaSource_0-1.csv{'.gz' if compressed else ''}"
    text = (HEAD + "\n".join((NAMES, *ROWS)) + "\n").encode()
    path.write_bytes(gzip.compress(text) if compressed else text)
    stars = read(path)
    assert column(stars, "source_id").tolist() == [4295806720, 34361129088]  # a source without G is no star
    assert stars.column("pmra").to_pylist() == [None, -3.25]
    assert stars.column("parallax").null_count == 2  # the release does not have it
    assert stars.column("variable").to_pylist() == [True, None]
    assert column(stars, "phot_g_mean_mag_error") == pytest.approx([1.0857362 / 500, 1.0857362 / 20])
    assert read(path, ReferenceCatalogueSettings(compress=False, faint_limit_mag=18.0)).num_rows == 1


def test_parquet_and_text_agree(tmp_path):
    text = tmp_path / "a.csv"
    text.write_text("\n".join((NAMES, *ROWS)) + "\n")
    table = next(iter(source_batches(text, source_types())))
    path = tmp_path / "a.parquet"
    pq.write_table(table.append_column("unwanted", pa.array(["x"] * table.num_rows)), path)
    assert read(path).equals(read(text))
    assert set(next(iter(source_batches(path, source_types()))).column_names) <= set(SOURCE_COLUMNS)


def test_rounding_stays_below_the_errors_of_the_best_stars(tmp_path):
    random = np.random.default_rng(3)
    n = 2000
    columns = {name: random.uniform(0.01, 20.0, n) for name in source_types() if name != "phot_variable_flag"}
    columns |= {"ref_epoch": np.full(n, 2016.0), "source_id": np.arange(n)}
    columns |= {"ra": random.uniform(0, 360, n), "dec": random.uniform(-90, 90, n)}
    source = pa.table({name: pa.array(values, source_types()[name]) for name, values in columns.items()})
    exact, rounded = (reference_stars(source, ReferenceCatalogueSettings(compress=value)) for value in (False, True))

    def worst(name):
        return np.abs(column(exact, name).astype(float) - column(rounded, name).astype(float)).max()

    assert worst("ra") * 3.6e6 < 0.002  # milliarcseconds; the best stars have 0.01
    assert worst("pmra") * 20.0 < 0.012  # over twenty years
    assert worst("phot_g_mean_mag") < 0.0001
    relative = column(rounded, "ra_error") / column(exact, "ra_error") - 1.0
    assert np.abs(relative).max() < 1 / 256
    assert np.array_equal(column(exact, "source_id"), column(rounded, "source_id"))


@pytest.mark.parametrize("ending", ["parquet", "fits"])
def test_positions_of_single_precision_are_refused(tmp_path, ending):
    """They are rounded to 0.03 arcsec, a thousand times the error of the stars."""
    random, n = np.random.default_rng(3), 100
    columns = {"source_id": np.arange(n), "ref_epoch": np.full(n, 2016.0), "phot_g_mean_mag": np.full(n, 17.0)}
    columns |= {"ra": random.uniform(150, 151, n), "dec": random.uniform(2, 3, n)}
    path = tmp_path / f"a.{ending}"
    for kind in (np.float64, np.float32):
        given = columns | {name: columns[name].astype(kind) for name in ("ra", "dec")}
        if ending == "parquet":
            pq.write_table(pa.table(given), path)
        else:
            Table(given).write(path, overwrite=True)
        if kind is np.float64:
            assert read(path).num_rows == n
    with pytest.raises(InputError, match=rf"single precision.*a.{ending}"):
        read(path)


def test_what_is_no_gaia_table_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="none of the requested columns"):
        list(source_batches(path, source_types()))
    with pytest.raises(InputError, match="columns missing: source_id"):
        reference_stars(pa.table({"ra": [1.0]}), EXACT, "a.csv")
    with pytest.raises(InputError, match="format"):
        list(source_batches(tmp_path / "a.xlsx", source_types()))
    damaged = tmp_path / "b.csv.gz"
    damaged.write_bytes(gzip.compress((NAMES + "\n" + "\n".join(ROWS * 50)).encode())[:-30])
    with pytest.raises(InputError, match="missing or damaged"):
        list(source_batches(damaged, source_types()))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("5,10.5,-92.0,2016.0,18.1", "not on the sky in degrees .*ra 10.5, dec -92"),
        ("5,450.0,-2.0,2016.0,18.1", "not on the sky"),
        ("5,10.5,-2.0,0,18.1", "no years .*ref_epoch 0"),
        ("5,10.5,-2.0,2457389.0,18.1", "no years .*ref_epoch 2.45739e"),
    ],
)
def test_positions_and_epochs_that_cannot_be_are_refused(tmp_path, row, message):
    path = tmp_path / "gaia.csv"
    path.write_text(f"source_id,ra,dec,ref_epoch,phot_g_mean_mag\n4,-10.5,-2,2016.0,18\n3,,,2016.0,18\n{row}\n")
    with pytest.raises(InputError, match=message):
        read(path)
    path.write_text("source_id,ra,dec,ref_epoch,phot_g_mean_mag\n4,-10.5,-2,2016.0,18\n3,,,2016.0,18\n")
    (star,) = read(path).to_pylist()
    assert (star["ra"], star["dec"]) == (349.5, -2.0)
