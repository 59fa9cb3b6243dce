"""Limiters that share their limits by a real Redis, served by the thread or by an event loop."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import warnings
from typing import Any

import pytest
from servers import Server, until
from sharing import Make, connected, served, settled, state

from penstock import Concurrency, FixedWindow, Sync, TokenBucket
from penstock.sync import worker


def test_what_one_admits_the_other_knows(shared: Make) -> None:
    one, other = shared("10/hour"), shared("10/hour")
    connected(one, other)
    assert one.hit("k", 2)
    until("settlement", lambda: settled(one))
    other.hit("k")  # makes it ask
    until("settlement", lambda: other.peek("k").remaining <= 10 - 3)


def test_together_they_admit_the_rate_and_little_more(shared: Make) -> None:
    limiters = [shared("200/second") for _ in range(3)]
    connected(*limiters)
    admitted, begin = 0, time.monotonic()
    while (passed := time.monotonic() - begin) < 3:
        admitted += sum(limiter.hit("k") for limiter in limiters)
        time.sleep(0.001)
    bound = limiters[0].guarantee().bounds[0].admitted(passed)
    assert 200 + 0.9 * 200 * passed <= admitted <= bound
    assert admitted <= 1.1 * (200 + 200 * passed)


def test_several_limits_and_tiers_share_one_exchange(shared: Make, server: Server) -> None:
    one, other = shared("5/hour; 100/day", name="first"), shared("3/hour", name="second")
    connected(one)
    connected(other)
    assert one.hit("k")
    assert other.hit("k")
    until("settlement", lambda: settled(one) and settled(other))
    with server.client() as client:
        until("one connection", lambda: sum(one["cmd"] == "evalsha" for one in client.client_list()) == 1)
        assert len(client.keys("first:{0}:b*")) == 2
        assert len(client.keys("second:{0}:b*")) == 1


def test_a_client_lends_its_settings(shared: Make, server: Server) -> None:
    with server.client() as client:
        limiter = shared("5/hour", url=client)
        connected(limiter)
        assert limiter.hit("k")
        until("settlement", lambda: settled(limiter))


def test_other_limits_or_secrets_under_one_name_are_told(shared: Make, caplog: pytest.LogCaptureFixture) -> None:
    first = shared("10/hour", name="same")
    connected(first)
    other = shared("20/hour", name="same")
    until("the difference", lambda: "other limits" in (state(other).error or ""))
    strangers = shared("10/hour", name="same", secret=bytes(16))
    until("the difference", lambda: "another secret" in (state(strangers).error or ""))
    assert state(first).error is None
    assert state(other).connected
    told = [record.getMessage() for record in caplog.records]
    assert sum("other limits" in line for line in told) == 1
    third = shared("10/hour", name="same")
    connected(third)
    time.sleep(0.2)
    assert state(third).error is None


def test_who_is_in_a_hurry_does_not_wait_for_the_interval(shared: Make) -> None:
    limiter = shared("100/minute", every=1.0)
    connected(limiter)
    begin = time.monotonic()
    assert limiter.hit("k", 50)  # all that it may be ahead of Redis
    until("settlement", lambda: settled(limiter))
    assert time.monotonic() - begin < 0.5


def test_no_key_is_seen_in_redis(shared: Make, server: Server) -> None:
    limiter = shared("5/hour")
    connected(limiter)
    limiter.hit("user:ada@example.org")
    until("settlement", lambda: settled(limiter))
    with server.client() as client:
        found = client.keys()
        assert found
        assert not any(b"ada" in key or b"ada" in (client.dump(key) or b"") for key in found)


# ---- keys made as good as new ----


def used_up(*limiters: Any, keys: tuple[str, ...] = ("k", "other")) -> None:
    """Has two keys' limits of five used up, and every instance know it."""
    for key in keys:
        assert limiters[0].acquire(key, 5, timeout=30)
        for limiter in limiters:
            assert not limiter.acquire(key, timeout=0.2)


@pytest.mark.parametrize("limit", ["5/hour", FixedWindow(5, 86_400)], ids=str)
def test_a_reset_key_is_new_for_all(shared: Make, server: Server, limit: Any) -> None:
    one, other = shared(limit), shared(limit)
    connected(one, other)
    used_up(one, other)
    one.reset("k")
    assert one.hit("k")
    until("the other instance", lambda: other.peek("k").allowed)
    assert not other.peek("other").allowed
    until("settlement", lambda: settled(one))
    assert other.acquire("k", 4, timeout=30)
    assert not one.acquire("k", timeout=0.2)
    assert state(one).lost == state(other).lost == 0


def test_clear_is_for_all_instances_and_all_keys_of_the_name(shared: Make, server: Server) -> None:
    one, other, stranger = shared("5/hour; 5/day"), shared("5/hour; 5/day"), shared("5/hour", name="stranger")
    connected(one, other)
    connected(stranger)
    used_up(one, other)
    used_up(stranger, keys=("k",))
    with server.client() as client:
        client.set("somebody's", "own")
        one.clear()
        until("the other instance", lambda: other.peek("k").allowed and other.peek("other").allowed)
        assert other.acquire("k", 5, timeout=30)
        assert one.acquire("other", 5, timeout=30)
        assert not one.acquire("k", timeout=0.2)
        assert not stranger.acquire("k", timeout=0.2)
        assert client.get("somebody's") == b"own"
    assert state(one).lost == state(other).lost == 0


def test_who_waits_elsewhere_is_woken_by_a_reset(shared: Make) -> None:
    one, other = shared("5/hour"), shared("5/hour")
    connected(one, other)
    used_up(one, other, keys=("k",))
    got = threading.Event()
    waiter = threading.Thread(target=lambda: other.acquire("k", timeout=20) and got.set())
    waiter.start()
    one.reset("k")
    assert got.wait(20)
    waiter.join()


def test_a_limit_that_is_too_fast_to_share_is_told_once(shared: Make, caplog: pytest.LogCaptureFixture) -> None:
    shared("10000/second; 5/hour", FixedWindow(7, 0.04), name="fast", every=1.0)
    shared(TokenBucket(10_000, burst=10))
    shared("5/hour", Concurrency(5))
    told = [record.getMessage() for record in caplog.records if "instances exchange" in record.getMessage()]
    assert [line.split(" is used up")[0] for line in told] == [
        "limiter 'fast': a limit of 7 per 0.04 s", "limiter 'test': a limit of 10000 per 1 s"
    ]  # fmt: skip


# ---- waiting ----


def test_acquire_is_exact_where_hit_is_not(shared: Make) -> None:
    limiters = [shared("5/hour") for _ in range(3)]
    connected(*limiters)
    taken = [limiter.acquire("k", timeout=0.5) for limiter in limiters * 4]
    assert sum(taken) == 5


def test_strict_admits_only_what_is_leased(shared: Make) -> None:
    one, other = shared("6/hour", strict=True), shared("6/hour", strict=True)
    connected(one, other)
    assert not one.hit("k")
    assert sum(limiter.acquire("k", timeout=1) for limiter in (one, other) * 5) == 6


def test_waiters_take_their_turn_as_units_come(shared: Make) -> None:
    limiter = shared("20/second")
    connected(limiter)
    assert limiter.acquire("k", 20, timeout=30)
    begin = time.monotonic()
    assert limiter.acquire("k", 10, timeout=30)
    assert 0.3 <= time.monotonic() - begin <= 1.5


def test_acquire_in_asyncio(shared: Make) -> None:
    limiter = shared("5/hour", strict=True)
    connected(limiter)

    async def several() -> list[bool]:
        return await asyncio.gather(*(limiter.acquire_async("k", timeout=1) for _ in range(8)))

    assert sum(asyncio.run(several())) == 5


# ---- life ----


def test_close_settles_and_the_next_one_knows(shared: Make) -> None:
    first = shared("10/hour")
    connected(first)
    for _ in range(4):
        assert first.hit("k")
    first.close()
    first.close()
    assert (state(first).unsettled, state(first).leased) == (0, 0)
    second = shared("10/hour", strict=True)
    connected(second)
    assert second.acquire("k", 6, timeout=30)
    assert not second.acquire("k", timeout=0.2)


def test_the_thread_ends_with_its_last_limiter(shared: Make) -> None:
    before = {thread for thread in threading.enumerate() if thread.name == "penstock-sync"}
    one, other = shared("5/hour", name="a"), shared("5/hour", name="b")
    connected(one)
    assert len({thread for thread in threading.enumerate() if thread.name == "penstock-sync"} - before) == 1
    one.close()
    other.close()
    until("its end", lambda: {t for t in threading.enumerate() if t.name == "penstock-sync"} <= before)
    third = shared("5/hour", name="c")
    connected(third)


def test_a_limiter_that_nobody_has_is_let_go(shared: Make, limiter_class: Any, server: Server) -> None:
    found = [shared("5/hour", name="kept"), limiter_class("5/hour", name="lost", sync=server.url)]
    connected(found[0])
    connected(found[1])
    assert len(worker._rejoin) == 2
    del found[1]
    gc.collect()
    until("its end", lambda: len(worker._rejoin) == 1 and len(served()) == 1)


def test_an_event_loop_serves_instead_of_the_thread(shared: Make) -> None:
    async def life() -> None:
        async with shared("10/hour") as limiter:
            await asyncio.sleep(0.1)
            assert not served()
            for _ in range(3):
                assert limiter.hit("k")
            while not settled(limiter):
                await asyncio.sleep(0.01)
            assert await limiter.acquire_async("k", 2, timeout=30)
        assert (state(limiter).unsettled, state(limiter).leased) == (0, 0)

    asyncio.run(asyncio.wait_for(life(), 20))


def test_limits_are_replaced_while_they_are_shared(shared: Make) -> None:
    one, other = shared("10/hour"), shared("10/hour")
    connected(one, other)
    assert one.hit("k", 4)
    until("settlement", lambda: settled(one))
    for limiter in (one, other):
        limiter.replace("20/hour")
        with pytest.raises(ValueError, match="same algorithms"):
            limiter.replace("20/hour; 5/minute")
    assert other.acquire("k", 16, timeout=30)
    assert not other.acquire("k", timeout=0.2)


def test_a_guarantee_warns_once_of_small_limits(shared: Make) -> None:
    limiter = shared("5/hour", fleet_hint=16)
    with pytest.warns(RuntimeWarning, match="a limit of 5 is small for 16 instances"):
        assert limiter.guarantee().excess > 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        limiter.guarantee()


def test_two_names_share_nothing(shared: Make) -> None:
    one, other = shared("5/hour", name="one", strict=True), shared("5/hour", name="two", strict=True)
    connected(one)
    connected(other)
    assert one.acquire("k", 5, timeout=30)
    assert other.acquire("k", 5, timeout=30)


def test_a_clock_that_stands_still_is_waited_for(shared: Make, clock: Any) -> None:
    limiter = shared("5/hour", clock=clock)
    for _ in range(200):
        clock.advance(0.01)
        time.sleep(0.002)
        if state(limiter).connected:
            break
    assert limiter.hit("k")
    for _ in range(50):
        clock.advance(0.01)
        time.sleep(0.002)
    assert settled(limiter)


def test_nothing_listens_there(limiter_class: Any) -> None:
    url = "redis://ada:hunter2@127.0.0.1:1/0"
    with limiter_class("100/second", name="alone", sync=Sync(url, fleet_hint=2)) as limiter:
        until("the failure", lambda: state(limiter).mode == "share")
        sync = state(limiter)
        assert not sync.connected
        assert "nothing listens there" in sync.error
        assert "hunter2" not in repr(sync)
        assert sum(limiter.hit("k") for _ in range(200)) <= 60


