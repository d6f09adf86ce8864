import pickle

import pytest

from imaging.errors import CcdError, InputError, NoWorkError
from imaging.identity import ExposureId, parse_season, parse_version_tag


def test_an_error_is_one_sentence_with_place_value_limit_and_remedy():
    error = CcdError(
        "too few reference stars", reason="too_few_stars", expnum=1300001, ccd=7, step="astrometry",
        value=2, limit="at least 5", remedy="check the pointing",
    )  # fmt: skip
    assert str(error) == (
        "exposure 1300001, CCD 7, astrometry: too few reference stars (2; allowed: at least 5). "
        "To do: check the pointing."
    )


@pytest.mark.parametrize("kind", [CcdError, NoWorkError])
def test_errors_survive_the_way_between_processes(kind):
    error = kind("no overlap", reason="no_template", ccd=3, value=0.02)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (str(again), again.reason, again.ccd) == (str(error), "no_template", 3)
    assert again.located(expnum=9, ccd=5).ccd == 3
    assert again.located(expnum=9).expnum == 9


def test_product_names_take_exposure_numbers_of_any_length():
    short, long = ExposureId(42, "i", 20170817, 4, 5), ExposureId(12345678901, "VR", 20260817)
    assert short.ccd_stem(7) == "D00000042_i_07_r4p5"
    assert long.stem == "D12345678901_VR_r1p1"
    assert str(short.folder) == "gw/exp/20170817/42"
    assert str(short.season_folder(60, 7)) == "gw/exp/20170817/42/dp60/i_07"


def test_bad_identities_are_refused():
    nights = (20171345, 20240231, 20230229)
    for arguments in ((0, "i", 20170817), (1, "q", 20170817), *((1, "i", night) for night in nights)):
        with pytest.raises(InputError):
            ExposureId(*arguments)
    assert ExposureId(1, "i", 20240229).night == 20240229
    for tag in ("4p5", "r4", "rp"):
        with pytest.raises(InputError):
            parse_version_tag(tag)
    assert parse_version_tag("r4p7") == (4, 7)
    assert parse_season("dp60") == parse_season(60) == 60
    with pytest.raises(InputError):
        parse_season("sixty")
