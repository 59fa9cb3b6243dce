"""A TCP proxy with faults: late, cut, half-open, byte by byte, answers twice, answers lost."""

from __future__ import annotations

import asyncio
import ssl
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Self


@dataclass
class Faults:
    """What a Proxy does to those that speak through it; may be changed at any time, from any thread.

    delay_s: seconds by which every piece is late, in either direction. half_open: pieces vanish, and what has lost one
    stays dead when this is over. bytes_per_s: replies come one byte at a time. lose_replies: so many replies never
    arrive, the connection is cut in their place. double_replies: so many replies come twice. refuse: connections are
    cut as soon as they are made. elsewhere: host and port that new connections are brought to instead.
    """

    delay_s: float = 0.0
    half_open: bool = False
    bytes_per_s: float = 0.0
    lose_replies: int = 0
    double_replies: int = 0
    refuse: bool = False
    elsewhere: tuple[str, int] | None = None


class Proxy:
    """Listens on a free port of this host and passes on to `host` and `port`, in a thread of its own.

    port: where to connect to. tls: how to be spoken to with TLS; it goes on without. connections, pieces: how many were
    made, and how often something was passed on.
    """

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.faults = Faults()
        self.host, self.port = "127.0.0.1", 0
        self.connections = 0
        self.pieces = 0
        self._to = host, port
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self._down = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._run, name="proxy")

    def __enter__(self) -> Self:
        self._thread.start()
        self._up.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._down.set)
        self._thread.join()

    @property
    def url(self) -> str:
        """redis:// URL of the proxy."""
        return f"redis://{self.host}:{self.port}/0"

    def cut(self) -> None:
        """Cut every connection there is."""
        self._loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, self.host, 0, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        self._up.set()
        await self._down.wait()
        server.close()
        self._cut()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.faults.refuse:
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection(*(self.faults.elsewhere or self._to))
        except OSError:
            writer.transport.abort()
            return
        line = _Line(self, {writer, back})
        self._writers |= line.writers
        try:
            await asyncio.gather(line.pass_on(reader, back, False), line.pass_on(there, writer, True))
        finally:
            self._writers -= line.writers
            for end in line.writers:
                end.transport.abort()


class _Line:
    """One connection through the proxy. dead: bytes were lost, so that nothing passes any more."""

    def __init__(self, proxy: Proxy, writers: set[asyncio.StreamWriter]) -> None:
        self.proxy = proxy
        self.writers = writers
        self.dead = False

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, replies: bool) -> None:
        faults = self.proxy.faults
        try:
            while piece := await reader.read(2**16):
                if faults.delay_s:
                    await asyncio.sleep(faults.delay_s)
                self.dead = self.dead or faults.half_open
                if self.dead:
                    continue
                if replies and faults.lose_replies > 0:
                    faults.lose_replies -= 1
                    self.cut()
                    return
                if replies and faults.double_replies > 0:
                    faults.double_replies -= 1
                    piece *= 2
                self.proxy.pieces += 1
                await self._write(writer, piece, replies)
        except OSError:
            pass  # one side was cut: so is the other, below
        if not self.dead:
            self.cut()

    async def _write(self, writer: asyncio.StreamWriter, piece: bytes, replies: bool) -> None:
        rate = self.proxy.faults.bytes_per_s if replies else 0.0
        for byte in [piece[i : i + 1] for i in range(len(piece))] if rate else [piece]:
            writer.write(byte)
            await writer.drain()
            if rate:
                await asyncio.sleep(1 / rate)

    def cut(self) -> None:
        for writer in self.writers:
            writer.transport.abort()
