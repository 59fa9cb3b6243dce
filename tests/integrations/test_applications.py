"""Every framework's application on a real server: the same limits, the same headers, the same answers."""

from __future__ import annotations

import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from serving import Answer, Server

HOUR = 3600


def is_ours(answer: Answer) -> bool:
    return "ratelimit" in answer.headers or "x-ratelimit-limit" in answer.headers


def test_headers_to_the_second(server: Server) -> None:
    """Each hit of three an hour is owed for 1200 s; seconds that have passed since the first are taken off."""
    begin = time.monotonic()
    for number in (1, 2, 3):
        answer = server.get(f"/items/{number}", "127.0.1.1")
        passed = time.monotonic() - begin
        assert (answer.status, answer.body) == (200, b"hello")
        resets = range(math.ceil(1200 * number - passed), 1200 * number + 1)
        assert int(answer.headers["x-ratelimit-reset"]) in resets
        reset = answer.headers["x-ratelimit-reset"]
        assert answer.headers["x-ratelimit-limit"] == "3"
        assert answer.headers["x-ratelimit-remaining"] == str(3 - number)
        assert answer.headers["ratelimit-policy"] == '"items";q=3;w=3600'
        assert answer.headers["ratelimit"] == f'"items";r={3 - number};t={reset}'
        assert "retry-after" not in answer.headers
    refused = server.get("/items/4", "127.0.1.1")
    passed = time.monotonic() - begin
    wait = int(refused.headers["retry-after"])
    assert refused.status == 429
    assert wait in range(math.ceil(1200 - passed), 1201)
    assert refused.headers["ratelimit"] == f'"items";r=0;t={wait}'
    assert refused.headers["x-ratelimit-remaining"] == "0"
    assert refused.headers["content-type"] == "application/json"
    assert json.loads(refused.body) == {
        "error": "Too many requests",
        "detail": "Rate limit exceeded",
        "type": "rate_limited",
        "retry_after": wait,
    }


def test_each_route_and_method_has_its_own_limit(server: Server) -> None:
    source = "127.0.1.2"
    assert [server.get("/items/1", source, method="PUT").status for _ in range(2)] == [200, 429]
    assert [server.get("/items/1", source).status for _ in range(4)] == [200, 200, 200, 429]
    answer = server.get("/free", source)
    assert answer.status == 200
    assert not is_ours(answer)


def test_head_counts_as_get_and_options_is_free(server: Server) -> None:
    source = "127.0.1.3"
    head = server.get("/items/1", source, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["x-ratelimit-remaining"] == "2"
    for _ in range(5):
        options = server.get("/items/1", source, method="OPTIONS")
        assert options.status == 200
        assert not is_ours(options)
    assert [server.get("/items/1", source, method="HEAD").status for _ in range(3)] == [200, 200, 429]
    assert server.get("/items/1", source, method="HEAD").body == b""


def test_workers_share_a_limit_to_the_last_unit(server: Server) -> None:
    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(lambda _: server.get("/many", "127.0.1.4").status, range(40)))
    assert sorted(statuses) == [200] * 20 + [429] * 20


def test_a_client_cannot_choose_its_address(server: Server) -> None:
    """The socket's peer is no trusted proxy: whatever it writes is not read."""
    lies = [{"X-Forwarded-For": "198.51.100.1"}, {"Forwarded": "for=198.51.100.2"}, {"X-Real-IP": "198.51.100.3"}, {}]
    assert [server.get("/items/1", "127.0.1.5", one).status for one in lies] == [200, 200, 200, 429]


def test_behind_a_trusted_proxy_the_last_address_counts(server: Server) -> None:
    """A proxy adds the client it sees at the right; what the client wrote itself stands left of it."""
    for client in ("203.0.113.77", "2001:db8:77::1"):
        headers = [{"X-Forwarded-For": f"198.51.100.{number}, {client}"} for number in range(4)]
        assert [server.get("/items/1", headers=one).status for one in headers] == [200, 200, 200, 429]
    same_64 = server.get("/items/1", headers={"X-Forwarded-For": "2001:db8:77::abcd"})
    other_64 = server.get("/items/1", headers={"X-Forwarded-For": "2001:db8:77:1::1"})
    assert (same_64.status, other_64.status) == (429, 200)


@pytest.mark.parametrize("value", ["unknown", "999.1.1.1", "x" * 4000, "\xe9\xff", ", ,"])
def test_who_cannot_be_told_is_refused(server: Server, value: str) -> None:
    refused = server.get("/items/1", headers={"X-Forwarded-For": value})
    assert refused.status == 403
    assert json.loads(refused.body)["type"] == "unidentified"
    assert not is_ours(refused)


def test_a_key_function_that_raises_is_no_500(server: Server) -> None:
    source = "127.0.1.6"
    assert [server.get("/tenant", source, {"X-Tenant": "a"}).status for _ in range(3)] == [200, 200, 429]
    assert [server.get("/tenant", source).status for _ in range(3)] == [403, 403, 403]
    assert server.get("/tenant", source, {"X-Tenant": "\xfcber"}).status == 200
    assert 1 <= server.log().count("a function of it failed") <= 2, "once for each worker"


def test_large_headers(server: Server) -> None:
    """What the server itself takes in never makes us fail."""
    for size in (7000, 65_536):
        try:
            status = server.get("/tenant", "127.0.1.7", {"X-Tenant": "a" * size}).status
        except OSError:
            continue  # the server hung up
        assert status in (200, 400, 413, 431), status
    assert server.get("/free", "127.0.1.7").status == 200


def test_a_decorated_view_inside_a_limited_application(server: Server) -> None:
    answers = [server.get("/decorated", "127.0.1.8") for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    policies = '"wide";q=100;w=3600, "decorated";q=2;w=3600'
    assert answers[0].headers["ratelimit-policy"] == policies
    assert answers[0].headers["ratelimit"] == '"wide";r=99;t=36, "decorated";r=1;t=1800'
    assert answers[0].headers["x-ratelimit-limit"] == "2"
    assert '"decorated";r=0;t=' in answers[2].headers["ratelimit"]
    assert answers[2].headers["x-ratelimit-remaining"] == "0"


def test_a_slow_stream_holds_its_place_until_it_ends(server: Server) -> None:
    go = server.folder / "go"
    go.unlink(missing_ok=True)
    with closing(server.connect()) as connection:
        connection.request("GET", "/stream")
        with connection.getresponse() as response:
            assert response.read(4) == b"one,", "parts arrive as they are made"
            other = server.get("/stream")
            assert other.status == 429
            assert "retry-after" not in other.headers
            assert other.headers["ratelimit-policy"] == '"default";q=1;qu="concurrent-requests"'
            go.touch()
            assert response.read() == b"two,three"
    assert until(lambda: server.get("/stream").status == 200)


def test_a_client_that_leaves_gives_its_place_back(server: Server) -> None:
    """Some servers notice at once, some when they write the next part."""
    go = server.folder / "go"
    go.unlink(missing_ok=True)
    with closing(server.connect()) as connection:
        connection.request("GET", "/stream")
        with connection.getresponse() as response:
            assert response.read(4) == b"one,"
    if server.name in ("flask", "wsgi", "django", "aiohttp"):
        go.touch()
    assert until(lambda: held_anew(server))
    go.touch()


def held_anew(server: Server) -> bool:
    """Whether a stream can be begun; it is left again."""
    with closing(server.connect()) as connection:
        connection.request("GET", "/stream")
        with connection.getresponse() as response:
            return response.status == 200


def test_an_exception_in_the_handler(server: Server) -> None:
    """One place, given back each time, some servers doing so after the answer: no request is refused for long."""
    for _ in range(3):
        assert until(lambda: server.get("/boom", "127.0.1.9").status == 500)


def until(holds: object, seconds: float = 20) -> bool:
    """Whether it comes true within some time, long enough for any machine."""
    deadline = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
