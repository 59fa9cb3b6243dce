"""httpx transports that limit outgoing calls per host and honour Retry-After.

    client = httpx.Client(transport=LimitedTransport("10/second"))
    client = httpx.AsyncClient(transport=AsyncLimitedTransport("10/second"))
"""

from __future__ import annotations

from collections.abc import Callable

from penstock.integrations._outgoing import Outgoing
from penstock.limiter import Key, Limiter
from penstock.rate import Limit

try:
    import httpx
except ImportError as error:
    raise ImportError(f"penstock.integrations.httpx: {error}; pip install 'penstock[httpx]'") from error


def host_of(request: httpx.Request) -> Key:
    """The host and, where it is not the scheme's own, the port."""
    return request.url.netloc


class LimitedTransport(httpx.BaseTransport):
    """A transport that waits for its turn.

    limiter: a Limiter (without Concurrency), or limits such as "10/second". transport: what sends; httpx's own by
    default. key: what is limited, a function of the request; an error in it reaches the caller, and nothing is sent.
    wait: seconds to wait for a turn, None without end, 0 not at all; penstock.RateLimited is raised when it is not
    enough.

    After a 429 or 503 with Retry-After no call of the key is sent before that time, retry_after_most seconds at
    most; the response itself is handed on. Each hop of a redirect is a call.
    """

    def __init__(
        self,
        limiter: Limiter | str | Limit,
        transport: httpx.BaseTransport | None = None,
        *,
        key: Callable[[httpx.Request], Key] = host_of,
        wait: float | None = None,
        retry_after_most: float = 3600.0,
    ) -> None:
        self._outgoing = Outgoing(limiter, wait, retry_after_most)
        self._transport = httpx.HTTPTransport() if transport is None else transport
        self._key = key

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        key = self._key(request)
        self._outgoing.before(key)
        response = self._transport.handle_request(request)
        self._outgoing.after(
            key, response.status_code, response.headers.get("retry-after"), response.headers.get("date")
        )
        return response

    def close(self) -> None:
        self._transport.close()


class AsyncLimitedTransport(httpx.AsyncBaseTransport):
    """LimitedTransport for httpx.AsyncClient, in asyncio; a cancelled call leaves the line and has taken nothing."""

    def __init__(
        self,
        limiter: Limiter | str | Limit,
        transport: httpx.AsyncBaseTransport | None = None,
        *,
        key: Callable[[httpx.Request], Key] = host_of,
        wait: float | None = None,
        retry_after_most: float = 3600.0,
    ) -> None:
        self._outgoing = Outgoing(limiter, wait, retry_after_most)
        self._transport = httpx.AsyncHTTPTransport() if transport is None else transport
        self._key = key

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        key = self._key(request)
        await self._outgoing.before_async(key)
        response = await self._transport.handle_async_request(request)
        self._outgoing.after(
            key, response.status_code, response.headers.get("retry-after"), response.headers.get("date")
        )
        return response

    async def aclose(self) -> None:
        await self._transport.aclose()
