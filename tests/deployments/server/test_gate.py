"""Who gets into the embedded server: every door is tried by those who may and by those who may not."""

import asyncio
import base64
import json
import stat
import time

import httpx
import pytest

from deployments.server.gate import SIGN_IN, Gate
from deployments.server.identity import auth_string, keyed_hash, make_secret, rotate_secret

HOME = "http://127.0.0.1:4711"


class Client:
    """Asks an ASGI application, and keeps its cookies."""

    def __init__(self, app, base_url=HOME):
        self.app, self.base_url, self.cookies = app, base_url, httpx.Cookies()

    def request(self, method, path, headers=()):
        async def ask():
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, cookies=self.cookies, base_url=self.base_url) as client:
                return await client.request(method, httpx.URL(self.base_url + path), headers=headers)

        answer = asyncio.run(ask())
        self.cookies.update(answer.cookies)
        return answer

    def get(self, path, headers=()):
        return self.request("GET", path, headers)

    def post(self, path, headers=()):
        return self.request("POST", path, headers)

    def websocket(self, first, headers):
        """Return what the application says on a websocket after a first message, or the code of its close."""
        own = {
            "host": self.base_url.partition("//")[2],
            "cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items()),
        }
        given = own | {name.lower(): value for name, value in headers.items()}
        pairs = [(name.encode(), value.encode()) for name, value in given.items() if value]
        scope = {"type": "websocket", "path": "/api/events/out", "headers": pairs, "query_string": b""}
        coming = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": json.dumps(first)}]
        said = []

        async def receive():
            return coming.pop(0)

        async def send(message):
            said.append(message)

        asyncio.run(self.app(scope, receive, send))
        texts = [message["text"] for message in said if message["type"] == "websocket.send"]
        return texts[0] if texts else said[-1]["code"]


async def echo(scope, receive, send):
    """An application that answers everything with the names of the headers that reach it."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        message = await receive()
        if json.loads(message["text"])["type"] == "auth":
            await send({"type": "websocket.send", "text": "inside"})
        await send({"type": "websocket.close", "code": 1008})
        return
    names = json.dumps(sorted(name.decode() for name, _ in scope["headers"]))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": names.encode()})


def basic(text: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}


@pytest.fixture
def folder(tmp_path):
    make_secret(tmp_path / "server")
    return tmp_path / "server"


@pytest.fixture
def outside(folder):
    """A browser or program that knows nothing."""
    return Client(Gate(echo, folder, ""))


@pytest.fixture
def browser(folder, outside):
    """A browser that has signed in."""
    token = outside.post(f"/api{SIGN_IN}", headers=basic(auth_string(folder))).json()["token"]
    assert outside.get(f"{SIGN_IN}?token={token}").status_code == 303
    return outside


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/block_documents/filter"),
        ("GET", "/api/flow_runs/1"),
        ("DELETE", "/api/flow_runs/1"),
        ("GET", "/api/version"),
        ("GET", "/api/metrics"),
        ("GET", "/"),
        ("GET", "/assets/index.js"),
        ("GET", "/ui-settings"),
        ("POST", "/api/health"),
        ("GET", "/api/health/"),
        ("GET", "//api/health"),
        ("GET", "/api/variables/name/health"),
        ("OPTIONS", "/api/flow_runs/filter"),
        ("POST", f"/api{SIGN_IN}"),
        ("GET", f"{SIGN_IN}?token="),
        ("GET", f"{SIGN_IN}?token=guess"),
    ],
)
@pytest.mark.parametrize("headers", [{}, basic("gw-workflow:wrong"), basic(""), {"Authorization": "Basic %%%"}])
def test_nothing_is_answered_without_the_secret(outside, method, path, headers):
    assert outside.request(method, path, headers=headers).status_code == 401


def test_health_and_identity_are_answered_to_everybody(outside):
    assert outside.get("/api/health").status_code == 200
    assert outside.get("/gw-workflow/identity?nonce=1").status_code == 200


def test_the_string_of_the_clients_opens(outside, folder):
    answer = outside.post("/api/flow_runs/filter", headers=basic(auth_string(folder)))
    assert answer.status_code == 200
    assert "authorization" not in answer.json(), "the application never sees it"
    secret = (folder / "secret").read_text().strip()
    assert secret not in auth_string(folder)
    assert outside.get("/api/version", headers=basic(f"gw-workflow:{secret}")).status_code == 401


def test_another_site_has_another_string(outside, tmp_path):
    make_secret(tmp_path / "another")
    assert outside.get("/api/version", headers=basic(auth_string(tmp_path / "another"))).status_code == 401


@pytest.mark.parametrize("host", ["evil.example", "evil.example:4711", "127.0.0.1.evil.example", "10.1.2.3:4711", "["])
def test_a_foreign_name_reaches_nothing(outside, folder, host):
    """DNS rebinding: a name of the attacker that points to this machine."""
    headers = basic(auth_string(folder)) | {"Host": host}
    assert outside.get("/api/version", headers=headers).status_code == 403
    assert outside.get("/api/health", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://127.0.0.1:9", "http://localhost:4711", "https://127.0.0.1:4711", "null"]
)
def test_a_foreign_origin_reaches_nothing(browser, folder, origin):
    for headers in ({}, basic(auth_string(folder))):
        answer = browser.post("/api/flow_runs/filter", headers=headers | {"Origin": origin})
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers


def test_a_browser_signs_in_once_by_link(outside, folder):
    token = outside.post(f"/api{SIGN_IN}", headers=basic(auth_string(folder))).json()["token"]
    answer = outside.get(f"{SIGN_IN}?token={token}")
    cookie = answer.headers["set-cookie"]
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    for part in ("HttpOnly", "SameSite=lax", "Max-Age=43200", "Path=/"):
        assert part in cookie
    assert auth_string(folder).partition(":")[2] not in cookie
    assert outside.get("/").status_code == 200
    assert "cookie" not in outside.get("/").json()
    outside.cookies.clear()
    assert outside.get(f"{SIGN_IN}?token={token}").status_code == 401, "the link was used"
    assert "gw-workflow sign-in" in outside.get("/", headers={"Accept": "text/html"}).text


def test_a_link_expires(outside, folder, monkeypatch):
    token = outside.post(f"/api{SIGN_IN}", headers=basic(auth_string(folder))).json()["token"]
    now = time.monotonic()
    monkeypatch.setattr("deployments.server.gate.time.monotonic", lambda: now + 901)
    assert outside.get(f"{SIGN_IN}?token={token}").status_code == 401


def test_a_cookie_cannot_be_made_and_expires(browser, folder, monkeypatch):
    ((name, value),) = browser.cookies.items()
    until, nonce, signature = value.split(".")
    forged = [
        f"{int(until) + 1}.{nonce}.{signature}",
        f"{until}.{nonce}x.{signature}",
        f"{until}.{nonce}.",
        f"{until}..{signature}",
        f"1.{nonce}.{keyed_hash(folder, 'cookie', '1', nonce, str(folder.resolve()))}",
        "٣." + f"{nonce}.{signature}",
        "",
    ]
    for other in forged:
        browser.cookies.clear()
        headers = [(b"Cookie", f"{name}={other}".encode())]
        assert browser.get("/api/version", headers=headers).status_code == 401, other
    headers = {"Cookie": f"{name}={value}"}
    assert browser.get("/api/version", headers=headers).status_code == 200
    monkeypatch.setattr("deployments.server.gate.time.time", lambda: float(until))
    assert browser.get("/api/version", headers=headers).status_code == 401


def test_what_writes_by_cookie_comes_from_our_own_pages(browser):
    """Other ports of this machine are the same site for a cookie, but another origin."""
    own = {"Origin": "http://127.0.0.1:4711"}
    assert browser.post("/api/flow_runs/filter", headers=own).status_code == 200
    assert browser.request("DELETE", "/api/flow_runs/1", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200
    assert browser.post("/api/flow_runs/filter").status_code == 403, "a browser that says nothing"
    for site in ("same-site", "cross-site", "none"):
        assert browser.post("/api/flow_runs/filter", headers={"Sec-Fetch-Site": site}).status_code == 403
    for site in ("same-site", "cross-site"):
        assert browser.get("/api/flow_runs/1", headers={"Sec-Fetch-Site": site}).status_code == 403
        followed = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"}
        assert browser.get("/runs", headers=followed).status_code == 200, "a link in a mail"


def test_websockets_have_the_same_door(browser, folder):
    subscribe, string = {"type": "auth", "token": None}, auth_string(folder)
    assert browser.websocket(subscribe, {"Origin": HOME}) == "inside"
    for headers in ({}, {"Origin": "http://127.0.0.1:9"}, {"Origin": HOME, "Host": "evil.example"}):
        assert browser.websocket(subscribe, headers) == 1008
    browser.cookies.clear()
    assert browser.websocket({"type": "auth", "token": string}, {}) == "inside"
    assert browser.websocket(subscribe, basic(string)) == "inside"
    for first in ({"type": "auth", "token": "wrong"}, {"type": "subscribe", "token": string}, ["auth"], 7, subscribe):
        assert browser.websocket(first, {}) == 1008


def test_a_replaced_secret_is_accepted_until_the_server_ends(browser, folder):
    old = auth_string(folder)
    rotate_secret(folder, keep_previous=True)
    assert auth_string(folder) != old
    for text in (old, auth_string(folder)):
        assert browser.get("/api/version", headers=basic(text)).status_code == 200
    assert browser.get("/api/version").status_code == 401, "browsers sign in again"
    assert stat.S_IMODE((folder / "secret.previous").stat().st_mode) == 0o600
    rotate_secret(folder, keep_previous=False)
    assert browser.get("/api/version", headers=basic(old)).status_code == 401


def test_a_proxy_has_its_own_name_and_origin(folder):
    gate = Gate(echo, folder, "https://gw.example.org")
    client = Client(gate, "https://gw.example.org")
    token = client.post(f"/api{SIGN_IN}", headers=basic(auth_string(folder))).json()["token"]
    assert "Secure" in client.get(f"{SIGN_IN}?token={token}").headers["set-cookie"]
    answers = {
        origin: client.post("/api/flow_runs/filter", headers={"Origin": origin}).status_code
        for origin in ("https://gw.example.org", "http://gw.example.org", "https://other.example.org")
    }
    assert list(answers.values()) == [200, 403, 403]
