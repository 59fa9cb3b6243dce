"""What the reference engine asks of an algorithm: a rule over the states of keys."""

from __future__ import annotations

import abc
from typing import Generic, NamedTuple, TypeVar

from penstock._rows import Pairs
from penstock.policy import Policy

NEVER = 2**64 - 1
"""A time that does not come."""


class View(NamedTuple):
    """The fields of one limit's decision; ps_view in ext/algorithms/decision.h."""

    allowed: bool
    remaining: int
    retry_ns: int
    reset_ns: int


class State:
    """What a limit knows of one key. found: the key's fingerprint; due: when it is next worth asking whether the state
    can be forgotten, ns."""

    __slots__ = ("due", "found")
    found: int
    due: int


S = TypeVar("S", bound=State)


class Rule(abc.ABC, Generic[S]):
    """One policy at work, that of the tier with this index. A call's `now` is never earlier than that of a call before
    it."""

    tier = 0

    def __init__(self, policy: Policy) -> None:
        self.limit = policy.limit
        self.per = policy.per_ns

    @abc.abstractmethod
    def fresh(self) -> S:
        """The state of a key never seen."""

    @abc.abstractmethod
    def room(self, state: S, now: int) -> int:
        """Units that fit now."""

    @abc.abstractmethod
    def fits_at(self, state: S, now: int, cost: int) -> int:
        """The first time at which `cost` fits, for a cost that never is above the limit and does not fit now."""

    @abc.abstractmethod
    def free_at(self, state: S, now: int, more: int = 0) -> int:
        """The first time at which nothing counts against the key, were `more` units taken now."""

    @abc.abstractmethod
    def force(self, state: S, now: int, cost: int) -> None:
        """Takes `cost` whether it fits or not."""

    @abc.abstractmethod
    def refund(self, state: S, now: int, cost: int) -> None:
        """Gives `cost` back, never above full: what would have expired first, where that makes a difference."""

    @abc.abstractmethod
    def debt(self, state: S, now: int) -> int:
        """What counts against the key: 0 exactly when it is as good as new. Needs no tier."""

    @property
    def gives_back(self) -> bool:
        """Whether units are held until they are given back, rather than spent."""
        return False

    def held(self, state: S) -> bool:
        """Whether the state must be kept, though another key needs its place."""
        return False

    def spent(self, state: S, now: int) -> int:
        """The debt in units."""
        return self.debt(state, now)

    def forgotten_at(self, state: S, now: int) -> int:
        """From when the state tells nothing that a fresh one does not."""
        return self.free_at(state, now)

    def pairs(self, state: S, now: int) -> Pairs:
        """What counts against the key, in the words of ext/snapshot/snapshot.h; nothing for what can't be saved."""
        return []

    def restored(self, state: S, pairs: Pairs, now: int) -> None:
        """Makes a fresh state one that such pairs were taken from, at `now` or before. ValueError for others."""
        raise ValueError("nothing is saved of this kind of limit")

    def describe(self, state: S, now: int, cost: int) -> View:
        """The decision over `cost`, from one reading."""
        room = self.room(state, now)
        if cost <= room:
            return View(True, room - cost, 0, until(self.free_at(state, now, cost), now))
        retry = NEVER if cost > self.limit else until(self.fits_at(state, now, cost), now)
        return View(False, room, retry, until(self.free_at(state, now), now))


def until(then: int, now: int) -> int:
    """Nanoseconds from now to then, at least 0."""
    return NEVER if then == NEVER else max(0, then - now)
