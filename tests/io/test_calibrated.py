"""Calibrated images of other pipelines."""

from pathlib import Path

import fitsio
import numpy as np
import pytest
from astropy.io import fits

from imaging.bits import MaskBit
from imaging.detector.distortion import seed_wcs
from imaging.difference.prepare import calibrate
from imaging.errors import InputError
from imaging.foreign.sky import measure_sky
from imaging.io.calibrated import Plane, read_image
from imaging.psf.model import PsfModel

SHAPE = (260, 240)


def psf() -> PsfModel:
    axis = np.arange(-40, 41) * 0.5
    image = np.exp(-0.5 * (axis[:, None] ** 2 + axis[None, :] ** 2) / 1.9**2) / (2 * np.pi * 1.9**2)
    return PsfModel(image[None].astype(np.float32), 0, 0.5, (0.0, 0.0), (1.0, 1.0), 4.47)


def counts(seed: int = 1, sky: float = 800.0, gain: float = 4.0) -> np.ndarray:
    """Return an image in ADU with sky, 40 stars and the noise of the electrons."""
    rng = np.random.default_rng(seed)
    electrons = np.full(SHAPE, sky * gain)
    for x, y, flux in zip(
        rng.uniform(15, 225, 40), rng.uniform(15, 245, 40), 10 ** rng.uniform(3.5, 5.3, 40), strict=True
    ):
        cx, cy = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
        electrons[cy - 12 : cy + 13, cx - 12 : cx + 13] += flux * psf().stamp(x, y, 12)
    return (rng.normal(electrons, np.sqrt(electrons)) / gain).astype(np.float32)


def write(path: Path, planes: dict[str, np.ndarray], **keys: object) -> Path:
    header = [{"name": k, "value": v} for k, v in (seed_wcs(10, 150.0, -20.0).to_header() | keys).items()]
    with fitsio.FITS(str(path), "rw", clobber=True) as file:
        for name, plane in planes.items():
            file.write(plane, header=header, extname=name)
    return path


def test_plain_image_with_weight_and_mask_extensions(tmp_path):
    image = counts()
    mask = np.zeros(SHAPE, np.int32)
    mask[10, 20] = 1
    path = write(
        tmp_path / "a.fits",
        {"IMAGE": image, "DQ": mask, "VAR": np.full(SHAPE, 4.0, np.float32)},
        GAIN=4.0,
        MAGZERO=30.1,
        SATURATE=5e4,
    )
    loaded = read_image(path)
    assert np.array_equal(loaded.science, image)
    assert loaded.weight is not None and np.allclose(loaded.weight, 0.25)
    assert loaded.mask[10, 20] == int(MaskBit.BPM) and (loaded.mask != 0).sum() == 1
    assert (loaded.gain, loaded.zeropoint_mag, loaded.saturation) == (4.0, 30.1, 5e4)
    assert not loaded.is_own_product


def test_files_of_their_own_and_extension_by_name(tmp_path):
    path = write(tmp_path / "a.fits", {"FIRST": counts(1), "SECOND": counts(2)})
    weight = write(tmp_path / "w.fits", {"W": np.full(SHAPE, 0.5, np.float32)})
    loaded = read_image(path, extension="SECOND", weight=Plane(weight))
    assert np.array_equal(loaded.science, counts(2))
    assert loaded.weight is not None and loaded.weight[0, 0] == 0.5
    assert loaded.zeropoint_mag is None and loaded.label == "a.fits[SECOND]"


def test_bad_input_is_said_in_a_sentence(tmp_path):
    with pytest.raises(InputError, match="missing or not FITS"):
        read_image(tmp_path / "nothing.fits")
    (tmp_path / "text.fits").write_text("not an image")
    with pytest.raises(InputError, match="missing or not FITS"):
        read_image(tmp_path / "text.fits")
    path = write(tmp_path / "a.fits", {"IMAGE": counts()})
    with pytest.raises(InputError, match="no such extension"):
        read_image(path, extension="N9")
    small = write(tmp_path / "small.fits", {"W": np.ones((5, 5), np.float32)})
    with pytest.raises(InputError, match="differ in shape"):
        read_image(path, weight=Plane(small))
    fitsio.write(str(tmp_path / "plain.fits"), counts(), clobber=True)
    with pytest.raises(InputError, match="no celestial coordinates"):
        read_image(tmp_path / "plain.fits")
    fitsio.write(str(tmp_path / "cube.fits"), np.zeros((3, 4, 5), np.float32), clobber=True)
    with pytest.raises(InputError, match="two-dimensional"):
        read_image(tmp_path / "cube.fits")


@pytest.mark.parametrize(("key", "other"), [("CRVAL1", 151.0), ("BUNIT", "nJy"), ("GAIN", 2.0), ("MAGZERO", 25.0)])
def test_a_keyword_with_two_values_is_refused_where_the_image_depends_on_it(tmp_path, key, other):
    path = write(tmp_path / "a.fits", {"": counts()}, GAIN=4.0, MAGZERO=30.0, BUNIT="adu", OBSERVER="A")

    def read_with(card):
        with fits.open(path) as file:
            file[0].header.append(card)
            file.writeto(tmp_path / "b.fits", overwrite=True)
        return read_image(tmp_path / "b.fits")

    with pytest.raises(InputError, match=f"two values.*{key}"):
        read_with((key, other))
    header = fits.getheader(path)
    assert read_with((key, header[key])).gain == 4.0 and read_with(("OBSERVER", "B")).zeropoint_mag == 30.0


@pytest.mark.parametrize("order", [("DQ", "ERR", "SCI"), ("mask", "rms", ""), ("SCI", "BADPIX", "WEIGHT")])
def test_the_image_is_found_wherever_mask_and_weight_stand(tmp_path, order):
    """Names in any case; the pixels have one more axis of one element."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[10, 20] = 1
    kinds = {"SCI": counts()[None], "": counts()[None], "ERR": 2.0, "rms": 2.0, "WEIGHT": 0.25}
    planes = {k: np.full(SHAPE, v, np.float32) if isinstance(v, float) else v for k, v in kinds.items()}
    path = write(tmp_path / "a.fits", {name: planes.get(name, mask) for name in order})
    loaded = read_image(path)
    assert np.array_equal(loaded.science, counts())
    assert np.argwhere(loaded.mask).tolist() == [[10, 20]]
    assert loaded.weight is not None and np.all(loaded.weight == 0.25)


@pytest.mark.parametrize("degrees", [0.3, 0.1, 1e-8])
def test_coordinates_that_nobody_has_solved_are_refused(tmp_path, degrees):
    """Programs write one degree per pixel where they know nothing."""
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 0.0, "CRVAL2": 0.0, "CRPIX1": 120.0, "CRPIX2": 130.0}
    header = fits.Header(cards | {"CD1_1": -degrees, "CD2_2": degrees})
    fits.PrimaryHDU(counts()[100:160, 90:150], header).writeto(tmp_path / "a.fits")
    with pytest.raises(InputError, match=r"impossible coordinates .* arcsec per pixel.*0.001 to 100"):
        read_image(tmp_path / "a.fits")


@pytest.mark.parametrize("chip", [1, 2])
def test_mask_and_weight_of_several_chips_are_those_of_the_same_version(tmp_path, chip):
    """As of Hubble: SCI, ERR and DQ of chip 1, then of chip 2."""
    head = fits.Header(seed_wcs(10, 150.0, -20.0).to_header())
    planes = [fits.PrimaryHDU(), fits.ImageHDU(np.zeros((9, 9), np.float32), name="THUMB")]
    for ver in (1, 2):
        mask = np.zeros(SHAPE, np.int16)
        mask[10, 20 * ver] = 1
        planes.append(fits.ImageHDU(counts() + np.float32(ver), head, name="SCI", ver=ver))
        planes += [fits.ImageHDU(np.full(SHAPE, ver, np.float32), name="ERR", ver=ver)]
        planes += [fits.ImageHDU(mask, name="DQ", ver=ver)]
    fits.HDUList(planes).writeto(tmp_path / "a.fits")
    loaded = read_image(tmp_path / "a.fits", extension=None if chip == 1 else "5")
    assert np.array_equal(loaded.science, counts() + np.float32(chip))
    assert loaded.weight is not None and np.all(loaded.weight == chip**-2.0)
    assert np.argwhere(loaded.mask).tolist() == [[10, 20 * chip]]
    fits.HDUList([*planes, fits.ImageHDU(mask, name="DQ", ver=chip)]).writeto(tmp_path / "b.fits")
    with pytest.raises(InputError, match="2 of EXTVER"):
        read_image(tmp_path / "b.fits", extension="2" if chip == 1 else "5")


@pytest.mark.parametrize(
    ("name", "value"), [("STAT", 4.0), ("STDDEV", 2.0), ("NOISE", 2.0), ("INVERSE_VARIANCE", 0.25), ("WEIGHTS", 0.25)]
)
def test_weights_have_many_names(tmp_path, name, value):
    plane = np.full(SHAPE, value, np.float32)
    plane[10, 20] = np.nan
    weight = read_image(write(tmp_path / "a.fits", {"SCI": counts(), name: plane})).weight
    assert weight is not None and weight[10, 20] == 0.0 and np.count_nonzero(weight == 0.25) == weight.size - 1


@pytest.mark.parametrize(
    ("name", "kind"), [("SIGMAP", "weight"), ("VARNOISE", "weight"), ("my weights", "weight"), ("Bad Pix", "mask")]
)
def test_planes_of_numbers_that_may_be_mask_or_weight_are_not_passed_over(tmp_path, name, kind):
    plane = np.full(SHAPE, 4.0, np.float32)
    with pytest.raises(InputError, match=rf"may be a {kind} .*a.fits\[{name}\].* --{kind} \[{name}\]"):
        read_image(write(tmp_path / "a.fits", {"SCI": counts(), name: plane}))
    read_image(write(tmp_path / "b.fits", {"SCI": counts(), "BKG": plane, "MODEL": plane, name: plane[:50]}))


@pytest.mark.parametrize("kind", ["u1", "i2", "u2", "i4"])
def test_integers_beside_the_image_that_may_be_a_mask_are_not_passed_over(tmp_path, kind):
    mask = np.zeros(SHAPE, kind)
    mask[10, 20] = 1
    with pytest.raises(InputError, match=r"may be a mask .*a.fits\[PLANE\]"):
        read_image(write(tmp_path / "a.fits", {"IMAGE": counts(), "PLANE": mask}))
    assert read_image(tmp_path / "a.fits", mask=Plane(tmp_path / "a.fits", "PLANE")).mask[10, 20] == int(MaskBit.BPM)
    for other in ({"CTX": mask}, {"PLANE": mask, "MASK": mask}, {"PLANE": mask[:100]}, {"PLANE": mask.astype("f4")}):
        read_image(write(tmp_path / "b.fits", {"IMAGE": counts()} | other))


@pytest.mark.parametrize(("name", "value"), [("RMS", 2.0), ("VARIANCE", 4.0), ("IVAR", 0.25), ("W", 0.25)])
def test_the_name_of_a_weight_given_by_an_option_says_what_it_is(tmp_path, name, value):
    path = write(tmp_path / "a.fits", {"IMAGE": counts()})
    weight = write(tmp_path / "w.fits", {name: np.full(SHAPE, value, np.float32)})
    for extension in (name, None):
        loaded = read_image(path, weight=Plane(weight, extension))
        assert loaded.weight is not None and np.all(loaded.weight == 0.25)


def test_sky_is_measured_without_the_sources():
    image = counts()
    weight = (4.0 / image).astype(np.float32)  # photon noise of the data themselves
    sky = measure_sky(image, np.zeros(SHAPE, bool), weight)
    assert np.median(sky.level) == pytest.approx(800.0, abs=1.5)
    assert np.median(sky.variance) == pytest.approx(200.0, rel=0.02)
    without = measure_sky(image, np.zeros(SHAPE, bool), None)
    assert np.median(without.variance) == pytest.approx(200.0, rel=0.10)


def test_calibrated_image_is_in_electrons_with_its_psf(tmp_path):
    path = write(tmp_path / "a.fits", {"IMAGE": counts()}, GAIN=4.0, MAGZERO=30.0, SATURATE=5e4)
    image = calibrate(read_image(path))
    good = image.pixels.weight > 0
    assert np.median(image.pixels.science[good]) == pytest.approx(0.0, abs=8.0)
    assert np.median(1 / image.pixels.weight[good]) == pytest.approx(3200.0, rel=0.1)
    assert image.zeropoint_mag == pytest.approx(30.0 + 2.5 * np.log10(4.0))
    assert image.psf.fwhm_pixels == pytest.approx(4.47, rel=0.03)
    assert image.saturation_electrons == pytest.approx(2e5)
