"""Reports are sent once, to whom the block names, and only when asked; the receivers are on this machine."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pyarrow as pa
import pytest
from receivers import KEY, TOKEN, USER_AGENT, receiving

from bench.candidates import prepare
from bench.ranked_site import write_site
from blocks.nights import read_night
from blocks.receivers import BrokerCredentials, SkyPortalCredentials, TnsCredentials
from deployments.cli import main
from deployments.reports import sending
from deployments.reports.candidates import ranked_table
from deployments.reports.ledger import earlier_deliveries, ledger_path, open_ledger
from deployments.reports.reports import Report, make_report
from deployments.reports.sending import TRIES, counts, send_to_broker, send_to_skyportal
from deployments.reports.sending_tns import judge_entry, send_to_tns
from imaging.candidates.reports import ReportSettings
from imaging.candidates.settings import CandidateSettings
from imaging.errors import InputError
from imaging.io.packets import read_packets
from imaging.simulation.candidate_sources import NIGHT
from imaging.skymap.settings import CoverageSettings
from tasks.rank import rank
from tasks.ranked_tables import rerank_job

WHO = ReportSettings(
    reporter="A. Person, on behalf of a team",
    tns_group_id=135,
    skyportal_filter_ids=(1,),
    skyportal_group_ids=(2,),
    skyportal_instrument_id=4,
)


@pytest.fixture(scope="module")
def ranked(tmp_path_factory):
    synthetic, table, forced = prepare(2, scale=0.05)
    settings = CandidateSettings(coverage=CoverageSettings(order=10))
    root = tmp_path_factory.mktemp("sent")
    site = write_site(root, table, forced, synthetic.skymap, synthetic.footprints, settings, with_stamps=True)
    rank(rerank_job(NIGHT, read_night(site, NIGHT).skymap, site))
    return site


@pytest.fixture
def site(ranked, tmp_path):
    return ranked.model_copy(update={"state": tmp_path / "state"})


@pytest.fixture
def receiver():
    with receiving() as server:
        yield server


@pytest.fixture
def waits():
    return []


def report_of(site, form, n=3) -> Report:
    return make_report(site, NIGHT, ranked_table(site, NIGHT).slice(0, n), form, WHO)


def to_skyportal(site, receiver, waits, *, token=TOKEN, **options):
    block = SkyPortalCredentials(address=receiver.address + "/", token=token)
    with open_ledger(site, "skyportal", block.address) as ledger:
        return send_to_skyportal(report_of(site, "skyportal"), block, ledger, wait=waits.append, **options)


def to_tns(site, receiver, waits, n=3, **options):
    block = TnsCredentials(address=receiver.address, bot_id=7, bot_name="a_bot", api_key=KEY)
    with open_ledger(site, "tns", block.address) as ledger:
        return send_to_tns(report_of(site, "tns", n), block, ledger, wait=waits.append, **options)


def test_what_is_known_is_no_discovery_for_the_name_server(site):
    table = ranked_table(site, NIGHT).slice(0, 4)
    columns = {"reported_in": ["tns", "ztf", None, None], "reported_as": ["AT2026abc", "ZTF26aaaaaaa", None, None]}
    columns["minor_planet"] = [None, None, "2001 AB1", None]
    for name, values in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values, pa.string()))
    names = table.column("candidate_id").to_pylist()
    made = make_report(site, NIGHT, table, "tns", WHO)
    assert [entry.candidate_id for entry in made.entries] == [names[1], names[3]]
    assert made.left_out == {
        names[0]: "reported to the TNS already as AT2026abc",
        names[2]: "the minor planet 2001 AB1",
    }
    assert len(make_report(site, NIGHT, table, "skyportal", WHO).entries) == 4


REQUESTS = 6
"""Requests for a candidate: itself, photometry, annotation, three thumbnails."""


def test_skyportal_takes_the_requests_of_each_candidate_and_nothing_twice(site, receiver, waits):
    deliveries = to_skyportal(site, receiver, waits)
    assert counts(deliveries) == {"taken": 3}
    names = [row["candidate_id"] for row in ranked_table(site, NIGHT).slice(0, 3).to_pylist()]
    last = ["/api/thumbnail"] * 3
    right = [p for n in names for p in ("/api/candidates", "/api/photometry", f"/api/sources/{n}/annotations", *last)]
    assert receiver.paths() == right
    assert [document["id"] for _, path, document in receiver.got if path == "/api/candidates"] == names
    again = to_skyportal(site, receiver, waits)
    assert len(receiver.got) == 3 * REQUESTS, "nothing is sent twice"
    assert {(o.state, o.sent) for o in again} == {("taken", False)}
    to_skyportal(site, receiver, waits, resend=True)
    assert len(receiver.got) == 6 * REQUESTS
    assert [m for m, path, _ in receiver.got if "annotations" in path] == ["POST"] * 3 + ["PUT"] * 3
    receiver.refused = set(names)
    assert counts(to_skyportal(site, receiver, waits, resend=True)) == {"refused": 3}
    assert counts(to_skyportal(site, receiver, waits)) == {"taken": 3}, "what was once taken stays taken"


def test_a_busy_receiver_is_asked_again_with_growing_waits(site, receiver, waits):
    receiver.troubles = [503, 429, 500]
    assert counts(to_skyportal(site, receiver, waits)) == {"taken": 3}
    assert waits == [2.0, 7.0, 8.0], "the receiver's own wait counts where it is longer"


def test_patience_ends_and_the_next_run_goes_on_where_it_ended(site, receiver, waits):
    receiver.troubles = [503] * TRIES
    deliveries = to_skyportal(site, receiver, waits)
    assert counts(deliveries) == {"refused": 1, "taken": 2}
    assert "503" in next(o.reply for o in deliveries if o.state == "refused")
    assert counts(to_skyportal(site, receiver, waits)) == {"taken": 3}
    assert len(receiver.got) == 3 * REQUESTS


def test_what_may_have_arrived_is_not_repeated(site, receiver, waits):
    receiver.troubles = ["hang up"]
    first = to_skyportal(site, receiver, waits)
    told = 1 + 2 * REQUESTS
    assert (first[0].state, len(first)) == ("unknown", told), "its photometry is not sent without the candidate"
    second = to_skyportal(site, receiver, waits)
    assert (second[0].state, second[0].sent) == ("unknown", False)
    assert len(receiver.got) == 2 * REQUESTS


def test_a_change_of_an_annotation_that_was_interrupted_is_made_by_the_next_run(site, receiver, waits):
    """The content that SkyPortal has is known from the ledger; replacing it twice does no harm."""
    to_skyportal(site, receiver, waits)
    made = report_of(site, "skyportal", 1)
    annotation = made.entries[0].content[2]["json"]
    annotation["data"]["rank"] = 77
    place = made.entries[0].candidate_id, annotation["origin"]
    block = SkyPortalCredentials(address=receiver.address, token=TOKEN)
    with open_ledger(site, "skyportal", block.address) as ledger:
        receiver.troubles = ["hang up"]  # the PUT
        assert {o.state for o in send_to_skyportal(made, block, ledger, wait=waits.append)} == {"taken", "unknown"}
        assert receiver.annotations[place][1]["rank"] == 1
    with open_ledger(site, "skyportal", block.address) as ledger:
        assert counts(send_to_skyportal(made, block, ledger, wait=waits.append)) == {"taken": 1}
    assert receiver.annotations[place][1]["rank"] == 77


def test_a_question_without_an_answer_sends_nothing_and_is_asked_again(site, receiver, waits, monkeypatch):
    original = sending.ask
    with monkeypatch.context() as patch:

        def ask(client, method, path, **options):
            if method == "GET":
                raise sending.UnansweredError("hung up")
            return original(client, method, path, **options)

        patch.setattr(sending, "ask", ask)
        deliveries = to_skyportal(site, receiver, waits)
    assert counts(deliveries) == {"refused": 3}
    assert not any("annotations" in path for path in receiver.paths())
    assert counts(to_skyportal(site, receiver, waits)) == {"taken": 3}
    assert len(receiver.annotations) == 3


def test_one_refused_candidate_does_not_keep_the_others(site, receiver, waits):
    victim = ranked_table(site, NIGHT).column("candidate_id")[1].as_py()
    receiver.refused = {victim}
    deliveries = to_skyportal(site, receiver, waits)
    assert [(o.candidate_id, o.reply) for o in deliveries if o.state == "refused"] == [
        (victim, "400: Insufficient permissions")
    ]
    assert counts(deliveries) == {"refused": 1, "taken": 2}


def test_a_wrong_token_is_said_and_kept_out_of_the_ledger(site, receiver, waits):
    deliveries = to_skyportal(site, receiver, waits, token="nothing")
    assert counts(deliveries) == {"refused": 3}
    assert "401" in deliveries[0].reply
    to_skyportal(site, receiver, waits)
    assert TOKEN not in ledger_path(site, "skyportal").read_text()


def test_a_receiver_that_is_not_there_is_an_error(site, waits):
    with receiving() as gone:
        pass
    with pytest.raises(InputError, match="cannot be reached"):
        to_skyportal(site, gone, waits)
    assert len(waits) == TRIES - 1


def test_the_tns_gets_one_report_and_gives_names(site, receiver, waits):
    receiver.verdicts_late = 2
    deliveries = to_tns(site, receiver, waits)
    assert [o.reply for o in deliveries] == ["2026aaa", "2026aab", "2026aac"]
    assert (counts(deliveries), waits) == ({"taken": 3}, [5.0, 5.0])
    assert receiver.paths() == ["/api/set/bulk-report"]
    names = [entry["internal_name"] for entry in receiver.reports[0].values()]
    assert names == ranked_table(site, NIGHT).slice(0, 3).column("candidate_id").to_pylist()
    fourth = to_tns(site, receiver, waits, n=4)
    assert [o.sent for o in fourth] == [False, False, False, True]
    assert len(receiver.reports[1]) == 1, "only the one that the TNS has not got"


def with_charts(made: Report) -> Report:
    entries = tuple(replace(item, chart=lambda: b"\x89PNG a chart") for item in made.entries)
    return Report("tns", entries, {})


def test_charts_are_uploaded_before_the_report_and_once(site, receiver, waits):
    block = TnsCredentials(address=receiver.address, bot_id=7, bot_name="a_bot", api_key=KEY)
    made = with_charts(report_of(site, "tns", 2))
    receiver.refused = {made.entries[0].candidate_id}
    with open_ledger(site, "tns", block.address) as ledger:
        first = send_to_tns(made, block, ledger, wait=waits.append)
        assert counts(first) == {"refused": 1, "taken": 1}
        receiver.refused = set()
        assert counts(send_to_tns(made, block, ledger, wait=waits.append)) == {"taken": 2}
    assert receiver.paths() == ["/api/set/file-upload"] * 2 + ["/api/set/bulk-report"] * 2
    names = [
        entry["related_files"]["0"]["related_file_name"] for report in receiver.reports for entry in report.values()
    ]
    assert names == [*receiver.uploaded, next(iter(receiver.uploaded))], "the refused one refers to its chart again"


def test_a_chart_that_is_not_taken_keeps_back_no_report(site, receiver, waits):
    block = TnsCredentials(address=receiver.address, bot_id=7, bot_name="a_bot", api_key=KEY)
    receiver.troubles = [400]
    with open_ledger(site, "tns", block.address) as ledger:
        deliveries = send_to_tns(with_charts(report_of(site, "tns", 1)), block, ledger, wait=waits.append)
    assert [(o.what, o.state) for o in deliveries] == [("finding_chart", "refused"), ("at_report", "taken")]
    assert counts(deliveries) == {"refused": 1}, "the command says so"
    assert "related_files" not in receiver.reports[0]["0"]


def test_more_than_a_hundred_are_sent_in_several_reports(site, receiver, waits):
    block = TnsCredentials(address=receiver.address, bot_id=7, bot_name="a_bot", api_key=KEY)
    one = report_of(site, "tns", 1).entries[0]
    many = tuple(replace(one, candidate_id=f"GWJ{n:03d}", ra=one.ra + 0.01 * n, chart=None) for n in range(150))
    with open_ledger(site, "tns", block.address) as ledger:
        assert counts(send_to_tns(Report("tns", many, {}), block, ledger, wait=waits.append)) == {"taken": 150}
    assert [len(report) for report in receiver.reports] == [100, 50]


def test_the_tns_says_of_each_candidate_what_is_wrong(site, receiver, waits):
    victim = ranked_table(site, NIGHT).column("candidate_id")[2].as_py()
    receiver.refused = {victim}
    deliveries = to_tns(site, receiver, waits)
    assert [(o.state, o.reply) for o in deliveries][2] == ("refused", "Wrong discovery date")
    assert counts(deliveries) == {"refused": 1, "taken": 2}


def test_a_verdict_that_is_late_is_fetched_by_the_next_run(site, receiver, waits):
    receiver.verdicts_late = 1000
    assert counts(to_tns(site, receiver, waits)) == {"waiting": 3}
    receiver.verdicts_late = 0
    deliveries = to_tns(site, receiver, waits)
    assert [o.reply for o in deliveries] == ["2026aaa", "2026aab", "2026aac"]
    assert len(receiver.reports) == 1


def test_the_same_source_of_another_night_is_not_reported_again(site, receiver, waits):
    to_tns(site, receiver, waits)
    made = report_of(site, "tns", 1)
    told = made.entries[0]
    moved = Report("tns", (type(told)("GWJother", told.ra, told.dec + 0.5 / 3600, told.content),), {})
    block = TnsCredentials(address=receiver.address, bot_id=7, bot_name="a_bot", api_key=KEY)
    with open_ledger(site, "tns", block.address) as ledger:
        deliveries = send_to_tns(moved, block, ledger, wait=waits.append)
    assert (deliveries[0].reply, deliveries[0].sent) == ("2026aaa", False)


def test_a_bot_presents_itself_as_the_tns_wants():
    block = TnsCredentials(bot_id=7, bot_name="a_bot", api_key=KEY)
    assert block.user_agent == USER_AGENT
    assert json.loads(block.user_agent.removeprefix("tns_marker")) == {"tns_id": 7, "type": "bot", "name": "a_bot"}
    assert block.address == "https://sandbox.wis-tns.org", "the real one only for those who ask for it"
    assert KEY not in repr(block)
    with pytest.raises(ValueError, match="https://"):
        SkyPortalCredentials(address="fritz.science", token="x")


def test_feedback_of_any_shape_is_read():
    assert judge_entry({"101": {"message": "known", "objname": "2026b", "prefix": "SN"}}) == ("taken", "2026b")
    assert judge_entry({"ra": {"value": {"5": {"message": "Wrong"}}}, "dec": [{"message": "Bad"}]}) == (
        "refused",
        "Wrong; Bad",
    )
    assert judge_entry({}) == ("refused", "{}")


class FakeProducer:
    """Takes messages and gives them a fate when it is flushed."""

    def __init__(self, fates):
        self.taken, self.fates, self.calls = [], fates, []

    def produce(self, topic, value, key, on_delivery):
        self.taken.append((topic, key, value))
        self.calls.append(on_delivery)

    def flush(self, _timeout):
        for call, fate in zip(self.calls, self.fates, strict=False):
            call(fate, None)
        return 0


@pytest.mark.parametrize("form", ["avro", "ztf"])
def test_a_broker_gets_a_packet_with_its_schema_per_candidate(site, tmp_path, form):
    pytest.importorskip("fastavro")
    made = report_of(site, form)
    producer = FakeProducer([None, "message too large"])
    with open_ledger(site, form, "broker/topic") as ledger:
        deliveries = send_to_broker(made, producer, "kilonovae", ledger)
    assert [(o.state, o.reply) for o in deliveries] == [
        ("taken", ""),
        ("refused", "message too large"),
        ("unknown", "no answer in time"),
    ]
    assert [(topic, key) for topic, key, _ in producer.taken] == [("kilonovae", t.candidate_id) for t in made.entries]
    (tmp_path / "one.avro").write_bytes(producer.taken[0][2])
    (found,), content = read_packets(tmp_path / "one.avro"), made.entries[0].content
    assert {name: found[name] for name in ("objectId", "candid", "cutoutScience")} == {
        name: content[name] for name in ("objectId", "candid", "cutoutScience")
    }
    assert form == "ztf" or found == content
    with open_ledger(site, form, "broker/topic") as ledger:
        again = send_to_broker(made, FakeProducer([None]), "kilonovae", ledger)
    assert {o.candidate_id: (o.state, o.sent) for o in again} == {
        made.entries[0].candidate_id: ("taken", False),
        made.entries[1].candidate_id: ("taken", True),
        made.entries[2].candidate_id: ("unknown", False),
    }


def test_a_broker_with_a_user_is_asked_over_tls():
    plain = BrokerCredentials(servers="a:9092", topic="t").options()
    assert "sasl.username" not in plain
    options = BrokerCredentials(servers="a:9092", topic="t", username="u", password="p").options()
    assert (options["security.protocol"], options["sasl.password"]) == ("sasl_ssl", "p")


def test_the_ledger_survives_a_death_in_mid_line_and_admits_one_sender(site):
    path = ledger_path(site, "tns")
    with open_ledger(site, "tns", "a") as ledger:
        ledger.note("x", 1.0, 2.0, "at_report", "taken", "2026a")
        with pytest.raises(InputError, match="another report"), open_ledger(site, "tns", "a"):
            pass
    path.write_text(path.read_text() + '{"address":"a","candi')
    with open_ledger(site, "tns", "a") as ledger:
        assert ledger.last("x", 1.0, 2.0, "at_report").reply == "2026a"
        ledger.note("y", 3.0, 4.0, "at_report", "sending")
    with open_ledger(site, "tns", "a") as ledger:
        assert ledger.last("y", 3.0, 4.0, "at_report").state == "sending"
        assert ledger.last("z", 9.0, 4.0, "at_report") is None
    assert earlier_deliveries(site, "tns", {"x"})["x"][0]["reply"] == "2026a"
    path.write_text("{}\n")
    with pytest.raises(InputError, match="damaged"), open_ledger(site, "tns", "a"):
        pass


@pytest.fixture
def command(ranked, capsys, monkeypatch, prefect_server, tmp_path):
    from prefect.settings import PREFECT_API_URL

    monkeypatch.setenv("PREFECT_API_URL", PREFECT_API_URL.value())
    who = tmp_path / "who.json"
    who.write_text(WHO.model_dump_json())

    def do(*words):
        options = ("--settings", who, "--best", 2, "--site", ranked.root, "--json")
        code = main.run([str(word) for word in ("report", NIGHT, *words, *options)])
        captured = capsys.readouterr()
        return SimpleNamespace(code=code, document=json.loads(captured.out), error=captured.err)

    return do


@pytest.mark.parametrize("form", ["skyportal", "tns"])
def test_the_command_sends_with_a_block_and_the_flag_only(command, ranked, receiver, form, monkeypatch):
    monkeypatch.setattr("deployments.reports.sending_tns.REPLY_WAIT_S", 0.0)
    without = command("--form", form, "--send", "--receiver", "nobody")
    assert (without.code, "no credentials" in without.document["error"]) == (1, True)
    if form == "tns":
        TnsCredentials(address=receiver.address, bot_id=7, bot_name="a_bot", api_key=KEY).save("test-sending")
    else:
        SkyPortalCredentials(address=receiver.address, token=TOKEN).save("test-sending")
    dry = command("--form", form, "--receiver", "test-sending")
    assert (dry.code, dry.document["sent"], receiver.got) == (0, False, [])
    assert "nothing was sent" in dry.error
    sent = command("--form", form, "--receiver", "test-sending", "--send")
    assert (sent.code, sent.document["sent"], sent.document["counts"]) == (0, True, {"taken": 2})
    assert len(receiver.got) == {"tns": 1, "skyportal": 2 * REQUESTS}[form]
    known = command("--form", form)
    assert len(known.document["sent_before"]) == 2
    once_more = command("--form", form, "--receiver", "test-sending", "--send")
    assert (once_more.code, once_more.document["sent"]) == (0, False)
    assert len(receiver.got) == {"tns": 1, "skyportal": 2 * REQUESTS}[form]
    assert command("--form", form, "--again").code == 1
    receiver.refused = set(ranked_table(ranked, NIGHT).column("candidate_id").to_pylist())
    assert command("--form", form, "--receiver", "test-sending", "--send", "--resend").code == 3
