"""The door of the page: what a browser may ask of the server, and whose files it may see.

Gradio serves any upload to whoever knows its path, which is made of the content's hash. Here every request
passes first: only the routes that the page needs are open, files go to their owner alone, and nothing comes
to the page from elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from visa.web.desk import ANSWERS, CLIPS
from visa.web.visitors import Visitor, Visitors

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

COOKIE = "visa_visitor"
# A name that another site's domain resolves to this machine by is not one of these (DNS rebinding).
HOSTS = ("127.0.0.1", "localhost")
API = "/gradio_api"
# Shown where there are none: the page's own code, alike for everybody.
OPEN = (
    "/assets/",
    "/static/",
    "/svelte/",
    "/theme.css",
    "/favicon.ico",
    "/manifest.json",
    "/config",
    "/info",
)
OPEN += ("/app_id", "/startup-events", "/login_check", "/user", "/pwa_icon", "/robots.txt")
# With a visitor's cookie.
PRIVATE = ("/queue/join", "/upload_progress", "/cancel", "/reset")
# Nothing is fetched from, or sent to, other machines; no other page may put this one into a frame.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


class Guard:
    """ASGI middleware around Gradio's app.

    Args:
        app: what is guarded.
        visitors: who is known.
    """

    def __init__(self, app: App, visitors: Visitors) -> None:
        self._app = app
        self._visitors = visitors

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Pass the request on, answer it, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            raise RuntimeError(f"the page uses no {scope['type']} connections")

    async def _answer(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        if headers.get("host", "").rpartition(":")[0] not in HOSTS and headers.get("host") not in HOSTS:
            await _refuse(send, 421, "this page answers at 127.0.0.1 only")
            return
        visitor = self._visitors.get(token_in(headers.get("cookie", "")))
        path = scope["path"]
        route = path.removeprefix(API)
        if path == "/":
            cookie = None if visitor else self._visitors.welcome()
            await self._app(scope, receive, _with_headers(send, cookie))
        elif route.startswith(OPEN) and scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, _with_headers(send))
        elif visitor is None:
            await _refuse(send, 403, "this page does not know you any more: load it again")
        elif route.startswith((f"/{ANSWERS}/", f"/{CLIPS}/")):
            await _serve(visitor, route, scope, receive, _with_headers(send))
        elif route == "/upload":
            await self._app(scope, receive, _remember_uploads(visitor, _with_headers(send)))
        elif self._may(visitor, route, scope):
            await self._app(scope, receive, _with_headers(send))
        else:
            await _refuse(send, 404, "there is nothing here for you")

    def _may(self, visitor: Visitor, route: str, scope: MutableMapping[str, Any]) -> bool:
        """Whether a visitor may have what a route of Gradio's leads to."""
        if route.startswith("/file="):
            return route.removeprefix("/file=") in visitor.uploads
        if route == "/queue/data":
            sessions = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [])
            return len(sessions) == 1 and self._visitors.owns_session(visitor, sessions[0])
        if route.startswith("/heartbeat/"):
            return self._visitors.owns_session(visitor, route.removeprefix("/heartbeat/"))
        return route in PRIVATE


def token_in(cookies: str) -> str | None:
    """The visitor's secret in a Cookie header."""
    try:
        morsel = SimpleCookie(cookies).get(COOKIE)
    except CookieError:
        return None
    return morsel.value if morsel else None


def _with_headers(send: Send, token: str | None = None) -> Send:
    """Adds the policy, and the cookie of a new visitor: no script reads it, no other site sends it along."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            added = [*HEADERS]
            if token is not None:
                added.append((b"set-cookie", f"{COOKIE}={token}; Path=/; HttpOnly; SameSite=Lax".encode()))
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await send(message)

    return sending


def _remember_uploads(visitor: Visitor, send: Send) -> Send:
    """Notes the paths that Gradio answers an upload with: they are this visitor's from now on."""
    body = bytearray()
    status = 0

    async def sending(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        elif message["type"] == "http.response.body":
            body.extend(message.get("body", b""))
            if status == 200 and not message.get("more_body"):
                visitor.uploads.update(map(str, json.loads(bytes(body))))
        await send(message)

    return sending


async def _serve(
    visitor: Visitor, route: str, scope: MutableMapping[str, Any], receive: Receive, send: Send
) -> None:
    """A file of the visitor's own, whole or in the ranges that a player asks for."""
    from starlette.responses import FileResponse

    parts = route.split("/")
    path: Path | None = visitor.find(*parts[1:]) if len(parts) == 4 and all(parts[1:]) else None
    if path is None or not path.is_file() or scope["method"] not in ("GET", "HEAD"):
        await _refuse(send, 404, "there is nothing here for you")
        return
    await FileResponse(path, headers={"Cache-Control": "private, no-store"})(scope, receive, send)


async def _refuse(send: Send, status: int, words: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": words.encode()})
