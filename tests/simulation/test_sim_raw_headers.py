"""Headers and extensions of simulated raw files by astropy: standard, times, angles, sections, coordinates, pixels."""

import warnings

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import Angle, SkyCoord
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS
from detector_frames import cut, exposure_of, rng

from imaging.detector.ccds import CCDS
from imaging.io.checksums import checksum_text, ones_complement_sum
from imaging.io.raw_write import encode_extension, encode_primary, write_raw
from imaging.simulation.calibrations import true_linearity
from imaging.simulation.ccd import CcdJob, finish_ccd, header_date, simulate_analog
from imaging.simulation.exposures import CloudTruth, PsfTruth
from imaging.simulation.optics import Misalignment, true_wcs
from imaging.simulation.raw_headers import extension_cards, header_angle_deg, primary_cards, sexagesimal
from imaging.simulation.settings import SimulationSettings

EXPOSURE = exposure_of(
    ra_deg=190.123456,
    dec_deg=-0.205432,
    hour_angle_deg=-15.5,
    zenith_distance_deg=33.557,
    azimuth_deg=123.45678,
    airmass=1.1998,
    object_name="field of MS240510a",
    psf=PsfTruth(fwhm_arcsec=1.1),
    clouds=CloudTruth(mean_mag=0.1),
)
SHAPE = (4146, 2160)
FOCUS = 69
"""The focus CCD FN4, 2048 rows high."""


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Return a raw file of an N, an S and a focus CCD, and the pixels that went into it."""
    folder, pixels, parts = tmp_path_factory.mktemp("headers"), {}, []
    for ccdnum in (33, 27, FOCUS):
        ccd = CCDS[ccdnum]
        pixels[ccdnum] = rng(ccdnum).integers(1400, 2600, (ccd.ny + 50, 2160)).astype(np.uint16)
        pixels[ccdnum][5, 7:11] = (0, 65535, 32768, 32767)
        part = folder / f"{ccdnum}.part"
        part.write_bytes(encode_extension(extension_cards(EXPOSURE, ccd), pixels[ccdnum], header_date(EXPOSURE)))
        parts.append(part)
    path = folder / "DECam_01300001.fits.fz"
    write_raw(path, encode_primary(primary_cards(EXPOSURE, 3), header_date(EXPOSURE)), parts)
    return path, pixels


@pytest.fixture(scope="module")
def primary(raw):
    return fits.getheader(raw[0], 0)


def headers(raw):
    with fits.open(raw[0]) as hdus:
        return {hdu.header["CCDNUM"]: hdu.header for hdu in hdus[1:]}


def test_the_file_follows_the_standard_and_gives_its_pixels_back(raw):
    path, pixels = raw
    assert path.stat().st_size % 2880 == 0
    with fits.open(path, checksum=True) as hdus:  # a wrong checksum warns, and warnings are errors
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus[1:]] == ["N2", "S3", "FN4"]
        assert hdus[0].header["NEXTEND"] == 3
        for hdu, values in zip(hdus[1:], pixels.values(), strict=True):
            assert isinstance(hdu, fits.CompImageHDU)
            assert hdu.data.dtype == np.uint16
            np.testing.assert_array_equal(hdu.data, values)
    with fits.open(path, disable_image_compression=True) as hdus:
        for hdu, values in zip(hdus[1:], pixels.values(), strict=True):
            assert (hdu.header["ZCMPTYPE"], hdu.header["ZTILE1"], hdu.header["ZTILE2"]) == ("RICE_1", 2160, 1)
            image = fits.ImageHDU(values, uint=True)
            image.header["BZERO"] = 32768
            assert hdu.header["ZDATASUM"] == str(image._calculate_datasum())


@pytest.mark.parametrize("total", [0, 1, 0xFFFFFFFF, 0x12345678, 3_735_928_559, 0x3A3A3A3A])
def test_checksums_are_encoded_as_astropy_does(total):
    judge = fits.PrimaryHDU()._char_encode(~np.uint32(total))
    assert checksum_text(total) == judge


@pytest.mark.parametrize("length", [0, 4, 2880, 11_520])
def test_the_ones_complement_sum_is_that_of_the_convention(length):
    data = rng(length).integers(0, 256, length, dtype=np.uint8)
    total = sum(int.from_bytes(data[k : k + 4].tobytes(), "big") for k in range(0, length, 4))
    expected = total % 0xFFFFFFFF
    assert ones_complement_sum(data.tobytes()) % 0xFFFFFFFF == expected
    assert ones_complement_sum(data.tobytes(), 5) % 0xFFFFFFFF == (expected + 5) % 0xFFFFFFFF


def test_times_are_those_of_the_opened_shutter(primary):
    opened = Time(60441.123456, format="mjd", scale="utc")
    for key in ("DATE-OBS", "OPENSHUT", "ODATEOBS"):
        assert abs((Time(primary[key], scale="utc") - opened).to_value(u.s)) < 1e-3
    assert primary["MJD-OBS"] == pytest.approx(60441.123456, abs=1e-8)
    assert primary["DATE-OBS"].endswith(primary["TIME-OBS"])
    assert (Time(primary["time_recorded"], scale="utc") - opened).to_value(u.s) == pytest.approx(115.0, abs=1e-3)
    assert primary["OBSID"] == "ct4m20240511t025746"
    assert primary["DTNSANAM"] == "c4d_240511_025746_ori.fits.fz"
    assert primary["DTCALDAT"] == "2024-05-10"  # the night begins on the evening before
    assert primary["EXPTIME"] == primary["EXPREQ"] == 90.0
    assert primary["DARKTIME"] == pytest.approx(91.1)


def test_angles_are_those_of_the_pointing(primary):
    ra, dec = Angle(primary["RA"], unit="hourangle"), Angle(primary["DEC"], unit="deg")
    assert ra.deg == pytest.approx(190.123456, abs=0.5 * 15e-3 / 3600 + 1e-9)  # milliseconds of time
    assert dec.deg == pytest.approx(-0.205432, abs=0.5e-3 / 3600 + 1e-9)
    assert (primary["TELRA"], primary["TELDEC"]) == (primary["RA"], primary["DEC"])
    assert Angle(primary["HA"], unit="hourangle").deg == pytest.approx(-15.5, abs=1e-5)
    assert (primary["ZD"], primary["AZ"], primary["AIRMASS"]) == (33.56, 123.4568, 1.2)
    assert 1 / np.cos(np.radians(primary["ZD"])) == pytest.approx(primary["AIRMASS"], abs=0.01)
    assert primary["G-TRANSP"] == pytest.approx(0.912, abs=1e-9)  # 0.1 mag
    assert primary["OBS-LAT"] == pytest.approx(-30.166, abs=1e-3)


@pytest.mark.parametrize("value", [0.0, -0.00001, 23.9999999999, 59.99999 / 3600, -89.5, 12.582222, 7.0])
def test_sexagesimal_text_is_read_by_astropy(value):
    text = sexagesimal(value)
    assert Angle(text, unit="deg").deg == pytest.approx(value, abs=0.5e-3 / 3600 + 1e-12)
    assert len(text.lstrip("-")) == 12
    assert text.split(":")[2] < "60"
    assert header_angle_deg(value) == pytest.approx(Angle(text, unit="deg").deg, abs=1e-11)
    assert header_angle_deg(15 * value, hours=True) == pytest.approx(15 * Angle(text, unit="deg").deg, abs=1e-10)


@pytest.mark.parametrize(
    ("role", "obstype", "shutter"),
    [("search", "object", "Open"), ("zero", "zero", "Closed"), ("dome flat",) * 2 + ("Open",)],
)
def test_the_kind_of_exposure_is_in_the_header(role, obstype, shutter):
    cards = {key: value for key, value, _ in primary_cards(exposure_of(role=role, band="z"), 70)}
    assert (cards["OBSTYPE"], cards["CAMSHUT"], cards["NEXTEND"]) == (obstype, shutter, 70)
    assert cards["FILTER"] == "z DECam SDSS c0004 9260.0 1520.0"
    assert cards["FILTPOS"] == "cassette_3"
    assert cards["EXPNUM"] == 1300001
    assert cards["FILENAME"] == "DECam_01300001.fits"
    assert cards["PROPID"] == cards["DTPROPID"] == "2024A-999999"


def test_the_weather_varies_from_exposure_to_exposure_about_its_usual_value():
    values = {"HUMIDITY": [], "OUTTEMP": [], "PRESSURE": []}
    for expnum in range(1300001, 1300101):
        cards = {key: value for key, value, _ in primary_cards(exposure_of(expnum=expnum), 70)}
        for key, found in values.items():
            found.append(cards[key])
    for key, (mean, rms) in {"HUMIDITY": (39.0, 8.0), "OUTTEMP": (20.0, 3.0), "PRESSURE": (779.0, 1.0)}.items():
        assert np.mean(values[key]) == pytest.approx(mean, abs=4 * rms / 10)
        assert np.std(values[key]) == pytest.approx(rms, rel=4 / np.sqrt(200))
    assert primary_cards(EXPOSURE, 70) == primary_cards(EXPOSURE, 70)


LAYOUT = {
    33: ("[57:2104,1:4096]", "[57:1080,1:4096]", "[7:56,1:4096]", "[57:1080,4097:4146]", "[1:1024,1:4096]", 0.0),
    27: (
        "[57:2104,51:4146]",
        "[1081:2104,51:4146]",
        "[2105:2154,51:4146]",
        "[1081:2104,1:50]",
        "[2048:1025,4096:1]",
        50.0,
    ),
}
"""DATASEC, and DATASEC, BIASSEC, POSTSEC and AMPSEC of amplifier A, and LTV2, as in raw files of the observatory."""


@pytest.mark.parametrize("ccdnum", LAYOUT)
def test_sections_tell_where_data_and_overscan_lie(raw, ccdnum):
    header = headers(raw)[ccdnum]
    names = ("DATASEC", "DATASECA", "BIASSECA", "POSTSECA", "AMPSECA")
    assert tuple(header[name] for name in names) == LAYOUT[ccdnum][:5]
    assert (header["LTV1"], header["LTV2"]) == (56.0, LAYOUT[ccdnum][5])
    cover = np.zeros(SHAPE, dtype=int)
    for name in ("DATASECA", "DATASECB", "BIASSECA", "BIASSECB", "PRESECA", "PRESECB", "POSTSECA", "POSTSECB"):
        part = cut(cover, header[name])
        part += 1
    assert cover.max() == 1  # nothing overlaps
    corners = 4 * 56 * 50 // 2  # columns of prescan and overscan in the post-scan rows
    assert (cover == 0).sum() == corners
    both = cut(cover, header["DATASECA"]).size + cut(cover, header["DATASECB"]).size
    assert both == cut(cover, header["DATASEC"]).size == 4096 * 2048


def test_figures_of_the_amplifiers_and_modules(raw):
    found = headers(raw)
    assert (found[33]["GAINA"], found[33]["GAINB"]) == (3.944, 4.156)
    assert (found[27]["RDNOISEA"], found[27]["SATURATB"]) == (5.975766, 30170.0)
    assert (found[33]["DETPOS"], found[33]["DETECTOR"], found[33]["FPA"]) == ("N2", "S3-222_135959-11-1", "DECAM_BKP1")
    assert found[27]["SLOT00"] == "MCB 15 5.210000"
    assert "SLOT05" in found[27]
    assert "SLOT05" not in found[FOCUS]
    assert found[FOCUS]["NAXIS2"] == 2098
    assert "CUNIT1" in found[33]
    assert "CUNIT1" not in found[FOCUS]


def test_the_header_puts_the_camera_on_the_sky(raw):
    centre = SkyCoord(190.123456, -0.205432, unit="deg")
    for ccdnum in (33, 27):
        header = headers(raw)[ccdnum]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fits.verify.VerifyWarning)
            wcs = WCS(header)
        x0, y0 = header["CRPIX1"] - 1, header["CRPIX2"] - 1
        assert wcs.pixel_to_world(x0, y0).separation(centre).arcsec < 30.0  # PVi_0 shift the tangent point a little
        here, right, up = (wcs.pixel_to_world(*p) for p in ((1000, 2000), (1001, 2000), (1000, 2001)))
        assert here.separation(right).arcsec == pytest.approx(0.263, abs=0.003)
        assert here.separation(up).arcsec == pytest.approx(0.263, abs=0.003)
        assert here.position_angle(right).deg == pytest.approx(180.0, abs=1.0)  # x runs to the south
        assert here.position_angle(up).deg == pytest.approx(90.0, abs=1.0)  # y to the east
        x, y = np.array([10.0, 1000.0, 2040.0]), np.array([4000.0, 2000.0, 20.0])
        still = exposure_of(true_ra_deg=190.123456, true_dec_deg=-0.205432)
        ra, dec = true_wcs(still, ccdnum, Misalignment((0.0, 0.0), ((), ()))).pixel_to_sky(x, y)
        judged = wcs.all_pix2world(x, y, 0)
        # FK5 in the header against ICRS in the truth: the numbers are the same
        np.testing.assert_allclose(judged, [ra, dec], atol=1e-8)


def test_a_dead_ccd_and_a_focus_ccd_are_written_without_sources(tmp_path):
    """CCD 61 gives read noise about its overscan level; a focus CCD the sky, out of focus, over noise."""
    settings = SimulationSettings(seed=2, ccds=(61,), focus_ccds=True)
    exposure = exposure_of(sky_electrons=8000.0)
    for ccdnum, detpos in ((61, "N30"), (FOCUS, "FN4")):
        job = CcdJob(tmp_path, settings, exposure, ccdnum)
        simulate_analog(job)
        assert job.analog_path(ccdnum).is_file()
        finish_ccd(job)
        path = tmp_path / f"{ccdnum}.fits"
        write_raw(path, encode_primary(primary_cards(exposure, 1), header_date(exposure)), [job.part_path])
        with fits.open(path, checksum=True) as hdus:
            header, pixels = hdus[1].header, hdus[1].data.astype(float)
        assert header["DETPOS"] == detpos
        ccd = CCDS[ccdnum]
        for amplifier in ccd.amplifiers:
            data, over = (cut(pixels, header[f"{key}{amplifier.name}"]) for key in ("DATASEC", "BIASSEC"))
            signal = data - over.mean(axis=1, keepdims=True)
            measured, linear = true_linearity(settings, ccdnum)
            expected = 0.0
            if ccd.is_focus:
                expected = np.interp(8000.0 / amplifier.gain, linear[amplifier.name], measured)
            assert signal.mean() == pytest.approx(expected, abs=4 * 1.6 / np.sqrt(over.size) + 1e-3 + 2e-4 * expected)
            noise2 = over.var(axis=1, ddof=1).mean()
            photons2 = 8000.0 / amplifier.gain**2 if ccd.is_focus else 0.0
            assert signal.var() == pytest.approx(photons2 + noise2 * (1 + 1 / 50), rel=0.02)


def test_the_date_of_the_checksums_is_that_of_the_night():
    assert header_date(exposure_of(night=20231105)) == "2023-11-05T00:00:00"
