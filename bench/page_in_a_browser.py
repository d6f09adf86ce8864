"""Speed of a night's candidate page in headless Chromium: load, sort, filter, step."""

import json
import re
import shutil
import subprocess
import tempfile
from html import unescape
from pathlib import Path

from bench.report import Row

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for path in map(shutil.which, BROWSERS) if path), None)
"""Path of the browser; None if there is none."""

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--dump-dom",
]

ACTIONS = """
const seen = { load: performance.now() };
const timed = (name, action) => { const t = performance.now(); action(); seen[name] = performance.now() - t; };
const list = document.getElementById("list");
const key = (k) => list.dispatchEvent(new KeyboardEvent("keydown", { key: k, bubbles: true }));
const change = (id, value) => {
  const element = document.getElementById(id);
  element.value = value; element.dispatchEvent(new Event("change"));
};
timed("sort", () => change("sort", "4"));
timed("step", () => { for (let i = 0; i < 100; i++) key("j"); });
timed("mark", () => { for (let i = 0; i < 20; i++) key("r"); });
document.getElementById("filter").value = "n>=2 mag<22 -single";
timed("filter", () => change("marks", "all"));
const out = document.createElement("pre");
out.id = "seen"; out.textContent = JSON.stringify(seen); document.body.append(out);
"""


def without_policy(html: str) -> str:
    """Return a page that a script of ours may be added to, which its content security policy forbids."""
    return re.sub(r"<meta http-equiv=.Content-Security-Policy.[^>]*>", "", html)


def browser_rows(html: str, n: int) -> list[Row]:
    """Measure a page of n candidates; wall-clock milliseconds.

    Parameters
    ----------
    html
        The page.
    n
        Candidates on it, for the names of the rows.
    """
    if CHROMIUM is None:
        return [Row(f"page of {n} candidates in a browser: Chromium is absent", None, "ms")]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "night.html"
        path.write_text(without_policy(html).replace("</body>", f"<script>{ACTIONS}</script></body>"), encoding="utf-8")
        words = [CHROMIUM, *FLAGS, f"--user-data-dir={folder}/profile", path.as_uri()]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    if found is None:
        return [Row(f"page of {n} candidates in a browser: it did not answer", None, "ms")]
    seen = json.loads(unescape(found[1]))
    shown = {
        "load": ("loaded and drawn", 1), "sort": ("sorted by another column", 1), "filter": ("filtered", 1),
        "step": ("step to the next candidate", 100), "mark": ("mark and step", 20),
    }  # fmt: skip
    return [Row(f"page of {n} in a browser, {text}", seen[name] / count, "ms") for name, (text, count) in shown.items()]
