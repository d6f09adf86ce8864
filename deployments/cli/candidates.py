"""Commands for the candidates of a night: candidates, candidate-pictures, report."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from deployments.cli.options import AT_LEAST_ONE, DEFAULTS, Common, Destination, NightNumber, find_site
from deployments.cli.output import Answer, table_lines
from imaging.errors import InputError
from tasks.engine.jobs import ExitCode

if TYPE_CHECKING:
    import pyarrow as pa

    from blocks.site import Site
    from deployments.reports.reports import Report
    from deployments.reports.sending import Delivery

SHOWN = "rank,candidate_id,ra,dec,n_detections,mag_first,mag_last,real_score,lightcurve_class,rank_score"


def candidates(
    night: NightNumber,
    /,
    *,
    where: Annotated[
        str | None, Parameter(name="--where", help='SQL condition, such as "mag_last < 22 AND n_detections > 1".')
    ] = None,
    limit: Annotated[
        int,
        Parameter(name="--limit", validator=AT_LEAST_ONE, help="Number of candidates to show, the best first."),
    ] = 20,
    columns: Annotated[str, Parameter(name="--columns", help="Columns to show, separated by commas.")] = SHOWN,
    output: Annotated[
        Path | None,
        Parameter(
            name="--output",
            help="Write all that meet the condition to a file: .parquet, .csv, .fits, .vot, .ecsv or .reg.",
        ),
    ] = None,
    image: Annotated[
        Path | None,
        Parameter(name="--image", help="With a .reg file: write the candidates on this image, in its pixels."),
    ] = None,
    destination: Destination = "persistent",
    common: Common = DEFAULTS,
) -> Answer:
    """List the ranked candidates of a night, or write them to a file."""
    from deployments.reports.candidates import chosen_columns, ranked_table, write_selection
    from deployments.reports.selection import select_rows

    if image is not None and output is None:
        raise InputError("--image needs --output", value=image, remedy="give --output with a .reg file")
    site = find_site(common).site.storing_in(destination)
    table = ranked_table(site, night)
    fits = table if where is None else select_rows(table, where)
    if output is not None:
        write_selection(output, fits, image)
    names = chosen_columns(table, columns)
    best = fits.slice(0, limit).to_pylist()
    lines = table_lines(names, [[row[name] for name in names] for row in best])
    total = f"{table.num_rows} candidates" if where is None else f"{fits.num_rows} of {table.num_rows} candidates"
    document = {"command": "candidates", "night": night, "n_candidates": fits.num_rows, "candidates": best}
    if event := retracted_event(site, night):
        document |= {"retracted": True}
        total += f"; {event} is RETRACTED"
    if output is not None:
        return Answer(document | {"file": str(output)}, (f"{total} written to {output}",))
    return Answer(document, (*lines, total))


def candidate_pictures(
    night: NightNumber,
    /,
    *,
    output: Annotated[
        Path | None, Parameter(name=["--output", "-o"], help="Output folder; default: pictures, beside the list.")
    ] = None,
    limit: Annotated[
        int,
        Parameter(name="--limit", validator=AT_LEAST_ONE, help="Number of candidates to draw, the best first."),
    ] = 20,
    common: Common = DEFAULTS,
) -> Answer:
    """Draw the best candidates of a night, one PNG each: search, template and difference above the light curve."""
    from deployments.reports.candidate_pictures import write_candidate_pictures
    from deployments.reports.candidates import candidate_table

    site = find_site(common).site
    folder = output or candidate_table(site, night).with_name("pictures")
    paths = write_candidate_pictures(site, night, folder, limit)
    document = {"command": "candidate-pictures", "night": night, "pictures": [str(path) for path in paths]}
    return Answer(document, (f"{len(paths)} pictures written to {folder}",))


def report(
    night: NightNumber,
    /,
    *,
    form: Annotated[
        Literal["avro", "ztf", "skyportal", "tns"],
        Parameter(name="--form", help="Packets for brokers, the same with the fields of ZTF, SkyPortal or TNS."),
    ],
    where: Annotated[str | None, Parameter(name="--where", help="SQL condition on the candidates.")] = None,
    best: Annotated[
        int,
        Parameter(name="--best", help="Number of candidates, the best first, without stars and their halos."),
    ] = 10,
    with_stars: Annotated[
        bool,
        Parameter(name="--with-stars", negative="", help="Also report candidates on stars and in their halos."),
    ] = False,
    settings: Annotated[
        Path | None, Parameter(name="--settings", help="JSON file with reporter and groups; see docs/candidates.md.")
    ] = None,
    output: Annotated[
        Path | None, Parameter(name="--output", help="Write the report to this file; default: print it.")
    ] = None,
    send: Annotated[
        bool, Parameter(name="--send", negative="", help="Send the report; without this option nothing is sent.")
    ] = False,
    resend: Annotated[
        bool, Parameter(name=["--resend", "--again"], negative="", help="With --send: send delivered reports again.")
    ] = False,
    retracted: Annotated[
        bool, Parameter(name="--retracted", negative="", help="With --send: send although the event is retracted.")
    ] = False,
    receiver: Annotated[str, Parameter(name="--receiver", help="Name of the block with the credentials.")] = "default",
    destination: Destination = "persistent",
    common: Common = DEFAULTS,
) -> Answer:
    """Report the best candidates to a broker, SkyPortal or the TNS: print or write the report; send it with --send."""
    from deployments.reports.candidates import ranked_table
    from deployments.reports.reports import make_report, read_report_settings

    if resend and not send:
        raise InputError("--resend needs --send", remedy="give --send with it")
    if best < 1:
        raise InputError("nothing to report", value=f"--best {best}", limit="1 or more")
    site = find_site(common).site.storing_in(destination)
    chosen = _chosen(ranked_table(site, night), where, best, with_stars=with_stars)
    made = make_report(site, night, chosen, form, read_report_settings(settings))
    about: dict[str, Any] = {"command": "report", "night": night, "form": form, "n_candidates": len(made.entries)}
    about |= {"left_out": dict(made.left_out)} if made.left_out else {}
    about |= _retraction(site, night, is_held=send and not retracted)
    for reason in made.left_out.values():
        sys.stderr.write(f"gw-workflow: {reason}\n")
    if output is not None:
        about |= {"file": str(output), "files": _write(output, made)}
    if send:
        return _sent(about, _send(site, made, receiver, resend=resend))
    return _dry_run(about, site, made, output)


def _retraction(site: "Site", night: int, *, is_held: bool) -> dict[str, bool]:
    """Say that the event of a night is retracted; raise if its reports are held."""
    event = retracted_event(site, night)
    if not event:
        return {}
    if is_held:
        raise InputError("the event is retracted: nothing was sent", value=event, remedy="give --retracted to insist")
    sys.stderr.write(f"gw-workflow: {event} is RETRACTED\n")
    return {"retracted": True}


def retracted_event(site: "Site", night: int) -> str:
    """Return the name of a night's event if it is retracted; empty if it is not, or the night is not registered."""
    from blocks.gw_events import is_retracted
    from blocks.nights import is_registered, read_night

    if not is_registered(site, night):
        return ""
    event = read_night(site, night).record.event
    return event if is_retracted(site, event) else ""


def _chosen(table: "pa.Table", where: str | None, best: int, *, with_stars: bool) -> "pa.Table":
    """Return the candidates to report."""
    from deployments.reports.candidates import without_stars
    from deployments.reports.selection import select_rows

    fits = table if where is None else select_rows(table, where)
    chosen = (fits if with_stars else without_stars(fits)).slice(0, best)
    if not chosen.num_rows:
        remedy = "give --with-stars to report candidates on stars and in their halos" if fits.num_rows else ""
        raise InputError("no candidate meets the condition", value=where or f"--best {best}", remedy=remedy)
    return chosen


def _write(path: Path, made: "Report") -> list[str]:
    """Write the report and its finding charts; return the paths. Further reports get a number in their names."""
    from imaging.io.atomic import write_bytes, write_text
    from imaging.io.packets import write_packets

    paths = []
    for number, document in enumerate(made.documents(), start=1):
        place = path if number == 1 else path.with_stem(f"{path.stem}_{number}")
        if made.form in ("avro", "ztf"):
            write_packets(place, document, made.form)
        else:
            write_text(place, json.dumps(document, indent=1) + "\n")
        paths.append(str(place))
    for item in made.entries:
        chart = None if item.chart is None else item.chart()
        if chart is not None:
            place = path.with_name(f"{path.stem}_charts") / f"{item.candidate_id}.png"
            write_bytes(place, chart)
            paths.append(str(place))
    return paths


def _dry_run(about: dict[str, Any], site: "Site", made: "Report", output: Path | None) -> Answer:
    """Print the report and earlier deliveries; send nothing."""
    from deployments.reports.ledger import earlier_deliveries

    earlier = earlier_deliveries(site, made.form, {item.candidate_id for item in made.entries})
    about |= {"sent": False} | ({"sent_before": earlier} if earlier else {})
    n = len(made.entries)
    note = f"{n} candidates, {len(earlier)} of them sent before; nothing was sent (use --send)"
    if output is not None:
        return Answer(about, (f"written to {output}: {note}",))
    sys.stderr.write(f"gw-workflow: {note}\n")
    documents = made.documents()
    shown = documents[0] if len(documents) == 1 else documents
    text = json.dumps(shown, indent=1, default=lambda value: f"<{len(value)} bytes>")
    return Answer(about | {"report": json.loads(text)}, (text,))


def _send(site: "Site", made: "Report", receiver: str, *, resend: bool) -> "list[Delivery]":
    from prefect.blocks.core import Block

    from blocks.receivers import BrokerCredentials, SkyPortalCredentials, TnsCredentials
    from blocks.saved import saved_block
    from deployments.reports.ledger import open_ledger
    from deployments.reports.sending import open_producer, send_to_broker, send_to_skyportal
    from deployments.reports.sending_tns import send_to_tns
    from deployments.server.server import server_for

    kinds: dict[str, type[Block]] = {
        "skyportal": SkyPortalCredentials,
        "tns": TnsCredentials,
        "avro": BrokerCredentials,
        "ztf": BrokerCredentials,
    }
    kind = kinds[made.form]
    with server_for(site):
        block = saved_block(kind, receiver)
    if block is None:
        raise InputError(
            "no credentials: nothing was sent",
            value=receiver,
            limit=f"a saved block {kind.get_block_type_name()} of this name",
            remedy="create it on the page Blocks of gw-workflow serve",
        )
    if isinstance(block, BrokerCredentials):
        with open_ledger(site, made.form, f"{block.servers}/{block.topic}") as ledger:
            return send_to_broker(made, open_producer(block), block.topic, ledger, resend=resend)
    if isinstance(block, TnsCredentials):
        with open_ledger(site, made.form, block.address) as ledger:
            return send_to_tns(made, block, ledger, resend=resend)
    assert isinstance(block, SkyPortalCredentials)
    with open_ledger(site, made.form, block.address) as ledger:
        return send_to_skyportal(made, block, ledger, resend=resend)


def _sent(about: dict[str, Any], deliveries: "list[Delivery]") -> Answer:
    """Return the deliveries as an answer."""
    from deployments.reports.sending import counts

    counted = counts(deliveries)
    rows = [[o.candidate_id, o.what, o.state if o.sent else f"{o.state} before", o.reply] for o in deliveries]
    lines = table_lines(("candidate", "sent", "state", "answer"), rows)
    lines.append(", ".join(f"{n} {state}" for state, n in counted.items()))
    outcomes = [
        {"candidate_id": o.candidate_id, "what": o.what, "state": o.state, "reply": o.reply, "sent": o.sent}
        for o in deliveries
    ]
    good = counted.get("taken", 0) + counted.get("waiting", 0)
    total = sum(counted.values())
    code = ExitCode.COMPLETE if good == total else ExitCode.MISSING if good else ExitCode.FAILED
    sent = any(delivery.sent for delivery in deliveries)
    return Answer(about | {"sent": sent, "outcomes": outcomes, "counts": counted}, lines, code)
