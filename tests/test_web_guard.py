"""The page's door, with a stand-in for Gradio behind it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from visa.web.guard import COOKIE, Guard, token_in
from visa.web.visitors import Visitors


class Behind:
    """Answers every request with 200; uploads with the paths that `paths` holds."""

    def __init__(self) -> None:
        self.passed: list[str] = []
        self.paths: list[str] = []
        self.status = 200

    async def __call__(self, scope, receive, send) -> None:
        self.passed.append(scope["path"])
        body = json.dumps(self.paths).encode()
        await send({"type": "http.response.start", "status": self.status, "headers": [(b"x-from", b"app")]})
        await send({"type": "http.response.body", "body": body[:5], "more_body": True})
        await send({"type": "http.response.body", "body": body[5:]})


class Door:
    """A guard and what it answers."""

    def __init__(self, root: Path) -> None:
        self.visitors = Visitors(root)
        self.behind = Behind()
        self.guard = Guard(self.behind, self.visitors)

    def ask(
        self,
        path: str,
        token: str | None = None,
        *,
        method: str = "GET",
        host: str = "127.0.0.1:7860",
        query="",
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        headers = [(b"host", host.encode())]
        if token is not None:
            headers.append((b"cookie", f"a=1; {COOKIE}={token}".encode()))
        scope = {"type": "http", "path": path, "method": method, "headers": headers}
        scope |= {"query_string": query.encode(), "extensions": {}}
        sent: list[dict] = []

        async def send(message) -> None:
            sent.append(dict(message))

        async def receive() -> dict:
            await asyncio.Event().wait()  # the browser stays
            return {"type": "http.disconnect"}

        asyncio.run(self.guard(scope, receive, send))
        answered = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], answered, b"".join(message.get("body", b"") for message in sent[1:])


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path)


def test_the_page_gives_a_cookie_once(door: Door) -> None:
    status, headers, _ = door.ask("/")
    assert status == 200
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    token = token_in(cookie.partition(";")[0])
    assert door.visitors.get(token) is not None
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "set-cookie" not in door.ask("/", token)[1]
    fresh = token_in(door.ask("/", "made-up")[1]["set-cookie"].partition(";")[0])
    assert fresh not in ("made-up", token)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7860", "", "127.0.0.1.evil.example"])
def test_other_names_of_this_machine_are_refused(door: Door, host: str) -> None:
    assert door.ask("/", host=host)[0] == 421
    assert door.behind.passed == []


def test_only_needed_routes_are_open(door: Door) -> None:
    token = door.visitors.welcome()
    for path in ("/assets/index.js", "/gradio_api/info", "/theme.css", "/config"):
        assert door.ask(path)[0] == 200
    for path in ("/gradio_api/queue/join", "/gradio_api/upload_progress"):
        assert door.ask(path)[0] == 403, "needs a cookie"
        assert door.ask(path, token)[0] == 200
    for path in (
        "/gradio_api/proxy=http://a",
        "/gradio_api/file=http://a",
        "/gradio_api/run/x",
        "/monitoring",
    ):
        assert door.ask(path, token)[0] == 404
    assert door.ask("/gradio_api/vibe-edit/", token, method="POST")[0] == 404
    assert door.ask("/config", method="POST")[0] == 403


def test_an_upload_is_its_owners(door: Door) -> None:
    mine, other = door.visitors.welcome(), door.visitors.welcome()
    door.behind.paths = ["/tmp/x/hash/a clip.mp4"]
    path = "/gradio_api/file=/tmp/x/hash/a clip.mp4"
    assert door.ask("/gradio_api/upload", method="POST")[0] == 403
    assert door.ask(path, mine)[0] == 404
    status, _, body = door.ask("/gradio_api/upload", mine, method="POST")
    assert (status, json.loads(body)) == (200, door.behind.paths)
    assert door.ask(path, mine)[0] == 200
    assert door.ask(path, other)[0] == 404
    assert door.ask(path)[0] == 403
    assert door.ask("/gradio_api/file=/etc/passwd", mine)[0] == 404
    door.behind.status = 413
    door.behind.paths = ["refused"]
    door.ask("/gradio_api/upload", other, method="POST")
    assert door.visitors.get(other).uploads == set()


def test_a_tab_is_its_owners(door: Door) -> None:
    mine, other = door.visitors.welcome(), door.visitors.welcome()
    assert door.ask("/gradio_api/heartbeat/tab", mine)[0] == 200
    assert door.ask("/gradio_api/queue/data", mine, query="session_hash=tab")[0] == 200
    assert door.ask("/gradio_api/queue/data", other, query="session_hash=tab")[0] == 404
    assert door.ask("/gradio_api/heartbeat/tab", other)[0] == 404
    assert door.ask("/gradio_api/queue/data", other, query="session_hash=new&session_hash=tab")[0] == 404
    assert door.ask("/gradio_api/queue/data", other)[0] == 404


def test_answers_go_to_their_owner(door: Door) -> None:
    pytest.importorskip("starlette", reason="files are served by starlette: install requirements-web.txt")
    mine, other = door.visitors.welcome(), door.visitors.welcome()
    folder = door.visitors.get(mine).new_folder("answers", 4)
    (folder / "masks.zip").write_bytes(b"all the masks")
    path = f"/answers/{folder.name}/masks.zip"
    status, headers, body = door.ask(path, mine)
    assert (status, body) == (200, b"all the masks")
    assert headers["cache-control"] == "private, no-store"
    assert door.ask(path, other)[0] == 404
    assert door.ask(path)[0] == 403
    for wrong in (
        "/answers/",
        f"/answers/{folder.name}",
        f"/answers/../answers/{folder.name}",
        "/clips/../x",
    ):
        assert door.ask(wrong, mine)[0] == 404
    assert door.ask(path, mine, method="DELETE")[0] == 404
    assert door.behind.passed == []


@pytest.mark.parametrize("cookies", ["", "other=1", "=;;=", f"{COOKIE}"])
def test_no_token(cookies: str) -> None:
    assert token_in(cookies) is None
