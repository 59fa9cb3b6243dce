"""Address sets against ipaddress and brute force: what is an address, who is in a set and by which entry, and feeds."""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import OUTSIDE, needs

pytest.importorskip("penstock._match", reason="the guard needs the compiled modules")

from penstock.guard.addresses import AddressSet, canonical_address, canonical_entry

IPSUM = OUTSIDE / "intel" / "ipsum-level3.txt"
NO_ADDRESSES = [
    "", ".", ":", "::1::", ":::", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "1.2.3.04", "0x7f.0.0.1", "127.1",
    "2130706433", "1.2.3.4 ", " 1.2.3.4", "1.2.3.4\n", "1.2.3.4\0", "1.2.3.4:80", "[::1]", "1..2.3", ".1.2.3", "1.2.3.",
    "1.2.3.4%eth0", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8::", "::1:2:3:4:5:6:7:8", "12345::", "g::",
    ":1", "1:", "::1.2.3", "::1.2.3.4:5", "1:2:3:4:5:6:7:1.2.3.4", "fe80::1%", "fe80::1%a%b", "fe80::1%a/64",
    "fe80::1%a b", "1.2.3.4/32", "²1.2.3.4", "\u0661.2.3.4", "\ud800", "1" * 131_072, "unknown", "_hidden", "localhost",
]  # fmt: skip


# ---- what is an address ----


def oracle(text: str) -> str | None:
    """The canonical spelling by ipaddress, which takes any zone; here none has blanks."""
    try:
        if " " in text:
            return None
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(IPv6Address(int(address)))
    return str(address)


@pytest.mark.parametrize("text", NO_ADDRESSES, ids=lambda text: ascii(text)[:30])
def test_what_is_no_address(text: str) -> None:
    assert canonical_address(text) is None
    assert oracle(text) is None
    everything = AddressSet(["0.0.0.0/0", "::/0"])
    assert text not in everything
    assert everything.match(text) is None


@pytest.mark.parametrize(
    ("text", "spelt"),
    [
        ("255.255.255.255", "255.255.255.255"),
        ("0.0.0.0", "0.0.0.0"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
        ("1:0:0:2:0:0:0:3", "1:0:0:2::3"),
        ("1:0:0:2:0:0:3:4", "1::2:0:0:3:4"),
        ("::", "::"),
        ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("::FFFF:0102:0304", "1.2.3.4"),
        ("::1.2.3.4", "::102:304"),
        ("64:ff9b::192.0.2.33", "64:ff9b::c000:221"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:1.2.3.4%1", "1.2.3.4"),
    ],
)
def test_the_one_spelling(text: str, spelt: str) -> None:
    assert canonical_address(text) == canonical_address(text.encode()) == spelt == oracle(text)


NEAR_ADDRESSES = st.from_regex(r"([0-9a-f]{0,4}:){1,8}[0-9a-f.]{0,15}", fullmatch=True)


@given(st.text("0123456789abcdefF:.%/ gx", max_size=48) | NEAR_ADDRESSES)
def test_reading_agrees_with_ipaddress(text: str) -> None:
    assert canonical_address(text) == oracle(text)


@given(st.ip_addresses())
def test_addresses_of_ipaddress(address: Any) -> None:
    assert canonical_address(address) == oracle(str(address))
    assert address in AddressSet([address])


@given(st.ip_addresses(), st.data())
def test_one_sign_changed(address: Any, data: st.DataObject) -> None:
    text = list(str(address))
    text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.sampled_from("0159afAF:.%g/-"))
    assert canonical_address("".join(text)) == oracle("".join(text))


def test_what_is_no_text() -> None:
    for thing in (None, 5, 1.0, ["1.2.3.4"], ip_network("1.2.3.0/24")):
        with pytest.raises(TypeError, match="address="):
            AddressSet().match(thing)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="address="):
            thing in AddressSet()  # type: ignore[operator]  # noqa: B015


# ---- who is in a set ----


@st.composite
def entries_of(draw: st.DrawFn) -> list[tuple[int, int, int, str]]:
    """(version, first, last, as written) of entries that overlap, since they come from few addresses."""
    found = []
    for _ in range(draw(st.integers(0, 25))):
        version = draw(st.sampled_from([4, 6]))
        width, base = (32, 0x0A000000) if version == 4 else (128, 0x20010DB8 << 96)
        spread = 8 if draw(st.booleans()) else width
        address = (base if spread == 8 else 0) + draw(st.integers(0, 2**spread - 1))
        kind: Any = IPv4Address if version == 4 else IPv6Address
        shape = draw(st.sampled_from(["address", "network", "range"]))
        if version == 6 and address >> 32 == 0xFFFF:  # IPv4 within IPv6, which is IPv4 to the set
            continue
        if shape == "address":
            found.append((version, address, address, str(kind(address))))
        elif shape == "network":
            length = draw(st.integers(width - spread, width))
            network = ip_network((address, length), strict=False)
            if network.version == version:  # ipaddress makes IPv4 of a small number
                first, last = int(network.network_address), int(network.broadcast_address)
                found.append((version, first, last, str(network)))
        else:
            last = min(2**width - 1, address + draw(st.integers(0, 40)))
            if not 0xFFFF00000000 <= address <= 0xFFFFFFFFFFFF:
                found.append((version, address, last, f"{kind(address)}-{kind(last)}"))
    return found


@given(entries_of(), st.data())
def test_the_narrowest_entry_is_found(entries: list[tuple[int, int, int, str]], data: st.DataObject) -> None:
    made = AddressSet([text for *_, text in entries])
    assert len(made) == len({entry[:3] for entry in entries})
    asked = [(4, 0), (4, 2**32 - 1), (6, 0), (6, 2**128 - 1), (4, data.draw(st.integers(0, 2**32 - 1)))]
    for version, first, last, _ in entries:
        asked += [(version, one) for one in (first - 1, first, (first + last) // 2, last, last + 1)]
    for version, number in asked:
        if not 0 <= number < 2 ** (32 if version == 4 else 128) or (version == 6 and number >> 32 == 0xFFFF):
            continue
        address = IPv4Address(number) if version == 4 else IPv6Address(number)
        near = [(first, last, text) for of, first, last, text in entries if of == version]
        covering = [(last - first, first, text) for first, last, text in near if first <= number <= last]
        found = made.match(address)
        assert (address in made) == bool(covering)
        assert (str(address) in made) == bool(covering)
        if covering:
            narrowest = min(covering)[:2]
            assert found in [text for width, first, text in covering if (width, first) == narrowest]
        else:
            assert found is None


def test_entries_are_answered_as_written() -> None:
    written = [
        "10.0.0.0/8", "10.1.0.0/16", "1.2.3.4/32", "1.2.3.5", "2001:DB8::/32", "::ffff:9.9.9.9", "::ffff:8.0.0.0/104",
        "1.2.3.9 - 1.2.4.4", "FE80::1%eth0",
    ]  # fmt: skip
    made = AddressSet(written)
    asked = ["10.2.0.1", "10.1.2.3", "1.2.3.4", "1.2.3.5", "2001:db8::9", "9.9.9.9", "8.1.1.1", "1.2.4.0", "fe80::1"]
    assert [made.match(address) for address in asked] == written
    assert made.match("1.2.3.6") is None


def test_families_are_apart() -> None:
    assert "1.2.3.4" not in AddressSet(["::/0"])
    assert "::102:304" not in AddressSet(["0.0.0.0/0"])
    assert "::ffff:1.2.3.4" in AddressSet(["0.0.0.0/0"])


def test_many_entries_against_a_dictionary() -> None:
    draw = random.Random(5)
    numbers = {draw.getrandbits(32) for _ in range(30_000)} | {0, 2**32 - 1}
    longer = {draw.getrandbits(128) | 1 << 127 for _ in range(10_000)} | {2**128 - 1}
    made = AddressSet([*map(IPv4Address, numbers), *map(IPv6Address, longer)])
    assert len(made) == len(numbers) + len(longer)
    for number in [*numbers, *(draw.getrandbits(32) for _ in range(10_000)), *(one ^ 1 for one in numbers)]:
        assert (IPv4Address(number) in made) == (number in numbers)
    for number in [*longer, *(one ^ 1 << draw.randrange(128) for one in longer)]:
        assert (IPv6Address(number) in made) == (number in longer)


def test_neighbours_take_no_more_memory_than_one() -> None:
    together = AddressSet([f"10.0.{high}.{low}" for high in range(64) for low in range(256)])
    assert len(together) == 64 * 256
    assert together.memory < 1_000
    assert together.match("10.0.9.9") == "10.0.9.9"


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("", "not an address"),
        ("nonsense", "not an address"),
        ("1.2.3.4/33", "prefix length"),
        ("1.2.3.4/", "prefix length"),
        ("1.2.3.4/08", "prefix length"),
        ("1.2.3.4/255.255.255.0", "prefix length"),
        ("::ffff:1.2.3.4/32", "prefix length"),
        ("10.0.0.1/8", "bits beyond"),
        ("2001:db8::1/64", "bits beyond"),
        ("1.2.3.9-1.2.3.4", "range"),
        ("1.2.3.4-::1", "range"),
        ("1.2.3.4-", "not an address"),
        ("fe80::%eth0/64", "not an address"),
        ("1.2.3.4" + "\0", "not an address"),
        ("\udcff", "not an address"),
        ("1.2.3.4" + " " * 100_000 + "x", "not an address"),
    ],
)
def test_what_is_no_entry(entry: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        AddressSet(["1.1.1.1", entry])
    with pytest.raises(ValueError, match=reason):
        canonical_entry(entry)


def test_what_is_no_list_of_entries() -> None:
    with pytest.raises(TypeError, match="several entries"):
        AddressSet("10.0.0.0/8")
    with pytest.raises(TypeError, match="must be a str"):
        AddressSet([5])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="not changed"):
        AddressSet(["1.2.3.4"]).__init__(["1.2.3.5"])  # type: ignore[misc]
    with pytest.raises(TypeError, match="never made"):
        len(AddressSet.__new__(AddressSet))


@pytest.mark.parametrize(
    ("entry", "spelt"),
    [
        ("1.2.3.4/32", "1.2.3.4"),
        (" 10.0.0.0/8 ", "10.0.0.0/8"),
        ("10.0.0.0 - 10.255.255.255", "10.0.0.0/8"),
        ("10.0.0.0-10.255.255.254", "10.0.0.0-10.255.255.254"),
        ("0.0.0.0-255.255.255.255", "0.0.0.0/0"),
        ("1.2.3.4-1.2.3.4", "1.2.3.4"),
        ("::/0", "::/0"),
        ("2001:DB8:0::/48", "2001:db8::/48"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::1-::2", "::1-::2"),
        ("::2-::3", "::2/127"),
    ],
)
def test_the_one_spelling_of_an_entry(entry: str, spelt: str) -> None:
    assert canonical_entry(entry) == spelt
    assert canonical_entry(spelt) == spelt


@given(st.ip_addresses(), st.integers(0, 128))
def test_networks_are_spelt_as_ipaddress_does(address: Any, length: int) -> None:
    network = ip_network(f"{address}/{length % (address.max_prefixlen + 1)}", strict=False)
    if network.version == 6 and int(network.network_address) >> 32 == 0xFFFF:
        return
    spelt = str(network) if network.num_addresses > 1 else str(network.network_address)
    assert canonical_entry(str(network)) == spelt


# ---- feeds ----

FEED = b"""\xef\xbb\xbf# a comment
; another
create blocked hash:net family inet
add blocked 192.0.2.0/24
add blocked 192.0.2.7 timeout 300
\t198.51.100.7\t5
198.51.100.8 2\r
2001:db8::/32 ; SBL1
203.0.113.1-203.0.113.9

203.0.113.20 - 203.0.113.30 # with blanks
"""


def test_every_format_at_once(tmp_path: Path) -> None:
    path = tmp_path / "feed.txt"
    path.write_bytes(FEED)
    lines = FEED.splitlines()
    for made in (AddressSet.load(path), AddressSet.load(str(path)), AddressSet.load(lines, name="feed.txt")):
        assert (len(made), made.name, made.rejected.lines, made.below) == (7, "feed.txt", 0, 0)
        asked = ["192.0.2.7", "192.0.2.8", "198.51.100.7", "2001:db8::1", "203.0.113.5", "203.0.113.25", "203.0.113.10"]
        assert [made.match(one) for one in asked] == [
            "192.0.2.7", "192.0.2.0/24", "198.51.100.7", "2001:db8::/32", "203.0.113.1-203.0.113.9",
            "203.0.113.20 - 203.0.113.30", None,
        ]  # fmt: skip


def test_levels() -> None:
    lines = ["# ipsum", "1.1.1.1\t8", "2.2.2.2\t3", "3.3.3.3\t2", "4.4.4.4 99999999999999999999"]
    made = AddressSet.load(lines, level=3)
    assert [one in made for one in ("1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4")] == [True, True, False, True]
    assert (len(made), made.below) == (3, 1)
    assert len(AddressSet.load(lines)) == 4
    with pytest.raises(ValueError, match="no count"):
        AddressSet.load(["1.1.1.1", "2.2.2.2 3", "4.4.4.4"], level=3)


@pytest.mark.parametrize("level", [-1, True, "3", 2.0, 2**63])
def test_what_is_no_level(level: Any) -> None:
    with pytest.raises(ValueError, match="level="):
        AddressSet.load(["1.1.1.1"], level=level)


def test_rejected_lines_are_counted_and_the_first_are_told() -> None:
    good = [f"10.0.{i // 256}.{i % 256}" for i in range(50)]
    bad = ["nonsense", "10.0.0.1/8", "1.2.3.4/99", "1.1.1.9-1.1.1.1", "1.2.3.4 and more", "add x 10.0.0.0/8 nomatch",
           "1.2.3.4" * 200, "add", "more nonsense", "1.2.3.4,tcp:80"]  # fmt: skip
    made = AddressSet.load(["# head", *bad, *good])
    assert len(made) == 50
    assert made.rejected.lines == 10
    assert [line for line, _ in made.rejected.first] == [2, 3, 4, 5, 6, 7, 8, 9]
    words = ["not an address", "bits beyond", "prefix length", "range", "follows", "nomatch", "512", "not an address"]
    assert all(word in reason for word, (_, reason) in zip(words, made.rejected.first, strict=True))


def test_rubbish_is_no_list(tmp_path: Path) -> None:
    page = tmp_path / "feed.html"
    page.write_text("<html>\n<body>\n503 Service Unavailable\n1.2.3.4\n</body>\n")
    told = r"feed\.html.*no list of addresses: 4 lines are rejected and 1 are entries.*line 1"
    with pytest.raises(ValueError, match=told):
        AddressSet.load(page)
    empty = tmp_path / "empty"
    empty.touch()
    with pytest.raises(ValueError, match="is empty"):
        AddressSet.load(empty)
    empty.write_text("# nothing today\n")
    assert len(AddressSet.load(empty)) == 0
    with pytest.raises(FileNotFoundError):
        AddressSet.load(tmp_path / "absent")
    assert AddressSet.load(["1.2.3.4", "nonsense"]).rejected.lines == 1
    with pytest.raises(TypeError, match="must be a line"):
        AddressSet.load([5])  # type: ignore[list-item]


LINES = st.sampled_from(["1.2.3.4", "10.0.0.0/8", "x", "x" * 600, "", "\0", "#", "2.2.2.2 7"])


@given(st.lists(LINES, max_size=40), st.data())
def test_lines_are_the_same_wherever_blocks_end(lines: list[str], data: st.DataObject) -> None:
    from penstock._match import Feed

    text = "\n".join(lines).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    whole, parts = Feed(), Feed()
    whole.block(text)
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        parts.block(text[start:end])
    for feed in (whole, parts):
        feed.end()
    said = [line for line in lines if line and line[0] != "#"]
    rejected = [line for line in said if line[0] in "x\0"]
    for feed in (whole, parts):
        assert (feed.taken, feed.rejected) == (len(said) - len(rejected), len(rejected))
        assert feed.lines in (len(lines), len(lines) - 1)  # a last empty line is none
        assert feed.first == whole.first


@given(st.binary(max_size=3_000))
def test_any_bytes_are_a_list_or_refused(data: bytes) -> None:
    lines = data.splitlines()
    saying = [line for line in lines if line.strip()]
    try:
        made = AddressSet.load(lines)
    except ValueError:
        assert saying
    else:
        assert made.rejected.lines <= len(saying) // 2


def test_a_million_lines_with_rubbish_in_between(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    with path.open("wb") as file:
        for high in range(1_000):
            rows = [b"10.%d.%d.%d\n" % (high // 250, high % 250, low) for low in range(250)]
            for i, row in enumerate(rows):
                file.write(row + b"\xff\0 rubbish\n" if i % 3 == 0 else row * 5)
        file.write(b"9" * 3_000_000 + b"\n")
    made = AddressSet.load(path)
    assert made.rejected.lines == 84 * 1_000 + 1
    assert len(made) == 250_000
    assert made.memory < 2_000_000


@needs(IPSUM)
def test_a_real_feed() -> None:
    lines = IPSUM.read_text().split()
    made = AddressSet.load(IPSUM)
    assert (len(made), made.rejected.lines) == (len(set(lines)), 0)
    assert all(made.match(line) == line for line in lines)
    assert "127.0.0.1" not in made
