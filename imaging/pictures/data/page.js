"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const col = data.columns, total = col.candidate_id.length;
  const place = new Map(col.candidate_id.map((id, i) => [id, i]));
  const storageKey = `gw-workflow marks ${data.event} ${data.night}`;
  const rowHeight = parseInt(getComputedStyle(document.documentElement).getPropertyValue("--row"), 10);
  const bandColour = { u: "#cc79a7", g: "#3fcf9b", r: "#f08a4b", i: "#b38ad6", z: "#c9ccd2", Y: "#d9b44a", VR: "#6fb1e0" };
  const sorts = [
    ["rank", "rank", 1], ["sky map", "credible_level", 1], ["light curve", "loglr_lightcurve", -1],
    ["kilonova by light curve", "probability_kilonova", -1],
    ["brightest first", "mag_last", 1], ["S/N", "snr_best", -1], ["real score", "real_score", -1],
    ["detections", "n_detections", -1], ["host distance", "host_distance_mpc", 1], ["RA", "ra", 1],
  ];
  const fields = {
    rank: "rank", score: "rank_score", mag: "mag_last", n: "n_detections", snr: "snr_best", real: "real_score",
    level: "credible_level", kilonova: "probability_kilonova", dlr: "host_dlr", hostmpc: "host_distance_mpc", hostmag: "host_mag", ra: "ra", dec: "dec",
  };
  let marks = loadMarks(), shown = [], current = 0, currentId = col.candidate_id[0], sortNumber = 0, addressTimer = 0;

  function loadMarks() {
    try { return JSON.parse(localStorage.getItem(storageKey)) || {}; } catch { return {}; }
  }
  function saveMarks() {
    try { localStorage.setItem(storageKey, JSON.stringify(marks)); }
    catch { showError("this browser does not keep marks; save them as a file before you close the page"); }
  }
  function showError(text) { const p = byId("filter-error"); p.textContent = text; p.hidden = !text; }
  function make(tag, text, className) {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (className) element.className = className;
    return element;
  }
  const number = (value, digits) => (value === null || value === undefined ? "–" : value.toFixed(digits).replace(/^-(0(\.0*)?)$/, "$1"));

  // ---- which candidates are shown, in which order
  function parseFilter(text) {
    return text.trim().split(/\s+/).filter(Boolean).map((word) => {
      const compare = word.match(/^([a-z]+)(<=|>=|<|>|=)(.+)$/i);
      if (compare) {
        const name = fields[compare[1].toLowerCase()], limit = Number(compare[3]);
        if (!name) throw new Error(`no such quantity: ${compare[1]} (known: ${Object.keys(fields).join(", ")})`);
        if (!Number.isFinite(limit)) throw new Error(`not a number: ${compare[3]}`);
        const test = { "<": (v) => v < limit, ">": (v) => v > limit, "<=": (v) => v <= limit, ">=": (v) => v >= limit, "=": (v) => v === limit }[compare[2]];
        return (i) => col[name][i] !== null && test(col[name][i]);
      }
      const drop = word.startsWith("-") && word.length > 1, key = (drop ? word.slice(1) : word).toLowerCase();
      return (i) => drop !== searchText(i).includes(key);
    });
  }
  const texts = new Array(total);
  function searchText(i) {
    return texts[i] ??= [col.candidate_id[i], col.bands[i], col.lightcurve_class[i], col.reported_as[i], col.known_as[i], col.minor_planet[i], ...data.flagNames[i]].join(" ").toLowerCase();
  }
  function refresh() {
    let tests;
    try { tests = parseFilter(byId("filter").value); showError(""); } catch (error) { showError(error.message); return; }
    const wanted = byId("marks").value;
    if (wanted === "none") tests.push((i) => !marks[col.candidate_id[i]]);
    else if (wanted === "any") tests.push((i) => !!marks[col.candidate_id[i]]);
    else if (wanted !== "all") tests.push((i) => marks[col.candidate_id[i]]?.label === wanted);
    shown = [];
    for (let i = 0; i < total; i++) if (tests.every((test) => test(i))) shown.push(i);
    const [, name, sign] = sorts[sortNumber], values = col[name];
    shown.sort((a, b) => {
      const x = values[a], y = values[b];
      if (x === null || y === null) return (x === null) - (y === null) || a - b;
      return sign * (x - y) || a - b;
    });
    current = Math.max(0, shown.indexOf(place.get(currentId)));
    byId("spacer").style.height = `${shown.length * rowHeight}px`;
    const marked = Object.keys(marks).length;
    byId("count").textContent = `${shown.length} of ${total}` + (marked ? `, ${marked} marked` : "");
    select(current, true);
  }

  // ---- the list: only the rows in view exist
  const list = byId("list"), rows = new Map();
  function drawList() {
    const first = Math.max(0, Math.floor(list.scrollTop / rowHeight) - 6);
    const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / rowHeight) + 6);
    for (const [at, row] of rows) if (at < first || at >= last || row.candidate !== shown[at]) { row.element.remove(); rows.delete(at); }
    for (let at = first; at < last; at++) {
      if (!rows.has(at)) {
        const row = { candidate: shown[at], element: makeRow(shown[at], at) };
        rows.set(at, row); list.append(row.element);
      }
      const { element, candidate } = rows.get(at);
      element.className = `row ${marks[col.candidate_id[candidate]]?.label ?? ""}`;
      element.setAttribute("aria-selected", String(at === current));
    }
    byId("empty")?.remove();
    if (!shown.length) { const p = make("p", "nothing fits the filter"); p.id = "empty"; list.append(p); }
    list.setAttribute("aria-activedescendant", shown.length ? `row-${shown[current]}` : "");
  }
  function makeRow(i, at) {
    const row = make("div");
    row.id = `row-${i}`; row.setAttribute("role", "option"); row.style.top = `${at * rowHeight}px`;
    const flags = data.flagNames[i].join(" ").toLowerCase().replaceAll("_", " ");
    row.append(
      make("span", col.rank[i], "rank"), make("span", col.candidate_id[i], "name"),
      make("span", number(col.rank_score[i], 1), "score"),
      make("span", `${col.n_detections[i]}× ${col.bands[i]}  ${flags || col.lightcurve_class[i] || ""}`, "note"),
      make("span", number(col.mag_last[i], 2), "mag"));
    row.addEventListener("click", () => select(at));
    return row;
  }
  function select(at, quiet) {
    if (!shown.length) { drawList(); byId("detail").style.visibility = "hidden"; return; }
    byId("detail").style.visibility = "";
    current = Math.min(Math.max(at, 0), shown.length - 1);
    currentId = col.candidate_id[shown[current]];
    const top = current * rowHeight;
    if (top < list.scrollTop) list.scrollTop = top;
    else if (top + rowHeight > list.scrollTop + list.clientHeight) list.scrollTop = top + rowHeight - list.clientHeight;
    drawList(); drawDetail(shown[current]);
    if (!quiet) { clearTimeout(addressTimer); addressTimer = setTimeout(() => history.replaceState(null, "", `#${currentId}`), 400); }
  }

  // ---- one candidate
  function drawDetail(i) {
    byId("name").textContent = col.candidate_id[i];
    const mark = marks[col.candidate_id[i]]?.label ?? "", word = byId("mark-word");
    word.textContent = mark; word.className = mark;
    byId("place").textContent = `RA ${number(col.ra[i], 6)}  Dec ${number(col.dec[i], 6)}  ± ${number(col.position_error_arcsec[i], 2)}″ · ` +
      `${col.n_detections[i]} detections in ${col.n_exposures[i]} exposures, bands ${col.bands[i]} · ` +
      `first ${number(col.mag_first[i], 2)}, last ${number(col.mag_last[i], 2)} mag · best S/N ${number(col.snr_best[i], 1)} · rank ${col.rank[i]}, score ${number(col.rank_score[i], 2)}`;
    byId("flags").replaceChildren(...data.flagNames[i].map((name) => make("li", data.flagWords[name])));
    drawStamps(i); drawLightcurve(i); drawMap(i); drawParts(i); drawNeighbours(i);
    byId("links").replaceChildren(...(data.links[col.candidate_id[i]] ?? []).map(([text, address]) => {
      return isPlain(address) ? Object.assign(make("a", text), { href: address }) : make("span", text);
    }));
  }
  // A link leads to a page or to a file beside this one; script in an address is none.
  function isPlain(address) {
    try { return ["http:", "https:", location.protocol].includes(new URL(address, location.href).protocol); } catch { return false; }
  }
  const pieces = new Map();
  function stampsOf(i) {
    if (!data.hasStamps) return [];
    const piece = Math.floor(i / data.stampsPerPiece);
    if (!pieces.has(piece)) pieces.set(piece, JSON.parse(byId(`stamps-${piece}`).textContent));
    return pieces.get(piece)[i % data.stampsPerPiece] ?? [];
  }
  function drawStamps(i) {
    byId("stamps").replaceChildren(...stampsOf(i).map(([label, png]) => {
      const figure = make("figure"), strip = make("div", undefined, "strip"), image = make("img");
      image.src = `data:image/png;base64,${png}`; image.alt = `search, template and difference, ${label}`;
      strip.append(image);
      for (let panel = 0; panel < 3; panel++) {
        for (const [left, top, width, height] of [[0, -26, 2, 14], [12, 0, 14, 2]]) {
          const tick = make("i");
          tick.style.cssText = `left:calc(${(panel + 0.5) / 3 * 100}% + ${left - width / 2 + (width > 2 ? 7 : 0)}px);top:calc(50% + ${top}px);width:${width}px;height:${height}px`;
          strip.append(tick);
        }
      }
      const caption = make("figcaption");
      caption.append(make("span", "search"), make("span", "template"), make("span", "difference"));
      figure.append(make("div", label, "label"), strip, caption);
      return figure;
    }));
  }
  function drawParts(i) {
    byId("parts").tBodies[0].replaceChildren(...data.parts.map(([name, title], k) => {
      const value = col[`loglr_${name}`][i], row = make("tr"), bar = make("td", undefined, "bar"), box = make("div");
      const x = Math.max(-15, Math.min(12, value ?? 0)), zero = 15 / 27 * 100, fill = make("b"), axis = make("s");
      fill.style.left = `${x < 0 ? (x + 15) / 27 * 100 : zero}%`; fill.style.width = `${Math.abs(x) / 27 * 100}%`;
      if (x < 0) fill.className = "minus";
      axis.style.left = `${zero}%`; box.append(fill, axis); bar.append(box);
      row.append(make("td", title, "title"), make("td", number(value, 1), "number"), bar, make("td", data.words[i][k]));
      return row;
    }));
  }
  function drawNeighbours(i) {
    const lines = [];
    if (col.host_separation_arcsec[i] !== null)
      lines.push(["host galaxy", `${number(col.host_separation_arcsec[i], 1)}″ away, ${number(col.host_dlr[i], 2)} light radii, magnitude ${number(col.host_mag[i], 2)}, ` +
        `distance ${col.host_distance_mpc[i] === null ? "unknown" : `${number(col.host_distance_mpc[i], 0)} Mpc (${col.host_distance_source[i] ?? "catalogue"})`}, at ${number(col.host_ra[i], 5)} ${number(col.host_dec[i], 5)}`]);
    if (col.gaia_separation_arcsec[i] !== null)
      lines.push(["reference star", `${number(col.gaia_separation_arcsec[i], 2)}″ away, G ${number(col.gaia_g_mag[i], 2)}`]);
    lines.push(...data.neighbours[i]);
    if (!lines.length) lines.push(["", "neither a host nor a reference star"]);
    byId("neighbours").tBodies[0].replaceChildren(...lines.map(([name, text]) => {
      const row = make("tr"); row.append(make("td", name, "title"), make("td", text)); return row;
    }));
  }

  // ---- light curve: flux against the time since the merger, symmetric-logarithmic
  const svgSpace = "http://www.w3.org/2000/svg";
  function shape(svg, tag, attributes, text) {
    const element = document.createElementNS(svgSpace, tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    svg.append(element); return element;
  }
  const squeeze = (days) => Math.sign(days) * Math.log10(1 + Math.abs(days) * 3);
  function niceSteps(low, high, count) {
    const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= raw), steps = [];
    for (let v = Math.ceil(low / step) * step; v <= high + 1e-9 * step; v += step) steps.push(Math.abs(v) < step / 1e6 ? 0 : v);
    return steps;
  }
  function drawLightcurve(i) {
    const svg = byId("lightcurve"), points = data.lightcurves[i];
    svg.replaceChildren();
    if (!points.length) { shape(svg, "text", { x: 20, y: 40 }, "no forced photometry"); return; }
    const left = 56, right = 448, top = 26, bottom = 232;
    const t0 = Math.min(squeeze(-1), ...points.map((p) => squeeze(p[0]))) - 0.08, t1 = Math.max(squeeze(1), ...points.map((p) => squeeze(p[0]))) + 0.12;
    let low = Math.min(0, ...points.map((p) => p[2] - p[3])), high = Math.max(1e-3, ...points.map((p) => p[2] + p[3]));
    const margin = 0.08 * (high - low); low -= margin; high += margin;
    const x = (days) => left + (squeeze(days) - t0) / (t1 - t0) * (right - left), y = (flux) => bottom - (flux - low) / (high - low) * (bottom - top);
    shape(shape(svg, "clipPath", { id: "frame" }), "rect", { x: left, y: top, width: right - left, height: bottom - top });
    for (const v of niceSteps(low, high, 5)) {
      shape(svg, "line", { x1: left, x2: right, y1: y(v), y2: y(v), stroke: v === 0 ? "#6a7383" : "#2a2f38" });
      shape(svg, "text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, String(+v.toPrecision(3)));
    }
    for (const v of [-3000, -1000, -300, -100, -30, -10, -3, -1, 1, 3, 10, 20]) {
      if (squeeze(v) < t0 || squeeze(v) > t1) continue;
      shape(svg, "line", { x1: x(v), x2: x(v), y1: bottom, y2: bottom + 4, stroke: "#6a7383" });
      shape(svg, "text", { x: x(v), y: bottom + 17, "text-anchor": "middle" }, String(v));
    }
    shape(svg, "line", { x1: x(0), x2: x(0), y1: top, y2: bottom, stroke: "#e69f00", "stroke-dasharray": "4 3" });
    shape(svg, "text", { x: (left + right) / 2, y: 266, "text-anchor": "middle" }, "days after the merger");
    shape(svg, "text", { x: 12, y: (top + bottom) / 2, transform: `rotate(-90 12 ${(top + bottom) / 2})`, "text-anchor": "middle" }, "difference flux [µJy]");
    const bands = Object.keys(bandColour).filter((band) => points.some((p) => p[1] === band)), mpc = col.distance_mean_mpc[i];
    bands.forEach((band, k) => {
      shape(svg, "circle", { cx: left + 10 + 34 * k, cy: 13, r: 4, fill: bandColour[band] ?? "#fff" });
      shape(svg, "text", { x: left + 18 + 34 * k, y: 17 }, band);
      if (mpc && data.kilonova[band]) drawKilonova(svg, band, mpc, x, y, top, bottom, Math.max(...points.map((p) => p[0])));
    });
    if (mpc) shape(svg, "text", { x: right, y: 17, "text-anchor": "end" }, `lines: AT2017gfo at ${mpc.toFixed(0)} Mpc`);
    for (const [days, band, flux, error, earlier] of points) {
      const colour = bandColour[band] ?? "#fff", fill = flux > 3 * error ? colour : "#1b1e24";
      shape(svg, "line", { x1: x(days), x2: x(days), y1: y(flux - error), y2: y(flux + error), stroke: colour });
      const dot = earlier
        ? shape(svg, "rect", { x: x(days) - 3, y: y(flux) - 3, width: 6, height: 6, fill, stroke: colour })
        : shape(svg, "circle", { cx: x(days), cy: y(flux), r: 3.6, fill, stroke: colour });
      const mag = flux > 2 * error ? `, magnitude ${(23.9 - 2.5 * Math.log10(flux)).toFixed(2)}` : "";
      const what = earlier ? "earlier exposure, against the mean of the earlier ones: " : "";
      shape(dot, "title", {}, `${what}${band}, ${days.toFixed(3)} d: ${flux.toFixed(2)} ± ${error.toFixed(2)} µJy${mag}`);
    }
    if (points.some((p) => p[4])) shape(svg, "text", { x: left + 4, y: bottom - 6 }, "squares: earlier exposures against their mean");
  }
  function drawKilonova(svg, band, mpc, x, y, top, bottom, until) {
    const modulus = 5 * Math.log10(mpc) + 25, steps = [];
    data.kilonova.days.forEach((days, k) => {
      if (days <= Math.max(until, 0.3) * 1.2) steps.push([x(days), y(10 ** (0.4 * (23.9 - data.kilonova[band][k] - modulus)))]);
    });
    const inside = steps.map(([a, b]) => `${a.toFixed(1)},${Math.max(-9999, b).toFixed(1)}`).join(" ");
    shape(svg, "polyline", { points: inside, fill: "none", stroke: bandColour[band] ?? "#fff", "stroke-opacity": 0.45, "clip-path": "url(#frame)" });
  }

  // ---- place on the sky map
  const mapImage = new Image(), base = document.createElement("canvas");
  function drawBase() {
    const m = data.map, n = (base.width = base.height = byId("map").width), c = base.getContext("2d");
    c.drawImage(mapImage, 0, 0, n, n);
    c.lineWidth = 1.2;
    m.outlines.forEach((o, k) => {
      c.strokeStyle = depthColour(m.depth[k]);
      c.beginPath();
      for (let corner = 0; corner < 4; corner++) c.lineTo(...onMap(o[2 * corner], o[2 * corner + 1], n));
      c.closePath(); c.stroke();
    });
    c.fillStyle = "rgba(215,218,224,.45)";
    for (let k = 0; k < total; k++) { const [px, py] = onMap(m.x[k], m.y[k], n); c.fillRect(px - 1, py - 1, 2, 2); }
    c.fillStyle = "#c9ccd2"; c.font = "23px system-ui, sans-serif";
    c.fillText(`${(2 * m.radius).toFixed(1)}° around RA ${m.centre[0].toFixed(1)} Dec ${m.centre[1].toFixed(1)}, N up, E left`, 10, n - 12);
    if (m.depthRange) {
      const [low, high] = m.depthRange, left = 150, width = high > low ? 200 : 0;
      for (let k = 0; k < width; k++) { c.fillStyle = depthColour(low + (high - low) * k / width); c.fillRect(left + k, 12, 1, 14); }
      c.fillStyle = "#c9ccd2"; c.fillText(`m50 ${low.toFixed(1)}`, 30, 28);
      c.fillText(width ? `${high.toFixed(1)} mag` : "mag", left + width + 10, 28);
    }
  }
  function depthColour(depth) {
    if (depth === null || !data.map.depthRange) return "rgba(150,158,170,.7)";
    const [low, high] = data.map.depthRange, f = Math.max(0, Math.min(1, (depth - low) / Math.max(high - low, 1e-6)));
    const shades = [[66, 92, 160], [52, 160, 148], [240, 222, 90]], k = Math.min(1, Math.floor(2 * f)), t = 2 * f - k;
    return `rgba(${shades[k].map((v, c) => Math.round(v + t * (shades[k + 1][c] - v))).join(",")},.85)`;
  }
  const onMap = (east, north, n) => [n / 2 * (1 - east / data.map.radius), n / 2 * (1 - north / data.map.radius)];
  function drawMap(i) {
    const canvas = byId("map"), c = canvas.getContext("2d"), n = canvas.width;
    c.clearRect(0, 0, n, n); c.drawImage(base, 0, 0);
    const [px, py] = onMap(data.map.x[i], data.map.y[i], n);
    c.strokeStyle = "#e69f00"; c.lineWidth = 3; c.beginPath(); c.arc(px, py, 11, 0, 7); c.stroke();
  }

  // ---- marks
  function mark(label, stay) {
    if (!shown.length) return;
    const id = currentId, at = current;
    if (label) marks[id] = { label, at: new Date().toISOString() }; else delete marks[id];
    saveMarks();
    const next = label && !stay ? shown[at + 1] : shown[at];
    if (next !== undefined) currentId = col.candidate_id[next];
    refresh();
  }
  function exportMarks() {
    const labels = Object.entries(marks).filter(([id]) => place.has(id)).map(([id, m]) => {
      const i = place.get(id);
      return { candidate_id: id, label: m.label, marked_at: m.at, rank: col.rank[i], detection_ids: data.detections[i] };
    });
    const file = { kind: "gw-workflow labels", version: 1, event: data.event, night: data.night, labels };
    const a = make("a");
    a.href = URL.createObjectURL(new Blob([JSON.stringify(file, null, 1)], { type: "application/json" }));
    a.download = `labels_${data.event}_${data.night}.json`; a.click();
    setTimeout(() => URL.revokeObjectURL(a.href), 1000);
  }
  async function copyPosition() {
    const i = shown[current], text = `${number(col.ra[i], 6)} ${number(col.dec[i], 6)}`, button = byId("copy");
    try { await navigator.clipboard.writeText(text); button.textContent = "copied"; } catch { button.textContent = text; }
    setTimeout(() => { button.textContent = "copy position"; }, 1500);
  }
  function showNight() { if (byId("night").querySelector("img")) byId("night").showModal(); }
  function nextUnmarked() {
    const at = shown.findIndex((i, k) => k > current && !marks[col.candidate_id[i]]);
    if (at >= 0) select(at);
  }

  // ---- keys and buttons
  const letters = { r: "real", b: "bogus", i: "interesting", u: "" };
  const actions = {
    j: () => select(current + 1), ArrowDown: () => select(current + 1), k: () => select(current - 1), ArrowUp: () => select(current - 1),
    g: () => select(0), G: () => select(shown.length - 1), Home: () => select(0), End: () => select(shown.length - 1),
    PageDown: () => select(current + 10), PageUp: () => select(current - 10), n: nextUnmarked, e: exportMarks, c: copyPosition,
    "/": () => byId("filter").focus(), "?": () => byId("help").showModal(), m: showNight,
    s: () => { sortNumber = (sortNumber + 1) % sorts.length; byId("sort").value = sortNumber; refresh(); },
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open || byId("night").open) return;
    if (event.target.matches?.("input, select")) {
      if (event.key === "Escape" || event.key === "Enter") { event.target.blur(); list.focus(); }
      return;
    }
    const letter = event.key.toLowerCase();
    if (letter in letters) { mark(letters[letter], event.shiftKey); event.preventDefault(); return; }
    if (actions[event.key]) { actions[event.key](); event.preventDefault(); }
  });
  let waiting = 0;
  byId("filter").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(refresh, 120); });
  byId("marks").addEventListener("change", refresh);
  byId("sort").addEventListener("change", () => { sortNumber = Number(byId("sort").value); refresh(); });
  byId("export").addEventListener("click", exportMarks);
  byId("copy").addEventListener("click", copyPosition);
  byId("night-button").hidden = !byId("night").querySelector("img");
  byId("night-button").addEventListener("click", showNight);
  byId("help-button").addEventListener("click", () => byId("help").showModal());
  document.querySelector("nav").addEventListener("click", (event) => {
    const { step, mark: label } = event.target.dataset;
    if (step) select(current + Number(step)); else if (label !== undefined) mark(label);
  });
  list.addEventListener("scroll", () => requestAnimationFrame(drawList));
  new ResizeObserver(drawList).observe(list);

  // ---- start
  sorts.forEach(([title], k) => byId("sort").append(new Option(`by ${title}`, k)));
  for (const [value, title] of [["all", "all"], ["none", "unmarked"], ["any", "marked"], ...data.labels.map((l) => [l, l])])
    byId("marks").append(new Option(title, value));
  byId("title").textContent = `${data.event}, night ${data.night}`;
  byId("facts").append(...Object.entries(data.facts).map(([name, value]) => {
    const box = make("div"); box.append(make("dt", name), make("dd", value)); return box;
  }));
  byId("provenance").textContent = Object.entries(data.provenance).map(([name, value]) => `${name}: ${value}`).join(" · ");
  const wanted = decodeURIComponent(location.hash.slice(1));
  if (place.has(wanted)) currentId = wanted;
  mapImage.onload = () => { drawBase(); if (shown.length) drawMap(shown[current]); };
  mapImage.src = `data:image/png;base64,${data.map.png}`;
  drawBase(); refresh(); list.focus({ preventScroll: true });
})();
