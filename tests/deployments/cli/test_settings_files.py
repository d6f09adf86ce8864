"""Settings from a file: those named, and the defaults of the others."""

import json

import pytest

from deployments.cli.options import read_settings
from flows.settings import DifferenceStageSettings, NightSettings
from imaging.errors import InputError
from imaging.templates.settings import TemplateSettings


def test_the_rules_of_the_original_can_be_set_by_name(tmp_path):
    path = tmp_path / "rules.json"
    rules = {"min_exptime_s": 60, "min_t_eff": {"i": 0.5}, "min_days": 30, "min_days_before": 20, "min_days_after": 5}
    rules |= {"first_night": 20130301, "last_night": 20251231, "blacklist": [552909, 1]}
    path.write_text(json.dumps({"templates": rules}))
    chosen = read_settings(path, DifferenceStageSettings)
    assert chosen.templates == TemplateSettings(**rules)
    assert chosen.search == DifferenceStageSettings().search
    path.write_text(json.dumps({"difference": {"templates": rules}, "version": {"rnum": 4}}))
    assert read_settings(path, NightSettings).difference.templates.min_days == 30.0


def test_without_a_file_the_defaults_hold_and_the_original_blacklist_with_them():
    assert read_settings(None, NightSettings) == NightSettings()
    assert {552909, 468317, 140065} <= set(NightSettings().difference.templates.blacklist)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"templates": {"min_day": 3}}', "templates.min_day "),
        ('{"templates": {"min_days": "soon"}}', "templates.min_days .soon; allowed"),
        ("{", "Invalid JSON"),
    ],
)
def test_a_misspelt_or_refused_setting_is_named(tmp_path, text, message):
    path = tmp_path / "rules.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_settings(path, DifferenceStageSettings)
    with pytest.raises(InputError, match="missing"):
        read_settings(tmp_path / "none.json", DifferenceStageSettings)
