"""Identity: who is whom by address, and whose word is taken for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.adapters.identity import HOPS_MOST, Identity, forwarded_hops, read_address, standard_hops


def key(identity: Identity, peer: str | None, *lines: str) -> str | None:
    return identity.key(peer, lambda name: lines if name == identity.header else ())


def not_asked(name: str) -> Sequence[str]:
    raise AssertionError("no header is read where no proxy is trusted")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" 192.0.2.1\t", "192.0.2.1"),
        ("192.0.2.1:443", "192.0.2.1"),
        ("192.0.2.1:_obfuscated", "192.0.2.1"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:DB8::7]:443", "2001:db8::7"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("[::ffff:c000:201]:1", "192.0.2.1"),
        ("64:ff9b::192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_addresses_as_proxies_write_them(text: str, address: str) -> None:
    assert str(read_address(text)) == address


@pytest.mark.parametrize(
    "text",
    ["", "unknown", "_hidden", "192.0.2.256", "192.0.2.01", "192.0.2.1:", "192.0.2.1:x", "192.0.2.1:123456", "1.2.3",
     "[192.0.2.1]", "[2001:db8::7", "[2001:db8::7]x", "2001:db8::7]", "::1::", "a" * 65_536, "\xe9", "1.2.3.4 5"],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    assert read_address(text) is None


@given(st.text())
def test_any_text_is_read_or_not(text: str) -> None:
    read_address(text)
    for lines in ([text], [text, text]):
        assert all(isinstance(hop, str) for hop in forwarded_hops(lines))
        assert all(isinstance(hop, str) for hop in standard_hops(lines))


def test_without_trust_headers_are_not_read() -> None:
    assert Identity().key("203.0.113.7", not_asked) == "ip:203.0.113.7"
    assert Identity(trusted=["10.0.0.0/8"]).key("203.0.113.7", not_asked) == "ip:203.0.113.7"


def test_ipv6_by_its_64() -> None:
    identity = Identity()
    assert key(identity, "2001:db8:1:2::7") == key(identity, "2001:db8:1:2:ffff::1") == "ip:2001:db8:1:2::/64"
    assert key(identity, "2001:db8:1:3::7") == "ip:2001:db8:1:3::/64"
    assert key(identity, "::ffff:192.0.2.1") == key(identity, "192.0.2.1") == "ip:192.0.2.1"
    assert key(Identity(v4=24, v6=48), "192.0.2.1") == "ip:192.0.2.0/24"
    assert key(Identity(v4=24, v6=48), "2001:db8:1:2::7") == "ip:2001:db8:1::/48"
    assert key(Identity(v6=128), "2001:db8:1:2::7") == "ip:2001:db8:1:2::7"


def test_link_local_peers_are_apart() -> None:
    """All of a link share a /64, and each interface has a link of its own."""
    peers = ["fe80::1%eth0", "fe80::2%eth0", "fe80::1%eth1"]
    assert len({key(Identity(), peer) for peer in peers}) == 3


def test_a_zone_in_a_header_makes_no_new_client() -> None:
    identity = Identity(trusted=["10.0.0.1"])
    assert key(identity, "10.0.0.1", "fe80::1%a") == key(identity, "10.0.0.1", "fe80::1%b")
    assert key(identity, "10.0.0.1", "2001:db8::1%a") == "ip:2001:db8::/64"


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        (["203.0.113.7"], "ip:203.0.113.7"),
        (["198.51.100.1, 203.0.113.7"], "ip:203.0.113.7"),
        (["198.51.100.1, 203.0.113.7, 10.1.2.3"], "ip:203.0.113.7"),
        (["198.51.100.1", "203.0.113.7, 10.1.2.3", "10.9.9.9"], "ip:203.0.113.7"),
        (["203.0.113.7:5000,[2001:db8::1]:80"], "ip:2001:db8::/64"),
        (["10.1.1.1, 10.2.2.2"], "ip:10.1.1.1"),
        ([], "ip:10.0.0.1"),
        (["203.0.113.7, unknown"], None),
        (["203.0.113.7, "], None),
        ([""], None),
        (["203.0.113.7, 10.1.2.3, nonsense, 10.1.2.3"], None),
    ],
)
def test_from_the_right_to_the_first_that_is_not_trusted(lines: list[str], client: str | None) -> None:
    assert key(Identity(trusted=["10.0.0.0/8"]), "10.0.0.1", *lines) == client


@pytest.mark.parametrize(
    ("hops", "lines", "client"),
    [
        (1, ["198.51.100.1, 203.0.113.7"], "ip:203.0.113.7"),
        (2, ["198.51.100.1, 203.0.113.7, 10.1.2.3"], "ip:203.0.113.7"),
        (2, ["203.0.113.7"], None),
        (1, [], None),
        (1, ["203.0.113.7, unknown"], None),
    ],
)
def test_a_number_of_proxies(hops: int, lines: list[str], client: str | None) -> None:
    """Fewer hops than proxies: the request came round one of them, so nothing in it is believed."""
    assert key(Identity(trusted=hops), "192.0.2.9", *lines) == client
    assert key(Identity(trusted=hops), None, *lines) == client


@pytest.mark.parametrize(
    ("line", "client"),
    [
        ("for=203.0.113.7", "ip:203.0.113.7"),
        ("For=198.51.100.1, for=203.0.113.7;by=10.0.0.1;proto=https", "ip:203.0.113.7"),
        ('for="[2001:db8::7]:4711"', "ip:2001:db8::/64"),
        ('for=198.51.100.1, for="203.0.113.7:80";host="a,b;for=1.1.1.1"', "ip:203.0.113.7"),
        ('for="198.51.100.1, for=203.0.113.7', "ip:203.0.113.7"),
        ("for=203.0.113.7, for=10.3.3.3", "ip:203.0.113.7"),
        ("proto=https", None),
        ("for=unknown", None),
        ("for=_hidden", None),
        ("for=1.1.1.1;for=2.2.2.2", None),
        ('host=";for=1.1.1.1;"', None),
        ("for=203.0.113.7 x", None),
    ],
)
def test_forwarded(line: str, client: str | None) -> None:
    assert key(Identity(trusted=["10.0.0.0/8"], header="Forwarded"), "10.0.0.1", line) == client


def test_only_the_one_header_is_read() -> None:
    identity = Identity(trusted=["10.0.0.0/8"], header="CF-Connecting-IP")
    headers = {"x-forwarded-for": ["198.51.100.1"], "cf-connecting-ip": ["203.0.113.7"]}
    assert identity.key("10.0.0.1", lambda name: headers.get(name, [])) == "ip:203.0.113.7"


def test_no_peer() -> None:
    """As on a unix socket: never a bucket that all share, unless a proxy there is trusted to tell them apart."""
    assert key(Identity(), None) is None
    assert key(Identity(), "") is None
    assert key(Identity(trusted=["10.0.0.0/8"]), None, "203.0.113.7") is None
    assert key(Identity(trusted=["unix"]), None, "203.0.113.7") == "ip:203.0.113.7"
    assert key(Identity(trusted="unix"), None) is None


def test_a_peer_that_is_no_address() -> None:
    assert key(Identity(), "testclient") == "peer:testclient"
    assert key(Identity(), "x" * 65) is None


def test_a_long_chain_ends() -> None:
    chain = ",".join(["10.0.0.2"] * HOPS_MOST)
    identity = Identity(trusted=["10.0.0.0/8"])
    assert key(identity, "10.0.0.1", chain) == "ip:10.0.0.2"
    assert key(identity, "10.0.0.1", "203.0.113.7," + chain) is None


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded"])
@pytest.mark.parametrize("part", [",", '",', "10.0.0.2,", "for=10.0.0.2,", 'for="', 'a="b;'])
def test_the_work_for_a_header_is_bounded(header: str, part: str) -> None:
    """64 kB of anything: the hops that are read are few, and each is short."""
    identity = Identity(trusted=["10.0.0.0/8"], header=header)
    read: list[str] = []
    look_up = identity._of_hop

    def counting(hop: str) -> Any:
        read.append(hop)
        return look_up(hop)

    identity._of_hop = counting  # type: ignore[assignment]
    key(identity, "10.0.0.1", part * (65_536 // len(part)))
    assert 1 <= len(read) <= HOPS_MOST
    assert all(len(hop) <= 1024 for hop in read)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"trusted": ["10.0.0.1/8"]}, "10.0.0.1/8"),
        ({"trusted": ["proxy"]}, "proxy"),
        ({"trusted": -1}, "trusted=-1"),
        ({"trusted": True}, "trusted=True"),
        ({"trusted": 33}, "0 to 32"),
        ({"header": "x forwarded"}, "name of a header"),
        ({"header": ""}, "name of a header"),
        ({"v4": 33}, "v4=33"),
        ({"v6": 0}, "v6=0"),
        ({"v6": True}, "v6=True"),
    ],
)
def test_bad_settings(settings: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        Identity(**settings)
