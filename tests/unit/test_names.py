"""penstock.sync.names: names of keys in Redis, and where in a cluster they are."""

from __future__ import annotations

import re

import pytest

from penstock.sync.names import (
    CLUSTER_PARTITIONS,
    SLOTS,
    Names,
    check_namespace,
    namespace_secret,
    partition_of,
    rule_hash,
    slot_of,
    tags,
)
from penstock.sync.wire import BUCKET, FIXED, HELD, SLIDING

SECRET = namespace_secret("api", None)
INST = "0011223344556677"


def test_slots_are_those_of_redis_cluster() -> None:
    assert slot_of("123456789") == 0x31C3  # the check value of the specification's appendix
    assert (slot_of("0"), slot_of("foo")) == (13_907, 12_182)


@pytest.mark.parametrize("partitions", [1, 2, 3, 16, 64])
def test_a_tag_is_the_smallest_number_in_its_part_of_the_slots(partitions: int) -> None:
    found = tags(partitions)
    assert len(set(found)) == partitions
    for part, tag in enumerate(found):
        inside = [n for n in range(int(tag) + 1) if slot_of(str(n)) * partitions // SLOTS == part]
        assert inside == [int(tag)]
    assert tags(1) == ("0",)


def test_names_have_the_shape_that_the_protocol_gives_them() -> None:
    names = Names("api", SECRET, INST)
    assert names.sequence(0) == f"api:{{0}}:s{INST}"
    assert names.members(0) == "api:{0}:m"
    assert names.notices(0) == "api:{0}:r"
    assert names.own(0) == [names.sequence(0), names.members(0), names.notices(0)]
    assert [names.state(0, 0, kind, 7)[8] for kind in (BUCKET, FIXED, SLIDING, HELD)] == ["b", "w", "w", "c"]
    assert re.fullmatch(r"api:\{0\}:b[\w-]{4}[\w-]{11}", names.state(0, 3, False, 2**64 - 1))
    assert names.state(0, 3, True, 0) == f"api:{{0}}:w{rule_hash(SECRET, 3)}AAAAAAAAAAA"
    assert names.state(0, 3, False, 1).endswith("AAAAAAAAAAE")  # eight bytes, highest first


def test_names_differ_by_rule_kind_fingerprint_and_secret() -> None:
    names, others = Names("api", SECRET, INST), Names("api", namespace_secret("api", b"x" * 16), INST)
    found = {names.state(0, rule, window, fp) for rule in range(50) for window in (False, True) for fp in (1, 2, 2**63)}
    assert len(found) == 50 * 2 * 3
    assert others.state(0, 0, False, 1) not in found


def test_a_partition_is_drawn_from_the_first_16_bits() -> None:
    assert partition_of(0xABCD_0000_0000_0000, CLUSTER_PARTITIONS) == 0xABCD % 16
    assert partition_of(2**64 - 1, 1) == 0
    names = Names("api", SECRET, INST, CLUSTER_PARTITIONS)
    assert names.partitions == 16
    assert f"{{{tags(16)[5]}}}" in names.state(5, 0, False, 1)


def test_a_secret_is_the_same_for_the_same_and_for_no_other() -> None:
    assert namespace_secret("api", None) == namespace_secret("api", None)
    given = b"s" * 16
    several = {namespace_secret(name, secret) for name in ("api", "web") for secret in (None, given, b"t" * 40)}
    assert len(several) == 6
    assert {len(secret) for secret in several} == {16}
    with pytest.raises(ValueError, match="secret has 3 bytes; at least 16 are needed"):
        namespace_secret("api", b"abc")
    with pytest.raises(TypeError, match="secret must be bytes, not str"):
        namespace_secret("api", "x" * 16)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["api", "a.b:c/d-e_f", "größe", "x" * 100])
def test_names_that_may_be(name: str) -> None:
    assert check_namespace(name) == name


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "{api}", "a}", "x" * 101, "é" * 51, "a\u2003b", "\ud800"])
def test_names_that_may_not_be(name: str) -> None:
    with pytest.raises(ValueError, match=r"^name="):
        check_namespace(name)


def test_a_name_must_be_a_str() -> None:
    with pytest.raises(TypeError, match="name must be a str where limits are shared, not NoneType"):
        check_namespace(None)
