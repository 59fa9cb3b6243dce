"""aiohttp, on its own server: install() with rules, a decorated handler, a websocket, a stream."""

from __future__ import annotations

import sys

from aiohttp import web
from common import DECORATED, RULES, TRUSTED, slow_async

from penstock.integrations.aiohttp import install, limit


async def hello(request: web.Request) -> web.Response:
    return web.Response(text="hello")


@limit(DECORATED, name="decorated")
async def decorated(request: web.Request) -> web.Response:
    return web.Response(text="decorated")


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    async for part in slow_async():
        await response.write(part)
    return response


async def boom(request: web.Request) -> web.Response:
    raise RuntimeError("boom")


async def echo(request: web.Request) -> web.WebSocketResponse:
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    await websocket.send_str(await websocket.receive_str())
    await websocket.close()
    return websocket


app = web.Application()
install(app, *RULES, trusted=TRUSTED)
app.router.add_route("*", "/items/{number}", hello)
app.router.add_get("/free", hello)
app.router.add_get("/many", hello)
app.router.add_get("/tenant", hello)
app.router.add_get("/decorated", decorated)
app.router.add_get("/stream", stream)
app.router.add_get("/boom", boom)
app.router.add_get("/ws", echo)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, reuse_port=True)
