"""What sharing costs Redis: the server's CPU time for a key in a batch of 200, beside one script call per request.

The processor time of the server process is what counts: parsing, the script, and the network's part in the kernel.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

for package in ("redis", "trustme"):
    pytest.importorskip(package, reason="there is nothing to talk to Redis with")
sys.path[:0] = [str(Path(__file__).parent.parent / "tests" / part) for part in ("integration", "")]

import redis  # noqa: E402
from batches import script  # noqa: E402
from servers import Server, binaries  # noqa: E402

from penstock.sync.names import Names, namespace_secret  # noqa: E402
from penstock.sync.wire import BUCKET, ENTRIES_MOST, Entry, Header, Rule, pack_entries, pack_header  # noqa: E402

KEYS = 10_000
INST = "0123456789abcdef"

PER_REQUEST = """
-- One token bucket, one request. KEYS[1]: its TAT, us. ARGV: us per token, burst, cost. Returns allowed, left, wait ms.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local tau, burst, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local tat = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
local after = tat + cost * tau
local room = burst * tau - (after - now)
if room < 0 then
  return {0, math.floor((burst * tau - (tat - now)) / tau), math.ceil(-room / 1000)}
end
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000) + 1000)
return {1, math.floor(room / tau), 0}
"""


def cpu_s(client: redis.Redis) -> float:
    """Processor seconds of the server so far."""
    spent = client.info("cpu")
    return float(spent["used_cpu_user"] + spent["used_cpu_sys"])


def per_request(client: redis.Redis, keys: list[str]) -> None:
    """One call for each key."""
    sha = client.script_load(PER_REQUEST)
    for key in keys:
        client.evalsha(sha, 1, key, 1_000, 100, 1)


def in_batches(client: redis.Redis, names: Names, keys: list[str], entry: Entry) -> None:
    """One call for every 200 keys."""
    sha = client.script_load(script())
    rules = [Rule(BUCKET, 1_000.0, 100.0, 100.0, 50.0)]
    own = names.own(0)
    entries = pack_entries([entry] * ENTRIES_MOST)
    last = int(client.get(own[0]) or 0)
    for seq, start in enumerate(range(0, len(keys), ENTRIES_MOST), start=last + 1):
        header = pack_header(Header(seq, seq - 1, seq % 20 == 0, 50_000), rules, ENTRIES_MOST)
        client.evalsha(sha, len(own) + ENTRIES_MOST, *own, *keys[start : start + ENTRIES_MOST], header, entries, INST)


def us_per_key(client: redis.Redis, act: Callable[[], None]) -> float:
    """The least of three rounds; before them one that fills the keys in."""
    act()
    least = float("inf")
    for _ in range(3):
        start = cpu_s(client)
        act()
        least = min(least, (cpu_s(client) - start) / KEYS * 1e6)
    return least


@pytest.mark.parametrize("program", binaries(), ids=lambda path: path.parent.parent.name)
def test_batch_beside_one_call_per_request(fact: Callable[..., None], tmp_path: Path, program: Path) -> None:
    names = Names("bench", namespace_secret("bench", None), INST)
    draw = random.Random(1)
    keys = [names.state(0, 0, False, draw.getrandbits(64)) for _ in range(KEYS)]
    with Server(tmp_path, program=program) as server, server.client() as client:
        single = us_per_key(client, lambda: per_request(client, keys))
        client.flushall()
        settled = us_per_key(client, lambda: in_batches(client, names, keys, Entry(0, debt=2, seen=3, age_us=2_000)))
        leased = us_per_key(client, lambda: in_batches(client, names, keys, Entry(0, debt=2, want=5, seen=3)))
        version = ".".join(map(str, server.version()))
    fact("CPU time of Redis per key", f"{version}, one call each", "us", time=single)
    fact("CPU time of Redis per key", f"{version}, 200 settled", "us", time=settled, ratio=settled / single)
    fact("CPU time of Redis per key", f"{version}, 200 leased", "us", time=leased, ratio=leased / single)
