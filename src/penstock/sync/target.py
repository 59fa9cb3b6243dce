"""From what a user gives, a URL or a client of redis-py, to where and how to connect; connects to nothing."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from penstock.errors import SyncError
from penstock.sync.cluster import Cluster
from penstock.sync.failures import clean
from penstock.sync.names import CLUSTER_PARTITIONS, STANDALONE_PARTITIONS
from penstock.sync.ways import SENTINEL_S, Single, once

if TYPE_CHECKING:
    from types import ModuleType


class Target(NamedTuple):
    """Where limits are shared, as checked by read_target.

    where: for people, without user and password. partitions: how many a namespace has there. open: a new way to it, of
    no loop yet. secrets: what must not be in any message.
    """

    where: str
    partitions: int
    open: Callable[[], Single | Cluster]
    secrets: tuple[str, ...]


def read_target(given: Any) -> Target:
    """Where to share limits: a URL (redis://, rediss://, unix://), or a client of redis-py, blocking or asyncio.

    A client may be plain, a Sentinel's (Sentinel.master_for) or a RedisCluster; it only lends its settings, for
    connections of our own. Raises TypeError for anything else, SyncError for what cannot work or without redis-py.
    """
    library = _library()
    if isinstance(given, str):
        return _from_url(given)
    if isinstance(given, (library.asyncio.RedisCluster, library.RedisCluster)):
        return _from_cluster(given)
    if isinstance(given, (library.asyncio.Redis, library.Redis)):
        return _from_client(given)
    what = given.__name__ if isinstance(given, type) else type(given).__name__
    raise TypeError(f"sync must be a URL (redis://, rediss://, unix://) or a client of redis-py, not {what}")


def _library() -> ModuleType:
    try:
        import redis.asyncio.sentinel
        import redis.cluster
        import redis.sentinel
    except ImportError as error:
        raise SyncError(f"sharing limits needs the package redis: pip install 'penstock[redis]' ({error})") from None
    library: ModuleType = redis
    return library


def _from_url(url: str) -> Target:
    """A single server. What is wrong with a URL is said without quoting it, since a password may be anywhere in it."""
    from redis.asyncio import ConnectionPool

    scheme = url.partition("://")[0].lower()
    if "://" not in url or scheme not in ("redis", "rediss", "unix"):
        shown = scheme if "://" in url and scheme.isalnum() else "none"
        raise SyncError(f"sync: a URL begins with redis://, rediss:// or unix://, not with {shown}")
    try:
        parts = urlsplit(url)
        port, path = parts.port, parts.path.strip("/")
    except ValueError:
        raise SyncError(_URL_RULE) from None
    if scheme == "unix" and not path:
        raise SyncError("sync: a unix:// URL names the path of the socket: unix:///run/redis.sock?db=0")
    if scheme != "unix" and (port == 0 or not (path.isdecimal() or path == "")):
        raise SyncError(_URL_RULE)
    try:
        pool = ConnectionPool.from_url(url)
    except (ValueError, TypeError):
        raise SyncError(_URL_RULE) from None
    settings = pool.connection_kwargs
    if not settings.keys() <= _known(pool.connection_class):
        raise SyncError("sync: the URL has a setting after its ? that redis-py does not know")
    return _single(pool.connection_class, settings)


_URL_RULE = (
    "sync: the URL cannot be read; it is redis://user:password@host:6379/0 with a database number, and signs such as"
    " / # ? @ : % in a user or password percent-encoded"
)


def _from_client(client: Any) -> Target:
    """As the client's pool connects: to one server, or to whom Sentinels call the master."""
    from redis.asyncio.sentinel import SentinelConnectionPool
    from redis.sentinel import SentinelConnectionPool as BlockingSentinelConnectionPool

    pool = client.connection_pool
    settings = {name: value for name, value in pool.connection_kwargs.items() if name != "connection_pool"}
    if isinstance(pool, (SentinelConnectionPool, BlockingSentinelConnectionPool)):
        if not pool.is_master:
            raise SyncError("sync: this client reads from replicas; make it with Sentinel.master_for")
        return _sentinel(pool, settings)
    return _single(_asyncio_class(pool.connection_class), settings)


def _asyncio_class(kind: type[Any]) -> type[Any]:
    """The asyncio connection that does what a blocking one does."""
    from redis import SSLConnection as BlockingSSL
    from redis import UnixDomainSocketConnection as BlockingUnix
    from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
    from redis.asyncio.connection import AbstractConnection

    found: type[Any] = Connection
    if issubclass(kind, AbstractConnection):
        found = kind
    elif issubclass(kind, BlockingSSL):
        found = SSLConnection
    elif issubclass(kind, BlockingUnix):
        found = UnixDomainSocketConnection
    return found


def _single(kind: type[Any], settings: Mapping[str, Any]) -> Target:
    if settings.get("redis_connect_func") is not None:
        raise SyncError("sync: a redis_connect_func cannot be taken over from a client; give a credential_provider")
    kept = _kept(kind, settings)
    try:
        kind(**kept)
    except Exception as error:  # redis-py's own check of settings, in whatever class of error it has for that
        reason = clean(f"{error}", _secrets(settings))
        raise SyncError(f"sync: these settings make no connection: {reason}") from None
    db = settings.get("db") or 0
    if settings.get("path"):
        where = f"unix://{settings['path']}?db={db}"
    else:
        scheme = "rediss" if issubclass(kind, _ssl_classes()) else "redis"
        where = f"{scheme}://{settings.get('host', 'localhost')}:{settings.get('port', 6379)}/{db}"
    return Target(where, STANDALONE_PARTITIONS, lambda: Single(kind, kept, None), _secrets(settings))


def _sentinel(pool: Any, settings: Mapping[str, Any]) -> Target:
    from redis.asyncio.sentinel import Sentinel, SentinelManagedConnection, SentinelManagedSSLConnection
    from redis.sentinel import SentinelManagedSSLConnection as BlockingSSL

    manager, service = pool.sentinel_manager, str(pool.service_name)
    places = [client.connection_pool.connection_kwargs for client in manager.sentinels]
    addresses = [(place.get("host", "localhost"), int(place.get("port", 26379))) for place in places]
    own = _kept(_asyncio_class(manager.sentinels[0].connection_pool.connection_class), places[0], "host", "port")
    own |= {"socket_timeout": SENTINEL_S, "socket_connect_timeout": SENTINEL_S, "retry": once()}
    if issubclass(manager.sentinels[0].connection_pool.connection_class, _ssl_classes()):
        own["ssl"] = True
    secure = issubclass(pool.connection_class, (SentinelManagedSSLConnection, BlockingSSL))
    kind = SentinelManagedSSLConnection if secure else SentinelManagedConnection
    kept = _kept(kind, settings, "host", "port")

    def made() -> Single:
        sentinel = Sentinel(addresses, manager.min_other_sentinels, dict(own))
        return Single(kind, kept, sentinel.master_for(service).connection_pool)

    shown = ",".join(f"{host}:{port}" for host, port in addresses)
    secrets = (*_secrets(settings), *_secrets(places[0]))
    return Target(f"the master of {service} by the Sentinels {shown}", STANDALONE_PARTITIONS, made, secrets)


def _from_cluster(client: Any) -> Target:
    from redis.asyncio import Connection, RedisCluster, SSLConnection

    settings = getattr(client, "connection_kwargs", None) or client.nodes_manager.connection_kwargs
    secure = bool(settings.get("ssl")) or issubclass(settings.get("connection_class", object), _ssl_classes())
    kept = _kept(RedisCluster, settings, "host", "port", "db", "startup_nodes", "retry", "path") | {"ssl": secure}
    remap = getattr(client.nodes_manager, "address_remap", None)
    if remap is not None:
        kept["address_remap"] = remap
    kind = SSLConnection if secure else Connection
    own = _kept(kind, {name: value for name, value in settings.items() if secure or not name.startswith("ssl")}, "db")
    addresses = [(node.host, int(node.port)) for node in client.nodes_manager.startup_nodes.values()]
    where = "the cluster at " + ",".join(f"{host}:{port}" for host, port in addresses)
    return Target(where, CLUSTER_PARTITIONS, lambda: Cluster(addresses, kept, kind, own), _secrets(settings))


def _ssl_classes() -> tuple[type[Any], ...]:
    import redis

    return (redis.SSLConnection, redis.asyncio.SSLConnection)


_OURS = frozenset(
    (
        "connection_class",
        "connection_pool",
        "decode_responses",
        "encoding",
        "encoding_errors",
        "health_check_interval",
        "legacy_responses",
        "max_connections",
        "parser_class",
        "protocol",
        "redis_connect_func",
        "response_callbacks",
        "retry",
        "retry_on_error",
        "retry_on_timeout",
        "socket_connect_timeout",
        "socket_timeout",
    )
)
"""Settings of a client that are not carried over: we wait, try again and read answers in our own way."""


def _kept(kind: type[Any], settings: Mapping[str, Any], *without: str) -> dict[str, Any]:
    """Those of a client's settings that hold for connections of `kind` too: where, who, TLS, keep-alive.

    Raises SyncError when one that concerns TLS has no place there.
    """
    known, kept = _known(kind), {}
    for name, value in settings.items():
        if name in known and name not in _OURS and name not in without:
            if not name.startswith(("maint_", "orig_", "event_", "oss_", "himport_")):
                kept[name] = value
        elif name.startswith("ssl_") and name not in known and value not in (None, False, [], ()):
            raise SyncError(f"sync: the client's {name} has no counterpart in redis-py's asyncio clients")
    return kept | {"protocol": 2, "socket_timeout": None, "socket_connect_timeout": None}


def _known(kind: type[Any]) -> set[str]:
    """The names of a class's settings, those of the classes it is made of among them."""
    made_of = [vars(base)["__init__"] for base in kind.__mro__ if "__init__" in vars(base) and base is not object]
    return {name for made in made_of for name in inspect.signature(made).parameters}


def _secrets(settings: Mapping[str, Any]) -> tuple[str, ...]:
    found = [settings.get(name) for name in ("password", "ssl_password")]
    return tuple(value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in found if value)
