"""The bench gives HOTPANTS what HOTPANTS expects, if a user has it."""

import sys

from bench.difference_peers import hotpants_seconds

STUB = """\
#!{python}
import sys
import time
import fitsio

words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
image, template = fitsio.read(words["-inim"]), fitsio.read(words["-tmplim"])
assert image.shape == template.shape, "both on one grid"
assert words["-n"] in ("i", "t", "u") and int(words["-ko"]) >= 0 and int(words["-bgo"]) >= 0
for side in "it":
    assert float(words[f"-{side}l"]) < float(words[f"-{side}u"])
begin = time.process_time()
while time.process_time() - begin < 0.3:
    pass
fitsio.write(words["-outim"], image - template)
"""


def test_a_program_that_obeys_hotpants_command_line_is_timed(truth, searched, tmp_path, monkeypatch):
    program = tmp_path / "hotpants"
    program.write_text(STUB.replace("{python}", sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("HOTPANTS", str(program))
    seconds = hotpants_seconds(truth, searched)
    assert seconds is not None and 0.3 < seconds < 30.0


def test_without_the_program_nothing_is_timed(truth, searched, monkeypatch):
    monkeypatch.delenv("HOTPANTS", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    assert hotpants_seconds(truth, searched) is None
