"""The comparison of two sites finds every changed bit, and no name that was changed on purpose."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from tools.compare_products import compare_sites

PIXELS = np.arange(12, dtype=np.float32).reshape(3, 4)


def make_site(root, *, pixels=PIXELS, gain=1.0, term="part_skymap", values=(1.0, 2.0), quality=None, page="a page"):
    folder = root / "products" / "nights" / "20240510"
    folder.mkdir(parents=True)
    image = fits.ImageHDU(pixels, name="SCI")
    image.header["GAIN"] = gain
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(folder / "image.fits")
    field = pa.field(term, pa.float64(), metadata={"unit": "", "meaning": f"about {term}"})
    columns = [pa.array(values), pa.array([str(root)] * len(values))]
    schema = pa.schema([field, pa.field("code_version", pa.string())])
    pq.write_table(pa.Table.from_arrays(columns, schema=schema), folder / "candidates.parquet")
    (folder / "summary.json").write_text(json.dumps(quality or {"efficiency_ceiling": 0.98, "made_with": str(root)}))
    (folder / "candidates.md").write_text(f"{page} of {term}, code {'0' * 31}{len(str(root)) % 10}\n")
    return root


NEW = {"term": "loglr_skymap", "quality": {"efficiency_max": 0.98, "made_with": "another version"}}


def test_names_that_were_changed_and_versions_are_no_differences(tmp_path):
    differences, counts = compare_sites(make_site(tmp_path / "a"), make_site(tmp_path / "b", **NEW))
    assert differences == []
    assert counts["identical bytes"] == 1 and counts["same content"] == 3 and not counts["different"]


def last_bit(pixels):
    changed = pixels.copy()
    changed[2, 3] = np.nextafter(changed[2, 3], np.float32(99))
    return changed


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"pixels": last_bit(PIXELS)}, "image.fits: SCI: values differ"),
        ({"gain": 1.01}, "image.fits: SCI: card GAIN: 1.0, then 1.01"),
        ({"values": (1.0, np.nextafter(2.0, 3.0))}, "candidates.parquet: column loglr_skymap: values differ"),
        ({"term": "loglr_map"}, "candidates.parquet: columns ['loglr_map', 'loglr_skymap']"),
        ({"quality": {"efficiency_max": 0.97}}, "summary.json: /efficiency_max: '0.98', then '0.97'"),
        ({"page": "another page"}, "candidates.md: 1 lines differ, 1 then 1 in all, the first is 1"),
    ],
    ids=["last bit of a pixel", "card", "last bit of a value", "column", "number", "text"],
)
def test_every_other_change_is_named(tmp_path, change, found):
    differences, _ = compare_sites(make_site(tmp_path / "a"), make_site(tmp_path / "b", **(NEW | change)))
    assert f"products/nights/20240510/{found}" in differences


def test_a_file_that_is_missing_is_named(tmp_path):
    before, after = make_site(tmp_path / "a"), make_site(tmp_path / "b", **NEW)
    (after / "products/nights/20240510/candidates.md").unlink()
    assert compare_sites(before, after)[0] == ["products/nights/20240510/candidates.md: only before"]
