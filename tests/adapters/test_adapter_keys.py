"""Key functions: what each counts by, and when it cannot tell."""

from __future__ import annotations

from typing import Any

import pytest
from calls import call

from penstock.adapters import keys
from penstock.adapters.call import WsgiCall, user_of
from penstock.adapters.gate import DEFAULT
from penstock.adapters.identity import Identity

JA4 = "t13d1516h2_8daaf6152771_e5627efa2ab1"


class Someone:
    def __init__(self, **facts: Any) -> None:
        vars(self).update(facts)


def test_address_and_everyone() -> None:
    assert keys.address(call()) == "ip:203.0.113.7"
    assert keys.address(call(client=None)) is None
    assert keys.everyone(call(client=None)) == keys.everyone(call())


def test_header() -> None:
    tenant = keys.header("X-Tenant")
    assert tenant(call(x_tenant=" a ")) == "x-tenant:a"
    assert tenant(call(x_tenant="\xfcber")) == "x-tenant:\xfcber"
    assert tenant(call(x_tenant="a" * keys.VALUE_MOST)) == "x-tenant:" + "a" * keys.VALUE_MOST
    for unknown in ({}, {"x_tenant": ""}, {"x_tenant": "a" * (keys.VALUE_MOST + 1)}, {"x_tenant": "a" * 65_536}):
        assert tenant(call(**unknown)) is None
    twice = call(x_tenant="a")
    twice.scope["headers"].append((b"x-tenant", b"b"))
    assert tenant(twice) is None


def test_an_api_key_leaves_no_trace() -> None:
    of_header, bearer = keys.api_key(), keys.api_key("Authorization")
    found = of_header(call(x_api_key="s3cret"))
    assert found is not None
    assert "s3cret" not in str(found)
    assert found == bearer(call(authorization="bearer s3cret"))
    assert of_header(call(x_api_key="other")) != found
    for unknown in ("Basic czNjcmV0", "Bearer ", "s3cret"):
        assert bearer(call(authorization=unknown)) is None


def test_ja4_only_by_a_trusted_proxy_and_in_its_form() -> None:
    trusting = Identity(trusted=["203.0.113.7"])
    function = keys.ja4()
    assert function(call(trusting, x_ja4=JA4)) == f"ja4:{JA4}"
    assert function(call(x_ja4=JA4)) is None
    for wrong in ("", JA4.upper(), JA4[:-1], JA4 + "0", "x" + JA4[1:], JA4.replace("_", "-")):
        assert function(call(trusting, x_ja4=wrong)) is None


def test_user() -> None:
    known = call()
    known.scope["user"] = Someone(is_authenticated=True, display_name="ada")  # type: ignore[index]
    assert keys.user(known) == "user:ada"
    assert keys.user(call()) is None
    environ = {"REQUEST_METHOD": "GET", "REMOTE_USER": "ada"}
    assert keys.user(WsgiCall(environ, DEFAULT.identity)) == "user:ada"
    assert keys.user(WsgiCall(environ, DEFAULT.identity, user=lambda: Someone(pk=7))) == "user:7"


@pytest.mark.parametrize(
    ("user", "name"),
    [
        (None, None),
        ("", None),
        ("ada", "ada"),
        (Someone(is_authenticated=False, pk=1), None),
        (Someone(is_authenticated=True, pk=0), "0"),
        (Someone(id="x"), "x"),
        (Someone(username="ada"), "ada"),
    ],
)
def test_users_of_frameworks(user: object, name: str | None) -> None:
    assert user_of(user) == name


def test_a_user_without_a_name() -> None:
    with pytest.raises(TypeError, match="Someone has no pk"):
        user_of(Someone())


def test_first_and_together() -> None:
    either = keys.first(keys.user, keys.address)
    assert either(call()) == "ip:203.0.113.7"
    assert either(call(client=None)) is None
    both = keys.together(keys.address, keys.path, keys.method)
    assert both(call(path="/a")) == ("ip:203.0.113.7", "/a", "GET")
    assert keys.together(both, keys.everyone)(call(path="/a")) == (3, "ip:203.0.113.7", "/a", "GET", "everyone")
    assert keys.together(keys.address, keys.user)(call()) is None


@pytest.mark.parametrize("wrong", [lambda: keys.first(), lambda: keys.together("address")])  # type: ignore[arg-type]
def test_functions_are_needed(wrong: Any) -> None:
    with pytest.raises(TypeError, match="key functions"):
        wrong()


@pytest.mark.parametrize("name", ["", "x tenant", "x:y", 7])
def test_header_names(name: Any) -> None:
    with pytest.raises(ValueError, match="name of a header"):
        keys.header(name)


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"PATH_INFO": "/a"}, "/a"),
        ({"SCRIPT_NAME": "/app", "PATH_INFO": "/a"}, "/app/a"),
        ({"PATH_INFO": "/\xc3\xa9"}, "/\xe9"),
        ({"PATH_INFO": "/\xff"}, "/\ufffd"),
        ({"PATH_INFO": "/\u4e2d"}, "/\u4e2d"),
        ({}, ""),
    ],
)
def test_paths_of_environs(environ: dict[str, str], path: str) -> None:
    assert WsgiCall({"REQUEST_METHOD": "GET", **environ}, DEFAULT.identity).path == path


def test_headers_of_environs() -> None:
    environ = {"REQUEST_METHOD": "GET", "HTTP_X_TENANT": "a", "CONTENT_TYPE": "text/plain"}
    found = WsgiCall(environ, DEFAULT.identity)
    assert found.lines("x-tenant") == ["a"]
    assert found.lines("content-type") == ["text/plain"]
    assert found.lines("x-other") == []
