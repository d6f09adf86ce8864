"""The candidate page of a night: a self-contained HTML file to inspect and label candidates.

The page contains its data as JSON and its stamps as base64 PNGs in pieces that are loaded on demand, and draws light
curves and map itself, so that it remains small for thousands of candidates. It needs no network.
"""

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imaging.candidates.rank import PARTS
from imaging.candidates.templates import kilonova_anchors
from imaging.candidates.words import FLAG_WORDS, PART_TITLES, context_in_words, flag_names, parts_in_words
from imaging.package_data import read_text
from imaging.pictures.night import field_of, map_background, project
from imaging.plain_text import html_text, visible
from imaging.schemas.labels import LABEL_NAMES
from imaging.skymap.footprints import Footprints
from imaging.skymap.model import SkyMap
from imaging.tables import column

PACKAGE = "imaging.pictures"

COLUMNS = {
    "candidate_id": None,
    "rank": None,
    "rank_score": 2,
    "ra": 6,
    "dec": 6,
    "position_error_arcsec": 3,
    "n_detections": None,
    "n_exposures": None,
    "bands": None,
    "mjd_first": 5,
    "mjd_last": 5,
    "snr_best": 1,
    "mag_first": 3,
    "mag_last": 3,
    "real_score": 3,
    "probability_real": 3,
    **{f"loglr_{name}": 2 for name in PARTS},
    "credible_level": 4,
    "distance_mean_mpc": 1,
    "distance_sigma_mpc": 1,
    "lightcurve_class": None,
    "probability_kilonova": 3,
    "host_ra": 6,
    "host_dec": 6,
    "host_separation_arcsec": 2,
    "host_dlr": 2,
    "host_mag": 2,
    "host_distance_mpc": 1,
    "host_distance_source": None,
    "gaia_separation_arcsec": 2,
    "gaia_g_mag": 2,
    "reported_as": None,
    "known_as": None,
    "minor_planet": None,
    "flags": None,
}
"""Columns in the page with their number of decimals; None keeps the value unchanged."""

POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; script-src {script}; '
    "style-src {style}; img-src data:; base-uri 'none'; form-action 'none'\">"
)
"""Content security policy: the page's own script and style, embedded pictures, and nothing from anywhere else."""

STAMPS_PER_PIECE = 100
"""Number of candidates whose stamps are loaded together."""


@dataclass(frozen=True, eq=False)
class NightPage:
    """Content of a candidate page.

    Attributes
    ----------
    event, night, mjd_event
        Event, night (YYYYMMDD) and time of the merger (MJD UTC).
    candidates
        Ranked rows of :data:`imaging.schemas.candidates.CANDIDATES`, best first.
    forced
        Rows of :data:`imaging.schemas.difference.FORCED_PHOTOMETRY` of the candidates.
    skymap
        Sky map.
    footprints
        CCD images of the night.
    stamps
        Candidate to (label, PNG bytes) pairs, for example from :func:`imaging.pictures.stamps.stamp_strip`.
    links
        Candidate to (text, URL) pairs of its products.
    facts
        Heading to value, shown at the top: searched probability, depth, ...
    pictures
        (Caption, PNG bytes) of the night as a whole.
    provenance
        Provenance of the list: code version, settings digest, calibration set, ...
    max_candidates
        Number of best candidates shown; the page also states the total.
    """

    event: str
    night: int
    mjd_event: float
    candidates: pa.Table
    forced: pa.Table
    skymap: SkyMap
    footprints: Footprints
    stamps: Mapping[str, Sequence[tuple[str, bytes]]] = field(default_factory=dict)
    links: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    pictures: Sequence[tuple[str, bytes]] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    max_candidates: int = 5000


def build_page(page: NightPage) -> str:
    """Build the page of a night.

    Returns
    -------
    html
        A complete HTML document without external references.
    """
    shown = page.candidates.slice(0, page.max_candidates)
    ids = shown.column("candidate_id").to_pylist()
    pieces = "\n".join(
        f'<script type="application/json" id="stamps-{number}">{_json(piece)}</script>'
        for number, piece in enumerate(_stamp_pieces(ids, page.stamps))
    )
    style, script = read_text(PACKAGE, "page.css"), read_text(PACKAGE, "page.js")
    replacements = {
        "<!--PICTURES-->": "\n".join(
            f'<figure><img alt="{html_text(about)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
            f"<figcaption>{html_text(about)}</figcaption></figure>"
            for about, png in page.pictures
        ),
        "<!--POLICY-->": POLICY.format(script=_digest(script), style=_digest(style)),
        "/*STYLE*/": style,
        "/*SCRIPT*/": script,
        "<!--TITLE-->": html_text(f"{page.event} night {page.night}"),
        "<!--DATA-->": f'<script type="application/json" id="data">{_json(_data(page, shown, ids))}</script>\n{pieces}',
    }
    # All marks at once: a mark in what replaces another one is text.
    parts = re.split("(" + "|".join(map(re.escape, replacements)) + ")", read_text(PACKAGE, "page.html"))
    if missing := set(replacements) - set(parts):
        raise ValueError(f"the template of the page lacks {', '.join(sorted(missing))}")
    return "".join(replacements.get(part, part) for part in parts)


def _data(page: NightPage, shown: pa.Table, ids: list[str]) -> dict[str, Any]:
    rows = shown.to_pylist()
    left_out = page.candidates.num_rows - shown.num_rows
    words = [list(parts_in_words(row, page.mjd_event).values()) for row in rows]
    return {
        "event": page.event,
        "night": page.night,
        "mjdEvent": page.mjd_event,
        "labels": list(LABEL_NAMES),
        "columns": {name: _column(shown, name, digits) for name, digits in COLUMNS.items()},
        "detections": [[str(i) for i in row["detection_ids"] or ()] for row in rows],
        "parts": [[name, PART_TITLES[name]] for name in PARTS],
        "words": words,
        "neighbours": [context_in_words(row) for row in rows],
        "flagNames": [flag_names(int(row["flags"] or 0)) for row in rows],
        "flagWords": {flag.name: words for flag, words in FLAG_WORDS.items()},
        "lightcurves": _lightcurves(page, ids),
        "kilonova": kilonova_anchors(),
        "map": _map(page, shown),
        "links": {name: list(links) for name, links in page.links.items()},
        "stampsPerPiece": STAMPS_PER_PIECE,
        "hasStamps": bool(page.stamps),
        "facts": dict(page.facts) | ({"not shown": f"{left_out} of lower rank"} if left_out else {}),
        "provenance": dict(page.provenance),
    }


def _column(table: pa.Table, name: str, digits: int | None) -> list[Any]:
    values = table.column(name).to_pylist()
    if digits is None:
        return values
    return [None if value is None or not math.isfinite(value) else round(value, digits) for value in values]


def _lightcurves(page: NightPage, ids: list[str]) -> list[list[list[Any]]]:
    """Return the points of each candidate: days after the merger, band, flux and error in uJy, 1 if a template."""
    place = {name: i for i, name in enumerate(ids)}
    forced = page.forced.filter(pc.is_in(page.forced.column("candidate_id"), value_set=pa.array(ids, type=pa.string())))
    result: list[list[list[Any]]] = [[] for _ in ids]
    masked = np.asarray(forced.column("masked").fill_null(True)).astype(bool)
    days = np.round(column(forced, "mjd") - page.mjd_event, 4).tolist()
    template = (~np.isin(column(forced, "expnum"), page.footprints.expnum)).astype(int).tolist()
    flux, error = (np.round(column(forced, name).astype(float) / 1e3, 3).tolist() for name in ("flux", "flux_error"))
    names, bands = forced.column("candidate_id").to_pylist(), forced.column("band").to_pylist()
    for i in np.argsort(column(forced, "mjd"), kind="stable").tolist():
        if not masked[i] and math.isfinite(flux[i]) and 0.0 < error[i] < 1e4:
            result[place[names[i]]].append([days[i], bands[i], flux[i], error[i], template[i]])
    return result


def _map(page: NightPage, shown: pa.Table) -> dict[str, Any]:
    centre, radius = field_of(page.skymap, page.footprints)
    x, y = project(column(shown, "ra"), column(shown, "dec"), centre)
    outlines, depth = _outlines(page.footprints, centre)
    known = depth[np.isfinite(depth)]
    return {
        "png": base64.b64encode(map_background(page.skymap, centre, radius)).decode(),
        "radius": round(radius, 3),
        "centre": [round(centre[0], 3), round(centre[1], 3)],
        "x": np.round(x, 3).tolist(),
        "y": np.round(y, 3).tolist(),
        "outlines": outlines.tolist(),
        "depth": [round(m, 2) if math.isfinite(m) else None for m in depth.tolist()],
        "depthRange": [round(float(known.min()), 2), round(float(known.max()), 2)] if known.size else None,
    }


def _outlines(footprints: Footprints, centre: tuple[float, float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the distinct outlines of CCD images, (k, 8) offsets in degrees, deepest last, and the m50 of each."""
    corners = footprints.corners.reshape(-1, 2)
    places = np.round(np.stack(project(corners[:, 0], corners[:, 1], centre), axis=-1).reshape(-1, 8), 2)
    outlines, which = np.unique(places, axis=0, return_inverse=True)
    depth = np.full(len(outlines), -np.inf)
    np.maximum.at(depth, which.ravel(), np.nan_to_num(footprints.m50_mag, nan=-np.inf))
    order = np.argsort(depth, kind="stable")
    return outlines[order], depth[order]


def _stamp_pieces(
    ids: list[str], stamps: Mapping[str, Sequence[tuple[str, bytes]]]
) -> Iterator[list[list[tuple[str, str]]]]:
    if not stamps:
        return
    for first in range(0, len(ids), STAMPS_PER_PIECE):
        yield [
            [(label, base64.b64encode(png).decode()) for label, png in stamps.get(name, ())]
            for name in ids[first : first + STAMPS_PER_PIECE]
        ]


def _json(value: object) -> str:
    """Return JSON escaped for a script element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return visible(text).replace("<", "\\u003c")


def _digest(text: str) -> str:
    """Return the digest by which a content security policy names a script or a style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
