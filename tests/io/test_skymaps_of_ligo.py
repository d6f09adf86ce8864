"""Sky maps and alerts as ligo.skymap writes and reads them, and every form of table that a map may take."""

import io
import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time

from imaging.errors import InputError
from imaging.io.skymaps import _build, read_skymap, write_skymap
from imaging.skymap.build import gaussian_skymap

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from ligo.skymap import moc
    from ligo.skymap.io import read_sky_map, write_sky_map


@pytest.fixture(scope="module")
def skymap():
    about = {"distance_mpc": 120.0, "distance_sigma_mpc": 30.0, "order": 5, "name": "S1", "mjd": 60400.25}
    return gaussian_skymap(200.0, -40.0, 6.0, **about)


def quietly(function, *args, **options):
    """Call ligo.skymap, which warns of units and of functions that NumPy and healpy have renamed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **options)


def test_a_map_is_what_ligo_reads(tmp_path, skymap):
    write_skymap(tmp_path / "a.fits", skymap)
    with fits.open(tmp_path / "a.fits") as hdus:
        hdus.verify("exception")
        header = hdus[1].header
        assert (header["ORDERING"], header["COORDSYS"], header["MOCORDER"]) == ("NUNIQ", "C", skymap.order.max())
        assert [column.unit for column in hdus[1].columns] == [None, "sr-1", "Mpc", "Mpc", "Mpc-2"]
    table = quietly(read_sky_map, tmp_path / "a.fits", moc=True, distances=True)
    area = moc.uniq2pixarea(table["UNIQ"])
    assert np.sum(table["PROBDENSITY"] * area) == pytest.approx(1.0, abs=1e-12)
    order, pixel = moc.uniq2nest(table["UNIQ"])
    assert np.array_equal(order, skymap.order) and np.array_equal(pixel, skymap.pixel)
    assert np.allclose(table["PROBDENSITY"] * area, skymap.probability, rtol=1e-12)
    for name, values in (("DISTMU", "mu_mpc"), ("DISTSIGMA", "sigma_mpc"), ("DISTNORM", "norm")):
        assert np.array_equal(table[name], getattr(skymap.distance, values)), name
    assert table.meta["distmean"] == skymap.distance_mean_mpc and table.meta["diststd"] == skymap.distance_sigma_mpc
    assert (table.meta["objid"], header["MJD-OBS"]) == ("S1", 60400.25)


@pytest.mark.parametrize("form", ["moc", "nested", "ring"])
def test_a_map_of_ligo_is_read_in_all_its_forms(tmp_path, form):
    rng = np.random.default_rng(9)
    prob = rng.uniform(0.1, 1.0, 12 * 8**2)
    table = Table({"PROB": prob / prob.sum(), "DISTMU": rng.uniform(50, 90, prob.size)})
    table["DISTSIGMA"], table["DISTNORM"] = 10.0, 1e-4
    meta = {"objid": "S2", "gps_time": Time(60400.25, format="mjd").gps, "distmean": 70.0, "diststd": 12.0}
    if form == "moc":
        uniq = moc.nest2uniq(np.int8(3), np.arange(prob.size))
        table.add_column(uniq, name="UNIQ", index=0)
        table["PROB"] /= moc.uniq2pixarea(uniq)
        table.rename_column("PROB", "PROBDENSITY")
    table.meta |= meta if form == "moc" else meta | {"nest": form == "nested"}
    quietly(write_sky_map, tmp_path / "a.fits.gz", table)
    found = read_skymap(tmp_path / "a.fits.gz")
    flat = quietly(read_sky_map, tmp_path / "a.fits.gz", nest=True, distances=True)[0]
    assert found.probability == pytest.approx(np.asarray(flat[0])[found.pixel], rel=1e-6)
    assert found.distance.mu_mpc == pytest.approx(np.asarray(flat[1])[found.pixel], rel=1e-6)
    assert found.total == pytest.approx(1.0, abs=1e-6) and found.order.tolist() == [3] * prob.size
    assert (found.name, found.distance_mean_mpc, found.distance_sigma_mpc) == ("S2", 70.0, 12.0)
    assert found.mjd == pytest.approx(60400.25, abs=1e-8)


def table_of(header, **columns):
    formats = {"UNIQ": "K", "PIXEL": "K"}
    hdu = fits.BinTableHDU.from_columns(
        [fits.Column(name, formats.get(name.upper(), "D"), array=values) for name, values in columns.items()]
    )
    hdu.header.update(header)
    return hdu


def build(table):
    return _build(table, table.header, io.BytesIO())


@pytest.mark.parametrize(
    ("system", "good"),
    [
        ("C", True),
        ("c ", True),
        ("CELESTIAL", True),
        ("EQUATORIAL", True),
        ("G", False),
        ("E", False),
        ("ecliptic", False),
        ("", False),
    ],
)
def test_only_equatorial_maps_are_taken(system, good):
    table = table_of({"ORDERING": "NEST", "COORDSYS": system}, prob=np.arange(12.0))
    if good:
        assert build(table).pixel.tolist() == list(range(1, 12))
    else:
        with pytest.raises(InputError, match="equatorial"):
            build(table)


def test_what_a_header_does_not_say_is_unknown_and_names_are_read_without_regard_to_case():
    table = table_of({"ordering": " nested "}, prob=np.r_[0.75, 0.25, np.zeros(10)], distmu=np.ones(12))
    found = build(table)
    assert found.probability.tolist() == [0.75, 0.25] and found.distance is None and found.name == ""
    assert np.isnan([found.mjd, found.distance_mean_mpc, found.distance_sigma_mpc]).all()
    both = table_of({"ORDERING": "NESTED"}, PROBDENSITY=np.ones(12), PROB=np.r_[1.0, np.zeros(11)])
    assert build(both).pixel.tolist() == [0]
    mixed = table_of({"ORDERING": "RING"}, UNIQ=[4, 21], PROBDENSITY=[1.0, 4.0])
    assert build(mixed).order.tolist() == [0, 1] and build(mixed).probability.tolist() == [0.5, 0.5]
    partial = table_of(
        {"ORDERING": "RING", "NSIDE": 2},
        PIXEL=[0, 47],
        PROB=[0.5, 0.5],
        DISTMU=[1.0, 2.0],
        DISTSIGMA=[3.0, 4.0],
        DISTNORM=[5.0, 6.0],
    )
    found = build(partial)
    assert found.pixel.tolist() == [3, 44] and found.order.tolist() == [1, 1]  # the poles in nested numbers
    assert (found.distance.mu_mpc[1], found.distance.sigma_mpc[1], found.distance.norm[1]) == (2.0, 4.0, 6.0)


def test_the_table_with_probabilities_is_found_behind_others(tmp_path, skymap):
    write_skymap(tmp_path / "a.fits", skymap)
    with fits.open(tmp_path / "a.fits") as hdus:
        extra = fits.BinTableHDU.from_columns([fits.Column("HISTORY", "D", array=[1.0])])
        fits.HDUList([hdus[0], extra, hdus[1]]).writeto(tmp_path / "b.fits")
    assert np.array_equal(read_skymap(tmp_path / "b.fits").pixel, skymap.pixel)
