"""The tie of an exposure: turbulence, CCDs with few stars or none, colour, storage."""

import erfa
import numpy as np
import pyarrow as pa
import pytest

from bench.ideal_astrometry import ideal_errors_mas
from imaging.astrometry.displacement import PixelDisplacement
from imaging.astrometry.fit import Pairs, fit_ccd, pair_errors_mas
from imaging.astrometry.settings import AstrometrySettings
from imaging.astrometry.solution import ExposureAstrometry, TiedCcd
from imaging.astrometry.tie import tie_exposure
from imaging.detector.distortion import seed_wcs
from imaging.errors import CcdError
from imaging.schemas.matches import ASTROMETRY_MATCHES
from imaging.simulation.atmosphere import turbulence_arcsec
from imaging.simulation.exposures import TurbulenceTruth
from imaging.tables import column, make_table
from imaging.wcs.tpv import plane_to_sky, sky_to_plane

SETTINGS = AstrometrySettings()
SHAPE = (4096, 2048)
MAS = 3.6e6
CCDS = (26, 27, 28, 33, 34, 35, 40, 41)
POINTING = (197.45, -23.38)


class Sky:
    """A displacement field of 12 mas, correlated over a few arcminutes, with refraction by colour."""

    def __init__(self, seed):
        random = np.random.default_rng(seed)
        k = random.normal(0, 1 / 3.0, (60, 2))  # per arcminute
        self.k, self.phase = k, random.uniform(0, 2 * np.pi, (60, 2))
        self.amplitude_mas = 12.0 * np.sqrt(2 / 60)
        self.colour_mas = np.array([9.0, -4.0])
        self.ccd_offset_mas = {ccd: random.normal(0, 150, 2) for ccd in CCDS}

    def displacement(self, xi, eta, colour, ccd):
        minutes = np.stack([xi, eta], axis=-1) * 60.0
        waves = [
            (self.amplitude_mas * np.cos(minutes @ self.k.T + self.phase[:, axis])).sum(axis=1) for axis in range(2)
        ]
        total = np.stack(waves, axis=-1) + self.ccd_offset_mas[ccd] + np.outer(colour - 1.2, self.colour_mas)
        return total / MAS

    def truth(self, seed, x, y, colour, ccd):
        xi, eta = seed.pixel_to_plane(x, y)
        shift = self.displacement(xi, eta, colour, ccd)
        return xi + 11.0 / 3600 + shift[:, 0], eta - 6.0 / 3600 + shift[:, 1]


def match_table(sky, ccd, n, random, noise_mas=5.0, pointing=POINTING):
    seed = seed_wcs(ccd, *pointing)
    x, y = random.uniform(0, 2047, n), random.uniform(0, 4095, n)
    colour = np.clip(random.normal(1.2, 0.5, n), 0.3, 3.0)
    xi, eta = sky.truth(seed, x, y, colour, ccd)
    ra, dec = plane_to_sky(
        xi + random.normal(0, noise_mas, n) / MAS, eta + random.normal(0, noise_mas, n) / MAS, *seed.crval
    )
    columns = {
        "expnum": np.full(n, 1300001),
        "band": ["g"] * n,
        "night": np.full(n, 20240510),
        "ccd": np.full(n, ccd),
        "source_id": np.arange(n),
        "number": np.arange(1, n + 1),
        "x": x,
        "y": y,
        "x_error": np.full(n, noise_mas / 263.0),
        "y_error": np.full(n, noise_mas / 263.0),
        "ra": ra,
        "dec": dec,
        "ra_error_mas": np.full(n, 0.5),
        "dec_error_mas": np.full(n, 0.5),
        "snr": np.full(n, 100.0),
        "colour_mag": colour,
        "used": np.ones(n, bool),
    }
    return make_table(columns, ASTROMETRY_MATCHES)


@pytest.fixture(scope="module")
def exposure():
    random = np.random.default_rng(5)
    sky = Sky(4)
    matches = {ccd: match_table(sky, ccd, 220, random) for ccd in CCDS}
    matches[34] = match_table(sky, 34, 5, random)
    matches[35] = ASTROMETRY_MATCHES.empty_table()
    seeds = {ccd: seed_wcs(ccd, 197.45, -23.38) for ccd in CCDS}
    return sky, matches, seeds, tie_exposure(matches, seeds, SHAPE, SETTINGS)


def sky_error_mas(sky, seeds, tied, ccd, *, corrected):
    random = np.random.default_rng(1)
    x, y = random.uniform(50, 1997, 400), random.uniform(50, 4045, 400)
    typical = np.full(400, 1.2)
    xi, eta = sky.truth(seeds[ccd], x, y, typical, ccd)
    ra, dec = tied.sky(x, y, SHAPE) if corrected else tied.wcs().pixel_to_sky(x, y)
    found = sky_to_plane(ra, dec, *seeds[ccd].crval)
    return np.stack([found[0] - xi, found[1] - eta]) * MAS


def own_solution_error_mas(sky, seeds, table, ccd):
    c = {name: column(table, name).astype(float) for name in ("x", "y", "ra", "dec", "x_error", "y_error", "snr")}
    xi, eta = sky_to_plane(c["ra"], c["dec"], *seeds[ccd].crval)
    zero = np.zeros(table.num_rows)
    errors = pair_errors_mas(seeds[ccd], c["x"], c["y"], (c["x_error"], c["y_error"]), (zero, zero))
    wcs = fit_ccd(seeds[ccd], Pairs(c["x"], c["y"], xi, eta, *errors, c["snr"]), SHAPE, SETTINGS).wcs
    random = np.random.default_rng(1)
    x, y = random.uniform(50, 1997, 400), random.uniform(50, 4045, 400)
    truth = sky.truth(seeds[ccd], x, y, np.full(400, 1.2), ccd)
    found = wcs.pixel_to_plane(x, y)
    return np.stack([found[0] - truth[0], found[1] - truth[1]]) * MAS


def test_turbulence_is_interpolated(exposure):
    sky, matches, seeds, tie = exposure
    alone, tied, corrected = [], [], []
    for ccd in (26, 27, 28, 33):
        alone.append(own_solution_error_mas(sky, seeds, matches[ccd], ccd))
        tied.append(sky_error_mas(sky, seeds, tie.ccds[ccd], ccd, corrected=False))
        corrected.append(sky_error_mas(sky, seeds, tie.ccds[ccd], ccd, corrected=True))
    rms = [float(np.sqrt(np.mean(np.square(e)))) for e in (alone, tied, corrected)]
    assert rms[2] < 2.5, "interpolated turbulence"
    assert rms[2] < 0.6 * rms[0], "the tie improves on single CCDs"
    assert rms[1] < 1.1 * rms[0]
    assert np.abs(np.mean(corrected, axis=(0, 2))).max() < 2.0


def test_colour_and_pointing_are_found(exposure):
    *_, tie = exposure
    assert tie.colour_shift_mas == pytest.approx((9.0, -4.0), abs=2.0)
    assert tie.pointing_offset_arcsec == pytest.approx((11.0, -6.0), abs=0.3)


class LowSky(Sky):
    """The same at airmass 2 in g: ERFA's refraction at wavelengths that increase with the colour."""

    def displacement(self, xi, eta, colour, ccd):
        wavelength_um = 0.472 + 0.0085 * (colour - 1.2) - 0.001 * (colour - 1.2) ** 2
        constants = np.array([erfa.refco(780.0, 10.0, 0.2, w) for w in (0.472, *wavelength_um)])
        bent = np.degrees(constants @ [np.tan(np.radians(60.0)), np.tan(np.radians(60.0)) ** 3])
        towards_zenith = np.outer(bent[1:] - bent[0], [np.sin(0.7), np.cos(0.7)])
        return super().displacement(xi, eta, np.full_like(colour, 1.2), ccd) - towards_zenith


def test_stars_of_every_colour_at_airmass_two_in_g_get_their_places():
    random, sky, ccds = np.random.default_rng(6), LowSky(4), (26, 27, 33, 34)
    seeds = {ccd: seed_wcs(ccd, *POINTING) for ccd in ccds}
    matches = {ccd: match_table(sky, ccd, 250, random) for ccd in ccds}
    tied = tie_exposure(matches, seeds, SHAPE, SETTINGS).ccds[27]
    x, y, colour = random.uniform(50, 1997, 300), random.uniform(50, 4045, 300), random.uniform(0.5, 2.3, 300)
    true = np.stack(sky.truth(seeds[27], x, y, colour, 27))
    errors = []
    for given in (None, colour, np.full(300, np.nan)):
        found = sky_to_plane(*tied.sky(x, y, SHAPE, given), *seeds[27].crval)
        errors.append((np.stack(found) - true) * MAS)
    plain, coloured, unknown = errors
    assert np.sqrt(np.mean(plain**2)) > 20.0
    assert np.array_equal(plain, unknown)
    assert np.sqrt(np.mean(coloured**2)) < 5.5
    for low, high in ((0.5, 0.9), (0.9, 1.6), (1.6, 2.3)):
        assert np.abs(coloured[:, (colour > low) & (colour < high)].mean(axis=1)).max() < 2.5


class WindySky(Sky):
    """The simulator's turbulence of 12 mas, a gradient field elongated along the wind."""

    def __init__(self, seed):
        super().__init__(seed)
        self.truth_of_turbulence = TurbulenceTruth(seed=(seed, 1), rms_mas=12.0, wind_deg=50.0 * seed)

    def displacement(self, xi, eta, colour, ccd):
        turbulence = np.stack(turbulence_arcsec(self.truth_of_turbulence, xi, eta), axis=-1) / 3600.0
        return turbulence + self.ccd_offset_mas[ccd] / MAS


def test_positions_are_as_good_as_those_of_a_process_that_knows_the_covariance():
    """Two CCDs of 180 stars in three exposures; the goal of all skies is 1.2 times that error."""
    random, ccds, errors, ideal = np.random.default_rng(3), (26, 27), [], []
    seeds = {ccd: seed_wcs(ccd, *POINTING) for ccd in ccds}
    number = np.repeat(ccds, 180)
    for sky in (WindySky(1), WindySky(2), WindySky(3)):
        matches = {ccd: match_table(sky, ccd, 180, random, noise_mas=3.0) for ccd in ccds}
        tied = tie_exposure(matches, seeds, SHAPE, SETTINGS)
        places, wanted = [], []
        for ccd in ccds:
            errors.append(sky_error_mas(sky, seeds, tied.ccds[ccd], ccd, corrected=True))
            places.append(seeds[ccd].pixel_to_plane(column(matches[ccd], "x"), column(matches[ccd], "y")))
            wanted.append(seeds[ccd].pixel_to_plane(*random.uniform(50, [[1997], [4045]], (2, 180))))
        noise = np.full((360, 2), np.hypot(3.0, 0.5))
        places, wanted = (np.concatenate(list_of, axis=1).T for list_of in (places, wanted))
        ideal.append(ideal_errors_mas(sky.truth_of_turbulence, places, number, noise, wanted, number))
    reached, best = (float(np.sqrt(np.mean(np.square(values)))) for values in (errors, ideal))
    assert best > 1.5
    assert reached < 1.2 * best


def test_solutions_without_chromatic_terms_are_read(exposure):
    *_, tie = exposure
    old = tie.ccds[27].model_dump()
    del old["chromatic"]
    again, x = TiedCcd.model_validate(old), np.array([10.0, 2000.0])
    assert again.sky(x, x, SHAPE, np.array([0.5, 2.0]))[0].tolist() == again.sky(x, x, SHAPE)[0].tolist()


def test_a_ccd_with_few_stars_uses_them_and_the_exposure(exposure):
    sky, _, seeds, tie = exposure
    assert tie.ccds[34].n_stars == 5
    assert np.sqrt(np.mean(sky_error_mas(sky, seeds, tie.ccds[34], 34, corrected=True) ** 2)) < 25.0


def test_a_ccd_without_stars_takes_the_exposures_solution_and_says_so(exposure):
    sky, _, seeds, tie = exposure
    assert tie.ccds[35].source == "exposure"
    assert tie.ccds[35].rms_mas is None
    # What remains is this CCD's own offset of 150 mas per axis, which nobody can know.
    assert np.abs(sky_error_mas(sky, seeds, tie.ccds[35], 35, corrected=True)).max() < 700.0


def test_solution_survives_json(exposure):
    *_, tie = exposure
    again = ExposureAstrometry.model_validate_json(tie.model_dump_json())
    assert again == tie
    x, y = np.array([10.0, 2000.0]), np.array([20.0, 4000.0])
    assert again.ccds[27].sky(x, y, SHAPE)[0].tolist() == tie.ccds[27].sky(x, y, SHAPE)[0].tolist()


def test_order_of_ccds_does_not_matter(exposure):
    _, matches, seeds, tie = exposure
    backwards = tie_exposure(dict(reversed(matches.items())), dict(reversed(seeds.items())), SHAPE, SETTINGS)
    assert backwards.model_dump_json() == tie.model_dump_json()


@pytest.mark.parametrize(
    "pointing", [(0.0, 10.0), (359.99, -45.0), (120.0, 89.95), (33.0, -89.95)], ids=["0", "360", "north", "south"]
)
def test_poles_and_ra_zero_are_tied_like_any_other_field(exposure, pointing):
    sky, *_ = exposure
    random = np.random.default_rng(5)
    ccds = (26, 27, 33, 34)
    matches = {ccd: match_table(sky, ccd, 220, random, pointing=pointing) for ccd in ccds}
    matches[34] = ASTROMETRY_MATCHES.empty_table()
    seeds = {ccd: seed_wcs(ccd, *pointing) for ccd in ccds}
    tie = tie_exposure(matches, seeds, SHAPE, SETTINGS)
    assert tie.pointing_offset_arcsec == pytest.approx((11.0, -6.0), abs=0.3)
    for ccd in (26, 27, 33):
        assert max(tie.ccds[ccd].rms_mas) < 15.0
        error = sky_error_mas(sky, seeds, tie.ccds[ccd], ccd, corrected=True)
        assert np.sqrt(np.mean(error**2)) < 6.0
        assert np.abs(error.mean(axis=1)).max() < 2.5
    assert tie.ccds[34].source == "exposure"


def test_no_stars_at_all_is_refused(exposure):
    _, _, seeds, _ = exposure
    with pytest.raises(CcdError) as caught:
        tie_exposure({}, seeds, SHAPE, SETTINGS)
    assert caught.value.reason == "astrometry_no_match"
    assert (caught.value.value, caught.value.limit) == ("0", "at least 4")


def test_displacements_are_taken_from_measured_positions_before_the_fit_and_from_those_of_the_catalogue():
    """Rings of 13 mas per axis; the interpolated turbulence takes a part of them, which the map does not need."""
    random, sky = np.random.default_rng(8), Sky(4)
    radii = np.arange(0.0, 5200.0, 4.0)
    ring = (0.07 * np.sin(radii / 25.0)).tolist()
    rings = PixelDisplacement(name="m", ccd=27, band="g", centre=(-300.0, -200.0), radius_step=4.0, ring=ring)
    matches = {ccd: match_table(sky, ccd, 220, random, noise_mas=2.0) for ccd in (26, 27)}
    x, y = (column(matches[27], name) for name in ("x", "y"))
    for k, (name, values) in enumerate((("x", x), ("y", y))):
        number = matches[27].schema.get_field_index(name)
        shifted = pa.array(values + rings.at(x, y)[k])
        matches[27] = matches[27].set_column(number, matches[27].schema.field(number), shifted)
    seeds = {ccd: seed_wcs(ccd, *POINTING) for ccd in matches}
    x, y = random.uniform(50, 1997, 400), random.uniform(50, 4045, 400)
    true = np.stack(sky.truth(seeds[27], x, y, np.full(400, 1.2), 27))
    errors = {}
    for name, maps in (("without", {}), ("with", {27: rings})):
        tied = tie_exposure(matches, seeds, SHAPE, SETTINGS, maps).ccds
        assert tied[26].displacement is None
        found = sky_to_plane(*tied[27].sky(*(np.stack([x, y]) + rings.at(x, y)), SHAPE), *seeds[27].crval)
        errors[name] = float(np.std((np.stack(found) - true) * MAS))
        assert TiedCcd.model_validate_json(tied[27].model_dump_json()) == tied[27]
    assert errors["without"] > 9.0
    assert errors["with"] < 0.5 * errors["without"]
