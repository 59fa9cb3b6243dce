"""The decorator: one hit for each call, on functions, methods and coroutines, with keys taken from the call."""

from __future__ import annotations

import asyncio
import functools
import inspect
from typing import Any

import pytest

from penstock import Concurrency, RateLimited
from penstock.clock import ManualClock


def test_each_call_is_one_hit(limiter_class: Any, clock: ManualClock) -> None:
    limiter = limiter_class("2/minute", clock=clock)
    calls: list[tuple[int, int]] = []

    @limiter.limit()  # type: ignore[untyped-decorator]
    def add(a: int, b: int = 2) -> int:
        calls.append((a, b))
        return a + b

    assert add(1) == 3
    assert add(a=5, b=6) == 11
    with pytest.raises(RateLimited) as caught:
        add(7)
    assert calls == [(1, 2), (5, 6)]
    assert caught.value.decision.retry_after == 30
    clock.advance(30)
    assert add(7, 1) == 8


def test_functions_have_keys_of_their_own_unless_one_is_given(limiter_class: Any) -> None:
    limiter = limiter_class("1/day")

    @limiter.limit()  # type: ignore[untyped-decorator]
    def one() -> int:
        return 1

    @limiter.limit()  # type: ignore[untyped-decorator]
    def two() -> int:
        return 2

    @limiter.limit(key="shared")  # type: ignore[untyped-decorator]
    def three() -> int:
        return 3

    @limiter.limit(key="shared")  # type: ignore[untyped-decorator]
    def four() -> int:
        return 4

    assert (one(), two(), three()) == (1, 2, 3)
    for again in (one, two, three, four):
        with pytest.raises(RateLimited):
            again()
    name = f"{__name__}.test_functions_have_keys_of_their_own_unless_one_is_given.<locals>.one"
    assert not limiter.peek(name)


@pytest.mark.parametrize("key", ["a", b"a", 5, ("a", 5), "", 0, ()])
def test_a_constant_key_of_any_kind(limiter_class: Any, key: Any) -> None:
    limiter = limiter_class("1/day")
    limiter.limit(key=key)(int)()
    assert not limiter.peek(key)
    assert limiter.peek("another")


def test_key_cost_and_tier_from_the_call(limiter_class: Any, clock: ManualClock) -> None:
    limiter = limiter_class("5/minute", clock=clock, tiers={"pro": "50/minute"})

    @limiter.limit(  # type: ignore[untyped-decorator]
        key=lambda user, **more: ("user", user),
        cost=lambda user, size=1, **more: size,
        tier=lambda user, **more: "pro" if user == "ada" else None,
    )
    def send(user: str, size: int = 1) -> str:
        return f"{user}:{size}"

    assert send("bob", size=5) == "bob:5"
    with pytest.raises(RateLimited):
        send("bob")
    assert send("ada", size=50) == "ada:50"
    assert send("eve") == "eve:1"
    assert limiter.peek(("user", "eve")).remaining == 3


def test_a_method(limiter_class: Any) -> None:
    limiter = limiter_class("1/day")

    class Mail:
        def __init__(self, user: str) -> None:
            self.user = user

        @limiter.limit(key=lambda self, to: self.user)  # type: ignore[untyped-decorator]
        def send(self, to: str) -> str:
            return f"{self.user}>{to}"

        @staticmethod
        @limiter.limit()  # type: ignore[untyped-decorator]
        def version() -> int:
            return 1

        @classmethod
        @limiter.limit(key=lambda cls: cls.__name__)  # type: ignore[untyped-decorator]
        def name(cls) -> str:
            return cls.__name__

    assert Mail("ada").send("bob") == "ada>bob"
    assert Mail("bob").send(to="ada") == "bob>ada"
    with pytest.raises(RateLimited):
        Mail("ada").send("eve")
    assert (Mail.version(), Mail.name()) == (1, "Mail")
    for again in (Mail.version, Mail.name):
        with pytest.raises(RateLimited):
            again()


def test_a_coroutine(limiter_class: Any, clock: ManualClock) -> None:
    limiter = limiter_class("2/minute", clock=clock)
    calls: list[str] = []

    @limiter.limit(key=lambda name: name)  # type: ignore[untyped-decorator]
    async def greet(name: str) -> str:
        """Says hello."""
        await asyncio.sleep(0)
        calls.append(name)
        return f"hello {name}"

    async def run() -> None:
        assert await greet("ada") == "hello ada"
        waiting = greet("ada")
        assert limiter.peek("ada").remaining == 0, "a coroutine that nobody awaits takes nothing"
        assert await waiting == "hello ada"
        with pytest.raises(RateLimited):
            await greet("ada")

    asyncio.run(run())
    assert calls == ["ada", "ada"]
    assert inspect.iscoroutinefunction(greet)
    assert (greet.__name__, greet.__doc__) == ("greet", "Says hello.")


def test_the_function_is_kept(limiter_class: Any) -> None:
    limiter = limiter_class("1/day")

    def original(a: int, *, b: str = "x") -> list[int]:
        """What it does."""
        return [a]

    original.note = "kept"  # type: ignore[attr-defined]
    limited = limiter.limit()(original)
    assert limited.__wrapped__ is original
    assert (limited.__name__, limited.__doc__, limited.__module__) == ("original", "What it does.", __name__)
    assert limited.__qualname__ == original.__qualname__
    assert limited.note == "kept"
    assert inspect.signature(limited) == inspect.signature(original)
    assert not inspect.iscoroutinefunction(limited)


def test_a_concurrency_limit_is_held_while_the_function_runs(limiter_class: Any) -> None:
    limiter = limiter_class(Concurrency(1))

    @limiter.limit(key="a")  # type: ignore[untyped-decorator]
    def inner() -> int:
        assert not limiter.peek("a")
        return 1

    @limiter.limit(key="a")  # type: ignore[untyped-decorator]
    def outer() -> int:
        with pytest.raises(RateLimited):
            inner()
        raise ValueError("out")

    assert [inner(), inner()] == [1, 1]
    with pytest.raises(ValueError, match="out"):
        outer()
    assert limiter.peek("a")


def test_a_concurrency_limit_is_held_while_the_coroutine_runs(limiter_class: Any) -> None:
    limiter = limiter_class(Concurrency(1), tiers={"wide": Concurrency(3)})

    @limiter.limit(key="a", cost=1, tier=lambda fail=False: "wide" if fail else None)  # type: ignore[untyped-decorator]
    async def work(fail: bool = False) -> bool:
        await asyncio.sleep(0)
        assert not limiter.peek("a")
        if fail:
            raise ValueError("out")
        return True

    async def run() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        with pytest.raises(RateLimited):
            await work()
        assert await task
        with pytest.raises(ValueError, match="out"):
            await work(fail=True)
        cancelled = asyncio.create_task(work())
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled

    asyncio.run(run())
    assert limiter.peek("a")


def test_callables_that_are_no_functions(limiter_class: Any) -> None:
    limiter = limiter_class("100/day")

    class Adder:
        def __call__(self, a: int) -> int:
            return a + 1

    class Later:
        async def __call__(self) -> bool:
            return bool(held.peek("a"))

    held = limiter_class(Concurrency(1))
    assert asyncio.run(held.limit(key="a")(Later())()) is False
    assert held.peek("a")
    assert limiter.limit()(Adder())(1) == 2
    assert limiter.limit()(functools.partial(pow, 2))(5) == 32
    assert limiter.limit()(len)([1, 2]) == 2
    assert limiter.limit()(str.upper)("a") == "A"
    assert limiter.limit()(int)("5") == 5
    assert limiter.limit()(lambda: 7)() == 7
    assert limiter.stats().admitted == 6


@pytest.mark.parametrize("thing", [5, None, "name", classmethod(print)])
def test_what_is_no_function(limiter_class: Any, thing: Any) -> None:
    with pytest.raises(TypeError, match=rf"limit\(\) decorates functions, not {type(thing).__name__}"):
        limiter_class("1/day").limit()(thing)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"key": 1.5}, TypeError, "key must be str, bytes, int or a tuple of these, not float"),
        ({"key": ("a", None)}, TypeError, "an item of a tuple key must be str, bytes or int, not NoneType"),
        ({"cost": 0}, ValueError, "cost=0 must be between 1 and"),
        ({"cost": True}, TypeError, "cost must be an int, not bool"),
        ({"cost": None}, TypeError, "cost must be an int, not NoneType"),
        ({"tier": "x"}, ValueError, "tier='x' must be one of None"),
        ({"tier": 5}, ValueError, "tier=5 must be one of None"),
    ],
)
def test_wrong_constants_are_told_at_the_decoration(
    limiter_class: Any, settings: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        limiter_class("1/day").limit(**settings)


def test_wrong_facts_of_a_call_take_nothing_and_call_nothing(limiter_class: Any) -> None:
    limiter = limiter_class("5/day")
    called: list[object] = []
    wrong: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"key": lambda: None}, TypeError),
        ({"key": lambda: ["a"]}, TypeError),
        ({"cost": lambda: 0}, ValueError),
        ({"cost": lambda: 1.5}, TypeError),
        ({"tier": lambda: "x"}, ValueError),
        ({"key": lambda: 1 / 0}, ZeroDivisionError),
    ]
    for settings, error in wrong:
        with pytest.raises(error):
            limiter.limit(**settings)(lambda: called.append(1))()
    assert called == []
    assert limiter.stats()[:2] == (0, 0)


def test_names_of_the_call_do_not_collide_with_ours(limiter_class: Any) -> None:
    @limiter_class("5/day").limit(key=lambda **facts: facts["key"])  # type: ignore[untyped-decorator]
    def call(**facts: Any) -> Any:
        return facts

    names = {"key": "a", "cost": 2, "tier": 3, "self": 4, "function": 5, "args": 6, "kwargs": 7, "limiter": 8}
    assert call(**names) == names
