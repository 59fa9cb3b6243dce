"""Limiter: taking, giving back, looking in, and being an ordinary Python object."""

from __future__ import annotations

import copy
import gc
import inspect
import math
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from penstock import (
    Concurrency,
    FixedWindow,
    SlidingLog,
    SlidingWindow,
    TokenBucket,
)

LIMITS = [
    TokenBucket(5, 60),
    SlidingWindow(5, 60),
    SlidingLog(5, 60),
    FixedWindow(5, 60),
    FixedWindow(5, 60, align="first"),
    Concurrency(5),
]
every_limit = pytest.mark.parametrize("limit", LIMITS, ids=repr)

KEYS: list[Any] = [
    "a",
    "",
    "1",
    "ключ",
    "\0",
    "\ud800",
    "\U0001f600",
    b"a",
    b"",
    b"1",
    1,
    0,
    -1,
    2**63,
    -(2**63) - 1,
    2**4000,
    (),
    ("a",),
    (b"a",),
    (1,),
    ("a", "bc"),
    ("ab", "c"),
    ("abc",),
    ("a", 1, b"x"),
    ("", ""),
    ("",),
]


# ---- taking ----


@every_limit
def test_hit_takes_until_nothing_is_left(limiter_class: Any, clock: Any, limit: Any) -> None:
    limiter = limiter_class(limit, clock=clock)
    assert [limiter.hit("a") for _ in range(7)] == [True] * 5 + [False] * 2
    assert limiter.hit("b", 5)
    assert not limiter.hit("b")
    assert limiter.hit("c", cost=3)
    assert not limiter.hit("c", 3)
    assert limiter.hit("c", 2)


@every_limit
def test_check_tells_what_hit_does(limiter_class: Any, clock: Any, limit: Any) -> None:
    limiter = limiter_class(limit, clock=clock)
    decisions = [limiter.check("a", 2) for _ in range(3)]
    assert [bool(decision) for decision in decisions] == [True, True, False]
    assert [decision.remaining for decision in decisions] == [3, 1, 1]
    assert {decision.limit for decision in decisions} == {5}
    assert decisions[0].retry_after == 0
    assert decisions[2].retry_after > 0


@every_limit
def test_peek_takes_nothing(limiter_class: Any, clock: Any, limit: Any) -> None:
    limiter = limiter_class(limit, clock=clock)
    for _ in range(10):
        decision = limiter.peek("a", 4)
        assert decision
        assert decision.remaining == 1
    assert limiter.check("a", 4) == decision
    assert not limiter.peek("a", 4)
    assert limiter.stats()[:2] == (1, 0)


@every_limit
def test_a_cost_that_never_fits_is_refused_for_ever(limiter_class: Any, clock: Any, limit: Any) -> None:
    limiter = limiter_class(limit, clock=clock)
    decision = limiter.check("a", 6)
    assert not decision
    assert decision.retry_after == math.inf
    assert decision.remaining == 5
    assert not limiter.hit("a", 2**53)
    assert limiter.hit("a", 5)


@every_limit
def test_waiting_as_told_is_enough_and_no_less_is(limiter_class: Any, clock: Any, limit: Any) -> None:
    if isinstance(limit, Concurrency):
        pytest.skip("no wait helps")
    limiter = limiter_class(limit, clock=clock)
    while decision := limiter.check("a"):
        clock.advance(0.125)
    asked = clock.now_ns()
    wait = round(decision.retry_after * 1e9)
    clock.set_ns(asked + wait - 1)
    assert not limiter.peek("a")
    clock.set_ns(asked + wait)
    assert limiter.hit("a")


def test_equal_keys_share_and_others_do_not(limiter_class: Any, clock: Any) -> None:
    limiter = limiter_class(Concurrency(1), clock=clock)
    assert [limiter.hit(key) for key in KEYS] == [True] * len(KEYS)
    assert [limiter.hit(copy.deepcopy(key)) for key in KEYS] == [False] * len(KEYS)
    assert len({limiter.fingerprint(key) for key in KEYS}) == len(KEYS)


def test_subclasses_count_as_what_they_derive_from(limiter_class: Any) -> None:
    class Text(str):
        def encode(self, *args: Any) -> Any:
            return 5

    class Number(int):
        def bit_length(self) -> Any:
            return "many"

        def to_bytes(self, *args: Any, **kwargs: Any) -> Any:
            return None

    class Raw(bytes):
        pass

    class Pair(tuple[Any, ...]):
        def __iter__(self) -> Any:
            return iter([object()])

    limiter = limiter_class("5/minute")
    for plain, own in [
        ("a", Text("a")),
        ("é", Text("é")),
        ("\ud800", Text("\ud800")),
        (5, Number(5)),
        (2**100, Number(2**100)),
        (b"a", Raw(b"a")),
        (("a", 1), Pair(("a", 1))),
        (("\ud800", 2**100), Pair((Text("\ud800"), Number(2**100)))),
        (1, True),
        (0, False),
    ]:
        assert limiter.fingerprint(own) == limiter.fingerprint(plain)


def test_every_way_to_write_a_call_is_one_call(limiter_class: Any) -> None:
    """By the system's clock: the call that is written most is answered on a path of its own."""

    class Text(str):
        pass

    limiter = limiter_class("10/day")
    calls: list[Callable[[], bool]] = [
        lambda: limiter.hit("a"),
        lambda: limiter.hit("a", 1),
        lambda: limiter.hit("a", cost=1),
        lambda: limiter.hit("a", 1, None),
        lambda: limiter.hit("a", tier=None),
        lambda: limiter.hit(key="a"),
        lambda: limiter.hit(*["a"]),
        lambda: limiter.hit(*(), key="a"),
        lambda: limiter.hit(Text("a")),
        lambda: limiter_class.hit(limiter, "a"),
    ]
    assert [call() for call in calls] == [True] * 10
    assert [call() for call in calls] == [False] * 10
    assert limiter.stats()[:4] == (10, 10, 0, 1)
    for key in ("", "é", "\0", "x" * 1000, b"a", 1, ("a",)):
        assert [limiter.hit(key) for _ in range(11)] == [True] * 10 + [False]
    for wrong in (None, 1.5, ["a"]):
        with pytest.raises(TypeError, match="key must be str, bytes, int or a tuple of these"):
            limiter.hit(wrong)
    for arguments in ((), ("a", 1, None, 1)):
        with pytest.raises(TypeError):
            limiter.hit(*arguments)
    with pytest.raises(ValueError, match="cost=0 must be"):
        limiter.hit("a", 0)
    with pytest.raises(ValueError, match="tier=None must be one of 'pro'"):
        limiter_class(tiers={"pro": "5/day"}).hit("a")
    remembering = limiter_class("5/day", remember_names=True)
    assert remembering.hit("a")
    assert remembering.top()[0].name == "a"


def test_several_limits_take_together_or_not_at_all(limiter_class: Any, clock: Any) -> None:
    limiter = limiter_class("3/second; 5/minute", clock=clock)
    assert [limiter.hit("a") for _ in range(4)] == [True] * 3 + [False]
    clock.advance(1)
    decision = limiter.check("a", 3)
    assert not decision
    assert decision.limit_index == 1
    assert decision.remaining == 2
    assert limiter.peek("a", 2)
    assert limiter.check("a", 2).limit_index == 1
    assert limiter.hit("b", 3)


def test_limits_of_every_kind_on_one_limiter(limiter_class: Any, clock: Any) -> None:
    limiter = limiter_class("9/minute; 8/hour", *LIMITS, clock=clock)
    assert [limiter.hit("a") for _ in range(6)] == [True] * 5 + [False]
    limiter.reset("a")
    assert limiter.hit("a", 5)


# ---- giving back ----


@every_limit
def test_refund_gives_back_and_never_above_full(limiter_class: Any, clock: Any, limit: Any) -> None:
    limiter = limiter_class(limit, clock=clock)
    assert limiter.refund("a", 3) is None
    assert limiter.hit("a", 5)
    limiter.refund("a", 2)
    assert limiter.peek("a").remaining == 1
    limiter.refund("a", 2**53)
    assert limiter.peek("a", 5).remaining == 0
    assert limiter.hit("a", 5)
    assert not limiter.hit("a")


@every_limit
def test_reset_makes_one_key_as_good_as_new_and_clear_all(limiter_class: Any, clock: Any, limit: Any) -> None:
    limiter = limiter_class(limit, clock=clock)
    for key in ("a", "b"):
        assert limiter.hit(key, 5)
    limiter.reset("a")
    limiter.reset("never seen")
    assert limiter.peek("a", 5)
    assert not limiter.peek("b")
    assert limiter.hit("a", 5)
    limiter.clear()
    assert limiter.stats().live == 0
    assert limiter.hit("a", 5)
    assert limiter.hit("b", 5)


def test_release_gives_back_to_concurrency_limits_alone(limiter_class: Any, clock: Any) -> None:
    limiter = limiter_class(Concurrency(3), "5/minute", clock=clock)
    assert limiter.hit("a", 3)
    limiter.release("a", 3)
    assert limiter.check("a", 2)
    limiter.release("a", 2)
    assert limiter.check("a").limit_index == 1


@every_limit
def test_force_charges_what_does_not_fit(limiter_class: Any, clock: Any, limit: Any) -> None:
    limiter = limiter_class(limit, clock=clock)
    assert limiter.hit("a", 4)
    limiter.force("a", 3)
    decision = limiter.peek("a")
    assert not decision
    assert decision.remaining == 0


# ---- looking in ----


def test_stats_count_decisions_and_keys(limiter_class: Any, clock: Any) -> None:
    limiter = limiter_class("2/second", clock=clock, capacity=1000)
    assert limiter.stats()[:5] == (0, 0, 0, 0, 1000)
    for key in ("a", "a", "a", "b"):
        limiter.hit(key)
    limiter.check("b", 5)
    limiter.peek("c")
    stats = limiter.stats()
    assert stats[:5] == (3, 2, 0, 2, 1000)
    assert stats.bytes > 0
    assert limiter.capacity == 1000
    clock.advance(10)
    assert limiter.stats().live == 0
    limiter.clear()
    assert limiter.stats()[:3] == (3, 2, 0)


def test_top_has_the_most_refused_first_then_the_most_spent(limiter_class: Any, clock: Any) -> None:
    limiter = limiter_class("10/minute", clock=clock, remember_names=True)
    for key, cost, refusals in [("low", 1, 0), ("high", 9, 0), ("worst", 10, 5), ("bad", 10, 2)]:
        assert limiter.hit(key, cost)
        for _ in range(refusals):
            assert not limiter.hit(key)
    assert [(one.name, one.denied, one.spent) for one in limiter.top(10)] == [
        ("worst", 5, 10),
        ("bad", 2, 10),
        ("high", 0, 9),
        ("low", 0, 1),
    ]
    assert [one.name for one in limiter.top(3)] == ["worst", "bad", "high"]
    assert [one.fingerprint for one in limiter.top(1)] == [limiter.fingerprint("worst")]
    assert limiter.top(2**53) == limiter.top()


def test_top_has_fingerprints_only_unless_names_are_remembered(limiter_class: Any) -> None:
    limiter = limiter_class("10/minute")
    limiter.hit("user:ada")
    (one,) = limiter.top()
    assert one.name is None
    assert one.fingerprint == limiter.fingerprint("user:ada")


def test_names_are_remembered_for_every_kind_of_key_and_bounded(limiter_class: Any, clock: Any) -> None:
    limiter = limiter_class("10/minute", clock=clock, remember_names=True, capacity=64)
    for key in KEYS:
        limiter.check(key)
    assert all(limiter.name_of(limiter.fingerprint(key)) == key for key in KEYS)
    for number in range(1000):
        limiter.hit(number)
    known = [key for key in [*KEYS, *range(1000)] if limiter.name_of(limiter.fingerprint(key)) is not None]
    assert len(known) <= 128
    assert 999 in known
    limiter.clear()
    assert limiter.name_of(limiter.fingerprint(999)) is None


def test_a_limiter_of_several_instances_agrees_by_its_secret(limiter_class: Any) -> None:
    one, other = (limiter_class("1/minute", secret=b"0123456789abcdef") for _ in range(2))
    third, random = limiter_class("1/minute", secret=b"0123456789abcdeg"), limiter_class("1/minute")
    assert one.fingerprint("a") == other.fingerprint("a")
    assert len({limiter.fingerprint("a") for limiter in (one, third, random)}) == 3


def test_repr_says_what_it_limits(limiter_class: Any) -> None:
    assert repr(limiter_class("5/minute")) == "<Limiter TokenBucket(limit=5, per=60, burst=None)>"
    tiered = limiter_class("5/minute", tiers={"pro": "50/minute"}, name="api")
    assert repr(tiered) == (
        "<Limiter 'api' TokenBucket(limit=5, per=60, burst=None); pro: TokenBucket(limit=50, per=60, burst=None)>"
    )
    assert tiered.name == "api"
    assert limiter_class("5/minute").name is None


# ---- a full table ----


def test_a_full_table_lets_the_least_debt_go(limiter_class: Any, clock: Any) -> None:
    limiter = limiter_class("10/minute", clock=clock, capacity=64)
    assert limiter.hit("heavy", 10)
    for number in range(5000):
        assert limiter.hit(number)
    assert not limiter.hit("heavy")
    stats = limiter.stats()
    assert stats.evicted > 0
    assert stats.live <= 2 * stats.capacity


def test_a_full_table_that_denies_refuses_new_keys_and_says_until_when(limiter_class: Any, clock: Any) -> None:
    limiter = limiter_class("10/minute", clock=clock, capacity=64, on_full="deny")
    answers = [limiter.hit(number) for number in range(5000)]
    assert answers.count(True) >= 64
    assert answers.count(False) > 0
    assert limiter.stats().evicted == 0
    refused = answers.index(False)
    decision = limiter.peek(refused)
    assert not decision
    assert 0 < decision.retry_after <= 6
    clock.advance(decision.retry_after)
    assert limiter.hit(refused)


# ---- an ordinary object ----


def test_it_can_be_subclassed_with_attributes_of_its_own(limiter_class: Any, clock: Any) -> None:
    class Counting(limiter_class):  # type: ignore[misc]
        """Counts its own hits."""

        def __init__(self, *limits: Any, label: str, **settings: Any) -> None:
            super().__init__(*limits, **settings)
            self.label = label
            self.hits = 0

        def hit(self, key: Any, cost: int = 1, tier: str | None = None) -> bool:
            self.hits += 1
            return bool(super().hit(key, cost, tier))

    limiter = Counting("2/minute", label="mine", clock=clock)
    assert [limiter.hit("a") for _ in range(3)] == [True, True, False]
    assert (limiter.label, limiter.hits) == ("mine", 3)
    assert limiter.check("b")
    limiter.anything = 5
    with pytest.raises(AttributeError):
        limiter_class("2/minute").anything = 5


def test_it_can_be_referred_to_weakly_and_goes_when_dropped(limiter_class: Any) -> None:
    limiter = limiter_class("2/minute")
    bucket = limiter_class(Concurrency(1))
    hold = bucket.hold("a")
    references = [weakref.ref(limiter), weakref.ref(bucket)]
    del limiter, bucket
    gc.collect()
    assert references[0]() is None
    assert references[1]() is not None
    del hold
    gc.collect()
    assert references[1]() is None


def test_it_is_told_by_identity(limiter_class: Any) -> None:
    one, other = limiter_class("2/minute"), limiter_class("2/minute")
    assert one == one
    assert one != other
    assert len({one, other, one}) == 2


def test_it_cannot_be_copied_or_pickled(limiter_class: Any) -> None:
    limiter = limiter_class("2/minute")
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="a Limiter cannot be copied or pickled"):
            attempt(limiter)
    assert limiter.hit("a")


def test_the_fast_methods_have_signatures(limiter_class: Any) -> None:
    for name in ("hit", "check", "peek", "refund", "release", "force"):
        parameters = inspect.signature(getattr(limiter_class, name)).parameters
        assert list(parameters) == ["self", "key", "cost", "tier"]
        assert parameters["cost"].default == 1
        assert parameters["tier"].default is None
    limiter = limiter_class("2/minute")
    assert limiter.hit(key="a", cost=1, tier=None)
    assert limiter.check(tier=None, cost=1, key="a")


def test_a_method_can_be_kept(limiter_class: Any, clock: Any) -> None:
    limiter = limiter_class("2/minute", clock=clock)
    hit = limiter.hit
    del limiter
    assert [hit("a") for _ in range(3)] == [True, True, False]


def test_a_context_manager_that_answers_with_itself(limiter_class: Any) -> None:
    with limiter_class("2/minute") as limiter:
        assert isinstance(limiter, limiter_class)
        assert limiter.hit("a")
    assert limiter.hit("a"), "decisions still work"
    limiter.close()
    limiter.close()
    assert not limiter.hit("a")


# ---- threads and processes ----


@pytest.mark.parametrize("limits", [["1000/day"], [SlidingWindow(1000, 3600), Concurrency(1000)]], ids=["one", "two"])
def test_threads_take_exactly_what_there_is(limiter_class: Any, clock: Any, limits: list[Any]) -> None:
    limiter = limiter_class(*limits, clock=clock)
    admitted: list[int] = []
    ready = threading.Barrier(4)

    def work() -> None:
        ready.wait()
        admitted.append(sum(limiter.hit("a") for _ in range(400)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(admitted) == 1000
    assert limiter.stats()[:2] == (1000, 600)


def test_threads_that_do_everything_at_once_leave_it_whole(limiter_class: Any) -> None:
    limiter = limiter_class(
        "1000/second; 100000/day", Concurrency(50), tiers={"b": ("500/second; 9/hour", Concurrency(5))}
    )
    wrong: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for turn in range(150):
                key = f"k{(turn * seed) % 40}"
                if limiter.hit(key, 1 + turn % 3, None if turn % 2 else "b"):
                    limiter.refund(key)
                limiter.check(key)
                limiter.hit_many([key, (key, turn)], [1, 2])
                if turn % 50 == seed:
                    limiter.replace("900/second; 90000/day", Concurrency(40 + seed))
                if turn % 60 == seed:
                    limiter.clear()
                limiter.reset(key)
                limiter.peek(key)
            limiter.stats()
            limiter.top(5)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2, 3, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    limiter.clear()
    assert limiter.peek("k1").remaining > 0


FORK = """
import os, threading
from penstock import Concurrency, Limiter
from penstock.clock import ManualClock

limiter = Limiter("5/minute", Concurrency(5), clock=ManualClock())
assert limiter.hit("a", 3)
lines = [threading.Thread(target=limiter.acquire, args=("full",), daemon=True) for _ in range(2)]
assert limiter.hit("full", 5)
for line in lines:
    line.start()
while sum(map(len, limiter._waiters._queues.values())) < 2:
    pass
limiter._waiters._lock.acquire()  # as if another thread were just inside
child = os.fork()
if child == 0:
    assert [limiter.hit("a") for _ in range(3)] == [True, True, False]
    limiter.refund("full", 5)
    assert limiter.acquire("full", timeout=0), "nobody of the parent's stands in line here"
    assert not limiter.acquire("a", timeout=0)
    assert limiter.hold("full", timeout=None).__enter__()
    limiter.close()
    os._exit(0)
limiter._waiters._lock.release()
_, status = os.waitpid(child, 0)
assert status == 0, status
assert limiter.peek("a", 2), "what the child took is not missing here"
limiter.close()
for line in lines:
    line.join()
print("whole")
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork here")
def test_a_forked_child_has_its_own_copy_and_nobody_in_line() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "whole\n"), done.stderr


def test_top_knows_what_a_refused_key_has_spent(limiter_class: Any, clock: Any) -> None:
    limiter = limiter_class("10/hour", tiers={"small": "1/hour"}, clock=clock)
    limiter.hit("small", tier="small")
    limiter.hit("small", tier="small")
    for key in range(50):
        limiter.hit(key, 10)
    (first, second) = limiter.top(2)
    assert (first.fingerprint, first.denied, first.spent) == (limiter.fingerprint("small"), 1, 1)
    assert (second.denied, second.spent) == (0, 10)
