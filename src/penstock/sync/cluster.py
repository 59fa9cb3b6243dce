"""Connections to the masters of a cluster, each on its own: one that is away disturbs no other.

redis-py's client draws the map of slots, and brings commands there that were answered with MOVED, ASK or TRYAGAIN. It
is not on the usual way, because it closes its connections to all nodes when one fails (up to 7.1 at least).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from penstock.sync.failures import BeforeSending, Silence, code_of, is_refusal
from penstock.sync.ways import CONNECT_S, Command, Single, once, script, unsent

NODE_S = 0.5
"""Seconds for a node to be connected to, and to answer, when the map of slots is drawn."""
REDRAW_S = 1.0
"""The map is drawn anew after failures, in the background, but not more often than this."""


class Cluster:
    """A cluster. addresses: of some nodes; settings: for redis-py's RedisCluster; kind, own: for our connections."""

    def __init__(
        self,
        addresses: Sequence[tuple[str, int]],
        settings: Mapping[str, Any],
        kind: type[Any],
        own: Mapping[str, Any],
    ) -> None:
        self._addresses = list(addresses)
        self._settings = {**settings, "socket_timeout": NODE_S, "socket_connect_timeout": NODE_S}
        self._kind, self._own = kind, own
        self._nodes: dict[str, Single] = {}
        self._map: Any = None
        self._drawn_s = 0.0
        self._drawing: asyncio.Task[None] | None = None

    async def ask(self, command: Command, key: str, timeout_s: float) -> Any:
        """Send a command about `key` to the node that has it, and return the answer to it."""
        node = await self._node(key)
        try:
            return await node.ask(command, key, timeout_s)
        except Exception as error:
            elsewhere = code_of(error) in ("ASK", "MOVED", "TRYAGAIN")
            if elsewhere or not is_refusal(error) or code_of(error) == "CLUSTERDOWN":
                self._redraw()
            if not elsewhere:
                raise
        try:
            async with asyncio.timeout(timeout_s):
                return await self._map.execute_command(*command)
        except TimeoutError:
            raise Silence(timeout_s) from None

    async def load(self, key: str, timeout_s: float) -> None:
        """Load the script on every master, since a slot on the move is asked for at two."""
        await self._node(key)
        loads = [self._load(node) for node in self._map.get_primaries()]
        async with asyncio.timeout(timeout_s):
            await asyncio.gather(*loads, return_exceptions=True)  # what is wrong with one, the calls to it tell

    async def _load(self, node: Any) -> None:
        await self._map.execute_command("SCRIPT LOAD", script()[0], target_nodes=[node])

    async def aclose(self) -> None:
        """Close every connection to every node."""
        if self._drawing is not None:
            self._drawing.cancel()
            await asyncio.wait([self._drawing])
        nodes, self._nodes, client, self._map = self._nodes, {}, self._map, None
        for node in nodes.values():
            await node.aclose()
        if client is not None:
            await client.aclose()

    async def _node(self, key: str) -> Single:
        if self._map is None:
            self._redraw()
            if self._drawing is not None:
                await asyncio.shield(self._drawing)
        try:
            place = self._map.get_node_from_key(key)
        except Exception as error:  # nobody has its slot
            self._redraw()
            raise BeforeSending(error) from None
        name = f"{place.host}:{place.port}"
        if name not in self._nodes:
            self._nodes[name] = Single(self._kind, {**self._own, "host": place.host, "port": place.port}, None)
        return self._nodes[name]

    def _redraw(self) -> None:
        """Draw the map in the background, unless that was just done or is being done."""
        now_s = asyncio.get_running_loop().time()
        if self._drawing is None and (self._map is None or now_s >= self._drawn_s + REDRAW_S):
            self._drawn_s = now_s
            self._drawing = asyncio.create_task(self._draw())
            self._drawing.add_done_callback(self._drawn)

    def _drawn(self, drawing: asyncio.Task[None]) -> None:
        self._drawing = None
        if not drawing.cancelled():
            drawing.exception()  # whoever waits has it too; without a new map the old one is the best there is

    async def _draw(self) -> None:
        import redis
        from redis.asyncio.cluster import ClusterNode, RedisCluster

        nodes = [ClusterNode(host, port) for host, port in self._addresses]
        settings = {**self._settings, "startup_nodes": nodes, "require_full_coverage": False}
        if int(redis.__version__.partition(".")[0]) < 6:
            client = RedisCluster(**settings, cluster_error_retry_attempts=0)
        else:
            client = RedisCluster(**settings, retry=once())
        try:
            async with asyncio.timeout(CONNECT_S):
                await client.initialize()
        except BaseException as error:
            await client.aclose()
            raise unsent(error, CONNECT_S) from None
        old, self._map = self._map, client
        places = [(node.host, int(node.port)) for node in client.get_nodes()]
        self._addresses = places
        names = {f"{host}:{port}" for host, port in places}
        for name in self._nodes.keys() - names:
            await self._nodes.pop(name).aclose()
        if old is not None:
            await old.aclose()
