"""Django REST framework: throttle classes in place of its own, with the same settings."""

from __future__ import annotations

import functools
from typing import Any

from penstock.adapters import keys
from penstock.adapters.call import WsgiCall
from penstock.adapters.gate import DEFAULT, SCOPE, Outcome, ask_one
from penstock.adapters.keys import KeyFunction
from penstock.adapters.rules import Rule
from penstock.limiter import Limiter, Rates

try:
    from django import conf
    from django.core.exceptions import ImproperlyConfigured
    from rest_framework.settings import api_settings
except ImportError as error:
    raise ImportError(f"penstock.integrations.drf: {error}; pip install 'penstock[drf]'") from error


class Throttle:
    """A throttle to derive from: limits = Limiter("5/minute"), or rates, and key, a function of the call.

    With limit_middleware in MIDDLEWARE its settings hold here as well, and its headers tell of both; without it answers
    have what the framework gives them, Retry-After. The framework asks its throttles one by one: what one has taken
    stays taken when the next refuses.
    """

    limits: Limiter | Rates | None = None
    key: KeyFunction = staticmethod(keys.first(keys.user, keys.address))

    def __init__(self) -> None:
        self._outcome: Outcome | None = None

    def rule(self, request: Any, view: Any) -> Rule | None:
        """The rule for a request; None for no limit."""
        if self.limits is None:
            raise ImproperlyConfigured(f"{type(self).__name__} needs limits, such as Limiter('5/minute')")
        own: Any = type(self)
        return _of_class(own)

    def allow_request(self, request: Any, view: Any) -> bool:
        """Whether the request may pass. Units of a Concurrency limit are not for throttles, which know no end."""
        rule = self.rule(request, view)
        if rule is None:
            return True
        outer: Outcome | None = request.META.get(SCOPE)
        outcome = self._outcome = Outcome(DEFAULT) if outer is None else outer
        call = WsgiCall(request.META, outcome.gate.identity, request, lambda: request.user)
        call.path = request.path
        return ask_one(rule, call, outcome)

    def wait(self) -> float | None:
        """Seconds until it is worth trying again; None where that is not known."""
        return None if self._outcome is None else self._outcome.retry_after


class _RateThrottle(Throttle):
    """A throttle whose rate is found in DEFAULT_THROTTLE_RATES under its scope."""

    scope: str | None = None

    def rule(self, request: Any, view: Any) -> Rule | None:
        if self.limits is not None:
            return super().rule(request, view)
        rates = getattr(self, "THROTTLE_RATES", None) or api_settings.DEFAULT_THROTTLE_RATES
        if self.scope not in rates:
            raise ImproperlyConfigured(f"no rate for the scope {self.scope!r} in DEFAULT_THROTTLE_RATES")
        rate = rates[self.scope]
        return None if rate is None else _scoped(rate, self.scope, type(self).key)


class AnonRateThrottle(_RateThrottle):
    """Visitors that have not logged in, by address."""

    scope = "anon"
    key = staticmethod(keys.address)

    def rule(self, request: Any, view: Any) -> Rule | None:
        return None if request.user and request.user.is_authenticated else super().rule(request, view)


class UserRateThrottle(_RateThrottle):
    """Users, and visitors that have not logged in by address."""

    scope = "user"


class ScopedRateThrottle(_RateThrottle):
    """Views by their `throttle_scope`, each scope with a rate of its own."""

    def rule(self, request: Any, view: Any) -> Rule | None:
        self.scope = getattr(view, "throttle_scope", None)
        return None if self.scope is None else super().rule(request, view)


@functools.cache  # the framework makes a throttle for each request
def _of_class(throttle: Any) -> Rule:
    return _rule(throttle.limits, throttle.key, throttle.__name__)


@functools.cache
def _scoped(rate: Rates, scope: str, key: KeyFunction) -> Rule:
    """The rule of a scope, on a segment of the host where PENSTOCK_THROTTLES_SHARED says so."""
    shared = getattr(conf.settings, "PENSTOCK_THROTTLES_SHARED", None)
    return _rule(Limiter(rate, shared=f"{shared}-{scope}") if shared else rate, key, scope)


def _rule(limits: Limiter | Rates, key: KeyFunction, name: str) -> Rule:
    rule = Rule(limits, key=key, name=name)
    if rule.holds:
        raise ImproperlyConfigured(f"{name}: a throttle cannot hold units of a Concurrency limit; use limit_middleware")
    return rule
