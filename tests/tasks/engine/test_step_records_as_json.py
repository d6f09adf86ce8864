"""Step records are read as JSON of the project's schema, whatever they say about themselves."""

import base64
import json
from pathlib import Path, PosixPath

import cloudpickle
import pytest
from toy_steps import calls, jobs_for, toy, toy_flow

from blocks.site import Site
from tasks.engine.cache import parse_record, record_path, recorded_result
from tasks.engine.jobs import StepResult
from tasks.engine.records import StepRecords, record_bytes

KEY = "1/toy-1.json"
RECORD = record_bytes(StepResult(step="toy"), KEY)


class Hostile:
    """Unpickled, it calls a function of its choice."""

    def __reduce__(self):
        return print, ("code of a record runs",)


def pickled(document: dict) -> dict:
    serializer = {"type": "pickle", "picklelib": "cloudpickle"}
    result = base64.encodebytes(cloudpickle.dumps(Hostile())).decode()
    return document | {"metadata": document["metadata"] | {"serializer": serializer}, "result": result}


def other_class(document: dict) -> dict:
    return document | {"result": json.dumps({"__class__": "antigravity.x", "data": {}})}


def other_decoder(document: dict) -> dict:
    metadata = document["metadata"]
    return document | {"metadata": metadata | {"serializer": metadata["serializer"] | {"jsonlib": "cloudpickle"}}}


def class_within(document: dict) -> dict:
    result = json.loads(document["result"])
    result["data"]["quality"] = {"__class__": "os.system", "data": "x"}
    return document | {"result": json.dumps(result)}


def error(document: dict) -> dict:
    return document | {"result": json.dumps({"__exc_type__": "builtins.ValueError", "message": "x"})}


def compressed(document: dict) -> dict:
    serializer = {"type": "compressed", "serializer": {"type": "pickle"}, "compressionlib": "lzma"}
    return document | {"metadata": document["metadata"] | {"serializer": serializer}}


def deep(document: dict) -> dict:
    return document | {"result": '{"a":' * 100_000}


HOSTILE = [pickled, other_class, other_decoder, class_within, error, compressed, deep]


@pytest.fixture
def site(tmp_path) -> Site:
    return Site.at(tmp_path)


@pytest.mark.usefixtures("prefect_server")
def test_a_record_that_asks_for_another_reader_is_computed_anew(site, capfd):
    (job,) = jobs_for(site, [1])
    first = toy_flow([job])[0]
    path = record_path(site, toy.key(job))
    good = path.read_bytes()
    assert parse_record(good) == first.result
    assert toy_flow([job])[0].cached
    storage = StepRecords(basepath=str(site.records))
    assert json.loads(storage.read_path(toy.key(job)))["result"] == json.loads(good)["result"]
    for number, change in enumerate(HOSTILE):
        path.write_text(json.dumps(change(json.loads(good))))
        assert parse_record(path.read_bytes()) is None, change
        with pytest.raises(ValueError, match="not a step record"):  # also if it is written behind our check
            storage.read_path(toy.key(job))
        outcome = toy_flow([job])[0]
        assert outcome.result is not None and not outcome.cached, change
        assert len(calls(site)) == number + 2
        assert parse_record(path.read_bytes()) is not None
    assert "code of a record runs" not in capfd.readouterr().out


class Contended(PosixPath):
    """A record that another run finishes as soon as this one has looked at it."""

    def stat(self, **how):
        try:
            return super().stat(**how)
        except FileNotFoundError:
            Path(self).write_bytes(RECORD)
            raise

    def read_bytes(self):
        try:
            return super().read_bytes()
        finally:
            Path(self).write_bytes(RECORD)


@pytest.mark.parametrize("before", [None, b"half a rec"])
def test_a_record_that_another_run_writes_meanwhile_is_not_deleted(site, monkeypatch, before):
    path = record_path(site, KEY)
    path.parent.mkdir(parents=True)
    if before is not None:
        path.write_bytes(before)
    monkeypatch.setattr("tasks.engine.cache.record_path", lambda *_: Contended(path))
    assert recorded_result(site, KEY) is None
    monkeypatch.undo()
    assert recorded_result(site, KEY) == parse_record(RECORD)
