import gzip
import io

import numpy as np
import pytest
from astropy.io import fits
from astropy_healpix import HEALPix

from imaging.errors import InputError
from imaging.io.skymaps import read_skymap, write_skymap
from imaging.skymap.build import gaussian_skymap
from imaging.skymap.distance import conditional_distance


def flat_bytes(values, *, ordering, name="PROB", nside=None, pixels=None, system="C"):
    columns = [fits.Column(name, "D", array=values)]
    if pixels is not None:
        columns.append(fits.Column("PIXEL", "K", array=pixels))
    table = fits.BinTableHDU.from_columns(columns)
    table.header["ORDERING"] = ordering
    table.header["COORDSYS"] = system
    if nside:
        table.header["NSIDE"] = nside
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def skymap():
    return gaussian_skymap(
        150.0, 2.0, 2.0, distance_mpc=90.0, distance_sigma_mpc=15.0, order=6, name="SIM", mjd=60000.5
    )


def test_a_map_survives_writing_and_reading(skymap, tmp_path):
    write_skymap(tmp_path / "map.multiorder.fits", skymap)
    again = read_skymap(tmp_path / "map.multiorder.fits")
    np.testing.assert_array_equal(again.pixel, skymap.pixel)
    np.testing.assert_allclose(again.probability, skymap.probability, rtol=1e-12)
    assert (again.name, again.mjd) == ("SIM", 60000.5)
    assert again.distance_mean_mpc == pytest.approx(skymap.distance_mean_mpc)
    assert conditional_distance(again, [150.0], [2.0]) == conditional_distance(skymap, [150.0], [2.0])
    first = (tmp_path / "map.multiorder.fits").read_bytes()
    write_skymap(tmp_path / "again.fits", again)
    assert len((tmp_path / "again.fits").read_bytes()) == len(first)


@pytest.mark.parametrize("name", ["PROB", "PROBABILITY", "PROBDENSITY"])
@pytest.mark.parametrize("ordering", ["NESTED", "RING"])
def test_flat_maps_under_all_names_and_orders(name, ordering):
    values = np.arange(48.0) / np.arange(48.0).sum()
    skymap = read_skymap(gzip.compress(flat_bytes(values, ordering=ordering, name=name, nside=2)))
    lon, lat = HEALPix(2, order=ordering.lower()).healpix_to_lonlat(np.array([47, 10]))
    density = skymap.probability_density(lon.to_value("deg"), lat.to_value("deg"))
    assert density[0] / density[1] == pytest.approx(4.7)


def test_partial_maps_with_pixel_numbers():
    skymap = read_skymap(flat_bytes([0.25, 0.75], ordering="NESTED", nside=4, pixels=[7, 100]))
    assert skymap.pixel.tolist() == [7, 100]
    assert skymap.probability.tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "cannot be read"),
        (b"this is not FITS" * 300, "cannot be read"),
        (b"\x1f\x8bnot really gzip", "cannot be read"),
        (flat_bytes(np.ones(12), ordering="NESTED", nside=1)[:4000], "cannot be read|no table"),
        (flat_bytes(np.ones(3072), ordering="NESTED", nside=16)[:-4000], "cannot be read"),
        (flat_bytes(np.ones(12), ordering="NESTED", nside=1, name="FLUX"), "no table of probabilities"),
        (flat_bytes(np.ones(12), ordering="", nside=1), "pixel ordering"),
        (flat_bytes(-np.ones(12), ordering="RING", nside=1), "negative"),
        (flat_bytes(np.ones(11), ordering="RING"), "number of pixels"),
        (flat_bytes(np.ones(12), ordering="RING", system="G"), "equatorial"),
    ],
)
def test_unreadable_maps_say_why_in_one_sentence(content, problem):
    with pytest.raises(InputError, match=problem) as caught:
        read_skymap(content)
    assert "\n" not in str(caught.value)
    assert "To do:" in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.fits"):
        read_skymap(tmp_path / "absent.fits")


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "half", "ninety", "peak", "distance"),
    [
        ("S200129m_G361581_bayestar.multiorder.fits", 10.2, 53.1, (318.340, 4.574), (908, 202)),
        ("GW190814_LALInference.v1.fits.gz", 4.8, 23.1, (12.832, -25.241), (267, 52)),
    ],
)
def test_real_maps_give_the_published_areas(real_data, name, half, ninety, peak, distance):
    skymap = read_skymap(real_data / "skymaps" / name)
    # half a unit of the last published digit, and 0.5 %
    assert skymap.area_at_level_deg2(0.5) == pytest.approx(half, abs=0.05 + 0.005 * half)
    assert skymap.area_at_level_deg2(0.9) == pytest.approx(ninety, abs=0.05 + 0.005 * ninety)
    assert skymap.peak() == pytest.approx(peak, abs=0.001)
    assert skymap.total == pytest.approx(1.0, abs=1e-6)
    assert (skymap.distance_mean_mpc, skymap.distance_sigma_mpc) == pytest.approx(distance, abs=0.6)
    mean, _ = conditional_distance(skymap, *skymap.centres())
    average = np.nansum(skymap.probability * mean) / np.sum(skymap.probability[np.isfinite(mean)])
    assert average == pytest.approx(distance[0], rel=0.01)


@pytest.mark.real_data
def test_a_real_burst_map_in_rings(real_data):
    skymap = read_skymap(real_data / "skymaps" / "GRB220617A_IPN_map_hpx.fits.gz")
    assert skymap.total == pytest.approx(1.0, abs=1e-6)
    assert 0.05 < skymap.area_at_level_deg2(0.9) < 0.15
    assert skymap.distance is None
