"""Geo: what the official test files say, every malformed one survived, absent files and packages, reloading."""

from __future__ import annotations

import builtins
import ipaddress
import logging
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import OUTSIDE, needs

from penstock.guard.geo import NOWHERE, Geo, Place

pytest.importorskip("maxminddb")
DATA = OUTSIDE / "geo"
COUNTRY, CITY, ASN = (DATA / f"GeoLite2-{kind}-Test.mmdb" for kind in ("Country", "City", "ASN"))
BROKEN = [*sorted((DATA / "bad").glob("*.mmdb")), DATA / "MaxMind-DB-test-broken-pointers-24.mmdb"]
ADDRESSES = ["1.1.1.1", "81.2.69.142", "216.160.83.56", "2001:218::1", "8.8.8.8", "255.255.255.255", "0.0.0.0", "::1"]
needs_data = needs(COUNTRY)


@needs_data
def test_what_the_files_say() -> None:
    geo = Geo(COUNTRY, ASN)
    assert geo.state == "ok"
    assert geo.lookup("81.2.69.142").country == "GB"
    assert geo.country("216.160.83.56") == "US"
    assert geo.country("2001:218::1") == "JP"
    assert geo.asn("216.160.83.56") == 209
    assert geo.lookup("1.128.0.1") == Place(geo.country("1.128.0.1"), 1221, "Telstra Pty Ltd")
    assert geo.lookup("127.0.0.1") is NOWHERE
    assert geo.failures == 0


@needs_data
def test_a_city_file_has_countries_too() -> None:
    assert Geo(CITY).country("81.2.69.142") == "GB"


@needs_data
@pytest.mark.parametrize("text", ["::ffff:81.2.69.142", "::ffff:5102:458e"])
def test_a_mapped_address_is_the_address(text: str) -> None:
    assert Geo(COUNTRY).country(text) == "GB"


@needs_data
def test_a_zone_is_ignored() -> None:
    assert Geo(COUNTRY).country("2001:218::1%eth0") == "JP"


@needs_data
def test_what_is_remembered_is_what_the_file_says(tmp_path: Path) -> None:
    """Neighbours in one /24 that the file tells apart are not mixed up, in whichever order they come."""
    import maxminddb

    reader = maxminddb.open_database(str(CITY))
    found: dict[str, str | None] = {}
    for network, record in reader:
        code = (record.get("country") or record.get("registered_country") or {}).get("iso_code")
        for address in (network[0], network[-1]):
            found[str(address)] = code
    assert len(found) > 400
    for order in (1, -1):
        geo = Geo(CITY, capacity=64)
        for _ in range(2):
            for text in list(found)[::order]:
                address = ipaddress.ip_address(text)
                if address.version == 6 and int(address) < 1 << 32:
                    text = str(ipaddress.IPv4Address(int(address)))
                assert geo.country(text) == found[str(address)], text
        assert geo.failures == 0


@needs_data
def test_memory_is_bounded() -> None:
    geo = Geo(COUNTRY, ASN, capacity=16)
    for number in range(5_000):
        geo.lookup(str(ipaddress.ip_address(number * 65_537)))
    files = geo._files
    assert len(files._young) + len(files._old) <= 16


@needs_data
def test_what_is_asked_for_often_is_remembered() -> None:
    geo = Geo(COUNTRY, capacity=16)
    geo.lookup("81.2.69.142")
    asked: list[str] = []
    inner = geo._files.country
    assert inner is not None
    reader = inner.reader

    class Counting:
        def get_with_prefix_len(self, text: str) -> Any:
            asked.append(text)
            return reader.get_with_prefix_len(text)

    inner.reader = Counting()
    for number in range(200):
        geo.lookup(f"9.{number}.0.1")
        geo.lookup("81.2.69.142")
    assert asked.count("81.2.69.142") == 0
    assert len(asked) == 200


@needs_data
@pytest.mark.parametrize("file", BROKEN, ids=lambda path: path.name)
def test_a_malformed_file_is_survived(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "penstock.guard"):
        geo = Geo(file, file)
        for address in ADDRESSES:
            place = geo.lookup(address)
            assert place.country is None
            assert place.asn is None
    lines = [record for record in caplog.records if record.name == "penstock.guard"]
    if geo.state == "ok":
        assert lines == []  # the fault is deeper: only a lookup can meet it
    else:
        assert [record.levelname for record in lines] == ["WARNING", "WARNING"]  # one for each of the two
        assert geo.failures == 0


@needs_data
def test_lookups_that_fail_are_counted() -> None:
    geo = Geo(DATA / "bad" / "libmaxminddb-deep-nesting.mmdb")
    assert geo.lookup("1.1.1.1") is NOWHERE
    assert geo.failures == 1


@needs_data
def test_no_cut_of_a_good_file_does_harm(tmp_path: Path) -> None:
    whole, cut = COUNTRY.read_bytes(), tmp_path / "cut.mmdb"
    for length in [*range(0, len(whole), 997), len(whole) - 1]:
        cut.write_bytes(whole[:length])
        geo = Geo(cut)
        for address in ADDRESSES:
            assert geo.country(address) in (None, "GB", "US", "JP")


@needs_data
def test_no_damaged_byte_does_harm(tmp_path: Path) -> None:
    whole, bad = COUNTRY.read_bytes(), tmp_path / "bad.mmdb"
    for place in range(0, len(whole), 331):
        bad.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        geo = Geo(bad, bad)
        for address in ADDRESSES:
            place_found = geo.lookup(address)
            assert place_found.country is None or len(place_found.country) == 2


@needs_data
def test_a_file_cut_while_it_is_in_use(tmp_path: Path) -> None:
    path = tmp_path / "geo.mmdb"
    shutil.copy(COUNTRY, path)
    geo = Geo(path)
    assert geo.country("81.2.69.142") == "GB"
    with path.open("r+b") as file:
        file.truncate(4096)
    assert geo.country("216.160.83.56") is None
    assert geo.failures == 1


def test_an_absent_file_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "penstock.guard"):
        geo = Geo(tmp_path / "none.mmdb")
    assert [(record.levelname, record.name) for record in caplog.records] == [("INFO", "penstock.guard")]
    assert geo.lookup("1.1.1.1") is NOWHERE
    assert geo.state == "'none.mmdb': absent"
    assert geo.failures == 0


def test_nothing_named_is_nothing_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "penstock.guard"):
        geo = Geo()
    assert geo.state == "off"
    assert geo.lookup("1.1.1.1") is NOWHERE
    assert not caplog.records


def test_without_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    importing = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "maxminddb":
            raise ModuleNotFoundError("No module named 'maxminddb'")
        return importing(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    path = tmp_path / "some.mmdb"
    path.write_bytes(b"")
    with caplog.at_level(logging.INFO, "penstock.guard"):
        geo = Geo(path)
    assert len(caplog.records) == 1
    assert "penstock[geo]" in caplog.text
    assert geo.state == "the package maxminddb is missing"
    assert geo.lookup("1.1.1.1") is NOWHERE


@needs_data
def test_reloading(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "geo.mmdb"
    geo = Geo(path)
    assert geo.country("81.2.69.142") is None
    shutil.copy(COUNTRY, path)
    assert geo.country("81.2.69.142") is None  # what was remembered holds until the files are opened anew
    assert geo.reload()
    assert geo.country("81.2.69.142") == "GB"
    new = tmp_path / "new"
    new.write_bytes(b"rubbish")
    new.rename(path)
    with caplog.at_level(logging.INFO, "penstock.guard"):
        assert not geo.reload()
    assert "stays in use" in caplog.text
    assert geo.country("216.160.83.56") == "US"
    assert "cannot be read" in geo.state
    shutil.copy(CITY, new)
    new.rename(path)
    assert geo.reload()
    assert geo.state == "ok"
    geo.close()
    assert geo.lookup("81.2.69.142") is NOWHERE


@needs_data
def test_reloading_while_others_look_up() -> None:
    geo, stop, wrong = Geo(COUNTRY, capacity=4), threading.Event(), []

    def look() -> None:
        while not stop.is_set():
            for address, country in (("81.2.69.142", "GB"), ("216.160.83.56", "US"), ("2001:218::1", "JP")):
                if geo.country(address) != country:
                    wrong.append(address)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(100):
        assert geo.reload()
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert geo.failures == 0


@given(st.text())
def test_any_text_is_answered(text: str) -> None:
    assert Geo().lookup(text) is NOWHERE


@needs_data
@pytest.mark.parametrize(
    "text", ["", "1.2.3", "01.2.3.4", "1.2.3.4\0", "1.2.3.999", "::g", "\udcff::1", "9" * 131_072, "1.2.3.4:80", "%"]
)
def test_what_is_no_address(text: str) -> None:
    geo = Geo(COUNTRY, ASN)
    assert geo.lookup(text) is NOWHERE
    assert geo.failures == 0


@pytest.mark.parametrize(
    ("capacity", "error"), [(1, ValueError), (1 << 30, ValueError), (True, TypeError), ("9", TypeError)]
)
def test_capacity_is_checked(capacity: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="capacity"):
        Geo(capacity=capacity)


def test_paths_are_checked() -> None:
    with pytest.raises(TypeError, match="asn_path must be a path or None, not int"):
        Geo(None, 3)  # type: ignore[arg-type]
