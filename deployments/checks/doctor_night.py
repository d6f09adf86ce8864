"""Check what a registered night needs: raw files, calibrations, reference stars, templates, sky map."""

import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from blocks.imports import is_imported
from blocks.nights import RegisteredNight
from blocks.raw_index import raw_files
from blocks.site import Site
from deployments.checks.doctor import Finding, Verdict
from deployments.checks.status import remark
from imaging.detector.status import working_ccds
from imaging.errors import GWWorkflowError, InputError
from imaging.exposure import Exposure
from imaging.identity import ExposureId
from imaging.io.manifest import date_of_night
from imaging.masters.settings import MasterSettings, RampSettings
from tasks.imported import read_import
from tasks.raw_files import BIAS_KINDS, FLAT_KINDS, find_raw

REGION = 0.9
"""Probability of the region of the sky map that should have reference stars, for exposures added later."""

NIGHTS_OF_AN_ERA = 2
"""Number of nights above which calibrations are built over an era."""

NEAR_DAYS = 90
"""Days before and after a night in which biases and dome flats are looked for."""


def check_night(site: Site, night: RegisteredNight) -> list[Finding]:
    """Check a registered night.

    A raw file with part of the camera counts with its CCDs; a missing one with all CCDs.
    """
    number = night.record.night
    what, fetch = f"night {number}", f"gw-workflow archive fetch --for-night {number}"
    exposures = [item.exposure for item in night.listed()]
    expected = {exposure.expnum: expected_ccds(site, exposure) for exposure in exposures}
    checks: list[tuple[str, Callable[[], Finding]]] = [
        ("raw files", lambda: _check_raw(site, fetch, exposures)),
        ("calibrations", lambda: _fetched(_check_calibrations(site, exposures, expected), fetch)),
        ("calibration defaults", lambda: _check_defaults(site, exposures, expected)),
        ("reference stars", lambda: _check_reference(site, night, exposures, expected)),
        ("templates", lambda: _check_templates(site, night, fetch, expected)),
        ("disk", lambda: _check_disk(site, night)),
        ("sky map", lambda: _check_skymap(site, night)),
    ]
    findings = [*_check_decision(site, night)]
    for name, check in checks:
        try:
            found = check()
        except GWWorkflowError as error:
            found = Finding(name, "bad", error.sentence(), error.remedy or "")
        findings.append(replace(found, check=f"{what}: {name}"))
    return findings


def _fetched(found: Finding, fetch: str) -> Finding:
    """Put the archive before the commands that need files which the site does not have."""
    needs_files = any("FILE" in command for command in found.commands)
    return replace(found, commands=(fetch, *found.commands)) if needs_files else found


def expected_ccds(site: Site, exposure: Exposure) -> tuple[int, ...]:
    """Return the CCDs that a run would process: those in the raw file, or all working ones if it is missing."""
    working, who = working_ccds(exposure.night), ExposureId(exposure.expnum, exposure.band, exposure.night)
    if is_imported(site, who):
        return read_import(site, who).ccds
    try:
        held = find_raw(site, who).index.extensions
    except GWWorkflowError:
        return tuple(working)
    return tuple(ccd for ccd in working if ccd in held)


def _check_decision(site: Site, night: RegisteredNight) -> list[Finding]:
    """Say why the night is held back; nothing if it is not."""
    what = remark(site, night.record.night)
    remedy = f"gw-workflow night {night.record.night} processes it now"
    return [Finding(f"night {night.record.night}: runs", "warning", what, remedy)] if what else []


def _check_raw(site: Site, fetch: str, exposures: Sequence[Exposure]) -> Finding:
    known = raw_files(site)
    ids = [ExposureId(e.expnum, e.band, e.night) for e in exposures]
    files = {who.expnum: known.find(who) for who in ids}
    missing = [who.expnum for who in ids if files[who.expnum] is None and not is_imported(site, who)]
    others = [
        f"{e.expnum} (list {e.band}, {e.night}; file {held.band}, {held.night})"
        for e in exposures
        if (file := files[e.expnum]) and (held := file.exposure) and (held.band, held.night) != (e.band, e.night)
    ]
    if others:
        found = f"{len(others)} of {len(exposures)} are of another band or night than the list says: {_some(others)}"
        return Finding("raw files", "bad", found, "correct the list, and register the night again")
    if missing:
        found = f"{len(missing)} of {len(exposures)} are missing: {_some(missing)}"
        remedy = f"copy them into {site.raw}, or make them known where they lie"
        return Finding("raw files", "warning", found, remedy, ("gw-workflow add-raw FOLDER", fetch))
    return Finding("raw files", "good", f"all {len(exposures)} exist")


def _check_calibrations(site: Site, exposures: Sequence[Exposure], expected: Mapping[int, Sequence[int]]) -> Finding:
    from imaging.io.calibrations import CalibrationLibrary
    from imaging.io.detrend_calibrations import detrend_calibration_paths

    try:
        library = CalibrationLibrary(site.calibrations)
    except InputError as error:
        commands = _building(site, sorted({(e.night, e.band) for e in exposures}))
        return Finding("calibrations", "bad", error.sentence(), error.remedy or "", commands)
    firsts = {(e.night, e.band): e for e in exposures}
    missing: list[str] = []
    lacking_nights: list[tuple[int, str]] = []
    example = ""
    warnings: dict[str, None] = {}
    for exposure in firsts.values():
        warnings |= dict.fromkeys(library.age_warnings(exposure))
        same = [e for e in exposures if (e.night, e.band) == (exposure.night, exposure.band)]
        wanted = sorted({ccd for e in same for ccd in expected[e.expnum]})
        lacking = []
        for ccd in wanted:
            try:
                detrend_calibration_paths(library, exposure, ccd)
            except GWWorkflowError as error:
                lacking.append(ccd)
                example = example or error.sentence()
        if lacking:
            missing.append(f"{len(lacking)} of {len(wanted)} CCDs of night {exposure.night}, {exposure.band}")
            lacking_nights.append((exposure.night, exposure.band))
    if missing:
        found = f"missing for {'; '.join(missing)}; for example: {example}"
        remedy = "these CCDs will fail; complete the library"
        return Finding("calibrations", "warning", found, remedy, _building(site, sorted(lacking_nights)))
    if warnings:
        remedy = "build or import calibrations of that time"
        return Finding("calibrations", "warning", "; ".join(warnings), remedy, _building(site, sorted(firsts)))
    return Finding("calibrations", "good", f"valid for all {len(firsts)} combinations of night and band")


def _building(site: Site, lacking: Sequence[tuple[int, str]]) -> tuple[str, ...]:
    """Return the commands that bring calibrations for nights and bands.

    The nearest night with enough raw biases and dome flats of the band is built from, an era if there are several such
    nights; where there is none, calibrations must be imported.
    """
    known = raw_files(site).exposures().values()
    enough = MasterSettings().minimum_exposures
    counts = Counter((e.night, _frame_kind(e)) for e in known)
    nights: list[int] = []
    served: list[int] = []
    imports = False
    for night, band in lacking:
        days = {other: abs((date_of_night(other) - date_of_night(night)).days) for other, _ in counts}
        near = sorted((day, other) for other, day in days.items() if day <= NEAR_DAYS)
        complete = (n for _, n in near if min(counts[n, BIAS_KINDS[0]], counts[n, f"{FLAT_KINDS[0]} {band}"]) >= enough)
        found = next(complete, None)
        imports |= found is None
        if found is not None:
            nights, served = [*nights, found], [*served, night]
    chosen = sorted(set(nights))
    whole = [*chosen, *served]
    words = [f"build-calibrations {night}" for night in chosen]
    if len(chosen) > NIGHTS_OF_AN_ERA:
        words = [f"build-calibrations --from {min(whole)} --to {max(whole)}"]
    return tuple(f"gw-workflow {word}" for word in [*words, *["import-calibrations FILE..."] * imports])


def _bringing(site: Site, kind: str) -> str:
    """Return the command that brings a kind of calibration that has a default: curves from a ramp, if there is one."""
    from imaging.detrend.defaults import DEFAULTS

    if kind == "linearity":
        flats: dict[tuple[int, str], Counter[float]] = {}
        biases: Counter[int] = Counter()
        for e in raw_files(site).exposures().values():
            if e.obstype.lower() in FLAT_KINDS:
                flats.setdefault((e.night, e.band), Counter())[round(e.exptime_s, 3)] += 1
            biases[e.night] += e.obstype.lower() in BIAS_KINDS
        nights = [night for (night, _), times in flats.items() if len(times) >= RampSettings().minimum_times]
        if nights:
            night, enough = max(nights), MasterSettings().minimum_exposures
            flat = max(max(times.values()) for (other, _), times in flats.items() if other == night)
            return f"build-{'calibrations' if min(biases[night], flat) >= enough else 'linearity'} {night}"
    return DEFAULTS[kind].command


def _frame_kind(exposure: Exposure) -> str:
    """Return the kind of a calibration frame, of a dome flat with its band; empty for other exposures."""
    kind = exposure.obstype.lower()
    return BIAS_KINDS[0] if kind in BIAS_KINDS else f"{FLAT_KINDS[0]} {exposure.band}" if kind in FLAT_KINDS else ""


def _check_defaults(site: Site, exposures: Sequence[Exposure], expected: Mapping[int, Sequence[int]]) -> Finding:
    """Name what is used in place of calibrations that the library lacks."""
    from imaging.detrend.defaults import DEFAULTS
    from imaging.io.calibrations import MANIFEST, CalibrationLibrary

    firsts = {(e.night, e.band): e for e in exposures}
    lacking = set(DEFAULTS)
    if (site.calibrations / MANIFEST).is_file():
        library = CalibrationLibrary(site.calibrations)
        lacking = {kind for e in firsts.values() for ccd in expected[e.expnum] for kind in library.lacking(e, ccd)}
    if not lacking:
        return Finding("calibration defaults", "good", "none is needed: the library has every kind")
    kinds = [kind for kind in DEFAULTS if kind in lacking]
    found = "; ".join(f"{kind}: {DEFAULTS[kind].meaning}" for kind in kinds)
    commands = tuple(f"gw-workflow {_bringing(site, kind)}" for kind in kinds if DEFAULTS[kind].is_harmful)
    verdict: Verdict = "warning" if commands else "good"
    return Finding(
        "calibration defaults", verdict, found, "build or import what is known" if commands else "", commands
    )


def _prefetch(night: RegisteredNight) -> str:
    """Return the command that copies the stars of the night's sky map."""
    skymap = shlex.quote(str(night.skymap))
    return f"gw-workflow reference-catalog prefetch CATALOGUE --name gaia --skymap {skymap}"


def _check_reference(
    site: Site, night: RegisteredNight, exposures: Sequence[Exposure], expected: Mapping[int, Sequence[int]]
) -> Finding:
    """Check the catalogue at the corners and the centre of every CCD."""
    from imaging.io.reference import covered, partitions_in_cone
    from tasks.exposure_requests import nominal_footprints

    root = site.reference / "gaia"
    if not root.exists():
        remedy = "import a table of Gaia's archive; without stars all CCDs fail"
        command = "gw-workflow reference-catalog build GAIA_FILES"
        return Finding("reference stars", "bad", f"there is no reference catalogue ({root})", remedy, (command,))
    absent: dict[int, int] = {}
    for e in exposures:
        footprints = nominal_footprints(e)
        for ccd in expected[e.expnum]:
            corners = np.asarray(footprints[ccd])
            middle = corners.mean(axis=0) if np.ptp(corners[:, 0]) < 180.0 else corners[0]
            points = np.vstack([corners, middle])
            absent[e.expnum] = absent.get(e.expnum, 0) + (not covered(root, points[:, 0], points[:, 1]).all())
        partitions_in_cone(root, e.ra_deg, e.dec_deg, 0.1)  # raises if a file of the catalogue is missing
    lacking = {expnum: count for expnum, count in absent.items() if count}
    if not lacking:
        return Finding("reference stars", "good", f"available for all {len(exposures)} exposures")
    counts = [f"{expnum} ({count} of {len(expected[expnum])} CCDs)" for expnum, count in lacking.items()]
    nothing = any(count == len(expected[expnum]) for expnum, count in lacking.items())
    remedy = "gw-workflow reference-catalog prefetch or build; without stars these CCDs fail"
    found = f"missing for {_some(counts)}"
    return Finding("reference stars", "bad" if nothing else "warning", found, remedy, (_prefetch(night),))


def _check_disk(site: Site, night: RegisteredNight) -> Finding:
    from flows.settings import NightSettings
    from tasks.disk import room_for
    from tasks.night_plan import plan_night

    settings = NightSettings()
    plan = plan_night(night, settings.version, settings.difference.templates, site)
    room = room_for(plan, site, settings.concurrent_exposures)
    if room.needed_gb(tidies=True) > room.free_gb:
        return Finding("disk", "bad", room.sentence(), "free disk space, or list fewer exposures")
    return Finding("disk", "good", room.sentence())


def _check_templates(site: Site, night: RegisteredNight, fetch: str, expected: Mapping[int, Sequence[int]]) -> Finding:
    from imaging.templates.select import TemplateTarget, select_templates
    from imaging.templates.settings import TemplateSettings
    from tasks.exposure_requests import candidate_of_listed, nominal_footprints
    from tasks.imported import imported_list
    from tasks.requests import Version

    listed = night.listed()
    search = [item.exposure for item in listed if item.exposure.night == night.record.night]
    offered = {item.exposure.expnum: item for item in (*listed, *imported_list(site, Version()))}
    others = [candidate_of_listed(item) for item in offered.values() if item.exposure.night != night.record.night]
    lacking = []
    for exposure in search:
        target = TemplateTarget(exposure, nominal_footprints(exposure))
        rows = select_templates(target, others, TemplateSettings()).to_pylist()
        served = {row["ccd"] for row in rows if row["rank"] is not None}
        without = [ccd for ccd in expected[exposure.expnum] if ccd not in served]
        if without:
            lacking.append(f"{exposure.expnum} ({len(without)} of {len(expected[exposure.expnum])} CCDs)")
    if lacking:
        remedy = "these CCDs are not searched; fetch or import earlier exposures, and register the night again"
        event = shlex.quote(night.record.event)
        command = f"gw-workflow register-night {night.record.night} --event {event} --update"
        return Finding("templates", "warning", f"none for {_some(lacking)}", remedy, (fetch, command))
    return Finding("templates", "good", f"every CCD of {len(search)} search exposures has some")


def _check_skymap(site: Site, night: RegisteredNight) -> Finding:
    from imaging.io.reference import covered
    from imaging.io.skymaps import read_skymap

    skymap = read_skymap(night.skymap)
    inside = skymap.region(REGION)
    without = ~covered(site.reference / "gaia", *skymap.centres(inside))
    probability = float(skymap.probability[inside][without].sum())
    if probability > 0.0:
        found = f"{probability:.1%} of the probability lies in its {REGION:.0%} region and has no reference stars"
        remedy = "before exposures are added there: gw-workflow reference-catalog prefetch"
        return Finding("sky map", "warning", found, remedy, (_prefetch(night),))
    return Finding("sky map", "good", f"{night.skymap.name}: reference stars in all of its {REGION:.0%} region")


def _some(items: Sequence[object], most: int = 8) -> str:
    text = ", ".join(map(str, items[:most]))
    return text if len(items) <= most else f"{text}, ..."
