"""What a server does by itself: it tells people, limits what is shared, closes dead runs, shows its figures."""

import json
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextvars import copy_context

import pyarrow as pa
import pytest
from listed_nights import NIGHT, check_map, write_list
from prefect import flow, get_client
from prefect.automations import AutomationCore
from prefect.client.orchestration import SyncPrefectClient
from prefect.events import Event, Resource
from prefect.states import Cancelling, Crashed, Failed, Pending, Running
from pydantic import SecretStr

from bench.receiver import receiving
from blocks.folders import register_blocks
from blocks.live_runs import runs_of_this_machine
from blocks.nights import read_night
from blocks.notification import WEBHOOK, NotificationTarget
from blocks.site import Site
from deployments.events.registry import register_night
from deployments.server.applied import Applied
from deployments.server.automations import (
    CANDIDATE_RANKED,
    FORMER_NAMES,
    NIGHT_FAILED,
    NOTIFICATIONS,
    RUN_CRASHED,
    SIGN_OF_LIFE,
    ZOMBIES,
    create_automations,
)
from deployments.server.dead_runs import UNCHANGED_S, DeadRuns
from deployments.server.identity import authorization, metrics_token
from deployments.server.limits import create_limits
from deployments.server.metrics import serve_metrics
from deployments.server.server import ask_server, server_for
from imaging.errors import InputError
from imaging.io.candidates import write_candidates
from imaging.schemas.candidates import CANDIDATES
from tasks.announce_candidates import announce_candidates
from tasks.engine.limits import slot
from tasks.jobs import StepJob
from tasks.steps import EXPOSURES, LIMITS, WRITE_NIGHTS

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Site:
    return Site.at(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def server(site):
    """A server of the site's own, with its blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PREFECT_API_URL", raising=False)
        with server_for(site) as found:
            register_blocks(site)
            yield found


@pytest.fixture
def receiver():
    """What takes notifications on this machine: its address, and the texts that it has been sent."""
    with receiving() as found:
        yield found


@pytest.fixture
def told(server, receiver):
    """Let the server tell the receiver; nobody is told after the test."""
    address, texts = receiver
    create_automations(NotificationTarget(webhook=SecretStr(address)), flows=["rank-night"])
    time.sleep(2.0)  # the server reads its automations anew
    yield texts
    create_automations(NotificationTarget())


def wait_for_text(texts, seconds=40.0) -> str:
    deadline = time.monotonic() + seconds
    while not texts:
        assert time.monotonic() < deadline, "nobody was told"
        time.sleep(0.2)
    return texts.pop(0)


@flow(name="process-night", flow_run_name="process-night-20170818")
def failing_night():
    return Failed(message="night 20170818: 0 of 2 done; failed: raw file is missing")


@pytest.fixture
def ranked(site, tmp_path):
    """A registered night with ranked candidates, best first: (score, flags)."""
    if not (site.nights / str(NIGHT)).exists():
        skymap = tmp_path / "map.fits"
        skymap.write_bytes(b"SIMPLE map")
        exposures = write_list(tmp_path / "list.csv", [1300001, 1300002])
        register_night(site, NIGHT, event="GW170817", skymap=skymap, exposures=exposures, check_skymap=check_map)

    def write(*found):
        columns = {name: pa.nulls(len(found), CANDIDATES.field(name).type) for name in CANDIDATES.names}
        numbers = {
            "candidate_id": [f"GW{number}" for number, _, _ in found],
            "rank": list(range(1, len(found) + 1)),
            "rank_score": [score for _, score, _ in found],
            "flags": [flags for _, _, flags in found],
            "ra": [197.45] * len(found),
            "dec": [-23.38] * len(found),
            "mag_last": [17.5] * len(found),
        }
        columns |= {name: pa.array(values, CANDIDATES.field(name).type) for name, values in numbers.items()}
        path = StepJob(night=NIGHT, site=site).product_path("candidates.parquet")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_candidates(path, pa.table(columns).select(CANDIDATES.names))
        return read_night(site, NIGHT)

    yield write
    (read_night(site, NIGHT).folder / "candidates.announced").unlink(missing_ok=True)


def test_a_failed_night_is_told_with_its_reason_and_where_to_look(server, told):
    failing_night(return_state=True)
    text = wait_for_text(told)
    assert "process-night-20170818: Failed\nnight 20170818: 0 of 2 done; failed: raw file is missing" in text
    assert f"{server.ui_url}/" in text, "the address of the run's page"


def test_candidates_that_stand_out_are_told_of_once(site, told, ranked):
    night = ranked((1, 15.7, 0), (2, 13.4, 1), (3, 12.1, 0), (4, 9.9, 0))
    assert announce_candidates(night, site) == ["GW1", "GW3"], "neither a flagged one nor a low score"
    assert wait_for_text(told) == (
        "2 candidates of GW170817, night 20170818, with a score of 10 or more\n"
        "1. GW1 at 197.45000 -23.38000, 17.50 mag, score 15.7\n"
        "3. GW3 at 197.45000 -23.38000, 17.50 mag, score 12.1"
    )
    assert announce_candidates(night, site) == [], "a second ranking tells nothing twice"
    night = ranked((1, 15.7, 0), (4, 11.9, 0))
    assert announce_candidates(night, site) == ["GW4"], "one that has risen"
    assert "GW4" in wait_for_text(told)


def test_what_the_server_was_not_told_of_is_announced_with_the_next_ranking(site, ranked):
    def down(*event, **content):
        raise ConnectionError("no server")

    night = ranked((1, 15.7, 0))
    heard = []
    assert announce_candidates(night, site, emit_event=down, minimum_score=10.0) == []
    emit = lambda name, event_id, resource, **told: heard.append((resource, told["payload"]["candidates"]))  # noqa: E731
    assert announce_candidates(night, site, emit_event=emit, minimum_score=10.0) == ["GW1"]
    assert [(resource, [row["candidate_id"] for row in rows]) for resource, rows in heard] == [
        (f"gw.night.{NIGHT}", ["GW1"])
    ]


def test_nobody_is_told_where_nobody_is_named_and_what_is_off_stays_off(server, receiver, monkeypatch):
    renewed = []
    target = NotificationTarget(webhook=SecretStr(receiver[0]))
    assert set(create_automations(target)) == {ZOMBIES, *NOTIFICATIONS}
    with get_client(sync_client=True) as client:
        (found,) = client.read_automations_by_name(NIGHT_FAILED)
        client.pause_automation(found.id)
        with monkeypatch.context() as patch:
            patch.setattr(SyncPrefectClient, "update_automation", lambda self, identity, new: renewed.append(new.name))
            create_automations(target)
            assert renewed == [], "the server would forget whose heartbeats it waits for"
            create_automations(target, flows=["rank-night"])
            assert renewed == [RUN_CRASHED]
        create_automations(target)
        assert [a.enabled for a in client.read_automations_by_name(NIGHT_FAILED)] == [False], "made once, and still off"
        assert create_automations(NotificationTarget()) == (ZOMBIES,)
        assert client.read_automations_by_name(NIGHT_FAILED) == client.read_automations_by_name(CANDIDATE_RANKED) == []


def test_an_automation_with_a_former_name_is_renamed_and_stays_off(server, receiver):
    target = NotificationTarget(webhook=SecretStr(receiver[0]))
    create_automations(target)
    with get_client(sync_client=True) as client:
        (found,) = client.read_automations_by_name(NIGHT_FAILED)
        former = found.model_copy(update={"name": FORMER_NAMES[NIGHT_FAILED], "enabled": False})
        client.update_automation(
            found.id, AutomationCore.model_validate(former.model_dump(exclude={"id", "owner_resource"}))
        )
        assert client.read_automations_by_name(NIGHT_FAILED) == []
        create_automations(target)
        (renamed,) = client.read_automations_by_name(NIGHT_FAILED)
        assert (renamed.id, renamed.enabled) == (found.id, False)
        assert client.read_automations_by_name(FORMER_NAMES[NIGHT_FAILED]) == []
        create_automations(NotificationTarget())
        assert client.read_automations_by_name(NIGHT_FAILED) == []


def test_a_block_that_does_not_send_is_refused(server):
    for name in ("slack-webhook/nobody", "nonsense"):
        with pytest.raises(InputError, match="no such notification block"):
            create_automations(NotificationTarget(prefect_block=name))
    with pytest.raises(InputError, match="not a notification block"):
        create_automations(NotificationTarget(prefect_block="gw-compute-cluster/default"))


def test_the_address_of_the_target_is_a_secret(server, receiver):
    NotificationTarget(webhook=SecretStr(receiver[0])).save("secret-test", overwrite=True)
    create_automations(NotificationTarget(webhook=SecretStr(receiver[0])))
    shown = json.dumps(ask_server(server.api_url, "block_documents/filter", {"limit": 200}))
    assert WEBHOOK in shown
    assert "secret-test" in shown
    assert receiver[0] not in shown
    create_automations(NotificationTarget())


def test_limits_are_made_once_and_hold(server, monkeypatch, tmp_path):
    applied = Applied(tmp_path / "applied.json", "embedded")
    create_limits(applied, exposures=3)
    with get_client(sync_client=True) as client:
        assert client.read_global_concurrency_limit_by_name(EXPOSURES).limit == 3
        client.upsert_global_concurrency_limit_by_name("gw-disk", 5)
        create_limits(applied)
        found = {limit.name: limit.limit for limit in client.read_global_concurrency_limits(limit=50)}
    assert found == LIMITS | {EXPOSURES: 3, "gw-disk": 5}, "what somebody has changed stays"

    order = []

    def write(name, seconds):
        with slot(WRITE_NIGHTS):
            order.append(f"{name} begins")
            time.sleep(seconds)
            order.append(f"{name} ends")

    first = threading.Thread(target=copy_context().run, args=(write, "one", 1.0))
    first.start()
    time.sleep(0.5)
    write("two", 0.0)
    first.join()
    assert order == ["one begins", "one ends", "two begins", "two ends"]


def test_a_limit_that_cannot_be_asked_for_holds_nobody_up(monkeypatch, caplog):
    import httpx

    def away(*names, **options):
        raise httpx.ConnectError("no server")

    monkeypatch.setattr("tasks.engine.limits.concurrency", away)
    monkeypatch.setattr(
        "tasks.engine.limits.PREFECT_API_URL", type("Set", (), {"value": staticmethod(lambda: "http://x/api")})
    )
    with slot(WRITE_NIGHTS):
        pass
    assert "continuing without a slot of gw-write-nights" in caplog.text
    with slot(None):
        pass


def test_a_run_whose_caller_was_closed_is_closed_too(site, server):
    closed = []

    @flow(flow_run_name="called")
    def called(caller):
        assert DeadRuns(site).look() == [], "both go on"
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(caller, Crashed(message="no heartbeat"), force=True)
        closed.extend(DeadRuns(site).look())

    @flow
    def calling():
        from prefect.runtime import flow_run

        return called(flow_run.id)

    calling(return_state=True)
    assert closed == ["called"]
    assert DeadRuns(site).look() == []


SILENCE_S = 6.0


@pytest.fixture
def left_running(server, monkeypatch):
    """Return a function that leaves a run as a cut of the power does: it says Running, and nobody works on it."""
    monkeypatch.setattr("deployments.server.dead_runs.SILENCE_S", SILENCE_S)
    runs = []

    @flow
    def left():
        pass

    with get_client(sync_client=True) as client:

        def leave(name, state=None):
            run = client.create_flow_run(left, name=name).id
            client.set_flow_run_state(run, state or Running(), force=True)
            runs.append(run)
            return run

        yield leave
        for run in runs:
            client.delete_flow_run(run)


def beat(server, run):
    """Send a sign of life of a run."""
    event = Event(event=SIGN_OF_LIFE, resource=Resource({"prefect.resource.id": f"prefect.flow-run.{run}"}))
    body = json.dumps([event.model_dump(mode="json")]).encode()
    headers = {"Content-Type": "application/json", **authorization(server.api_url)}
    post = urllib.request.Request(f"{server.api_url}/events", body, headers)
    urllib.request.urlopen(post, timeout=10).close()


def test_a_run_that_has_gone_silent_is_closed_when_it_was_silent_for_long(site, server, left_running, monkeypatch):
    dead, alive = left_running("dead"), left_running("alive")
    left_running("of somebody whose flows send no heartbeats")
    for run in (dead, alive):
        beat(server, run)
    time.sleep(SILENCE_S + 0.5)
    now = iter([0.0, SILENCE_S - 1.0, SILENCE_S, 0.0, 1000.0])
    runs = DeadRuns(site, clock=lambda: next(now))
    assert (runs.look(), runs.has_suspects) == ([], True), "the server may have been away and have missed some"
    beat(server, alive)
    time.sleep(2.0)  # events are stored in batches
    assert runs.look() == []
    assert runs.look() == ["dead"]
    assert not runs.has_suspects
    with get_client(sync_client=True) as client:
        states = [client.read_flow_run(run).state for run in (dead, alive)]
        assert [state.name for state in states] == ["Crashed", "Running"]
        assert "no heartbeat" in states[0].message
        client.set_flow_run_state(dead, Running(), force=True)

    runs.look()
    with monkeypatch.context() as patch:

        def away(*question):
            raise ConnectionRefusedError

        patch.setattr("deployments.server.dead_runs.ask_server", away)
        with pytest.raises(ConnectionRefusedError):
            runs.look()
    assert not runs.has_suspects, "a server that is away makes the silence count anew"


def test_a_run_whose_start_or_cancelling_was_interrupted_is_closed(site, server, left_running):
    pending, cancelling = left_running("pending", Pending()), left_running("cancelling", Cancelling())

    def names():
        with get_client(sync_client=True) as client:
            return [client.read_flow_run(run).state.name for run in (pending, cancelling)]

    now = iter([0.0, UNCHANGED_S - 1.0, UNCHANGED_S])
    watcher = DeadRuns(site, clock=lambda: next(now))
    assert (watcher.look(), watcher.look()) == ([], []), "some process may be at work on them"
    assert names() == ["Pending", "Cancelling"]
    assert sorted(watcher.look()) == ["cancelling", "pending"]
    assert names() == ["Crashed", "Cancelled"], "without a deployment nobody can start the first again"


LASTING_FLOW = """
import sys, time
from prefect import flow
from tasks.engine.final_state import keep_result

@keep_result
@flow(flow_run_name="lasting")
def lasting(site: str):
    print("begun", flush=True)
    time.sleep(600)

lasting(sys.argv[1])
"""


@pytest.fixture
def lasting(site, server):
    """A process with a flow run that lasts, and the identity of the run."""
    command = [sys.executable, "-c", LASTING_FLOW, str(site.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "begun\n"
        yield process, next(run for run, is_alive in runs_of_this_machine(site).items() if is_alive)
        process.kill()


def test_a_run_is_dead_when_its_process_is_and_no_sooner(site, lasting):
    process, run = lasting
    watcher = DeadRuns(site)
    with get_client(sync_client=True) as client:

        def state():
            return client.read_flow_run(run).state.name

        process.send_signal(signal.SIGSTOP)
        client.set_flow_run_state(run, Crashed(message="no heartbeat for 90 s"), force=True)
        assert (watcher.look(), state()) == ([], "Running"), "a stopped process may go on"
        process.kill()
        process.wait()
        assert (watcher.look(), state()) == (["lasting"], "Crashed"), "a killed one does not"
    assert runs_of_this_machine(site) == {}


def test_who_starts_all_runs_knows_at_once_that_earlier_ones_are_dead(site, server, left_running):
    earlier = left_running("earlier", Cancelling())
    time.sleep(0.1)
    watcher = DeadRuns(site, owns_all=True)
    left_running("of its own", Cancelling())
    assert watcher.look() == ["earlier"]
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(earlier).state.name == "Cancelled"


def scrape(url: str, token: str = "") -> str:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        return answer.read().decode()


def test_prometheus_finds_figures_of_the_server_and_of_the_site(site, server, ranked):
    ranked((1, 15.7, 0))
    failing_night(return_state=True)
    token = metrics_token(site.state / "server")
    assert "process_cpu_seconds_total" in scrape(f"{server.api_url}/metrics", token)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        scrape(f"{server.api_url}/version", token)
    figures = serve_metrics(site, 0)
    try:
        found = scrape(f"http://127.0.0.1:{figures.server_port}/metrics")
        with pytest.raises(InputError, match="port is in use"):
            serve_metrics(site, figures.server_port)
    finally:
        figures.shutdown()
        figures.server_close()
    numbers = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in found.splitlines() if line[0] != "#"}
    assert numbers["gw_server_up"] == 1.0
    assert numbers['gw_runs{state="failed"}'] >= 1.0
    assert numbers[f'gw_night_exposures{{night="{NIGHT}"}}'] == 2.0
    assert numbers["gw_pending_nights"] == 1.0
    assert numbers["gw_database_bytes"] > 1e5
    assert numbers['gw_disk_free_bytes{folder="state"}'] > 0.0
