"""Connections to one server, or to whom Sentinels call the master, which bring commands there; cluster.py has more.

redis-py makes them: it knows TLS, users, Sentinel and clusters. A way belongs to the event loop that first uses it, and
connects when there is something to send. What fails is raised as redis-py or the network has it, but wrapped in
BeforeSending where nothing was sent, and as Silence where no answer came in time; failures.py sorts it.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import resources
from typing import Any

from penstock.sync.failures import BeforeSending, Silence

CONNECT_S = 1.0
"""Seconds for a connection to be made: names looked up, Sentinels asked, TLS, and the script loaded."""
SENTINEL_S = 0.25
"""Seconds for one Sentinel; the next is asked then."""
HANG_UP_S = 0.05
"""Seconds for a connection to be closed in good order, which with TLS takes an answer."""

Command = Sequence[Any]


@functools.cache
def script() -> tuple[str, str]:
    """merge.lua's text, and its SHA-1 in hex, by which Redis knows it."""
    text = (resources.files("penstock.sync") / "merge.lua").read_text("utf-8")
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def once() -> Any:
    """redis-py's setting for trying once: trying again is the business of who sends."""
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    return Retry(NoBackoff(), 0)


class Single:
    """Connections to one server; with a Sentinel's pool, to whom it calls the master at the time.

    About as many as there are calls at one time: a call that waits for its answer holds up no other. They are made one
    after the other, and those who wait for one that fails have failed with it.
    """

    def __init__(self, kind: type[Any], settings: Mapping[str, Any], pool: Any) -> None:
        self._settings = dict(settings) if pool is None else {**settings, "connection_pool": pool}
        self.host = settings.get("host")
        self._pool = pool
        self._kind = kind
        self._free: list[Any] = []
        self._making: asyncio.Task[None] | None = None
        self._reached = False
        self._closed = False

    async def ask(self, command: Command, key: str, timeout_s: float, asking: bool = False) -> Any:
        """Send a command about `key`, and return the answer to it. asking: as one of a cluster that was pointed here by
        ASK."""
        from redis.exceptions import ResponseError

        connection = await self._taken(timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                if asking:
                    await connection.send_command("ASKING")
                    await connection.read_response()
                await connection.send_command(*command)
                answer = await connection.read_response()
        except ResponseError:
            await self._give_back(connection)
            raise
        except BaseException as error:
            # An answer that comes too late must not be taken for another's; and where one is cut, so are all.
            await _hang_up(connection)
            await self._close_free()
            if isinstance(error, TimeoutError):
                raise Silence(timeout_s) from None
            raise
        await self._give_back(connection)
        return answer

    async def load(self, key: str, timeout_s: float) -> None:
        """Load the script where `key` is."""
        await self.ask(_load(), key, timeout_s)

    async def aclose(self) -> None:
        """Close the connections that are free now, those in use when they are given back, and those to Sentinels."""
        self._closed = True
        if self._making is not None:
            self._making.cancel()
            await asyncio.wait([self._making])
        await self._close_free()
        if self._pool is not None:
            for client in self._pool.sentinel_manager.sentinels:
                await client.connection_pool.disconnect()

    async def _taken(self, timeout_s: float) -> Any:
        """A connection that nobody else has. The first of all is waited for as long as it takes to be made or to fail;
        later ones only for timeout_s, and are made meanwhile for those who come after."""
        self._closed = False
        try:
            async with asyncio.timeout(timeout_s if self._reached else None):
                while True:
                    while self._free:
                        connection = self._free.pop()
                        if await _clear(connection):
                            return connection
                        await _hang_up(connection)
                    if self._making is None:
                        self._making = asyncio.create_task(self._make())
                        self._making.add_done_callback(self._made)
                    await asyncio.shield(self._making)
        except TimeoutError:
            raise BeforeSending(Silence(timeout_s)) from None

    async def _give_back(self, connection: Any) -> None:
        if self._closed:
            await _hang_up(connection)
        else:
            self._free.append(connection)

    async def _make(self) -> None:
        connection = self._kind(**self._settings)
        try:
            async with asyncio.timeout(CONNECT_S):
                await connection.connect()
                await connection.send_command(*_load())
                await connection.read_response()
        except BaseException as error:
            await _hang_up(connection)
            raise unsent(error, CONNECT_S) from None
        self._reached = True
        await self._give_back(connection)

    def _made(self, making: asyncio.Task[None]) -> None:
        self._making = None
        if not making.cancelled():
            making.exception()  # those who wait have it too; were all of them cancelled, nobody else would take it

    async def _close_free(self) -> None:
        free, self._free = self._free, []
        for connection in free:
            await _hang_up(connection)


async def _clear(connection: Any) -> bool:
    """Whether a connection is open, with nothing in it that would be taken for the next answer."""
    check = getattr(connection, "can_read", None) or connection.can_read_destructive  # the latter before redis-py 8
    try:
        return connection.is_connected and not await check()
    except Exception:  # redis-py's versions differ in what they raise for a connection that is cut
        return False


async def _hang_up(connection: Any) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(HANG_UP_S):
            await connection.disconnect()


def _load() -> Command:
    return "SCRIPT", "LOAD", script()[0]


def unsent(error: BaseException, waited_s: float) -> BaseException:
    """What to raise where nothing was sent."""
    if isinstance(error, TimeoutError):
        return BeforeSending(Silence(waited_s))
    return BeforeSending(error) if isinstance(error, Exception) else error
