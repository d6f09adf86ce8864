"""Two users and one site: of a group, whatever their umasks are, or of one of them, which the other is told."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from blocks.sharing import ALONE, MARK, TOGETHER, follow, group_of, private_modes, share
from blocks.site import FOLDERS, Site
from deployments.cli.main import run
from deployments.server.identity import make_secret
from deployments.server.private import read_secret
from imaging.errors import InputError
from tests.users import ALICE, BOB, GROUP, ROOT, STRANGER, WHY_NOT, can_be_others, command_of, gw_workflow, home_of

pytestmark = [
    pytest.mark.security,
    pytest.mark.skipif(not can_be_others(), reason=WHY_NOT),
]

WORK = """
import os
import sys
from pathlib import Path
import httpx
from deployments.cli.main import run
from blocks.folders import load_site
from deployments.server.server import server_for
from toy_steps import jobs_for, toy_flow

site = load_site(Path(sys.argv[1]))
for words in sys.argv[2:]:
    print(int(run([*words.split(), "--site", sys.argv[1]])), flush=True)
with server_for(site) as server:
    for overwrite in (False, True):
        print([outcome.cached for outcome in toy_flow(jobs_for(site, [1, 2]), overwrite=overwrite)], flush=True)
    print("done", server.user, flush=True)
    page = httpx.get(server.ui_url, auth=tuple(os.environ["PREFECT_API_AUTH_STRING"].split(":", 1)), timeout=60)
    print("page", page.status_code, "<title>Prefect Server</title>" in page.text, flush=True)
    sys.stdin.readline()
"""

COMMANDS = """
import sys
from deployments.cli.main import run
for words in sys.argv[2:]:
    sys.stderr.write(f"{words}: ")
    sys.stderr.write(f"{int(run([*words.split(), '--site', sys.argv[1]]))}\\n")
"""


@pytest.fixture
def place():
    """A folder in which everybody may create a site; that of other tests is for their user alone."""
    folder = Path(tempfile.mkdtemp(prefix="sites-"))
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def started():
    """Start a script or command as a user with a home folder and an umask, as a member of the group or not."""
    with ExitStack() as opened:
        homes: dict[int, dict[str, str]] = {}

        def start(user, *words, umask=0o022, member=True):
            if user not in homes:
                homes[user] = opened.enter_context(home_of(user))
            environment = homes[user] | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests/tasks/engine")))}
            command = command_of(user, words, umask=umask, groups=[GROUP] if member else ())
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            process = opened.enter_context(subprocess.Popen(command, env=environment, cwd="/", text=True, **pipes))
            opened.callback(process.kill)
            return process

        yield start


def modes(root):
    """Return the modes of everything below a folder, but of files of Prefect's that no other user needs."""
    found = set()
    for path in (root, *root.rglob("*")):
        with suppress(FileNotFoundError):  # the server ends, and with it temporary files of its database
            status = path.stat()
            if path.name != "memo_store.toml" and "server/pages/" not in str(path):
                found.add((stat.S_ISDIR(status.st_mode), stat.S_IMODE(status.st_mode), status.st_gid))
    return found


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.parametrize(("umask", "other"), [(0o077, 0o022), (0o002, 0o077)], ids=oct)
def test_two_members_of_a_group_work_on_one_site_whatever_their_umask(place, started, umask, other):
    root = place / "site"
    shared = started(ALICE, *gw_workflow("share", GROUP, "--site", root), umask=umask)
    assert shared.wait(300) == 0, shared.stderr.read()
    alice = started(ALICE, sys.executable, "-c", WORK, root, umask=umask)
    lines = [alice.stdout.readline().strip() for _ in range(4)]
    assert lines == ["[False, False]", "[False, False]", "done", "page 200 True"], alice.stderr.read()
    pages = root / "state/server/pages" / str(ALICE)
    assert any(pages.rglob("index.html")), "not in the installation, in which she may not write"

    bob = started(BOB, sys.executable, "-c", WORK, root, "status --json", "doctor", umask=other)
    out, err = bob.communicate("\n", timeout=600)
    status, end = json.JSONDecoder().raw_decode(out)
    assert status["server_of"] == f"user {ALICE}", "who runs the server is named"
    assert status["running"] == []
    assert [(each["subject"], each["done"]) for each in status["subjects"]] == [("1300001", {"toy": 2})]
    assert f"run by user {ALICE}" in out[end:]
    assert "bad     file locks" not in out[end:]
    assert out.splitlines()[-4:] == ["[True, True]", "[False, False]", f"done user {ALICE}", "page 200 True"], err

    stranger = started(STRANGER, *gw_workflow("status", "--site", root), umask=umask, member=False)
    _, err = stranger.communicate(timeout=300)
    assert stranger.returncode == 1
    assert err.count("\n") == 1
    assert f"{root}: of user {ALICE}, mode 2770; this is user {STRANGER}" in err
    assert f"member of the group {GROUP}" in err

    alice.communicate("\n", timeout=300)
    assert modes(root) == {(True, 0o2770, GROUP), (False, 0o660, GROUP)}
    assert len((root / "calls").read_text().split()) == 6, "what one has written the other has replaced"


@pytest.mark.parametrize("umask", [0o022, 0o077], ids=oct)
def test_a_site_of_one_user_is_refused_to_another_by_one_sentence(place, started, umask):
    root = place / "site"
    made = "import sys; from pathlib import Path; from deployments.server.identity import make_secret; "
    made += "make_secret(Path(sys.argv[1]) / 'state/server')"
    alice = started(ALICE, sys.executable, "-c", made, root, umask=umask)
    assert alice.wait(300) == 0, alice.stderr.read()
    commands = ["status", "doctor", "serve", "sign-in", "rotate-secret", "listen --client-id 1", "share 40010"]
    commands += ["single-epoch -E 1300001 -b i -n 20240510 -r 1 -p 1 -S 1"]
    bob = started(BOB, sys.executable, "-c", COMMANDS, root, *commands, umask=umask)
    out, err = bob.communicate(timeout=600)
    assert (bob.returncode, out) == (0, ""), err
    told = err.splitlines()
    assert len(told) == 2 * len(commands), err
    for line, code in zip(told[::2], told[1::2], strict=True):
        assert code == "1"
        assert f"of user {ALICE}, mode 7" in line
        assert f"this is user {BOB}" in line
        assert f"gw-workflow share GROUP --site {root}" in line or line.startswith("share")


def test_sharing_takes_what_is_there_and_leaves_what_is_elsewhere(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("raw")
    outside.chmod(0o644)
    site = Site.at(tmp_path / "site", calibrations=tmp_path / "library")
    (tmp_path / "library").mkdir(mode=0o755)
    make_secret(site.state / "server")
    site.raw.mkdir()
    (site.raw / "link").symlink_to(outside)
    (site.root / "site.csv").touch(0o604)
    before = os.umask(0o022)
    try:
        follow(site)
        assert os.umask(0o022) == 0o022, "a private site leaves the umask as it is"
        assert share(site, str(GROUP)) == []
        os.umask(0o022)
        follow(site)
        assert os.umask(0o022) == 0o007
    finally:
        os.umask(before)
    assert modes(site.root) - {(False, 0o644, 0)} == {(True, 0o2770, GROUP), (False, 0o660, GROUP)}
    assert stat.S_IMODE(outside.stat().st_mode) == 0o644
    assert stat.S_IMODE(site.calibrations.stat().st_mode) == 0o755, "a library elsewhere serves other sites too"
    assert {name for name in FOLDERS if getattr(site, name).is_dir()} == set(FOLDERS)
    assert group_of(site.state) == str(GROUP)
    secret = site.state / "server" / "secret"
    assert read_secret(secret)
    secret.chmod(0o664)
    with pytest.raises(InputError, match=r"open to others.*allowed: 660.*chmod 660"):
        read_secret(secret)
    assert private_modes(secret) == TOGETHER
    assert private_modes(tmp_path / "backup") == private_modes(site.root / "backup") == ALONE
    (site.state / MARK).unlink()
    assert private_modes(secret) == ALONE


def test_a_group_that_there_is_not_is_refused(tmp_path, capsys):
    assert run(["share", "no-such-group", "--site", str(tmp_path)]) == 1
    assert "there is no such group (no-such-group)" in capsys.readouterr().err
    assert not (tmp_path / "state").exists()
