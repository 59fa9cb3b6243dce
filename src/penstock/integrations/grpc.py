"""gRPC server interceptors, sync and aio: a refused call ends with RESOURCE_EXHAUSTED and retry-after in its trailer.

    server = grpc.server(pool, interceptors=[RateLimitInterceptor("100/second")])
    server = grpc.aio.server(interceptors=[AioRateLimitInterceptor("100/second")])
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import Any, Literal, NamedTuple, NoReturn
from urllib.parse import unquote

from penstock.adapters.identity import group, read_address
from penstock.decision import Decision
from penstock.errors import shown
from penstock.integrations._sampled import Sampled
from penstock.limiter import Key, Limiter
from penstock.rate import Limit

try:
    import grpc
    import grpc.aio
except ImportError as error:
    raise ImportError(f"penstock.integrations.grpc: {error}; pip install 'penstock[grpc]'") from error

logger = logging.getLogger("penstock.grpc")

Behaviour = Callable[[Any, Any], Any]


def address_of(peer: str) -> str | None:
    """The address in a peer such as "ipv4:127.0.0.1:5000", of IPv6 its /64; None for a peer that has none."""
    kind, _, rest = unquote(peer).partition(":")
    address = read_address(rest) if kind in ("ipv4", "ipv6") else None
    return None if address is None else group(address)


def peer_address(method: str, context: Any) -> Key | None:
    """The key of an interceptor that is given none."""
    return address_of(context.peer())


class Refusal(NamedTuple):
    """How a refused call ends: status details for people, and trailing metadata."""

    code: grpc.StatusCode
    details: str
    trailer: tuple[tuple[str, str], ...]


OVER = grpc.StatusCode.RESOURCE_EXHAUSTED
UNKNOWN = Refusal(grpc.StatusCode.PERMISSION_DENIED, "client could not be identified", ())


def refuse(refusal: Refusal, context: Any) -> NoReturn:
    """Ends a call in a thread."""
    context.set_trailing_metadata(refusal.trailer)
    context.abort(refusal.code, refusal.details)
    raise AssertionError("abort returned")


def _behaviour_of(handler: Any) -> tuple[str, Behaviour]:
    """Which of a handler's four functions is there, and it."""
    kinds = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
    return next((kind, behaviour) for kind in kinds if (behaviour := getattr(handler, kind)) is not None)


def _handler(kind: str, behaviour: Behaviour, like: Any) -> Any:
    """A handler of this kind that reads and writes messages as another does."""
    make = getattr(grpc, f"{kind}_rpc_method_handler")
    return make(behaviour, like.request_deserializer, like.response_serializer)


class _Interceptor:
    """What both interceptors decide by; RateLimitInterceptor tells of the arguments."""

    def __init__(
        self,
        limiter: Limiter | str | Limit,
        *,
        key: Callable[[str, Any], Key | None] = peer_address,
        unknown: Literal["refuse", "admit"] = "refuse",
        exempt: Callable[[str, Any], object] | None = None,
        on_refused: Callable[[Key, Decision], object] | None = None,
    ) -> None:
        if unknown not in ("refuse", "admit"):
            raise ValueError(f'unknown={shown(unknown)} must be "refuse" or "admit"')
        self._limiter = limiter if isinstance(limiter, Limiter) else Limiter(limiter)
        if self._limiter._holds():
            raise ValueError(f"{self._limiter!r}: a Concurrency limit has to be given back; a call here is one hit")
        self._key = key
        self._unknown = None if unknown == "admit" else UNKNOWN
        self._exempt = exempt
        self._on_refused = on_refused
        self._sampled = Sampled(1)

    def refusal(self, method: str, context: Any) -> Refusal | None:
        """Takes one unit for the call: None when it is admitted."""
        try:
            if self._exempt is not None and self._exempt(method, context):
                return None
            key = self._key(method, context)
            if key is None:
                return self._unknown
            decision = self._limiter.check(key)  # a TypeError for what is no key
        except Exception:
            self._tell("%s: no key for this call", method)
            return self._unknown
        return None if decision.allowed else self._refused(method, key, decision)

    def _refused(self, method: str, key: Key, decision: Decision) -> Refusal:
        if self._on_refused is not None:
            try:
                self._on_refused(key, decision)
            except Exception:
                self._tell("%s: on_refused failed; the call is refused all the same", method)
        if math.isinf(decision.retry_after):
            return Refusal(OVER, f"limit of {decision.limit} reached", ())
        seconds = max(1, math.ceil(decision.retry_after))
        text = f"limit of {decision.limit} reached; retry in {seconds} s"
        return Refusal(OVER, text, (("retry-after", str(seconds)),))

    def _tell(self, message: str, method: str) -> None:
        """Logs the exception that is being handled, not more than once a second."""
        if self._sampled.admit() is not None:
            logger.exception(message, method)


class RateLimitInterceptor(_Interceptor, grpc.ServerInterceptor):
    """For grpc.server: handlers in threads, unary and streaming.

    limiter: a Limiter, or the limits of one that is made here. key: what a call is limited by, a function of the
    method's full name ("/package.Service/Method") and the servicer context; without one the peer's address, of IPv6
    the /64. unknown: what becomes of calls whose key is None or whose functions raise (logged, once a second at most):
    "refuse" (PERMISSION_DENIED) or "admit"; there is no bucket that all of them share. A peer on a Unix socket has no
    address. exempt: a function of the same two, true for calls that are not limited. on_refused: called with the key
    and the Decision of each call over the limit, such as a RefusalLog.
    """

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """The method's handler, with the limit before it; None for a method that nobody serves."""
        handler = continuation(details)
        if handler is None:
            return None
        kind, behaviour = _behaviour_of(handler)

        def limited(request: Any, context: Any) -> Any:
            if (refusal := self.refusal(details.method, context)) is not None:
                refuse(refusal, context)
            return behaviour(request, context)

        return _handler(kind, limited, handler)


class AioRateLimitInterceptor(_Interceptor, grpc.aio.ServerInterceptor):
    """For grpc.aio.server: coroutines, async generators and plain functions in threads.

    Arguments are those of RateLimitInterceptor.
    """

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """The method's handler, with the limit before it; None for a method that nobody serves."""
        handler = await continuation(details)
        if handler is None:
            return None
        kind, behaviour = _behaviour_of(handler)

        async def admit(context: Any) -> None:
            if (refusal := self.refusal(details.method, context)) is not None:
                await context.abort(refusal.code, refusal.details, refusal.trailer)

        async def limited(request: Any, context: Any) -> Any:
            await admit(context)
            return await behaviour(request, context)

        async def limited_stream(request: Any, context: Any) -> AsyncIterator[Any]:
            await admit(context)
            async for response in behaviour(request, context):
                yield response

        def limited_plain(request: Any, context: Any) -> Any:
            if (refusal := self.refusal(details.method, context)) is not None:
                refuse(refusal, context)
            return behaviour(request, context)

        def limited_plain_stream(request: Any, context: Any) -> Iterator[Any]:
            yield from limited_plain(request, context)  # a generator: its body runs in a thread, where abort may wait

        if isasyncgenfunction(behaviour):
            return _handler(kind, limited_stream, handler)
        if iscoroutinefunction(behaviour):
            return _handler(kind, limited, handler)
        return _handler(kind, limited_plain_stream if kind.endswith("stream") else limited_plain, handler)
