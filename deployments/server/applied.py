"""What people changed on the pages stays when deployments and limits are applied again.

Three values decide each setting: the one on the server, the one that was applied last (noted in the site's state), and
the default of the code. If the server's differs from the last applied one, somebody has changed it: it stays. Otherwise
the default is applied, which may have changed with the code.

A setting is a pair of name and JSON value: ``paused``, ``limit``, ``collision_strategy``, ``schedule NAME`` and
``trigger NAME`` of a deployment; the value of a global limit.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deployments.server.definitions import Definition
from imaging.io.atomic import write_text

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

Values = dict[str, Any]
"""Name of a setting to its value."""

Ask = Callable[[str, dict[str, Any]], Any]
"""Sends a query to the API and returns the answer."""

ABSENT = object()
"""A setting that does not exist, such as a schedule that was removed."""

STRATEGY = "collision_strategy"
"""What happens to a run for which a deployment's limit has no slot."""

PERIODS = ("cron", "interval", "rrule")
"""Fields of schedules, of which each has one."""


@dataclass
class Applied:
    """The settings that were applied last to a server.

    Attributes
    ----------
    path
        File with the settings of all servers that the site has used.
    server
        Address of the server's API, or ``embedded``.
    deployments
        Name of a deployment to its settings.
    limits
        Name of a global limit, or of the work pool, to its value.
    """

    path: Path
    server: str
    deployments: dict[str, Values] = field(default_factory=dict)
    limits: Values = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, server: str) -> "Applied":
        """Return the noted settings of a server; empty if there are none, or if they cannot be read.

        Parameters
        ----------
        folder
            Folder of the site's server.
        server
            Address of the server's API, or ``embedded``.
        """
        path = folder / "applied.json"
        try:
            return cls(path, server, **json.loads(path.read_text())[server])
        except (OSError, ValueError, LookupError, TypeError):
            return cls(path, server)

    def write(self) -> None:
        """Note the settings, beside those of other servers."""
        try:
            noted = dict(json.loads(self.path.read_text()))
        except (OSError, ValueError):
            noted = {}
        noted[self.server] = {"deployments": self.deployments, "limits": self.limits}
        write_text(self.path, json.dumps(noted, indent=1, sort_keys=True) + "\n")


def ask_with(client: "SyncPrefectClient") -> Ask:
    """Return a function that asks through a client of Prefect, with its credentials."""
    return lambda what, question: client.request("POST", f"/{what}", json=question).json()  # type: ignore[arg-type]


def settings_on_server(ask: Ask) -> dict[str, Values]:
    """Return the settings of all deployments on a server.

    Parameters
    ----------
    ask
        Asks the server.
    """
    enabled = {found["name"]: found["enabled"] for found in ask("automations/filter", {"limit": 200})}
    return {found["name"]: _of_server(found, enabled) for found in ask("deployments/filter", {"limit": 200})}


def _of_server(found: Mapping[str, Any], enabled: Mapping[str, bool]) -> Values:
    """Return the settings of a deployment in an answer of the API."""
    limit, options = found.get("global_concurrency_limit"), found.get("concurrency_options") or {}
    settings: Values = {"paused": found["paused"], "limit": limit and limit["limit"]}
    if limit:
        settings[STRATEGY] = options.get(STRATEGY)
    for schedule in found["schedules"]:
        kept = {name: value for name, value in schedule["schedule"].items() if name != "day_or" or not value}
        settings |= _schedule(kept | {name: schedule.get(name) for name in ("slug", "active", "parameters")})
    return settings | {f"trigger {name}": value for name, value in enabled.items()}


def default_settings(definition: Definition) -> Values:
    """Return the settings of a deployment as the code declares it."""
    settings: Values = {"paused": False, "limit": None}
    settings |= definition.concurrency_limit or {}
    for schedule in definition.schedules:
        settings |= _schedule(schedule)
    return settings | {f"trigger {trigger['name']}": trigger.get("enabled", True) for trigger in definition.triggers}


def _schedule(schedule: Mapping[str, Any]) -> Values:
    """Return a schedule as a setting: under its slug, or, if somebody added it, under its period."""
    kept = {name: value for name, value in schedule.items() if value not in (None, {}) and name != "slug"}
    name = schedule.get("slug") or next(f"{period} {kept[period]}" for period in PERIODS if period in kept)
    return {f"schedule {name}": kept}


def merged(server: Values | None, applied: Values | None, default: Values) -> Values:
    """Return the settings to apply.

    Parameters
    ----------
    server
        Settings on the server; None for a new deployment.
    applied
        Settings that were applied last; None if that is unknown. Then what is on the server stays, but for ``paused``,
        which earlier versions set when they ended.
    default
        Settings of the code.
    """
    if server is None:
        return dict(default)
    wanted = {}
    for name in {**default, **server}:
        here, wish = server.get(name, ABSENT), default.get(name, ABSENT)
        if name.startswith("trigger ") and (wish is ABSENT or here is ABSENT):
            value = wish  # a trigger of another deployment; or one that was lost
        elif applied is None:
            value = wish if here is ABSENT or name == "paused" else here
        else:
            value = here if here != applied.get(name, ABSENT) else wish
        if value is not ABSENT:
            wanted[name] = value
    return wanted


def merged_limit(server: int | None, applied: int | None, default: int) -> int:
    """Return the global limit to apply; None for a limit that does not exist, or a value that is unknown."""
    if server is None:
        return default
    return default if server == applied else server


def adjusted(definition: Definition, settings: Values) -> Definition:
    """Return a definition with the settings of :func:`merged`; whether it is paused is not part of it."""
    schedules = {name.partition(" ")[2]: value for name, value in settings.items() if name.startswith("schedule ")}
    slugs = {schedule.get("slug") for schedule in definition.schedules}
    limit = {name: settings[name] for name in ("limit", STRATEGY) if settings.get(name) is not None}
    return definition.model_copy(
        update={
            "concurrency_limit": limit if "limit" in limit else None,
            "schedules": tuple(
                {**schedule, **({"slug": name} if name in slugs else {})} for name, schedule in schedules.items()
            ),
            "triggers": tuple(
                {**trigger, "enabled": settings[f"trigger {trigger['name']}"]} for trigger in definition.triggers
            ),
        }
    )


def plan_deployments(ask: Ask, applied: Applied, definitions: Sequence[Definition]) -> list[tuple[Definition, bool]]:
    """Return the deployments to apply, each with whether it is paused; note their defaults as applied.

    Parameters
    ----------
    ask
        Asks the server.
    applied
        The settings that were applied last; updated, to be written when the deployments have been applied.
    definitions
        The deployments as the code declares them.
    """
    found, planned = settings_on_server(ask), []
    for definition in definitions:
        default = default_settings(definition)
        settings = merged(found.get(definition.name), applied.deployments.get(definition.name), default)
        planned.append((adjusted(definition, settings), settings["paused"]))
        applied.deployments[definition.name] = default
    return planned


def pause_deployments(applied: Applied) -> None:
    """Pause the applied deployments, so that no runs are scheduled that nobody starts; the next ``serve`` resumes them.

    What a person has paused stays paused then.

    Parameters
    ----------
    applied
        The settings that were applied last; updated and written.
    """
    import httpx
    from prefect import get_client

    with suppress(httpx.HTTPError, OSError), get_client(sync_client=True) as client:
        going = [d for d in client.read_deployments(limit=200) if d.name in applied.deployments and not d.paused]
        for deployment in going:
            applied.deployments[deployment.name]["paused"] = True
        applied.write()
        for deployment in going:
            client.pause_deployment(deployment.id)


def changes(
    ask: Ask, applied: Applied, definitions: Sequence[Definition], limits: Mapping[str, int]
) -> Iterator[tuple[str, str, str]]:
    """Yield the settings on a server that differ from the defaults, triggers apart: of what, the value, the default.

    Parameters
    ----------
    ask
        Asks the server.
    applied
        The settings that were applied last; a deployment that ``serve`` paused when it ended is not changed.
    definitions
        The deployments as the code declares them.
    limits
        Default of each global limit.
    """
    found = settings_on_server(ask)
    for definition in definitions:
        if definition.name not in found:
            continue
        here, default = found[definition.name], default_settings(definition)
        default["paused"] = applied.deployments.get(definition.name, default)["paused"]
        for name in {**default, **here}:
            value, wish = here.get(name), default.get(name)
            if value != wish and not name.startswith("trigger ") and (name != STRATEGY or here["limit"]):
                yield f"{definition.name}: {name}", _shown(value), _shown(wish)
    for limit in ask("v2/concurrency_limits/filter", {"limit": 200}):
        default_slots = limits.get(limit["name"], limit["limit"])
        if limit["limit"] != default_slots or (limit["name"] in limits and not limit["active"]):
            yield f"limit {limit['name']}", str(limit["limit"]) if limit["active"] else "off", str(default_slots)


def _shown(value: Any) -> str:  # noqa: ANN401 (a JSON value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(part)}" for name, part in value.items())
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none" if value is None else str(value)
