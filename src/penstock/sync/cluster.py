"""Connections to the masters of a cluster, each on its own: one that is away disturbs no other.

redis-py's client draws the map of slots and nothing else, because it closes its connections to all nodes when one fails
(up to 7.1 at least).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from penstock.sync.failures import BeforeSending, Moving, code_of, is_refusal
from penstock.sync.ways import CONNECT_S, Command, Single, once, unsent

NODE_S = 0.5
"""Seconds for a node to be connected to, and to answer, when the map of slots is drawn."""
REDRAW_S = 1.0
"""The map is drawn anew after failures, in the background, but not more often than this."""
HOPS_MOST = 2
"""So often a command goes at once where it is pointed to; then it waits before."""
AGAIN_S = 0.005
"""How long it waits, for a slot or some of its keys to arrive."""


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
        self._nodes: dict[tuple[str, int], Single] = {}
        self._map: Any = None
        self._drawn_s = 0.0
        self._drawing: asyncio.Task[None] | None = None

    async def ask(self, command: Command, key: str, timeout_s: float) -> Any:
        """Send a command about `key` to the node that has it, and return the answer to it.

        It follows where nodes point to while the key's slot moves, and waits for keys that are on their way.
        """
        loop = asyncio.get_running_loop()
        node, asking, hops, end_s = await self._node(key), False, 0, loop.time() + timeout_s
        while True:
            try:
                return await node.ask(command, key, timeout_s, asking)
            except Exception as error:
                code = code_of(error)
                elsewhere = code in ("ASK", "MOVED", "TRYAGAIN")
                if elsewhere or not is_refusal(error) or code == "CLUSTERDOWN":
                    self._redraw()
                if not elsewhere:
                    raise
                if code != "TRYAGAIN":
                    node, asking = self._pointed(error, node), code == "ASK"
            if loop.time() >= end_s:
                raise Moving
            hops += 1
            if hops > HOPS_MOST or code == "TRYAGAIN":
                await asyncio.sleep(AGAIN_S)

    async def load(self, key: str, timeout_s: float) -> None:
        """Load the script on every master, since a slot on the move is asked for at two."""
        await self._node(key)
        masters = [self._single(node.host, int(node.port)) for node in self._map.get_primaries()]
        loads = [master.load(key, timeout_s) for master in masters]
        await asyncio.gather(*loads, return_exceptions=True)  # what is wrong with one, the calls to it tell

    async def aclose(self) -> None:
        """Close every connection to every node."""
        if self._drawing is not None:
            drawing = self._drawing
            await asyncio.wait([drawing], timeout=NODE_S)  # cut short, redis-py would leave connections open
            drawing.cancel()
            await asyncio.wait([drawing])
        nodes, self._nodes, self._map = self._nodes, {}, None
        for node in nodes.values():
            await node.aclose()

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
        return self._single(place.host, int(place.port))

    def _single(self, host: str, port: int) -> Single:
        if (host, port) not in self._nodes:
            self._nodes[host, port] = Single(self._kind, {**self._own, "host": host, "port": port}, None)
        return self._nodes[host, port]

    def _pointed(self, error: Any, node: Single) -> Single:
        """The node that an answer of MOVED or ASK names. Without a host it is that of who answers."""
        place = error.host or node.host, int(error.port)
        remap = self._settings.get("address_remap")
        return self._single(*(remap(place) if remap else place))

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
            raise unsent(error, CONNECT_S) from None
        finally:
            await client.aclose()  # of its connections; what it knows stays
        self._map = client
        self._addresses = [(node.host, int(node.port)) for node in client.get_nodes()]
        for place in self._nodes.keys() - set(self._addresses):
            await self._nodes.pop(place).aclose()
