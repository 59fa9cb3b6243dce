"""Starlette: the middleware over routes, a decorated endpoint, a websocket, a stream."""

from __future__ import annotations

from common import DECORATED, RULES, TRUSTED, slow_async
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from penstock.integrations.starlette import LimitMiddleware, limit


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


@limit(DECORATED, name="decorated")
async def decorated(request: Request) -> Response:
    return PlainTextResponse("decorated")


async def stream(request: Request) -> Response:
    return StreamingResponse(slow_async())


async def boom(request: Request) -> Response:
    raise RuntimeError("boom")


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())
    await websocket.close()


app = Starlette(
    routes=[
        Route("/items/{number}", hello, methods=["GET", "PUT", "OPTIONS"]),
        Route("/free", hello),
        Route("/many", hello),
        Route("/tenant", hello),
        Route("/decorated", decorated),
        Route("/stream", stream),
        Route("/boom", boom),
        WebSocketRoute("/ws", echo),
    ],
    middleware=[Middleware(LimitMiddleware, *RULES, trusted=TRUSTED)],
)
