"""Commands for reference catalogues: reference-catalog build and prefetch."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from deployments.cli.options import DEFAULTS, Common, Overwrite, Workers, find_site
from deployments.cli.output import Answer
from deployments.cli.running import run_flow
from deployments.server.server import server_for
from imaging.errors import InputError

if TYPE_CHECKING:
    from blocks.site import Site
    from deployments.cli.options import FoundSite
    from imaging.reference.mapping import CatalogueMapping
    from imaging.reference.settings import ReferenceCatalogueSettings

reference_catalog = App(
    name="reference-catalog",
    help="Build reference catalogues and copy the part that a night needs.",
    help_format="plaintext",
)

Name = Annotated[
    str | None, Parameter(name="--name", help="Name of the catalogue; default: gaia, or that of the mapping.")
]


@reference_catalog.command
def build(
    sources: Annotated[
        list[str],
        Parameter(help="Files, folders or patterns of the archive's tables; SURVEY=FILE for those of several surveys."),
    ],
    /,
    *,
    name: Name = None,
    mapping: Annotated[
        str | None,
        Parameter(name="--mapping", help="Mapping of a photometric survey (delve_dr2, ps1_dr2, ...), or a file."),
    ] = None,
    survey: Annotated[
        str | None,
        Parameter(
            name="--survey",
            help="Catalogue by name: gaia, a mapping of stars, gladeplus, nedlvs, ls-dr10-photoz, tns, ztf, atlas, "
            "vsx, gaia-variables, milliquas, mpcorb, or galaxies for a table of your own.",
        ),
    ] = None,
    order: Annotated[int, Parameter(name="--order", help="HEALPix order of the partitions.")] = 5,
    faint_limit: Annotated[
        float | None, Parameter(name="--faint-limit", help="Faintest Gaia G magnitude; default: no limit.")
    ] = None,
    exact: Annotated[
        bool, Parameter(name="--exact", negative="", help="Keep full precision; about twice the size.")
    ] = False,
    overwrite: Overwrite = False,
    workers: Workers = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Build a catalogue indexed by position from an archive's tables; a repeated run continues where one ended."""
    from pydantic import ValidationError

    from imaging.reference.settings import ReferenceCatalogueSettings

    found = find_site(common)
    try:
        settings = ReferenceCatalogueSettings(order=order, faint_limit_mag=faint_limit, compress=not exact)
    except ValidationError as error:
        raise InputError("HEALPix order out of range", value=order, limit=error.errors()[0]["msg"]) from error
    files = _by_survey(sources)
    if set(files) == {None}:
        return _build(found, sources, _catalogue(_survey(survey), mapping, name), settings, overwrite, workers, common)
    if survey or mapping or name:
        raise InputError("SURVEY=FILE excludes --survey, --mapping and --name", value=survey or mapping or name)
    with server_for(found.site):
        answers = [
            _build(found, of, _catalogue(called, None, None), settings, overwrite, workers, common)
            for called, of in files.items()
        ]
    document = {"command": "reference-catalog build", "catalogues": [answer.document for answer in answers]}
    return Answer(document, [line for a in answers for line in a.lines], max(a.exit_code for a in answers))


def _by_survey(sources: list[str]) -> dict[str | None, list[str]]:
    """Return the sources of each survey that is named before an equals sign; None for those without."""
    from imaging.reference.mapping import SHIPPED
    from imaging.reference.surveys import ORBIT_CATALOGUE, SURVEYS

    files: dict[str | None, list[str]] = {}
    for source in sources:
        named, _, path = source.partition("=")
        is_named = bool(path) and _survey(named) in {"gaia", ORBIT_CATALOGUE, *SURVEYS, *SHIPPED}
        files.setdefault(_survey(named) if is_named else None, []).append(path if is_named else source)
    return files


def _build(
    found: "FoundSite",
    sources: list[str],
    catalogue: tuple[str, str | None, "CatalogueMapping | None"],
    settings: "ReferenceCatalogueSettings",
    overwrite: bool,
    workers: int | None,
    common: Common,
) -> Answer:
    """Build one catalogue."""
    from imaging.reference.surveys import ORBIT_CATALOGUE

    called, of_context, chosen = catalogue
    if of_context == ORBIT_CATALOGUE:
        return _import_orbits(found.site, sources)
    parameters = {
        "sources": tuple(sources),
        "name": called,
        "site": found.name,
        "settings": settings,
        "mapping": chosen,
        "survey": of_context,
        "overwrite": overwrite,
    }
    flow = "flows.reference_catalogue:reference_catalogue"
    about = {"catalogue": called}
    return run_flow("reference-catalog build", common, found.site, flow, parameters, workers=workers, about=about)


@reference_catalog.command
def prefetch(
    source: Annotated[Path, Parameter(help="Folder of the whole catalogue.")],
    /,
    *,
    skymap: Annotated[Path, Parameter(name="--skymap", help="Sky map: multi-order or flat, or an alert with one.")],
    level: Annotated[float, Parameter(name="--level", help="Probability of the region to copy.")] = 0.99,
    name: Name = None,
    remember: Annotated[
        bool,
        Parameter(name="--remember", negative="", help="Also copy for every future night and sky map."),
    ] = False,
    common: Common = DEFAULTS,
) -> Answer:
    """Copy the partitions of a sky map's region, plus a margin of the camera's width, into the site."""
    from deployments.events.alerts import given_skymap
    from deployments.events.prefetching import RememberedSource, remember_source
    from imaging.io.prefetch import prefetch_catalogue

    if not 0.0 < level <= 1.0:
        raise InputError("probability out of range", value=level, limit="above 0, at most 1")
    site, called = find_site(common).site, name or source.name
    target = site.reference / called
    copied = prefetch_catalogue(source, target, given_skymap(skymap), level)
    if remember:
        remember_source(site, called, RememberedSource(folder=source, level=level))
    document = {
        "command": "reference-catalog prefetch",
        "catalogue": str(target),
        "n_partitions": copied.n_partitions,
        "n_copied": copied.n_copied,
        "size_mb": copied.size_mb,
        "n_missing": copied.n_missing,
    }
    line = f"{copied.n_partitions} partitions, {copied.size_mb:.1f} MB ({copied.n_copied} new), in {target}"
    missing = (f"{copied.n_missing} pixels of the region are not in the source",) if copied.n_missing else ()
    return Answer(document, (line, *missing))


def _survey(text: str | None) -> str | None:
    """Return the name of a survey as its folder has it: ``ls-dr10-photoz`` is ls_dr10_photoz."""
    return None if text is None else text.lower().replace("-", "_")


def _catalogue(
    survey: str | None, mapping: str | None, name: str | None
) -> tuple[str, str | None, "CatalogueMapping | None"]:
    """Return name of a catalogue, its survey if it is one of context, and its mapping if it is a survey of stars."""
    from imaging.reference.mapping import SHIPPED
    from imaging.reference.surveys import ORBIT_CATALOGUE, SURVEYS

    if survey is not None and mapping is not None:
        raise InputError("give --survey or --mapping, not both", value=survey)
    if survey == ORBIT_CATALOGUE:
        return ORBIT_CATALOGUE, ORBIT_CATALOGUE, None
    if survey in SURVEYS:
        if name not in (None, survey):
            raise InputError("the folder of this catalogue has a fixed name", value=name, limit=survey)
        return str(survey), survey, None
    if survey not in (None, "gaia", *SHIPPED):
        limit = ", ".join(["gaia", *SHIPPED, *SURVEYS, ORBIT_CATALOGUE])
        raise InputError("no such survey", value=survey, limit=limit, remedy="--mapping takes a JSON file for another")
    text = mapping if survey in (None, "gaia") else survey
    chosen = None if text is None else _mapping(text)
    return name or ("gaia" if chosen is None else chosen.name), None, chosen


def _import_orbits(site: "Site", sources: list[str]) -> Answer:
    """Read the orbits of minor planets into the site; a newer file replaces the older orbits."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from imaging.io.orbits import read_mpcorb, write_orbits
    from imaging.reference.surveys import ORBIT_CATALOGUE

    paths = [Path(source).expanduser() for source in sources]
    orbits = pa.concat_tables([read_mpcorb(path) for path in paths])
    folder = site.reference / ORBIT_CATALOGUE
    write_orbits(folder, orbits)
    epoch = float(pc.mode(orbits.column("epoch_mjd"))[0]["mode"].as_py())
    document = {
        "command": "reference-catalog build",
        "catalogue": str(folder),
        "n_orbits": orbits.num_rows,
        "epoch_mjd": epoch,
    }
    return Answer(document, (f"{orbits.num_rows} orbits, most of epoch MJD {epoch:.0f}, in {folder}",))


def _mapping(text: str) -> "CatalogueMapping":
    """Return a mapping of the package, or that of a file."""
    from imaging.reference.mapping import SHIPPED, parse_mapping, shipped_mapping

    if text in SHIPPED or not text.endswith(".json"):
        return shipped_mapping(text)
    try:
        return parse_mapping(Path(text).read_text(encoding="utf-8"), text)
    except OSError as error:
        raise InputError("mapping file missing", value=text) from error
