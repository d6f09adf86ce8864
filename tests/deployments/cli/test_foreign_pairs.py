"""difference-images on pairs as other pipelines write them: right, or refused in one sentence."""

import json

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from scipy.ndimage import convolve

from deployments.cli import main
from imaging.difference.prepare import moffat_psf
from tasks.engine.jobs import ExitCode

N, SCALE, SKY, ZEROPOINT = 400, 0.2637 / 3600, 500.0, 30.0
PLACE = (150.003, 2.204)
"""RA and Dec of the transient; its signal to noise is 24."""


def wcs_of(dx=0.0, dy=0.0, turn_deg=0.0):
    turn = np.radians(turn_deg)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.radesys = ["RA---TAN", "DEC--TAN"], [150.0, 2.2], "ICRS"
    wcs.wcs.crpix = [N / 2 + dx, N / 2 + dy]
    wcs.wcs.cd = SCALE * np.array([[-1, 0], [0, 1]]) @ [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    return wcs


def draw(wcs, fwhm, seed, *, transient=None, sky=SKY):
    """Return counts with the noise of electrons: 90 stars and, in the science image, the transient of a magnitude."""
    random, psf = np.random.default_rng(1), moffat_psf(fwhm)
    ra = 150.0 + random.uniform(-0.5, 0.5, 90) * N * SCALE
    dec, mag = 2.2 + random.uniform(-0.5, 0.5, 90) * N * SCALE, 16.0 + 6.0 * random.power(2.2, 90)
    if transient:
        ra, dec, mag = np.append(ra, PLACE[0]), np.append(dec, PLACE[1]), np.append(mag, transient)
    image = np.full((N, N), sky)
    for x, y, m in zip(*wcs.all_world2pix(ra, dec, 0), mag, strict=True):
        i, j = int(np.rint(x)), int(np.rint(y))
        rows, columns = (np.arange(max(k - 22, 0), min(k + 23, N)) for k in (j, i))
        if rows.size and columns.size:
            stamp = psf.at_offsets(0.0, 0.0, columns - x, rows - y)
            image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] += 10 ** (0.4 * (ZEROPOINT - m)) * stamp
    return np.random.default_rng(seed).normal(image, np.sqrt(image + 25.0)).astype(np.float32)


def header_of(wcs, **cards):
    header = wcs.to_header()
    for key in [k for k in header if k.startswith(("PC", "CDELT"))]:
        del header[key]
    for i, j in np.ndindex(2, 2):
        header[f"CD{i + 1}_{j + 1}"] = wcs.wcs.cd[i, j]
    header.update({"MAGZERO": ZEROPOINT, "GAIN": 1.0, "MJD-OBS": 57983.0, "EXPTIME": 90.0, "FILTER": "i"} | cards)
    return header


@pytest.fixture(scope="module")
def pair():
    """Pixels and headers of science image and template."""
    science, template = wcs_of(), wcs_of(3.3, -2.6)
    return {
        "science": (draw(science, 4.3, 5, transient=20.5), header_of(science)),
        "template": (draw(template, 3.8, 6), header_of(template)),
    }


@pytest.fixture
def difference(pair, tmp_path, capsys):
    """Write the pair, changed, run the command and return exit code and document."""

    def do(change=None, *words):
        paths = []
        for name, (pixels, header) in pair.items():
            image, cards = pixels.copy(), header.copy()
            if change is not None:
                image = change(name, image, cards)
            paths.append(tmp_path / f"{name}.fits")
            fits.PrimaryHDU(np.asarray(image), cards).writeto(paths[-1], overwrite=True)
        code = main.run(
            ["difference-images", *map(str, paths), *map(str, words), "--output", str(tmp_path / "o"), "--json"]
        )
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, json.loads(captured.out)

    return do


def check(document, *, snr=23.7, rel=0.15, extra=1):
    clean = [d for d in document["detections"] if not d["flags"]]
    offsets = [np.hypot((d["ra"] - PLACE[0]) * np.cos(np.radians(2.2)), d["dec"] - PLACE[1]) * 3600 for d in clean]
    assert min(offsets) < 0.3 and len(clean) <= 1 + extra
    found = clean[int(np.argmin(offsets))]
    assert found["flux"] / found["flux_error"] == pytest.approx(snr, rel=rel)
    assert found["mag"] == pytest.approx(20.5, abs=4 * 1.0857 / snr)
    assert document["noise_width"] == pytest.approx(1.0, abs=0.02)


def scaled(unit, factor, **cards):
    """Return a change of both images to another unit."""

    def change(name, image, header):
        header.update({"BUNIT": unit} | cards)
        for key in [k for k, v in cards.items() if v is None]:
            del header[key]
        return (image - SKY) * np.float32(factor) if cards.get("GAIN", 0) is None else image * np.float32(factor)

    return change


def no_data(name, image, header):
    if name == "template":
        image[:70, :70] = 0.0
    return image - np.float32(SKY)


def resampled(name, image, header):
    return convolve(image, np.outer([0.7, 0.3], [0.7, 0.3])).astype(np.float32)


def moonlight(name, image, header):
    y, x = np.mgrid[:N, :N]
    light = 150 * np.exp(-0.5 * ((x - 100) ** 2 + (y - 330) ** 2) / 90.0**2)
    return image + light.astype(np.float32) if name == "science" else image


def hot_pixels(name, image, header):
    image[tuple(np.random.default_rng(len(name)).integers(0, N, (2, 40)))] += 3000.0
    return image


def overscan(name, image, header):
    image[:, :40] = np.random.default_rng(9).normal(0.0, 5.0, (N, 40))
    return image


CHANGES = {
    "as it is": None,
    "no data": no_data,
    "electrons per second": scaled("electron/s", 1 / 90, GAIN=4.0, MAGZERO=ZEROPOINT - 2.5 * np.log10(90.0)),
    "nanojansky without gain": scaled("nJy", 10 ** (-0.4 * (ZEROPOINT - 31.4)), GAIN=None, MAGZERO=None),
    "resampled before": resampled,
    "moonlight": moonlight,
    "hot pixels without a mask": hot_pixels,
    "overscan": overscan,
}


@pytest.mark.parametrize("kind", list(CHANGES))
def test_what_is_understood_is_right(difference, kind):
    code, document = difference(CHANGES[kind])
    assert code is ExitCode.COMPLETE
    check(document)
    if kind == "resampled before":
        assert abs(document["lag1_correlation"]) < 0.03 and "resampled before" in str(document["notes"])
    if kind == "nanojansky without gain":
        assert "gain measured" in str(document["notes"])


def test_a_streak_is_masked_and_its_pieces_are_no_candidates(difference):
    y, x = np.mgrid[:N, :N]

    def change(name, image, header):
        light = 60 * np.exp(-0.5 * ((y - 0.4 * x - 60) / 1.9) ** 2)
        return image + light.astype(np.float32) if name == "science" else image

    check(difference(change)[1])


@pytest.mark.parametrize("cards", [{"CRPIX1": 18.0}, {"CRPIX1": -150.0, "CRPIX2": 90.0}])
def test_a_template_with_wrong_coordinates_is_aligned(difference, cards):
    def change(name, image, header):
        for key, value in cards.items() if name == "template" else ():
            header[key] += value
        return image

    check(difference(change)[1])


@pytest.mark.parametrize(
    ("ratio", "fwhm", "best"), [(1.5, 3.3, 22.3), (1.88, 5.2, 12.6), (3.0, 2.2, 17.6), (3.8, 2.0, 15.4)]
)
def test_a_template_of_larger_pixels_is_right(difference, ratio, fwhm, best):
    """As those of SDSS, SkyMapper and ZTF; the best S/N is that of a matched filter that knows both power spectra."""

    def change(name, image, header):
        if name == "science":
            return image
        coarse = wcs_of()
        coarse.wcs.cd = ratio * coarse.wcs.cd
        header.update(header_of(coarse))
        return draw(coarse, fwhm, 6, sky=SKY * ratio**2)

    check(difference(change)[1], snr=0.9 * best, rel=0.2)


def test_a_template_of_other_stars_is_refused(difference, pair):
    def change(name, image, header):
        return image[::-1] if name == "template" else image

    code, document = difference(change)
    assert code is ExitCode.FAILED
    assert document["reason"] in (
        "kernel_stars",
        "star_residuals",
        "kernel_too_few_stamps",
        "kernel_chi2",
        "kernel_sum",
    )


@pytest.mark.parametrize("zeropoint", [ZEROPOINT - 2.0, ZEROPOINT + 1.0])
def test_a_wrong_zero_point_is_told_as_such(difference, zeropoint):
    def change(name, image, header):
        header["MAGZERO"] = zeropoint if name == "template" else ZEROPOINT
        return image

    code, document = difference(change)
    ratio = 10 ** (0.4 * (zeropoint - ZEROPOINT))
    assert code is ExitCode.FAILED and document["reason"] == "kernel_sum"
    assert float(document["value"]) == pytest.approx(ratio, rel=0.05)
    assert "zero points" in document["error"] and "coordinates" not in document["error"]


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        ({"MAGZERO": 99.0}, "MAGZERO"),
        ({"MAGZERO": 30.0, "MAGZPT": 27.5}, "MAGZPT"),
        ({"MAGZERO": "30,0"}, "MAGZERO"),
        ({"BUNIT": "furlong"}, "BUNIT"),
        ({"BSOFTEN": 10.0}, "BSOFTEN"),
        ({"RADESYS": "GAPPT"}, "RADESYS"),
        ({"CTYPE1": "RA---TNX", "CTYPE2": "DEC--TNX"}, "TNX"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(difference, cards, words):
    def change(name, image, header):
        header.update(cards)
        return image

    code, document = difference(change)
    assert code is ExitCode.BAD_INPUT and words in document["error"] and "\n" not in document["error"]


def test_cards_of_any_nonsense_do_not_matter(difference):
    def change(name, image, header):
        header.update(
            {"EXPNUM": "no", "CCDNUM": 1e300, "SKYBRITE": "1,5", "TELRA": "x", "EXPTIME": "long", "MJD-OBS": "?"}
        )
        return image

    check(difference(change)[1])


def test_a_psf_file_is_read_by_the_name_of_its_column(difference, tmp_path):
    columns = [fits.Column("plver", "8A", array=["V4.8"]), fits.Column("fwhm", "E", array=[4.3])]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "other.fits")
    code, document = difference(None, "--psf", tmp_path / "other.fits")
    assert code is ExitCode.BAD_INPUT and "PSF_MASK" in document["error"]


@pytest.mark.parametrize(
    "settings",
    [
        {"difference": {"kernel": {"min_stamps": 1}}},
        {"difference": {"kernel": {"basis": "delta", "min_stamps": 1}}},
        {"difference": {"kernel": {"stamp_half_width": 60}}},
        {"difference": {"kernel": {"sigma_factors": []}}},
        {"difference": {"kernel": {"cross_validation_folds": 0}}},
        {"difference": {"noise": {"tile_pixels": 0}}},
        {"stack": {"map_step_pixels": 0}},
        {"stack": {"correlation_tile_pixels": 17}},
    ],
)
@pytest.mark.parametrize("method", ["alard_lupton", "zogy"])
def test_every_end_with_few_stars_is_one_sentence(difference, tmp_path, settings, method):
    (tmp_path / "s.json").write_text(json.dumps(settings))

    def change(name, image, header):
        header.update({"CRPIX1": header["CRPIX1"] - 240, "CRPIX2": header["CRPIX2"] - 240})
        return np.ascontiguousarray(image[240:340, 240:340])

    code, document = difference(change, "--settings", tmp_path / "s.json", "--method", method)
    assert code in (ExitCode.COMPLETE, ExitCode.BAD_INPUT, ExitCode.FAILED)
    if code is not ExitCode.COMPLETE:
        assert "\n" not in document["error"] and "dome" not in document["error"]
