"""Prints what one address and one user agent cost to look up, beside other libraries, as tables in markdown.

    python guard_match.py               # whatever is installed of the others: pytricia, py-radix, pyahocorasick,
                                        # ahocorasick-rs, hyperscan, google-re2
    python guard_match.py memory NAME   # bytes of resident memory that one address set adds; used by the above

The addresses are drawn: single ones, half of them in clusters, and networks, as many as three public lists have
together. User agents and patterns are those of ../shared/data; without it there is no second table. What is compared
runs in turns, round after round; shown is the least processor time, less the empty loop.
"""

from __future__ import annotations

import bisect
import importlib
import json
import random
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path
from typing import Any

from memory import resident

from penstock._match import Automaton
from penstock.guard.addresses import AddressSet
from penstock.guard.agents import Agents
from penstock.guard.expressions import read_expression
from penstock.guard.lists import Lists

ENTRIES = 141_286
ROUNDS = 7
SHARED = Path(__file__).parents[2] / "shared" / "data"
Ask = Callable[[str], object]


def drawn_entries() -> list[str]:
    """Mostly single addresses, half of them near others, and one network in thirty."""
    draw = random.Random(1)
    near = [draw.getrandbits(32) & 0xFFFFFF00 for _ in range(4_000)]
    found: dict[str, None] = {}
    while len(found) < ENTRIES:
        number = draw.choice(near) | draw.getrandbits(8) if draw.random() < 0.5 else draw.getrandbits(32)
        if draw.random() < 1 / 30:
            found[str(ip_network((number, draw.randint(14, 28)), strict=False))] = None
        else:
            found[str(IPv4Address(number))] = None
    return list(found)


def by_bisect(entries: Sequence[str], number_of: Callable[[str], int]) -> Ask:
    """Merged intervals in two lists."""
    spans = sorted((int(net.network_address), int(net.broadcast_address)) for net in map(ip_network, entries))
    starts: list[int] = []
    ends: list[int] = []
    for start, end in spans:
        if ends and start <= ends[-1] + 1:
            ends[-1] = max(ends[-1], end)
        else:
            starts.append(start)
            ends.append(end)

    def ask(address: str) -> bool:
        number = number_of(address)
        at = bisect.bisect_right(starts, number) - 1
        return at >= 0 and number <= ends[at]

    return ask


def by_pytricia(entries: Sequence[str]) -> Ask:
    tree = importlib.import_module("pytricia").PyTricia()
    for entry in entries:
        tree[entry] = None
    return tree.__contains__


def by_radix(entries: Sequence[str]) -> Ask:
    tree = importlib.import_module("radix").Radix()
    for entry in entries:
        tree.add(entry)
    return tree.search_best


def by_inet_aton(entries: Sequence[str]) -> Ask:
    unpack, aton = struct.Struct("!I").unpack, socket.inet_aton
    return by_bisect(entries, lambda address: unpack(aton(address))[0])


ADDRESS_SETS: dict[str, Callable[[Sequence[str]], Ask]] = {
    "AddressSet.__contains__": lambda entries: AddressSet.load(entries).__contains__,
    "AddressSet.match": lambda entries: AddressSet.load(entries).match,
    "pytricia": by_pytricia,
    "py-radix, search_best": by_radix,
    "bisect over inet_aton": by_inet_aton,
    "bisect over ipaddress": lambda entries: by_bisect(entries, lambda address: int(ip_address(address))),
}


def seconds(ask: Ask, asked: Sequence[str]) -> float:
    begun = time.process_time()  # of the processor, as other processes take turns with this one
    for one in asked:
        ask(one)
    return (time.process_time() - begun) / len(asked)


def in_turns(asks: dict[str, Ask], asked: Sequence[str]) -> dict[str, float]:
    """The least seconds of one call, each subject in its turn."""
    least = dict.fromkeys([*asks, ""], float("inf"))
    for _ in range(ROUNDS):
        for name, ask in [*asks.items(), ("", bool)]:
            least[name] = min(least[name], seconds(ask, asked))
    empty = least.pop("")
    return {name: value - empty for name, value in least.items()}


def installed(makers: dict[str, Callable[..., Ask]], *given: object) -> dict[str, Ask]:
    made = {}
    for name, make in makers.items():
        try:
            made[name] = make(*given)
        except ImportError as error:
            print(f"({name} is left out: {error})\n", file=sys.stderr)
    return made


def memory_of(name: str) -> float:
    done = subprocess.run([sys.executable, __file__, "memory", name], capture_output=True, text=True, check=True)
    return float(done.stdout)


def print_memory(name: str) -> None:
    entries = drawn_entries()
    made = [ADDRESS_SETS[name](entries[:100])]  # whatever is imported only then
    before = resident()
    made.append(ADDRESS_SETS[name](entries))
    print(resident() - before)


def addresses() -> None:
    entries, draw = drawn_entries(), random.Random(2)
    begun = time.process_time()
    whole = AddressSet.load(entries)
    built = time.process_time() - begun
    drawn = [str(IPv4Address(draw.getrandbits(32))) for _ in range(60_000)]
    absent = [address for address in drawn if address not in whole]
    single = [entry for entry in draw.sample(entries, 50_000) if "/" not in entry]
    listed = [str(IPv4Address(entry)) for entry in single]  # new ones, as a request's
    asks = installed(ADDRESS_SETS, entries)
    for ask in asks.values():
        assert not any(ask(address) for address in absent[:2_000])
        assert all(ask(address) not in (False, None) for address in listed[:2_000])
    lists = Lists(allow=["192.0.2.0/24"], deny=["198.51.100.7"])
    lists.set_feed("feed", whole)
    asks["Lists.judge: allow, deny and that feed"] = lists.judge
    missed, found = in_turns(asks, absent), in_turns(asks, listed)
    print(f"### One IPv4 address in {ENTRIES:,} entries\n")
    print(f"Building took {built:.2f} s; the set has {whole.memory / 1e6:.2f} MB.\n")
    print("| | not in it, ns | ratio | in it, ns | resident memory, MB |\n|---|---:|---:|---:|---:|")
    least = missed["AddressSet.match"]
    for name in asks:
        memory = f"{memory_of(name) / 1e6:.1f}" if name in ADDRESS_SETS else ""
        out, within = missed[name], found[name] * 1e9
        print(f"| {name} | {out * 1e9:.0f} | {out / least:.1f} | {within:.0f} | {memory} |")


# ---- user agents ----


def literals_of(patterns: Sequence[str]) -> list[str]:
    return sorted({literal for pattern in patterns for literal in read_expression(pattern).literals})


def by_automaton(patterns: Sequence[str]) -> Ask:
    return Automaton(tuple((literal.encode(), False, False) for literal in literals_of(patterns)), fold=True).find


def by_pyahocorasick(patterns: Sequence[str]) -> Ask:
    made = importlib.import_module("ahocorasick").Automaton()
    for number, literal in enumerate(literals_of(patterns)):
        made.add_word(literal, number)
    made.make_automaton()
    return lambda text: [number for _, number in made.iter(text.lower())]


def by_ahocorasick_rs(patterns: Sequence[str]) -> Ask:
    made = importlib.import_module("ahocorasick_rs").AhoCorasick(literals_of(patterns))
    return lambda text: made.find_matches_as_indexes(text.lower(), overlapping=True)


def by_hyperscan(patterns: Sequence[str]) -> Ask:
    hyperscan: Any = importlib.import_module("hyperscan")
    database = hyperscan.Database()
    database.compile(
        expressions=[pattern.encode() for pattern in patterns],
        ids=list(range(len(patterns))),
        flags=[hyperscan.HS_FLAG_SINGLEMATCH] * len(patterns),
    )
    hits: list[int] = []

    def ask(text: str) -> list[int]:
        hits.clear()
        database.scan(text.encode(), match_event_handler=lambda number, *_: hits.append(number))
        return hits

    return ask


def by_re2(patterns: Sequence[str]) -> Ask:
    re2: Any = importlib.import_module("re2")
    made = re2.Set.SearchSet()
    for pattern in patterns:
        made.Add(pattern)
    made.Compile()
    return made.Match


def agents_of(patterns: Sequence[str]) -> Agents:
    return Agents.load([{"pattern": pattern, "tags": []} for pattern in patterns])


AGENT_SETS: dict[str, Callable[[Sequence[str]], Ask]] = {
    "Agents.match, the user agent seen before": lambda patterns: agents_of(patterns).match,
    "Agents, never seen before": lambda patterns: agents_of(patterns)._find,
    "the automaton alone": by_automaton,
    "hyperscan": by_hyperscan,
    "ahocorasick-rs, literals": by_ahocorasick_rs,
    "pyahocorasick, literals": by_pyahocorasick,
    "RE2 set": by_re2,
    "re, one alternation": lambda patterns: re.compile("|".join(f"(?:{pattern})" for pattern in patterns)).search,
}


def user_agents() -> None:
    rows = json.loads((SHARED / "bots" / "crawler-user-agents.json").read_text())
    patterns = [row["pattern"] for row in rows]
    bots = [example for row in rows for example in row["instances"]][::2]  # fewer than are remembered
    line = re.compile(r'"([^"]*)"$')
    with (SHARED / "logs" / "apache_logs").open(errors="replace") as log:
        said = {found[1] for text in log if (found := line.search(text))}
    asks = installed(AGENT_SETS, patterns)
    browsers = sorted(one for one in said if agents_of(patterns).match(one).kind == "browser")
    mean = sum(map(len, browsers)) / len(browsers)
    print(f"\n### One user agent against {len(patterns):,} patterns\n")
    print(f"{len(browsers)} browsers, of {mean:.0f} characters on average, and {len(bots):,} examples of bots.\n")
    print("| | a browser, ns | ratio | a bot, ns |\n|---|---:|---:|---:|")
    browser, bot = in_turns(asks, browsers), in_turns(asks, bots)
    first = browser["Agents, never seen before"]
    for name in asks:
        print(f"| {name} | {browser[name] * 1e9:.0f} | {browser[name] / first:.1f} | {bot[name] * 1e9:.0f} |")


def main() -> None:
    if sys.argv[1:2] == ["memory"]:
        print_memory(sys.argv[2])
        return
    addresses()
    if SHARED.exists():
        user_agents()


if __name__ == "__main__":
    main()
