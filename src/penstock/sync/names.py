"""What the keys in Redis are called: namespace, partitions and their tags, fingerprints; never the text of a key."""

from __future__ import annotations

import functools
import hashlib
from base64 import urlsafe_b64encode
from binascii import crc_hqx

from penstock.errors import shown

SLOTS = 16_384
"""Hash slots of a Redis cluster."""
STANDALONE_PARTITIONS, CLUSTER_PARTITIONS = 1, 16
NAMESPACE_MOST = 100
LETTERS = "bwwc"
"""Of the kinds of rules: bucket, fixed and sliding window, units held (Concurrency)."""


def check_namespace(name: object) -> str:
    """The namespace of a limiter's keys, which is its name.

    Raises TypeError for other than str; ValueError when it is empty, too long, has control characters or blanks, or
    braces, in which Redis would see the part of a key that places it in a cluster.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a str where limits are shared, not {type(name).__name__}")
    if not 1 <= len(name.encode("utf-8", "surrogatepass")) <= NAMESPACE_MOST:
        raise ValueError(f"name={shown(name)} must have 1 to {NAMESPACE_MOST} bytes where limits are shared")
    if not name.isprintable() or any(sign in "{}" or sign.isspace() for sign in name):
        raise ValueError(f"name={shown(name)} must be without blanks, control characters and braces")
    return name


def namespace_secret(name: str, secret: bytes | None) -> bytes:
    """The 16 bytes that key a namespace's fingerprints: the same in every instance that was given the same.

    Without a `secret` of at least 16 bytes it is drawn from the name alone: instances agree, but whoever knows the name
    can tell whether a key they guess is among those in Redis.
    """
    if secret is not None and not isinstance(secret, bytes):
        raise TypeError(f"secret must be bytes, not {type(secret).__name__}")
    if secret is not None and len(secret) < 16:
        raise ValueError(f"secret has {len(secret)} bytes; at least 16 are needed")
    drawn = hashlib.blake2b(name.encode(), digest_size=16, person=b"penstock share")
    drawn.update(b"\0" + (secret or b""))
    return drawn.digest()


def partition_of(fp: int, partitions: int) -> int:
    """The partition of a key: by the first 16 bits of its fingerprint."""
    return (fp >> 48) % partitions


def slot_of(tag: str) -> int:
    """The hash slot of every key with {tag} in it: CRC-16/XMODEM, as Redis Cluster's specification has it."""
    return crc_hqx(tag.encode(), 0) % SLOTS


@functools.cache
def tags(partitions: int) -> tuple[str, ...]:
    """Each partition's tag: the smallest number whose slot lies in its part of the slots, which are parted evenly."""
    if not 1 <= partitions <= 256:
        raise ValueError(f"partitions={partitions} must be from 1 to 256")
    found: dict[int, str] = {}
    number = 0
    while len(found) < partitions:
        found.setdefault(slot_of(str(number)) * partitions // SLOTS, str(number))
        number += 1
    return tuple(found[part] for part in range(partitions))


class Names:
    """Key names of one namespace, for one instance.

    namespace: see check_namespace. secret: 16 bytes, see namespace_secret. inst: the instance, 16 hex digits.
    """

    def __init__(self, namespace: str, secret: bytes, inst: str, partitions: int = STANDALONE_PARTITIONS) -> None:
        self.namespace = namespace
        self._secret = secret
        self._prefixes = [f"{namespace}:{{{tag}}}:" for tag in tags(partitions)]
        self._inst = inst
        self._rules: dict[tuple[int, int], str] = {}

    @property
    def partitions(self) -> int:
        """How many partitions the namespace has."""
        return len(self._prefixes)

    def sequence(self, partition: int) -> str:
        """Where the number of this instance's last batch is kept."""
        return f"{self._prefixes[partition]}s{self._inst}"

    def members(self, partition: int) -> str:
        """The set of living instances."""
        return f"{self._prefixes[partition]}m"

    def notices(self, partition: int) -> str:
        """The set of keys that were made as good as new."""
        return f"{self._prefixes[partition]}r"

    def own(self, partition: int) -> list[str]:
        """The keys that every batch of a partition begins with."""
        return [self.sequence(partition), self.members(partition), self.notices(partition)]

    @property
    def agreement(self) -> str:
        """What instances agree on (agreement.py); one for all, however many partitions they believe in."""
        return f"{self.namespace}:{{{tags(1)[0]}}}:c"

    def state(self, partition: int, rule: int, kind: int, fp: int) -> str:
        """What is stored of a fingerprint under a rule, of a kind as in wire.py."""
        middle = self._rules.get((rule, kind))
        if middle is None:
            middle = self._rules[rule, kind] = LETTERS[kind] + rule_hash(self._secret, rule)
        return f"{self._prefixes[partition]}{middle}{urlsafe_b64encode(fp.to_bytes(8, 'big'))[:11].decode()}"


def rule_hash(secret: bytes, rule: int) -> str:
    """Four characters in which rules differ: of 3 bytes of a hash under the namespace's secret."""
    digest = hashlib.blake2s(rule.to_bytes(2, "little"), digest_size=3, key=secret).digest()
    return urlsafe_b64encode(digest).decode()
