"""The files of the demonstration, read by the tools that receive them: the quick part of ``bench.outputs``."""

import pytest
from night_site import NIGHT

from bench.outputs import SECTIONS
from bench.outputs_night import ProcessedNight

pytestmark = [pytest.mark.slow, pytest.mark.server]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_the_tools_read_what_the_night_wrote(section, demonstration, tmp_path):
    rows = section(ProcessedNight(demonstration.site, NIGHT, tmp_path))
    assert rows
    wrong = [f"{row.name}: {row.value} (limit {row.limit}, of {row.n})" for row in rows if row.ok is False]
    assert not wrong, "\n".join(wrong)
    unmeasured = [row.name for row in rows if row.value is None]
    assert all(name.endswith(("is absent", "are absent")) for name in unmeasured)
