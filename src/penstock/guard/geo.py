"""Geo: the country and the network operator of an address, from MaxMind files that somebody else keeps fresh."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from penstock.errors import shown

log = logging.getLogger("penstock.guard")

ADDRESS_MOST = 64
"""Characters of an address that are worth reading; the longest one with a zone is shorter."""
NAME_MOST = 100
_MAPPED = bytes(10) + b"\xff\xff"
Found = TypeVar("Found")


class Place(NamedTuple):
    """What is known of an address. country: ISO 3166-1, two capitals; asn: number of the autonomous system;
    organisation: who runs it, at most 100 characters. None where the files do not say."""

    country: str | None = None
    asn: int | None = None
    organisation: str | None = None


NOWHERE = Place()


class Geo:
    """Looks addresses up in a country (or city) file and an ASN file, either of which may be None or absent.

    path, asn_path: files in MaxMind's format; put a new one in place by renaming, not by writing into the old one, then
    call `reload`. capacity: networks whose answer is remembered, at least 2; about 200 bytes each. Nothing here raises
    for what is wrong with a file or an address: a missing file or package is one line in the log, a broken file one
    warning, a failed lookup is counted (`failures`) and answered with None. Safe from any thread.

    Answers are remembered for each /24 and /48, but where a file tells its addresses apart, for the address alone.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        asn_path: str | os.PathLike[str] | None = None,
        *,
        capacity: int = 8192,
    ) -> None:
        if isinstance(capacity, bool) or not isinstance(capacity, int):
            raise TypeError(f"capacity must be an int, not {type(capacity).__name__}")
        if not 2 <= capacity <= 1 << 20:
            raise ValueError(f"capacity={shown(capacity)} must be from 2 to 1048576 networks")
        self._paths = (_path("path", path), _path("asn_path", asn_path))
        self._half = capacity // 2
        self._failures = 0
        found = [_open(one) for one in self._paths]
        self._files = _Files(found[0][0], found[1][0])
        self._told = [why for _, why in found]

    @property
    def failures(self) -> int:
        """Lookups that a file could not answer though it was opened."""
        return self._failures

    @property
    def state(self) -> str:
        """In words: "off", "ok", or what is wrong with which file."""
        if self._paths == (None, None):
            return "off"
        return "; ".join(why for why in self._told if why) or "ok"

    def lookup(self, address: str) -> Place:
        """What is known of an address; NOWHERE (all None) for what is no address. A zone is ignored, and an IPv4
        address mapped into IPv6 is the IPv4 address."""
        packed = _packed(address)
        if packed is None:
            return NOWHERE
        files = self._files
        network = packed[:3] if len(packed) == 4 else packed[:6]
        place = files.remembered(network, self._half) or files.remembered(packed, self._half)
        if place is None:
            place, whole = self._read(files, packed)
            files.remember(network if whole else packed, place, self._half)
        return place

    def country(self, address: str) -> str | None:
        """The address's country, two capitals."""
        return self.lookup(address).country

    def asn(self, address: str) -> int | None:
        """The number of the autonomous system that announces the address."""
        return self.lookup(address).asn

    def reload(self) -> bool:
        """Opens the files anew, and from the next lookup on uses them. A file that has gone or is broken leaves the one
        that was open in use, with a warning. Returns whether every file that was named is the one on disk."""
        before, found = self._files, [_open(one, again=True) for one in self._paths]
        self._told = [why for _, why in found]
        self._files = _Files(found[0][0] or before.country, found[1][0] or before.asn)
        return not any(self._told)

    def close(self) -> None:
        """Lets the files go; every later lookup answers NOWHERE."""
        self._files = _Files(None, None)
        self._told = ["closed", "closed"]

    def _read(self, files: _Files, packed: bytes) -> tuple[Place, bool]:
        """What the files say, and whether that is so for the whole network of the address."""
        text = socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)
        country, wide = self._ask(files.country, text, packed, _country)
        operator, wide_too = self._ask(files.asn, text, packed, _operator)
        place = Place(country, *(operator or (None, None)))
        return (place if place != NOWHERE else NOWHERE), wide and wide_too

    def _ask(
        self, file: _File | None, text: str, packed: bytes, take: Callable[[object], Found | None]
    ) -> tuple[Found | None, bool]:
        if file is None or (len(packed) == 16 and file.only_v4):
            return None, True
        try:
            if os.fstat(file.descriptor).st_size != file.size:
                raise ValueError("the file was written to while it was in use")  # its pages may be gone
            record, prefix = file.reader.get_with_prefix_len(text)
            return take(record), prefix <= (24 if len(packed) == 4 else 48)
        except Exception:  # a broken file can make the reader raise nearly anything
            self._failures += 1
            return None, False


class _File:
    """One open file. descriptor: our own, to see when the file is cut."""

    def __init__(self, path: str) -> None:
        import maxminddb

        self.descriptor = -1
        self.descriptor = os.open(path, os.O_RDONLY)
        self.size = os.fstat(self.descriptor).st_size
        self.reader: Any = maxminddb.open_database(path)
        self.only_v4 = self.reader.metadata().ip_version == 4

    def __del__(self) -> None:
        if getattr(self, "descriptor", -1) >= 0:
            os.close(self.descriptor)


class _Files:
    """The open files, and the answers remembered of them: of two generations, of which the older is forgotten when the
    younger is full, and what is asked for again goes to the younger. A reload changes all of it at once."""

    def __init__(self, country: _File | None, asn: _File | None) -> None:
        self.country, self.asn = country, asn
        self._young: dict[bytes, Place] = {}
        self._old: dict[bytes, Place] = {}

    def remembered(self, network: bytes, most: int) -> Place | None:
        place = self._young.get(network)
        if place is None:
            place = self._old.get(network)
            if place is not None:
                self.remember(network, place, most)
        return place

    def remember(self, network: bytes, place: Place, most: int) -> None:
        if len(self._young) >= most:
            self._old, self._young = self._young, {}
        self._young[network] = place


def _path(name: str, path: object) -> str | None:
    if path is None:
        return None
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{name} must be a path or None, not {type(path).__name__}")
    return os.fspath(path)


def _open(path: str | None, again: bool = False) -> tuple[_File | None, str]:
    """The file, and what there is to say about it: nothing when all is well."""
    if path is None:
        return None, ""
    name, kept = shown(os.path.basename(path)), "; the one before stays in use" if again else ""
    try:
        return _File(path), ""
    except FileNotFoundError:
        said = f"geo: there is no file {name}: addresses have no country or network operator from it{kept}"
        log.info(said)
        return None, f"{name}: absent"
    except ModuleNotFoundError:
        log.info("geo: %s is not used, as the package maxminddb is missing: pip install 'penstock[geo]'", name)
        return None, "the package maxminddb is missing"
    except Exception as error:  # as above: the reader raises nearly anything for a broken file
        log.warning("geo: %s cannot be read (%s)%s", name, type(error).__name__, kept)
        return None, f"{name}: cannot be read ({type(error).__name__})"


def _packed(address: object) -> bytes | None:
    """4 or 16 bytes, or None for what is no address."""
    if not isinstance(address, str) or len(address) > ADDRESS_MOST:
        return None
    try:
        if ":" not in address:
            return socket.inet_pton(socket.AF_INET, address)
        packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    except (OSError, ValueError):  # no address; NULs and lone surrogates
        return None
    return packed[12:] if packed.startswith(_MAPPED) else packed


def _country(record: object) -> str | None:
    """Where the address is used; else where it is registered."""
    for name in ("country", "registered_country"):
        held = record.get(name) if isinstance(record, dict) else None
        code = held.get("iso_code") if isinstance(held, dict) else None
        if isinstance(code, str) and len(code) == 2 and code.isascii() and code.isalpha():
            return code.upper()
    return None


def _operator(record: object) -> tuple[int | None, str | None] | None:
    if not isinstance(record, dict):
        return None
    number, name = record.get("autonomous_system_number"), record.get("autonomous_system_organization")
    known = isinstance(number, int) and not isinstance(number, bool) and 0 < number < 1 << 32
    return (number if known else None), (name[:NAME_MOST] if isinstance(name, str) else None)
