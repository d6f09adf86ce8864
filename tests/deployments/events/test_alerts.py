"""Gravitational-wave alerts: kept, in order, announced once; through a Kafka broker as they come."""

import base64
import json
from pathlib import Path

import pytest
from astropy.time import Time
from fake_runs import FakeRuns
from listed_nights import check_map, write_list

from blocks.gw_events import alerts_of, current_skymap, event_folder, name_order, read_event
from blocks.nights import read_night
from blocks.site import Site
from deployments.events.alerts import announce_alerts, given_skymap, keep_raw, parse_alert, store_alert
from deployments.events.decisions import look
from deployments.events.listening import listen, open_consumer
from deployments.events.registry import register_night
from imaging.errors import InputError, StorageError
from imaging.io.skymaps import read_skymap, write_skymap
from imaging.skymap.build import gaussian_skymap

EVENT = "MS260605l"
NIGHT = 20260605


@pytest.fixture
def site(tmp_path) -> Site:
    return Site.at(tmp_path / "site")


@pytest.fixture
def alerts(real_data):
    """A preliminary alert, as it was sent, and its retraction."""
    folder = real_data / "skymaps"
    return [(folder / f"igwn_gwalert_{kind}.json").read_bytes() for kind in ("preliminary", "retraction")]


def alert_bytes(skymap_text):
    event = {"time": "2025-01-02T12:00:00.5Z", "far": 1e-12, "significant": True, "instruments": ["H1", "L1"]}
    event |= {"classification": {"BNS": 0.9}, "properties": {"HasNS": 1.0}, "skymap": skymap_text}
    document = {"superevent_id": "S250102a", "alert_type": "INITIAL", "time_created": "2025-01-02T12:03:00Z"}
    return json.dumps(document | {"event": event}).encode()


@pytest.fixture(scope="module")
def skymap():
    return gaussian_skymap(150.0, 2.0, 2.0, distance_mpc=90.0, distance_sigma_mpc=15.0, order=6, name="SIM")


def mjd(text: str) -> float:
    return Time(text.removesuffix("Z").removesuffix("+00:00"), scale="utc").mjd


def test_an_alert_carries_its_map(skymap, tmp_path):
    write_skymap(tmp_path / "m.fits", skymap)
    record, content = parse_alert(alert_bytes(base64.b64encode((tmp_path / "m.fits").read_bytes()).decode()))
    assert (record.superevent, record.alert_type, record.significant) == ("S250102a", "INITIAL", True)
    assert not record.is_retraction
    assert mjd(record.time_event) == pytest.approx(60677.5 + 0.5 / 86400, abs=1e-9)
    assert record.skymap is not None
    assert read_skymap(content[record.skymap]).peak() == skymap.peak()


@pytest.mark.parametrize("form", ["map", "alert", "retraction", "neither", "absent"])
def test_a_given_file_is_a_map_or_an_alert_with_one(skymap, tmp_path, form):
    path = tmp_path / "given"
    write_skymap(path, skymap)
    if form == "alert":
        path.write_bytes(alert_bytes(base64.b64encode(path.read_bytes()).decode()))
    elif form == "retraction":
        document = {"superevent_id": "S250102a", "alert_type": "RETRACTION", "time_created": "2025-01-02T12:03:00Z"}
        path.write_text(json.dumps(document | {"event": None}))
    elif form == "neither":
        path.write_text("RA,DEC\n")
    elif form == "absent":
        path.unlink()
    if form in ("map", "alert"):
        assert given_skymap(path).peak() == skymap.peak()
        return
    with pytest.raises(InputError, match="no sky map .*retraction" if form == "retraction" else "cannot be read"):
        given_skymap(path)


def test_a_retraction_has_no_event():
    document = {"superevent_id": "S250102a", "alert_type": "RETRACTION", "time_created": "2025-01-02T12:03:00Z"}
    record, content = parse_alert(json.dumps(document | {"event": None}).encode())
    assert record.is_retraction
    assert (record.skymap, content) == (None, {})
    assert record.time_event is None


def test_an_alert_is_read_field_by_field(tmp_path, skymap):
    write_skymap(tmp_path / "m.fits", skymap)
    text = base64.b64encode((tmp_path / "m.fits").read_bytes()).decode()
    event = {"time": "2024-04-01T06:00:00.125Z", "far": 3e-9, "instruments": ["L1", "V1"], "significant": False}
    event |= {"classification": {"BNS": 0.75, "Terrestrial": None}, "properties": {"HasNS": 1}, "skymap": text}
    document = {"superevent_id": "S240401x", "alert_type": "update", "time_created": "2024-04-01T07:30:00+00:00"}
    document |= {"urls": {"gracedb": "https://example.org/S240401x"}, "event": event}
    record, content = parse_alert(json.dumps(document).encode())
    times = Time(["2024-04-01T06:00:00.125", "2024-04-01T07:30:00"], scale="utc").mjd
    assert [mjd(record.time_event), mjd(record.time_created)] == pytest.approx(times, abs=1e-9)
    assert (record.alert_type, record.superevent) == ("UPDATE", "S240401x")
    assert record.gracedb == "https://example.org/S240401x"
    assert (record.false_alarms_per_second, record.instruments, record.significant) == (3e-9, ("L1", "V1"), False)
    assert (record.classification, record.properties) == ({"BNS": 0.75}, {"HasNS": 1.0})
    assert (read_skymap(content[record.skymap]).probability == read_skymap(tmp_path / "m.fits").probability).all()


@pytest.mark.real_data
def test_real_alerts(alerts):
    record, content = parse_alert(alerts[0])
    assert (record.superevent, record.alert_type, record.instruments) == (EVENT, "PRELIMINARY", ("H1", "L1", "V1"))
    skymap = read_skymap(content[record.skymap])
    assert skymap.mjd == pytest.approx(mjd(record.time_event), abs=1e-6)
    assert skymap.distance_mean_mpc == pytest.approx(39.59, abs=0.01)
    assert parse_alert(alerts[1])[0].is_retraction


@pytest.mark.parametrize("encoded", [b"x", b"SIMPLE"])
def test_an_alert_whose_map_cannot_be_read_is_refused(encoded, site):
    with pytest.raises(InputError, match="sky map"):
        store_alert(site, alert_bytes(base64.b64encode(encoded).decode()))


def test_a_map_that_is_not_base64_is_refused():
    with pytest.raises(InputError, match="base64"):
        parse_alert(alert_bytes("not base64!"))


def later(alert: bytes, kind: str, when: str, **event) -> bytes:
    document = json.loads(alert)
    document |= {"alert_type": kind, "time_created": when}
    document["event"] = document["event"] | event
    return json.dumps(document).encode()


@pytest.fixture
def heard():
    events: list[tuple[str, dict]] = []

    def emit(name, event_id, resource, *, about, payload):
        events.append((name, payload))

    return events, emit


@pytest.mark.real_data
def test_an_alert_says_what_it_is(alerts, site):
    record = store_alert(site, alerts[0])
    assert (record.superevent, record.alert_type, record.significant) == (EVENT, "PRELIMINARY", True)
    assert record.classification["BNS"] > 0.999
    skymap = read_skymap(event_folder(site, EVENT) / record.skymap)
    assert skymap.mjd == pytest.approx(61196.498, abs=0.001), "5 June 2026, 11:57:26"
    assert store_alert(site, alerts[0]) is None, "the same alert twice is one alert"


@pytest.mark.real_data
def test_a_retraction_closes_an_event(alerts, site):
    assert store_alert(site, alerts[0])
    assert store_alert(site, alerts[1])
    assert read_event(site, EVENT).is_retraction
    assert len(list(event_folder(site, EVENT).glob("*.multiorder.fits"))) == 1, "its map is kept"


@pytest.mark.real_data
def test_alerts_out_of_order_leave_the_newest(alerts, site, heard, tmp_path):
    events, emit = heard
    skymap = tmp_path / "map.fits"
    skymap.write_bytes(b"SIMPLE map")
    exposures = write_list(tmp_path / "list.csv", [1], night=NIGHT)
    register_night(site, NIGHT, event=EVENT, skymap=skymap, exposures=exposures, check_skymap=check_map)
    update = later(alerts[0], "UPDATE", "2026-06-05T18:00:00Z")
    assert store_alert(site, update)
    assert store_alert(site, alerts[0])
    assert read_event(site, EVENT).alert_type == "UPDATE"
    assert len(announce_alerts(site, emit_event=emit)) == 2
    assert [name for name, _ in events] == ["gw.event.received", "gw.event.received"]
    assert announce_alerts(site, emit_event=emit) == []
    look(site, FakeRuns())
    record = read_night(site, NIGHT).record
    assert (record.revision, record.alert) == (2, "20260605T180000Z-update"), "the night takes the newest map over"
    assert (site.nights / str(NIGHT) / record.skymap).read_bytes() == current_skymap(site, EVENT)[1].read_bytes()


@pytest.mark.real_data
def test_what_a_server_did_not_hear_is_said_again(alerts, site, heard):
    events, emit = heard
    store_alert(site, alerts[0])

    def down(*event, **content):
        raise ConnectionError("no server")

    with pytest.raises(ConnectionError):
        announce_alerts(site, emit_event=down)
    assert len(announce_alerts(site, emit_event=emit)) == 1
    assert [name for name, _ in events] == ["gw.event.received"], "no night of this event is registered"


@pytest.mark.parametrize(
    "content",
    [
        b"no json",
        b"{",
        alert_bytes("%%%"),
        b"[]",
        b'{"superevent_id": "S1"}',
        json.dumps(
            {"superevent_id": "../../etc", "alert_type": "UPDATE", "time_created": "2026-06-05T12:00:00Z"}
        ).encode(),
        json.dumps(
            {
                "superevent_id": "S260605a",
                "alert_type": "UPDATE",
                "time_created": "2026-06-05T12:00:00Z",
                "event": {"skymap": "***"},
            }
        ).encode(),
    ],
)
def test_what_is_no_alert_is_refused(content):
    with pytest.raises(InputError, match="invalid alert"):
        parse_alert(content)


def test_an_alert_with_a_broken_map_is_not_kept(site):
    broken = base64.b64encode(b"not a map").decode()
    document = {
        "superevent_id": "S260605a",
        "alert_type": "INITIAL",
        "time_created": "2026-06-05T12:00:00Z",
        "event": {"skymap": broken},
    }
    with pytest.raises(InputError):
        store_alert(site, json.dumps(document).encode())
    assert read_event(site, "S260605a") is None
    assert list(event_folder(site, "S260605a").iterdir()) == []


@pytest.mark.real_data
def test_alerts_come_through_a_broker(alerts, site):
    """A broker in this process: alerts are taken, nonsense is told, what is kept is not given again."""
    kafka = pytest.importorskip("confluent_kafka")
    pytest.importorskip("gcn_kafka")
    producer = kafka.Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "mock", "message.max.bytes": 8_000_000})
    brokers = producer.list_topics(timeout=10).brokers.values()
    address = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
    for content in (alerts[0], b"nonsense", alerts[0], alerts[1]):
        producer.produce("igwn.gwalert", content)
    producer.flush(10)

    options = {"bootstrap.servers": address, "security.protocol": "plaintext", "sasl.mechanisms": "PLAIN"}
    said: list[str] = []
    heard: list[Site] = []
    for expected in (["PRELIMINARY", "RETRACTION"], []):
        consumer = open_consumer("me", "secret", ("igwn.gwalert",), "gcn.nasa.gov", options)
        records = listen(site, consumer, say=said.append, announce=heard.append, seconds=6.0)
        assert sorted(record.alert_type for record in records) == expected
        consumer.close()
    assert sorted(line.partition(":")[0] for line in said) == [EVENT, EVENT, "not taken"]
    assert len(list((site.state / "alerts").iterdir())) == 3, "nonsense is kept, a repetition is one file"
    assert heard


class Broker:
    """A consumer that gives these messages; what raises does."""

    def __init__(self, *given):
        self.given, self.committed, self.commit_error = list(given), [], None

    def poll(self, timeout):
        given = self.given.pop(0) if self.given else None
        if isinstance(given, Exception):
            raise given
        return None if given is None else Told(given)

    def commit(self, message, asynchronous):
        if self.commit_error is not None:
            raise self.commit_error
        self.committed.append(message.value())


class Told:
    def __init__(self, content):
        self.content = content

    def error(self):
        return None

    def value(self):
        return self.content


@pytest.fixture
def hearing(monkeypatch):
    """Listen until the broker has no more messages; return the records and what was said."""
    monkeypatch.setattr("deployments.events.listening.PAUSE_S", 0.0)

    def hear(site, broker):
        said: list[str] = []
        records: list = []
        while broker.given:
            records += listen(site, broker, say=said.append, announce=lambda _: None, seconds=0.5)
        return records, said

    return hear


def encoded(skymap, tmp_path) -> str:
    write_skymap(tmp_path / "m.fits", skymap)
    return base64.encodebytes((tmp_path / "m.fits").read_bytes()).decode()  # with line breaks


def odd_maps(text: str) -> dict[str, str]:
    whole = base64.b64decode(text)
    changed = {
        "TFORM": whole.replace(b"TFORM1  = 'K ", b"TFORM1  = 'Q "),
        "not ASCII": whole.replace(b"OBJECT  = 'SIM", b"OBJECT  = 'S\xcfM"),
        "cut": whole[: len(whole) // 2],
        "zeros": whole[:3000] + bytes(len(whole) - 3000),
    }
    assert all(content != whole for content in changed.values())
    return {name: base64.b64encode(content).decode() for name, content in changed.items()}


def test_an_odd_alert_is_kept_and_the_next_one_is_taken(skymap, site, tmp_path, hearing):
    text = encoded(skymap, tmp_path)
    good = alert_bytes(text)
    odd = [alert_bytes(changed) for changed in odd_maps(text).values()]
    odd += [
        good.replace(b"S250102a", b"S" + b"2" * 300),
        good.replace(b"2025-01-02T12:03:00Z", b"2025-01-02T12:03:00." + b"1" * 300),
        good.replace(b"2025-01-02T12:03:00Z", b"../../yesterday"),
        b"[" * 100_000,
        b"\xff\xfe" + "{}".encode("utf-16-le"),
        b"<?xml version='1.0'?><voe:VOEvent/>",
        b"Obj\x01 and no Avro",
        b"",
    ]
    for content in odd:
        broker = Broker(content, good)
        _, said = hearing(site, broker)
        assert broker.committed == [content, good], "the offset goes on"
        assert [line.partition(":")[0] for line in said][:1] == ["not taken"]
        assert Path(said[0].rpartition("kept as ")[2]).read_bytes() == content
    assert [alert.alert_type for alert in [read_event(site, "S250102a")]] == ["INITIAL"]
    assert sorted(p.name for p in site.state.iterdir()) == ["alerts", "events"], "nothing is written elsewhere"
    assert [p.name for p in (site.state / "events").iterdir()] == ["S250102a"]


def test_fractions_of_a_second_order_alerts(site, skymap, tmp_path):
    good = json.loads(alert_bytes(encoded(skymap, tmp_path)))
    times = ["2025-01-02T12:03:00Z", "2025-01-02T12:03:00.25Z", "2025-01-02T12:03:00.5Z", "2025-01-02T12:03:01Z"]
    for time in (times[2], times[0], times[3], times[1]):
        assert store_alert(site, json.dumps(good | {"time_created": time, "alert_type": "UPDATE"}).encode())
    assert [alert.time_created for alert in alerts_of(site, "S250102a")] == times
    names = [alert.name for alert in alerts_of(site, "S250102a")]
    assert [name_order(name) for name in names] == sorted(name_order(name) for name in names)


def test_two_alerts_of_one_second_are_two(site, skymap, tmp_path, heard):
    _, emit = heard
    good = json.loads(alert_bytes(encoded(skymap, tmp_path)))
    other = json.loads(json.dumps(good))
    other["event"]["far"] = 2e-12
    for document in (good, other, good, other):
        store_alert(site, json.dumps(document).encode())
    assert sorted(alert.false_alarms_per_second for alert in alerts_of(site, "S250102a")) == [1e-12, 2e-12]
    assert all((event_folder(site, "S250102a") / alert.skymap).exists() for alert in alerts_of(site, "S250102a"))
    assert len(announce_alerts(site, emit_event=emit)) == 2


def test_the_map_of_an_external_coincidence_is_kept_beside_the_own_one(site, skymap, tmp_path, hearing):
    document = json.loads(alert_bytes(encoded(skymap, tmp_path)))
    combined = gaussian_skymap(150.5, 2.0, 1.0, distance_mpc=90.0, distance_sigma_mpc=15.0, order=6, name="BOTH")
    document["external_coinc"] = {
        "gcn_notice_id": 710000000,
        "ivorn": "ivo://nasa.gsfc.gcn/Fermi#GBM",
        "observatory": "Fermi",
        "time_difference": 1.7,
        "search": "GRB",
        "combined_skymap": encoded(combined, tmp_path),
        "new_in_this_version": {"a": [1]},
    }
    (record,), said = hearing(site, Broker(json.dumps(document).encode()))
    folder = event_folder(site, "S250102a")
    assert (record.coincidence["observatory"], record.coincidence["time_difference"]) == ("Fermi", 1.7)
    assert read_skymap(folder / record.skymap).peak() == skymap.peak()
    assert read_skymap(folder / record.combined_skymap).peak() == combined.peak()
    assert any(record.combined_skymap in line for line in said)
    assert current_skymap(site, "S250102a")[1].name == record.skymap
    document["time_created"], document["external_coinc"]["combined_skymap"] = "2025-01-02T12:04:00Z", "AAAA"
    (record,), _ = hearing(site, Broker(json.dumps(document).encode()))
    assert (record.skymap is not None, record.combined_skymap) == (True, None), "a broken one costs itself alone"
    assert hearing(site, Broker(json.dumps(document).encode()))[0] == [], "what is sent again is known"
    assert len(alerts_of(site, "S250102a")) == 2


def test_the_avro_form_of_hopskotch_is_read(site, skymap, tmp_path):
    fastavro = pytest.importorskip("fastavro")
    write_skymap(tmp_path / "m.fits", skymap)
    plain = json.loads(alert_bytes(""))
    event = plain["event"] | {"skymap": (tmp_path / "m.fits").read_bytes()}
    fields = {"time": "string", "far": "double", "significant": "boolean", "skymap": "bytes"}
    fields |= {"instruments": {"type": "array", "items": "string"}}
    fields |= {key: {"type": "map", "values": "double"} for key in ("classification", "properties")}
    inner = {"type": "record", "name": "Event", "fields": [{"name": n, "type": t} for n, t in fields.items()]}
    outer = [{"name": n, "type": "string"} for n in ("superevent_id", "alert_type", "time_created")]
    outer += [{"name": "event", "type": ["null", inner]}]
    with (tmp_path / "alert.avro").open("wb") as stream:
        fastavro.writer(stream, {"type": "record", "name": "Alert", "fields": outer}, [plain | {"event": event}])
    record = store_alert(site, (tmp_path / "alert.avro").read_bytes())
    assert (record.alert_type, record.classification) == ("INITIAL", {"BNS": 0.9})
    assert read_skymap(event_folder(site, "S250102a") / record.skymap).peak() == skymap.peak()


def test_a_broker_that_fails_does_not_end_the_listener(site, skymap, tmp_path, hearing):
    good = alert_bytes(encoded(skymap, tmp_path))
    broker = Broker(good, RuntimeError("rebalance"), good)
    broker.commit_error = RuntimeError("the group is being rebalanced")
    records, said = hearing(site, broker)
    assert len(records) == 1, "what is sent again is known"
    assert sum(line.startswith("the broker took no commit") for line in said) == 1, "said once"
    assert any(line.startswith("broker error: RuntimeError: rebalance") for line in said)


def test_a_full_disk_loses_no_alert(site, skymap, tmp_path, hearing, monkeypatch):
    good = alert_bytes(encoded(skymap, tmp_path))
    attempts = []

    def full(place, content):
        attempts.append(place)
        if len(attempts) < 3:
            raise StorageError("the disk is full", value=place.state)
        return keep_raw(place, content)

    monkeypatch.setattr("deployments.events.listening.keep_raw", full)
    broker = Broker(good)
    said: list[str] = []
    records = listen(site, broker, say=said.append, announce=lambda _: None, seconds=0.5)
    assert (len(records), broker.committed) == (1, [good])
    assert [line.partition(":")[0] for line in said] == ["an alert waits", "S250102a"]


@pytest.mark.parametrize(
    ("field", "odd", "name", "read"),
    [
        ("far", "n/a", "false_alarms_per_second", None),
        ("far", float("nan"), "false_alarms_per_second", None),
        ("far", "1e-10", "false_alarms_per_second", 1e-10),
        ("significant", "false", "significant", False),
        ("significant", "True", "significant", True),
        ("significant", 1, "significant", True),
        ("significant", 0, "significant", False),
        ("classification", ["BNS"], "classification", {}),
        ("classification", {"BNS": "high", "NSBH": 0.2, "SSM": None}, "classification", {"NSBH": 0.2}),
        ("instruments", "H1, L1", "instruments", ("H1", "L1")),
        ("instruments", 3, "instruments", ()),
        ("time", "soon", "time_event", None),
        ("new_field", {"a": [1]}, "significant", True),
    ],
)
def test_a_field_that_is_not_understood_costs_no_alert(field, odd, name, read):
    document = json.loads(alert_bytes("bWFw"))
    document["event"] |= {"significant": True} | {field: odd}
    record, maps = parse_alert(json.dumps(document | {"urls": [1], "external_coinc": [2]}).encode())
    assert getattr(record, name) == read and len(maps) == 1 and record.gracedb is None


@pytest.mark.parametrize("combined", ["%%%", 5, ["x"]])
def test_a_combined_map_that_is_no_text_leaves_the_own_one(combined):
    document = json.loads(alert_bytes("bWFw"))
    document["external_coinc"] = {"observatory": "Fermi", "combined_skymap": combined}
    record, maps = parse_alert(json.dumps(document).encode())
    assert record.skymap in maps and record.combined_skymap is None and record.coincidence == {"observatory": "Fermi"}


@pytest.mark.parametrize("wrap", [lambda d: [d], lambda d: {"format": "json", "content": d}])
def test_an_alert_may_be_wrapped_by_a_client(wrap):
    document = json.loads(alert_bytes("bWFw"))
    assert parse_alert(json.dumps(wrap(document)).encode()) == parse_alert(json.dumps(document).encode())


@pytest.mark.parametrize("event", [[{"far": 1e-9}], "S250102a", 5])
def test_an_event_of_another_form_is_not_taken_for_an_alert_without_a_map(event):
    document = json.loads(alert_bytes("bWFw")) | {"event": event}
    with pytest.raises(InputError, match="its event is a"):
        parse_alert(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"alert_type": "FOO"}, "alert_type = 'FOO'"),
        ({"time_created": "yesterday"}, "time_created = 'yesterday'"),
        ({"superevent_id": 5}, "superevent = 5"),
    ],
)
def test_what_an_alert_lacks_is_said_in_one_line(change, words):
    document = json.loads(alert_bytes("bWFw"))
    with pytest.raises(InputError, match=words) as caught:
        parse_alert(json.dumps(document | change).encode())
    assert "\n" not in caught.value.sentence()
    del document[next(iter(change))]
    with pytest.raises(InputError, match=f"it has no {next(iter(change))}"):
        parse_alert(json.dumps(document).encode())
