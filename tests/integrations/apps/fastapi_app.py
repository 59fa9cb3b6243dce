"""FastAPI: install() with rules, dependencies on routes and on a websocket."""

from __future__ import annotations

from common import DECORATED, RULES, TRUSTED, slow_async
from fastapi import APIRouter, Depends, FastAPI, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse

from penstock.integrations.fastapi import install, limit

app = FastAPI()
install(app, *RULES, trusted=TRUSTED)
router = APIRouter()


@router.get("/items/{number}")
@router.put("/items/{number}")
@router.options("/items/{number}")
async def items(number: int) -> PlainTextResponse:
    return PlainTextResponse("hello")


@router.head("/items/{number}")
async def items_head(number: int) -> PlainTextResponse:
    return PlainTextResponse("hello")


@router.get("/free")
@router.get("/many")
@router.get("/tenant")
async def hello() -> PlainTextResponse:
    return PlainTextResponse("hello")


@router.get("/decorated", dependencies=[Depends(limit(DECORATED, name="decorated"))])
async def decorated() -> PlainTextResponse:
    return PlainTextResponse("decorated")


@router.get("/stream")
async def stream() -> StreamingResponse:
    return StreamingResponse(slow_async())


@router.get("/boom")
async def boom() -> None:
    raise RuntimeError("boom")


@router.websocket("/ws")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())
    await websocket.close()


app.include_router(router)
