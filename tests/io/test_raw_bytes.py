"""Raw files byte by byte: where their parts lie, their hashes and checksums, and what a cut leaves of them."""

import numpy as np
import pytest
import xxhash
from astropy.coordinates import SkyCoord
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.detector.ccds import CCDS
from imaging.errors import CcdError, InputError
from imaging.io.checksums import checksum_text, ones_complement_sum
from imaging.io.raw import _data_length, index_raw, read_exposure, read_raw_ccd
from imaging.io.raw_write import encode_extension, encode_primary, write_raw
from imaging.simulation.plan import plan_exposures
from imaging.simulation.raw_headers import extension_cards, primary_cards
from imaging.simulation.settings import SimulationSettings

DATE = "2024-05-10T00:00:00"
NUMBERS = (25, 3, 61)
FAST = settings(max_examples=60, deadline=None, derandomize=True, database=None)


@pytest.fixture(scope="module")
def plan():
    return plan_exposures(SimulationSettings(ccds=(27,), n_search_exposures=1, n_template_epochs=0))[0]


@pytest.fixture(scope="module")
def pixels():
    rng = np.random.default_rng(8)
    return {ccd: rng.integers(0, 65536, (9 + k, 24)).astype(np.uint16) for k, ccd in enumerate(NUMBERS)}


@pytest.fixture(scope="module")
def raw(tmp_path_factory, plan, pixels):
    folder = tmp_path_factory.mktemp("raw")
    parts = []
    for ccd, values in pixels.items():
        parts.append(folder / f"{ccd}.part")
        parts[-1].write_bytes(encode_extension(extension_cards(plan, CCDS[ccd]), values, DATE))
    write_raw(folder / "raw.fits.fz", encode_primary(primary_cards(plan, len(parts)), DATE), parts)
    return folder / "raw.fits.fz"


def spans(path):
    """Return the first byte, the first byte of data and the end of every HDU, as astropy finds them."""
    with fits.open(path, disable_image_compression=True) as hdus:
        about = [hdu.fileinfo() for hdu in hdus]
    return [(a["hdrLoc"], a["datLoc"], a["datLoc"] + a["datSpan"]) for a in about]


def test_hashes_are_those_of_the_bytes_of_each_hdu(raw):
    content, index = raw.read_bytes(), index_raw(raw)
    hashes = [xxhash.xxh3_128_hexdigest(content[first:end]) for first, _, end in spans(raw)]
    assert [index.header_hash] + [e.content_hash for e in index.extensions.values()] == hashes
    assert list(index.extensions) == list(NUMBERS) and spans(raw)[-1][2] == len(content)


def test_extensions_are_decoded_by_astropy_with_the_checksum_of_the_plain_image(raw, pixels):
    with fits.open(raw) as hdus, fits.open(raw, disable_image_compression=True) as packed:
        hdus.verify("exception")
        for hdu, table, (ccd, values) in zip(hdus[1:], packed[1:], pixels.items(), strict=True):
            assert np.array_equal(hdu.data, values), ccd
            assert table.header["NAXIS2"] == values.shape[0] and table.header["ZTILE1"] == values.shape[1]
            plain = fits.ImageHDU(values)
            plain.add_datasum()
            assert table.header["ZDATASUM"] == plain.header["DATASUM"]
            assert table.header.comments["CHECKSUM"] == f"HDU checksum updated {DATE}"


def test_a_file_cut_anywhere_keeps_exactly_the_ccds_before_the_cut(raw, tmp_path):
    content, places = raw.read_bytes(), spans(raw)
    edges = [edge + shift for place in places for edge in place for shift in (-1, 0, 1)]
    cuts = sorted({c for c in edges if 0 < c <= len(content)} | set(range(1, len(content), 1777)))
    path = tmp_path / "cut.fits.fz"
    for cut in cuts:
        path.write_bytes(content[:cut])
        begun = [n for n, (_, data, _) in zip(NUMBERS, places[1:], strict=True) if data <= cut]
        whole = [n for n, (_, _, end) in zip(NUMBERS, places[1:], strict=True) if end <= cut]
        if not begun:
            with pytest.raises(InputError, match=r"cut\.fits\.fz"):
                index_raw(path)
            continue
        found = index_raw(path).extensions
        assert list(found) == begun, cut
        assert [n for n, e in found.items() if not e.problem] == whole, cut
        assert all(bool(e.content_hash) != bool(e.problem) for e in found.values())


def test_a_cut_ccd_is_refused_and_the_others_are_read(raw, tmp_path, pixels):
    path = tmp_path / "cut.fits.fz"
    path.write_bytes(raw.read_bytes()[: spans(raw)[3][2] - 1])
    index = index_raw(path)
    for ccd in NUMBERS[:2]:
        assert np.array_equal(read_raw_ccd(path, index.extensions[ccd], 5).pixels, pixels[ccd])
    with pytest.raises(CcdError, match="exposure 5, CCD 61, read raw") as caught:
        read_raw_ccd(path, index.extensions[61], 5)
    assert caught.value.ccd == 61
    sound = index_raw(raw).extensions[61]
    path.write_bytes(raw.read_bytes()[: spans(raw)[3][0]])
    with pytest.raises(CcdError, match="fetch the raw file again"):
        read_raw_ccd(path, sound, 5)


def test_other_extensions_are_stepped_over_whatever_their_kind(tmp_path, plan):
    rng, path = np.random.default_rng(2), tmp_path / "mixed.fits"
    primary = fits.PrimaryHDU()
    primary.header.update({key: value for key, value, _ in primary_cards(plan, 4) if key not in primary.header})
    ragged = np.empty(3, dtype=object)
    ragged[:] = [np.arange(k, dtype=np.float64) for k in (500, 1, 7)]
    hdus = [
        primary,
        fits.ImageHDU(rng.normal(size=(3, 11, 50))),
        fits.BinTableHDU.from_columns([fits.Column("v", "PD()", array=ragged)]),  # with a heap behind the rows
        fits.ImageHDU(),
        fits.ImageHDU(rng.integers(0, 9, (40, 30)).astype(np.uint8), fits.Header({"CCDNUM": 12})),
        fits.ImageHDU(rng.integers(0, 9, (36, 40)).astype(np.int16), fits.Header({"CCDNUM": 13})),
    ]
    fits.HDUList(hdus).writeto(path)
    found, content = index_raw(path).extensions, path.read_bytes()
    assert {ccd: e.hdu for ccd, e in found.items()} == {12: 4, 13: 5}
    for extension in found.values():
        first, _, end = spans(path)[extension.hdu]
        assert extension.content_hash == xxhash.xxh3_128_hexdigest(content[first:end])
    assert np.array_equal(read_raw_ccd(path, found[12], 1).pixels, hdus[4].data)


@pytest.mark.parametrize(
    ("keys", "blocks"),
    [
        ({"NAXIS": 0}, 0),
        ({"NAXIS": 1, "NAXIS1": 2880}, 1),
        ({"NAXIS": 1, "NAXIS1": 2881}, 2),
        ({"NAXIS": 2, "NAXIS1": 72, "NAXIS2": 40, "BITPIX": -64}, 8),
        ({"NAXIS": 2, "NAXIS1": 1440, "NAXIS2": 1, "BITPIX": 16, "GCOUNT": 3}, 3),
        ({"NAXIS": 2, "NAXIS1": 8, "NAXIS2": 360, "PCOUNT": 1}, 2),
        ({"NAXIS": 1, "NAXIS1": 2879, "PCOUNT": 1, "GCOUNT": 2}, 2),
        ({"NAXIS": 1, "NAXIS1": 720, "BITPIX": 32}, 1),
    ],
)
def test_data_fill_whole_blocks_as_the_standard_counts_them(keys, blocks):
    assert _data_length(fits.Header({"BITPIX": 8} | keys)) == 2880 * blocks


@FAST
@given(st.binary(max_size=64).map(lambda b: b + b"\0" * (-len(b) % 4)), st.integers(0, 0xFFFFFFFF))
def test_the_sum_is_the_one_of_whole_numbers_modulo_all_ones(data, start):
    plain = start + sum(int.from_bytes(data[k : k + 4], "big") for k in range(0, len(data), 4))
    found = ones_complement_sum(data, start)
    assert 0 <= found <= 0xFFFFFFFF and found % 0xFFFFFFFF == plain % 0xFFFFFFFF
    assert (found == 0) == (plain == 0)
    assert ones_complement_sum(data[4:], ones_complement_sum(data[:4], start)) == found


@FAST
@given(st.integers(0, 0xFFFFFFFF) | st.sampled_from([0, 0xFFFFFFFF, 0x01020304, 0xC5BF3A40]))
def test_the_checksum_is_alphanumeric_and_decodes_to_the_complement(total):
    text = checksum_text(total)
    assert len(text) == 16 and text.isalnum() and text.isascii()
    turned = text[1:] + text[0]
    decoded = [ord(c) - 0x30 for c in turned]
    columns = [sum(decoded[k::4]) for k in range(4)]  # the bytes from the most significant one
    assert sum(value << (24 - 8 * k) for k, value in enumerate(columns)) == 0xFFFFFFFF - total
    assert text == fits.PrimaryHDU()._char_encode(0xFFFFFFFF - total)


def test_the_exposure_of_a_raw_file_points_where_astropy_reads_it(raw, tmp_path, plan):
    found, header = read_exposure(raw), fits.getheader(raw)
    sky = SkyCoord(header["TELRA"], header["TELDEC"], unit=("hourangle", "deg"))
    assert found.ra_deg == pytest.approx(sky.ra.deg, abs=1e-9) and found.dec_deg == pytest.approx(sky.dec.deg, abs=1e-9)
    assert found == index_raw(raw).exposure and found.expnum == plan.expnum
    for name, content in (("absent.fits", None), ("page.fits", b"<html>not found</html>" * 200)):
        if content:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            read_exposure(tmp_path / name)
