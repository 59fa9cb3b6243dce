"""How a batch can fail to be answered, and why, in words for people that never hold a password.

    LinkError (SyncError)
    ├── NotSent    it never reached Redis: it is surely not applied
    ├── Refused    Redis answered, and did nothing
    └── Unknown    it may have been applied or not: send the same batch again
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence

from penstock.errors import SyncError

WORDS_MOST = 200
"""Characters of a reason; Redis's own words may be long."""


class LinkError(SyncError):
    """A batch that was not answered. where: the server, as in Target; reason: why, for people."""

    def __init__(self, where: str, reason: str) -> None:
        self.where = where
        self.reason = reason
        super().__init__(f"{where}: {reason}")

    def __reduce__(self) -> tuple[type[LinkError], tuple[str, str]]:
        return type(self), (self.where, self.reason)


class NotSent(LinkError):
    """It never reached Redis: it is surely not applied."""


class Refused(LinkError):
    """Redis answered, and did nothing."""


class Unknown(LinkError):
    """It may have been applied or not: send the same batch again."""


class Silence(Exception):
    """No answer within waited_s seconds."""

    def __init__(self, waited_s: float) -> None:
        self.waited_s = waited_s
        super().__init__(waited_s)


class Moving(Exception):
    """The part of a cluster that a command is about has been on the move all the time."""


class BeforeSending(Exception):
    """Wraps what went wrong before the batch was sent."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        super().__init__()


def failure_of(error: Exception, where: str, secrets: Sequence[str]) -> LinkError:
    """What an exception of redis-py's, the network's or ours means for the batch. where, secrets: as in Target."""
    if isinstance(error, BeforeSending):
        return NotSent(where, clean(_reason(error.error), secrets))
    return (Refused if is_refusal(error) else Unknown)(where, clean(_reason(error), secrets))


_CODE_OF_CLASS = {
    "AskError": "ASK",
    "AuthenticationError": "WRONGPASS",
    "AuthenticationWrongNumberOfArgsError": "WRONGPASS",
    "BusyLoadingError": "LOADING",
    "ClusterCrossSlotError": "CROSSSLOT",
    "ClusterDownError": "CLUSTERDOWN",
    "MasterDownError": "MASTERDOWN",
    "MovedError": "MOVED",
    "NoPermissionError": "NOPERM",
    "NoScriptError": "NOSCRIPT",
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
    "SlotNotCoveredError": "CLUSTERDOWN",
    "Moving": "TRYAGAIN",
    "TryAgainError": "TRYAGAIN",
}
"""redis-py cuts the code off errors that it has a class for."""

_WORDS = {
    "BUSY": "it is busy with a script that does not end",
    "CLUSTERDOWN": "the cluster is down, or nobody has this part of it",
    "DENIED": "it is in protected mode, and talks to its own host only",
    "KILLED": "our script was killed there (SCRIPT KILL)",
    "LOADING": "it is still loading its data",
    "MASTERDOWN": "it is a replica that has lost its master",
    "MAXCLIENTS": "it has no connection left for us (maxclients)",
    "MISCONF": "it takes no writes, since it cannot save them to disk",
    "ASK": "it is a node of a cluster: give a RedisCluster client",
    "MOVED": "it is a node of a cluster: give a RedisCluster client",
    "NOAUTH": "it asks for a password, and none is given",
    "NOREPLICAS": "it takes no writes, for want of replicas",
    "NOSCRIPT": "it forgets our script as soon as it is loaded",
    "OOM": "its memory is full (maxmemory), and it takes no writes",
    "READONLY": "it is a read-only replica: name the master, or ask Sentinels for it",
    "TRYAGAIN": "this part of the cluster is being moved",
    "WRONGPASS": "it refuses the user or the password",
}


def is_refusal(error: BaseException) -> bool:
    """Whether it is an answer of the server's, after which nothing is applied: the script fails before it writes."""
    from redis.exceptions import ResponseError

    codes = ("CLUSTERDOWN", "LOADING", "NOAUTH", "TRYAGAIN", "WRONGPASS")
    return isinstance(error, ResponseError) or code_of(error) in codes


def code_of(error: BaseException) -> str:
    """The code that Redis's error begins with, or the one we give it; "" for errors that are not Redis's."""
    text = str(error)
    if "Authentication required" in text:
        return "NOAUTH"
    if "max number of clients" in text:
        return "MAXCLIENTS"
    if "user executing the script" in text or "ACL failure" in text:
        return "NOPERM"
    if "previous master is now a slave" in text:
        return "READONLY"
    for kind in type(error).__mro__:
        if kind.__name__ in _CODE_OF_CLASS:
            return _CODE_OF_CLASS[kind.__name__]
    if "Script killed by user" in text:
        return "KILLED"
    # Before 7.0 an error inside a script is quoted: ERR Error running script (...): ...: -OOM command not allowed
    within = re.search(r"(?:^|[ :]-)([A-Z]{3,})\b", text)
    return within[1] if within else ""


def _reason(error: BaseException) -> str:
    """What went wrong, for whoever can do something about it."""
    from redis.exceptions import ConnectionError as Cut
    from redis.exceptions import InvalidResponse, ResponseError
    from redis.exceptions import TimeoutError as Late

    if isinstance(error, Silence):
        return f"no answer within {error.waited_s * 1000:.0f} ms"
    if isinstance(error, InvalidResponse):
        return "what answers there is no Redis"
    code = code_of(error)
    if code in _WORDS:
        return _WORDS[code]
    if code == "PENSTOCK" and "foreign" in str(error):
        return "a key of ours has a value that is not: another program, or another version, uses this limiter's name"
    if code == "NOPERM":
        return f"this user may not do what our script does: {_words(error)}"
    if isinstance(error, ResponseError):
        return f"it refuses: {_words(error)}"
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return "what answers there does not speak TLS as we do"
        if isinstance(cause, ConnectionRefusedError):
            return "nothing listens there"
        if isinstance(cause, FileNotFoundError):
            return "there is no such socket"
    if isinstance(error, (Late, TimeoutError)):
        return "no answer in time"
    if isinstance(error, Cut) and "No master found" in str(error):
        return "no Sentinel that answers knows a master of that name"
    if isinstance(error, (Cut, OSError)):
        return f"the connection failed: {error}"
    return f"{type(error).__name__}: {error}"


def _words(error: BaseException) -> str:
    """What Redis says, without where in the script it says it."""
    return re.sub(r",? ?script: [0-9a-f]{40}.*", "", str(error))


def _causes(error: BaseException) -> list[BaseException]:
    """An error and those it came of."""
    found: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in found:
        found.append(following)
        following = following.__cause__ or following.__context__
    return found


def clean(text: str, secrets: Sequence[str]) -> str:
    """`text` on one line, cut short, and without what must not be seen."""
    for secret in secrets:
        text = text.replace(secret, "***")
    text = " ".join(text.split())
    return text if len(text) <= WORDS_MOST else text[:WORDS_MOST] + "…"
