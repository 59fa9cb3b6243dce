"""One call of an ASGI application by hand, for tests of what stands before it."""

from __future__ import annotations

import asyncio
from typing import Any

Message = dict[str, Any]


def run(app: Any, made: dict[str, Any], *received: Message) -> list[Message]:
    """What is sent."""
    sent: list[Message] = []
    waiting = list(received)

    async def receive() -> Message:
        return waiting.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app(made, receive, send))
    return sent
