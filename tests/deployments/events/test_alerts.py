"""Gravitational-wave alerts: kept, in order, announced once; through a Kafka broker as they come."""

import base64
import json

import pytest
from astropy.time import Time
from fake_runs import FakeRuns
from listed_nights import check_map, write_list

from blocks.gw_events import current_skymap, event_folder, read_event
from blocks.nights import read_night
from blocks.site import Site
from deployments.events.alerts import announce_alerts, parse_alert, store_alert
from deployments.events.decisions import look
from deployments.events.listening import listen, open_consumer
from deployments.events.registry import register_night
from imaging.errors import InputError
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
    assert read_skymap(content).peak() == skymap.peak()


def test_a_retraction_has_no_event():
    document = {"superevent_id": "S250102a", "alert_type": "RETRACTION", "time_created": "2025-01-02T12:03:00Z"}
    record, content = parse_alert(json.dumps(document | {"event": None}).encode())
    assert record.is_retraction
    assert (record.skymap, content) == (None, None)
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
    assert (read_skymap(content).probability == read_skymap(tmp_path / "m.fits").probability).all()


@pytest.mark.real_data
def test_real_alerts(alerts):
    record, content = parse_alert(alerts[0])
    assert (record.superevent, record.alert_type, record.instruments) == (EVENT, "PRELIMINARY", ("H1", "L1", "V1"))
    skymap = read_skymap(content)
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
    assert sorted(line.partition(":")[0] for line in said) == [EVENT, EVENT, "invalid alert (JSONDecodeError"]
    assert heard
