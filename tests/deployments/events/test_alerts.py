"""Gravitational-wave alerts: kept, in order, announced once; through a Kafka broker as they come."""

import base64
import json

import pytest
from listed_nights import check_map, write_list

from blocks.site import Site
from deployments.events.alerts import announce_alerts, event_folder, parse_alert, read_event, store_alert
from deployments.events.listening import listen, open_consumer
from deployments.events.registry import register_night
from imaging.errors import InputError
from imaging.io.skymaps import read_skymap

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
    assert [name for name, _ in events] == ["gw.event.received", "gw.event.received", "gw.skymap.received"]
    assert events[2][1]["night"] == NIGHT
    assert events[2][1]["skymap"].endswith("20260605T180000Z-update.multiorder.fits")
    assert announce_alerts(site, emit_event=emit) == []


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
    with pytest.raises(InputError, match="alert not understood"):
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
    assert sorted(line.partition(":")[0] for line in said) == [EVENT, EVENT, "alert not understood (JSONDecodeError"]
    assert heard
