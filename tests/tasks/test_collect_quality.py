"""Quality numbers of an exposure's difference images, and one efficiency of all their fakes."""

import numpy as np
import pyarrow as pa

from blocks.site import Site
from imaging.identity import ExposureId
from imaging.io.tables import read_table, write_table
from imaging.schemas.difference import FAKES
from imaging.tables import make_table
from tasks.collect_quality import collect_quality, collect_quality_job
from tasks.jobs import StepJob
from tasks.products import quality_table, write_quality

CCDS = (26, 27)
SEARCH = ExposureId(1300001, "i", 20240510)


def fakes_of(ccd: int) -> pa.Table:
    """Ninety fakes: those brighter than 22.5 are found in blank sky, than 21 on a bright host."""
    mag = np.tile(np.arange(18.1, 24.1, 0.2), 3)
    on_host = np.arange(mag.size) >= 60
    found = mag < np.where(on_host, 21.0, 22.5)
    others = [field for field in FAKES if field.name != "band"]
    columns: dict[str, object] = {f.name: np.zeros(mag.size, f.type.to_pandas_dtype()) for f in others}
    columns |= {"band": ["i"] * mag.size, "ccd": np.full(mag.size, ccd), "mag": mag, "detected": found, "passed": found}
    columns["host_surface_brightness"] = pa.array(np.full(mag.size, 20.0), pa.float32(), mask=~on_host)
    return make_table(columns, FAKES)


def test_the_fakes_of_all_ccds_make_one_efficiency_by_place(tmp_path):
    site = Site.at(tmp_path)
    one = StepJob(exposure=SEARCH, site=site)
    write_table(one.product_path("quality.parquet"), quality_table([{"ccd": ccd} for ccd in (*CCDS, 33)]))
    searched = {}
    for ccd in CCDS:
        job = StepJob(exposure=SEARCH, ccd=ccd, season=1, site=site)
        paths = {"quality": job.product_path("difference.json"), "fakes": job.product_path("fakes.parquet")}
        write_quality(paths["quality"], {"n_detections": 4, "n_passed": 2, "snr50": 5.1, "m50_mag": 22.4})
        write_table(paths["fakes"], fakes_of(ccd))
        searched[ccd] = job.result(paths)
    result = collect_quality(collect_quality_job(searched, SEARCH, 1, site))
    assert result.quality["n_ccds"] == 2 and result.quality["snr50"] == 5.1
    rows = read_table(site.path(result.products["efficiency"].path)).to_pylist()
    assert {row["place"] for row in rows} == {"blank sky", "host brighter than 21"}
    assert sum(row["n_injected"] for row in rows) == 2 * 90
    m50 = {row["place"]: row["m50_mag"] for row in rows}
    assert abs(m50["blank sky"] - 22.5) < 0.15 and abs(m50["host brighter than 21"] - 21.0) < 0.15
