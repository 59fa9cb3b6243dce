"""A requests adapter that limits outgoing calls per host and honours Retry-After.

    session = requests.Session()
    session.mount("https://", LimitedAdapter("10/second"))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from penstock.integrations._outgoing import Outgoing
from penstock.limiter import Key, Limiter
from penstock.rate import Limit

try:
    import requests
    from requests.adapters import HTTPAdapter
except ImportError as error:
    raise ImportError(f"penstock.integrations.requests: {error}; pip install 'penstock[requests]'") from error


def host_of(request: requests.PreparedRequest) -> Key:
    """The host and, where it is not the scheme's own, the port."""
    parts = urlsplit(request.url or "")
    port = None if parts.port == {"http": 80, "https": 443}.get(parts.scheme) else parts.port
    host = parts.hostname or ""
    return host if port is None else f"{host}:{port}"


class LimitedAdapter(HTTPAdapter):
    """An adapter that waits for its turn.

    limiter: a Limiter (without Concurrency), or limits such as "10/second". key: what is limited, a function of the
    prepared request; an error in it reaches the caller, and nothing is sent. wait: seconds to wait for a turn, None
    without end, 0 not at all; penstock.RateLimited is raised when it is not enough. options: HTTPAdapter's own.

    After a 429 or 503 with Retry-After no call of the key is sent before that time, retry_after_most seconds at most;
    the response itself is handed on. What HTTPAdapter's max_retries sends again is not a call of its own.
    """

    def __init__(
        self,
        limiter: Limiter | str | Limit,
        *,
        key: Callable[[requests.PreparedRequest], Key] = host_of,
        wait: float | None = None,
        retry_after_most: float = 3600.0,
        **options: Any,
    ) -> None:
        self._outgoing = Outgoing(limiter, wait, retry_after_most)
        self._key = key
        super().__init__(**options)

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        key = self._key(request)
        self._outgoing.before(key)
        response = super().send(request, *args, **options)
        self._outgoing.after(
            key, response.status_code, response.headers.get("retry-after"), response.headers.get("date")
        )
        return response
