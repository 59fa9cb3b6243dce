"""The Redis end: one script call per batch, and what became of it in plain words.

    read_target(url or client) -> Target            checks it, connects to nothing
    Link(target).send(call, timeout_s) -> reply     for one event loop; several at once

A call returns the reply's bytes, or raises one of the three errors of failures.py. redis-py is imported when asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from penstock.sync.failures import LinkError, NotSent, Refused, Unknown, failure_of
from penstock.sync.target import Target, read_target
from penstock.sync.ways import script

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["Link", "LinkError", "NotSent", "Refused", "Call", "Target", "Unknown", "read_target"]


class Call(NamedTuple):
    """One call of merge.lua, which says what KEYS and ARGV are. inst: 16 hex digits."""

    keys: Sequence[str]
    header: bytes
    entries: bytes
    inst: str


class Link:
    """The way to one Redis, for the event loop that first uses it. Connects when there is something to send."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._way = target.open()

    async def send(self, call: Call, timeout_s: float) -> bytes:
        """Run the script on a batch, and return its reply. Raises NotSent, Refused or Unknown.

        timeout_s: seconds from sending to the whole reply. A connection is waited for as long again, the very first for
        up to CONNECT_S (ways.py). A call that is cancelled may or may not be applied.
        """
        keys, *arguments = call
        command = ("EVALSHA", script()[1], len(keys), *keys, *arguments)
        try:
            try:
                reply = await self._way.ask(command, keys[0], timeout_s)
            except Exception as error:
                if type(error).__name__ != "NoScriptError":
                    raise
                await self._way.load(keys[0], timeout_s)
                reply = await self._way.ask(command, keys[0], timeout_s)
        except Exception as error:  # whatever redis-py and the network have; failures.py sorts it
            failure = failure_of(error, self.target.where, self.target.secrets)
        else:
            if isinstance(reply, bytes):
                return reply
            what = type(reply).__name__
            failure = Refused(self.target.where, f"it answers a script with {what} where bytes are due")
        raise failure  # outside of `except`: what it came of may quote what must not be seen

    async def agree(self, key: str, value: bytes, ttl_ms: int, timeout_s: float) -> bytes:
        """Leave `value` at `key` unless there is one, and return what is there. Errors as `send`.

        What is there is kept for ttl_ms from now if it is `value`; else it ends when nobody renews it any more.
        """
        try:
            await self._way.ask(("SET", key, value, "NX", "PX", ttl_ms), key, timeout_s)
            found = await self._way.ask(("GET", key), key, timeout_s)
            if found == value:
                await self._way.ask(("PEXPIRE", key, ttl_ms), key, timeout_s)
        except Exception as error:  # as in send
            failure = failure_of(error, self.target.where, self.target.secrets)
        else:
            return found if isinstance(found, bytes) else value
        raise failure

    async def aclose(self) -> None:
        """Close every connection. The link can be used again."""
        await self._way.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
