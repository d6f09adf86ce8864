"""Forms of sky maps that people have: systems, cut maps, multi-order probabilities, empty values, sizes."""

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy_healpix import HEALPix
from astropy_healpix import core as healpix

from imaging.errors import InputError
from imaging.io.skymaps import read_skymap
from imaging.skymap.build import skymap_from_parts
from imaging.skymap.event_time import check_event_time
from imaging.skymap.model import SkyMap

NSIDE = 16


def values(nside=NSIDE):
    """Return a probability per nested pixel that peaks near RA 80, Dec -20."""
    lon, lat = HEALPix(nside, order="nested").healpix_to_lonlat(np.arange(12 * nside**2))
    p = np.exp(-0.5 * ((lat.deg + 20) / 10) ** 2 - 0.5 * ((lon.deg - 80) / 15) ** 2)
    return p / p.sum()


def write(path, columns, unit=None, **cards):
    fields = [
        fits.Column(k, "K" if v.dtype.kind == "i" else "D", array=v, unit=None if v.dtype.kind == "i" else unit)
        for k, v in columns.items()
    ]
    table = fits.BinTableHDU.from_columns(fields)
    table.header.update({"ORDERING": "NESTED", "NSIDE": NSIDE} | cards)
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path, overwrite=True)
    return path


@pytest.mark.parametrize("name", ["C", "ICRS", "J2000", "FK5", "icrs ", "EQUATORIAL"])
@pytest.mark.parametrize("key", ["COORDSYS", "COORD"])
def test_equatorial_systems_have_many_names(tmp_path, key, name):
    skymap = read_skymap(write(tmp_path / "m.fits", {"PROB": values()}, **{key: name}))
    ra, dec = skymap.peak()
    assert abs(ra - 80) < 4 and abs(dec + 20) < 4


@pytest.mark.parametrize(
    "cards",
    [
        {"COORDSYS": "C", "COORD": "G"},
        {"COORD": "G"},
        {"COORDSYS": "GALACTIC"},
        {"COORDSYS": "E"},
        {"COORD": "FK4"},
        {"FRAME": "galactic"},
    ],
)
def test_one_card_of_another_system_is_enough_to_refuse(tmp_path, cards):
    with pytest.raises(InputError, match="equatorial") as caught:
        read_skymap(write(tmp_path / "m.fits", {"PROB": values()}, **cards))
    assert list(cards)[-1] in str(caught.value)


def test_the_primary_header_counts_where_the_table_says_nothing(tmp_path):
    path = write(tmp_path / "m.fits", {"PROB": values()})
    fits.setval(path, "MJD-OBS", value=57982.5)
    assert read_skymap(path).mjd == 57982.5
    fits.setval(path, "COORDSYS", value="G")
    with pytest.raises(InputError, match=r"equatorial.*COORDSYS G"):
        read_skymap(path)


def test_two_maps_in_one_file_are_refused(tmp_path):
    path = write(tmp_path / "m.fits", {"PROB": values()})
    with fits.open(path) as file:
        fits.HDUList([*file, file[1].copy()]).writeto(tmp_path / "two.fits")
    with pytest.raises(InputError, match="several sky maps"):
        read_skymap(tmp_path / "two.fits")


@pytest.mark.parametrize("nside", [NSIDE, 256])
@pytest.mark.parametrize(("unit", "good"), [(None, True), ("Mpc", True), ("kpc", False), ("furlong", False)])
def test_distances_in_another_unit_are_refused(tmp_path, unit, good, nside):
    p = values(nside)
    columns = {"PROB": p, "DISTMU": p * 0 + 40.0, "DISTSIGMA": p * 0 + 8.0, "DISTNORM": p * 0 + 6e-4}
    units = [None, unit, unit, None]
    fields = [fits.Column(k, "D", array=v, unit=u) for (k, v), u in zip(columns.items(), units, strict=True)]
    table = fits.BinTableHDU.from_columns(fields)
    table.header.update({"ORDERING": "NESTED", "NSIDE": nside})
    table.writeto(tmp_path / "m.fits")
    if good:
        assert read_skymap(tmp_path / "m.fits").distance.mu_mpc[0] == 40.0
    else:
        with pytest.raises(InputError, match=rf"DISTMU.*{unit}"):
            read_skymap(tmp_path / "m.fits")


def test_a_cut_map_says_the_sum_of_its_probabilities(tmp_path):
    p = values()
    assert read_skymap(write(tmp_path / "all.fits", {"PROB": p})).notes() == []
    kept = np.flatnonzero(p > np.quantile(p, 0.97))
    cut = read_skymap(write(tmp_path / "cut.fits", {"PIXEL": kept, "PROB": p[kept]}))
    assert cut.total == pytest.approx(p[kept].sum()) and f"{cut.total:.4g}" in cut.notes()[0]
    density = read_skymap(write(tmp_path / "density.fits", {"PROBDENSITY": p * 12 * NSIDE**2 / (4 * np.pi)}))
    assert density.total == pytest.approx(1.0) and density.notes() == []


def test_multi_order_maps_with_probabilities_of_pixels(tmp_path):
    p, uniq = values(), 4 * NSIDE**2 + np.arange(12 * NSIDE**2)
    density = p * 12 * NSIDE**2 / (4 * np.pi)
    first = read_skymap(write(tmp_path / "p.fits", {"UNIQ": uniq, "PROB": p}, ORDERING="NUNIQ"))
    second = read_skymap(write(tmp_path / "d.fits", {"UNIQ": uniq, "PROBDENSITY": density}, ORDERING="NUNIQ"))
    assert first.total == pytest.approx(1.0)
    assert first.probability == pytest.approx(second.probability, rel=1e-12)


@pytest.mark.parametrize("outside", [np.nan, -1e-20, -1.6375e30, 0.0])
def test_values_outside_a_map_are_no_probability(tmp_path, outside):
    p = values()
    p[p < 1e-6] = outside
    skymap = read_skymap(write(tmp_path / "m.fits", {"PROB": p}))
    lon, lat = HEALPix(NSIDE, order="nested").healpix_to_lonlat(np.flatnonzero(~(p > 1e-6))[:20])
    assert not skymap.probability_density(lon.deg, lat.deg).any() and skymap.total == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("wrong", [-0.1, np.inf])
def test_wrong_probabilities_are_refused(tmp_path, wrong):
    p = values()
    p[7] = wrong
    with pytest.raises(InputError, match=r"negative|infinite"):
        read_skymap(write(tmp_path / "m.fits", {"PROB": p}))


@pytest.mark.parametrize(("nside", "in_parts"), [(256, True), (128, False)])
def test_only_large_maps_are_read_in_parts(tmp_path, monkeypatch, nside, in_parts):
    p, calls = np.repeat(values(64), (nside // 64) ** 2), []

    def parts(*given, **about):
        calls.append(given)
        return skymap_from_parts(*given, **about)

    monkeypatch.setattr("imaging.io.skymaps.skymap_from_parts", parts)
    table = fits.BinTableHDU.from_columns([fits.Column("PROB", "D", array=p / p.sum())])
    table.header.update({"ORDERING": "NESTED", "NSIDE": nside, "COORDSYS": "C"})
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(tmp_path / "m.fits")
    assert read_skymap(tmp_path / "m.fits").total == pytest.approx(1.0, abs=1e-7)
    assert bool(calls) == in_parts


@pytest.mark.parametrize("ordering", ["NESTED", "RING"])
@pytest.mark.parametrize("shape", [(), (1024,)])
@pytest.mark.parametrize("kind", ["D", "E"])
def test_a_large_map_read_in_parts_is_the_map(tmp_path, ordering, shape, kind):
    """Rows of one pixel and of 1024, as LIGO and HEALPix write them; what is dropped has 1e-7 of the probability."""
    nside = 256
    p = np.repeat(values(64), 16)
    p /= p.sum()
    mu = np.repeat(100.0 + np.arange(12 * 64**2) % 7, 16)
    order = np.arange(p.size) if ordering == "NESTED" else healpix.ring_to_nested(np.arange(p.size), nside)
    form = f"{shape[0]}{kind}" if shape else kind
    columns = {"PROB": p, "DISTMU": mu, "DISTSIGMA": mu / 5, "DISTNORM": mu * 0 + 1e-5}
    fields = [fits.Column(k, form, array=v[order].reshape(-1, *shape)) for k, v in columns.items()]
    table = fits.BinTableHDU.from_columns(fields)
    table.header.update({"ORDERING": ordering, "NSIDE": nside, "COORDSYS": "C"})
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(tmp_path / "m.fits")
    parts, whole = read_skymap(tmp_path / "m.fits"), read_skymap((tmp_path / "m.fits").read_bytes())
    kept = np.isin(whole.pixel, parts.pixel)
    assert np.array_equal(parts.pixel, whole.pixel[kept]) and (parts.order == 6).all() and (whole.order == 6).all()
    np.testing.assert_allclose(parts.probability, whole.probability[kept], rtol=1e-7)
    assert whole.probability[~kept].sum() < 1e-7 and (~kept).sum() > 1000
    assert parts.total == pytest.approx(1.0, abs=1e-5)
    some = np.array([np.argmax(p), np.searchsorted(np.cumsum(p), 0.99)])
    lon, lat = HEALPix(nside, order="nested").healpix_to_lonlat(some)
    found = parts.find(lon.to_value(u.deg), lat.to_value(u.deg))
    assert parts.distance.mu_mpc[found] == pytest.approx(mu[some])


@pytest.mark.parametrize("column", ["PROB", "PROBDENSITY"])
@pytest.mark.parametrize("ordering", ["NESTED", "RING"])
def test_faint_neighbours_of_a_large_map_become_one_pixel(tmp_path, monkeypatch, ordering, column):
    """Without equal neighbours; a large pixel has less than 4e-7, and all of the base pixels keep their probability."""
    monkeypatch.setattr("imaging.skymap.build.MANY", 2000)
    nside, p = 256, values(256)
    lon, lat = HEALPix(nside, order="nested").healpix_to_lonlat(np.arange(p.size))
    mu = 100.0 + 20.0 * np.sin(lon.rad) * np.cos(lat.rad)
    order = np.arange(p.size) if ordering == "NESTED" else healpix.ring_to_nested(np.arange(p.size), nside)
    columns = {"DISTMU": mu, "DISTSIGMA": mu / 5, "DISTNORM": mu * 0 + 1e-5}
    columns[column] = p if column == "PROB" else p * p.size / (4 * np.pi)
    path = write(tmp_path / "m.fits", {k: v[order] for k, v in columns.items()}, ORDERING=ordering, NSIDE=nside)
    skymap = read_skymap(path)
    large = skymap.order < 8
    assert large.sum() > 1000 and skymap.probability[large].max() < 4e-7 and skymap.total == pytest.approx(1.0)
    base = np.bincount(skymap.pixel >> (2 * skymap.order), skymap.probability, minlength=12)
    np.testing.assert_allclose(base, p.reshape(12, -1).sum(axis=1), atol=1e-7)
    some = np.argsort(p)[-1::-2000][:60]
    found = skymap.find(lon[some].to_value(u.deg), lat[some].to_value(u.deg))
    assert (skymap.order[found[:20]] == 8).all() and (skymap.order[found] < 8).any()
    assert skymap.distance.mu_mpc[found] == pytest.approx(mu[some], rel=0.02)


@pytest.mark.parametrize(
    ("days", "good"), [(0.5, True), (30.0, True), (-300.0, True), (-366.0, False), (3300.0, False)]
)
def test_a_map_of_another_year_is_not_of_this_night(days, good):
    night = 60000.0
    one = np.array([0])
    skymap = SkyMap(one, one, np.array([1.0]), mjd=night + days)
    if good:
        check_event_time(skymap, night)
        return
    with pytest.raises(InputError, match=r"years .* the night") as caught:
        check_event_time(skymap, night)
    assert "--force" in str(caught.value)
    check_event_time(SkyMap(one, one, np.array([1.0])), night)  # a map without a time


@pytest.mark.parametrize("unit", [None, "sr-1", "1 / sr", "deg-2", "arcmin-2"])
@pytest.mark.parametrize("number", [None, "UNIQ", "PIXEL"])
def test_a_density_per_any_solid_angle_sums_to_one(tmp_path, unit, number):
    n = 12 * NSIDE**2
    density = values() * n / (4 * np.pi * u.sr).to_value(1 / u.Unit(unit or "1 / sr"))
    columns = {} if number is None else {number: np.arange(n) + (4 * NSIDE**2 if number == "UNIQ" else 0)}
    path = tmp_path / "m.fits"
    table = fits.BinTableHDU.from_columns(
        [fits.Column(k, "K", array=v) for k, v in columns.items()]
        + [fits.Column("PROBDENSITY", "D", array=density, unit=unit)]
    )
    table.header.update({"ORDERING": "NESTED", "NSIDE": NSIDE})
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)
    assert read_skymap(path).total == pytest.approx(1.0, abs=1e-9)


def test_a_density_per_something_else_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"PROBDENSITY .*Mpc"):
        read_skymap(write(tmp_path / "m.fits", {"PROBDENSITY": values()}, unit="Mpc-2"))


def test_rounded_pixel_numbers_are_refused(tmp_path):
    uniq = np.arange(12 * NSIDE**2) + 4.0 * NSIDE**2
    assert read_skymap(write(tmp_path / "m.fits", {"UNIQ": uniq, "PROB": values()})).total == pytest.approx(1.0)
    uniq[-1] = 4.0 * 4**28
    with pytest.raises(InputError, match="pixel numbers were rounded"):
        read_skymap(write(tmp_path / "m.fits", {"UNIQ": uniq, "PROB": values()}))


@pytest.mark.parametrize(
    ("cards", "mjd"),
    [
        ({"MJD-OBS": 57982.5}, 57982.5),
        ({"MJD-OBS": "57982.5"}, 57982.5),
        ({"DATE-OBS": "2017-08-17T12:00:00"}, 57982.5),
        ({"MJD-OBS": "unknown", "DATE-OBS": "2017-08-17T12:00:00.000Z"}, 57982.5),
        ({"MJD-OBS": "57982,5", "DISTMEAN": "n/a"}, np.nan),
        ({"MJD-OBS": 0.0, "DATE-OBS": "2017-08-17T14:00:00+02:00"}, 57982.5),
        ({"MJD-OBS": 0.0}, np.nan),
        ({"DATE-OBS": "last summer"}, np.nan),
    ],
)
def test_the_time_of_the_event_is_any_card_that_states_it(tmp_path, cards, mjd):
    found = read_skymap(write(tmp_path / "m.fits", {"PROB": values()}, **cards))
    assert found.mjd == pytest.approx(mjd, abs=1e-9, nan_ok=True)
    assert np.isnan(found.distance_mean_mpc)


def mixed():
    """Return UNIQ, probabilities and densities of a map of two orders that peaks in the part with small pixels."""
    order = np.repeat([3, 4], [512, 1024])
    pixel = np.concatenate([np.arange(512), np.arange(4 * 512, 4 * 768)])
    density = np.exp(-0.5 * ((np.arange(1536) - 900.0) / 150.0) ** 2)
    probability = density * 4 * np.pi / (12 * 4.0**order)
    return (4 << (2 * order)) + pixel, probability / probability.sum(), density / probability.sum()


@pytest.mark.parametrize("unit", ["sr-1", "deg-2"])
def test_what_a_column_holds_is_what_its_unit_says(tmp_path, unit):
    """Densities under the name of probabilities: the shape of a map of mixed orders depends on it."""
    uniq, probability, density = mixed()
    given = density * (1 / u.sr).to_value(unit)
    skymap = read_skymap(write(tmp_path / "m.fits", {"UNIQ": uniq, "PROB": given}, unit=unit))
    right = read_skymap(write(tmp_path / "r.fits", {"UNIQ": uniq, "PROB": probability}, unit="pix-1"))
    assert skymap.total == pytest.approx(1.0) and right.total == pytest.approx(1.0)
    np.testing.assert_allclose(skymap.probability, right.probability, rtol=1e-9)
    assert read_skymap(write(tmp_path / "f.fits", {"PROB": values() * 244.5}, unit="sr-1")).notes() == []


def test_values_that_cannot_be_what_they_are_called_are_refused(tmp_path):
    uniq, probability, density = mixed()
    for columns in ({"UNIQ": uniq, "PROB": density}, {"UNIQ": uniq, "PROBDENSITY": probability}):
        with pytest.raises(InputError, match="to one as"):
            read_skymap(write(tmp_path / "m.fits", columns))
    p = values()
    levels = np.empty_like(p)
    levels[np.argsort(-p)] = np.cumsum(np.sort(p)[::-1])
    with pytest.raises(InputError, match="credible levels"):
        read_skymap(write(tmp_path / "m.fits", {"PROB": levels}))
    for other in ("Mpc", "Jy"):
        with pytest.raises(InputError, match=rf"unit of PROB .*{other}"):
            read_skymap(write(tmp_path / "m.fits", {"PROB": p}, unit=other))


@pytest.mark.parametrize(
    ("name", "cards"),
    [("IPIX", {}), ("HPXPIXEL_Q", {"INDXSCHM": "EXPLICIT"}), ("INDEX", {}), ("PIXEL", {"INDXSCHM": "EXPLICIT"})],
)
@pytest.mark.parametrize("n", [12 * NSIDE**2, 400])
def test_pixel_numbers_in_the_first_column_have_any_name(tmp_path, name, cards, n):
    p = values()
    numbers = np.argsort(-p)[:n]
    np.random.default_rng(1).shuffle(numbers)
    skymap = read_skymap(write(tmp_path / "m.fits", {name: numbers, "PROB": p[numbers]}, **cards))
    ra, dec = skymap.peak()
    assert abs(ra - 80) < 4 and abs(dec + 20) < 4 and skymap.total == pytest.approx(p[numbers].sum())


def test_a_part_of_the_sky_without_pixel_numbers_is_where_the_header_says(tmp_path):
    p = values()
    cards = {"INDXSCHM": "IMPLICIT", "FIRSTPIX": 700, "LASTPIX": 2499}
    part = read_skymap(write(tmp_path / "m.fits", {"PROB": p[700:2500]}, **cards))
    assert part.total == pytest.approx(p[700:2500].sum()) and abs(part.peak()[0] - 80) < 4
    with pytest.raises(InputError, match="no column of pixel numbers"):
        read_skymap(write(tmp_path / "m.fits", {"PROB": p}, INDXSCHM="EXPLICIT"))
