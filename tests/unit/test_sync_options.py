"""Sync and the arguments of a shared limiter: what is accepted, what is refused, and what no message may show."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import Limiter, Sync
from penstock.sync.options import read_sync

pytest.importorskip("redis")

NOWHERE = "redis://127.0.0.1:1/0"


class Client:
    """What looks like a client of redis-py."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        raise AssertionError("a limiter uses no client's connections")


def test_defaults_are_those_of_the_text() -> None:
    sync = Sync(NOWHERE)
    assert (sync.every, sync.strict, sync.on_outage, sync.fleet_hint, sync.secret) == (0.05, False, "share", 8, None)
    assert (sync.every_ns, sync.kappa) == (50_000_000, 0.5)
    assert Sync(NOWHERE, strict=True).kappa == 0


def test_a_url_or_a_client_is_enough() -> None:
    client = Client()
    assert read_sync(NOWHERE) == Sync(NOWHERE)
    assert read_sync(client).url is client
    assert read_sync(made := Sync(NOWHERE, every=0.1)) is made


def test_one_redis_is_one_target() -> None:
    client = Client()
    assert Sync(NOWHERE).target == Sync(NOWHERE, every=0.2).target != Sync("redis://127.0.0.1:2").target
    assert Sync(client).target == Sync(client).target != Sync(Client()).target


def test_what_is_shown_has_no_secrets() -> None:
    sync = Sync("redis://user:hunter2@example.org:6379/0", secret=b"0123456789abcdef")
    assert "hunter2" not in repr(sync)
    assert "0123456789" not in repr(sync)
    assert "hunter2" not in repr(sync.target)


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"url": 5}, TypeError, "url must be a str or a redis-py client, not int"),
        ({"url": Client}, TypeError, "url must be a str or a redis-py client, not type"),
        ({"url": "http://user:hunter2@example.org"}, ValueError, "url begins with 'http://'; it must begin with redis://"),
        ({"url": "hunter2"}, ValueError, "it must begin with redis://, rediss://, unix://"),
        ({"every": 0.001}, ValueError, "every=0.001 must be between 0.005 and 1 seconds"),
        ({"every": 2}, ValueError, "every=2 must be between 0.005 and 1 seconds"),
        ({"every": "fast"}, TypeError, "every must be a number of seconds, not str"),
        ({"strict": 1}, TypeError, "strict must be a bool, not int"),
        ({"on_outage": "panic"}, ValueError, "on_outage='panic' must be \"share\", \"open\" or \"closed\""),
        ({"fleet_hint": 0}, ValueError, "fleet_hint=0 must be between 1 and 2**53"),
        ({"fleet_hint": 10**6}, ValueError, "fleet_hint=1000000 must be at most 65536"),
        ({"secret": "text"}, TypeError, "secret must be bytes, not str"),
        ({"secret": b"short"}, ValueError, "secret has 5 bytes; at least 16 are needed"),
    ],
)
def test_wrong_options_are_named(given: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        Sync(**{"url": NOWHERE, **given})
    assert text in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"name": None}, ValueError, "sync needs a name that instances share by"),
        ({"name": "a b"}, ValueError, "name='a b' must be without blanks"),
        ({"name": "a{b}"}, ValueError, "name='a{b}' must be without blanks, control characters and braces"),
        ({"secret": bytes(16)}, ValueError, "secret is for limiters of one process; with sync it is given as Sync("),
        ({"sync": 5}, TypeError, "sync must be a URL, a redis-py client or a Sync, not int"),
    ],
)
def test_wrong_arguments_of_a_shared_limiter_are_named(
    limiter_class: Any, given: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as caught:
        limiter_class("5/minute", **{"name": "login", "sync": NOWHERE, **given})
    assert text in str(caught.value)


@pytest.mark.parametrize("algorithm", ["sliding-log"])
def test_limits_that_cannot_be_shared_are_refused(limiter_class: Any, algorithm: str) -> None:
    with pytest.raises(ValueError, match="cannot be shared between instances"):
        limiter_class("5/minute", algorithm=algorithm, name="login", sync=NOWHERE)


def test_a_limiter_that_is_not_shared_says_so() -> None:
    with Limiter("5/minute") as limiter:
        assert limiter.stats().sync is None
