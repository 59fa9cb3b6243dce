"""Logs of real attacks raise the alerts that are stated for them, and a benign day none that could not be defended."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from pathlib import Path

import pytest
from samples import OUTSIDE, needs

from penstock.clock import ManualClock
from penstock.guard import PRESETS, Action, Config, Guard, Request, Response, Scenario, Threats
from penstock.guard.replay.lines import Entry, Lines
from penstock.guard.replay.play import play, request_of

LOGS = OUTSIDE / "logs"
here = needs(LOGS)

OURS = {
    "crowdsecurity/http-probing": "probing.not_found",
    "crowdsecurity/http-bad-user-agent": "probing.scanner",
    "crowdsecurity/http-sensitive-files": "probing.sensitive_files",
    "crowdsecurity/http-crawl-non_statics": "probing.crawl",
    "crowdsecurity/http-bf-wordpress_bf": "probing.wordpress_logins",
    "crowdsecurity/http-dos-bypass-cache": "probing.cache_bypass",
    "crowdsecurity/http-dos-random-uri": "probing.random_uri",
    "crowdsecurity/http-generic-test": "canary",
    "crowdsecurity/http-technology-probing": "probing.technology",
    "crowdsecurity/http-wordpress_user-enum": "probing.user_enumeration",
    "crowdsecurity/http-generic-bf": "probing.unauthorised",
    "LePresidente/http-generic-401-bf": "probing.unauthorised",
    "crowdsecurity/http-open-proxy": "probing.open_proxy",
    "ltsich/http-w00tw00t": "probing.w00tw00t",
    "cyrille37/sympa_ww-http-scan": "unknown_actions",
}
"""Which scenario of ours stands for which of theirs; two of them a user writes."""

CANARY = Scenario(name="canary", when="prefix:/crowdsec-test-", capacity=0, leak=1, blackhole=300, action=Action.BAN)
SYMPA = Scenario(name="unknown_actions", distinct="path", capacity=4, window=120, blackhole=300, action=Action.BAN)


def stated(folder: Path) -> Counter[tuple[str, str]]:
    """How often each (scenario, address) is said to be found in a folder's log."""
    text = (folder / "scenario.assert").read_text()
    sources = re.findall(r'"([^"]+)" in results\[(\d+)\]\.Overflow\.GetSources', text)
    scenarios = dict(re.findall(r'results\[(\d+)\]\.Overflow\.Alert\.GetScenario\(\) == "([^"]+)"', text))
    return Counter((scenarios[number], address) for address, number in sources)


def entries(log: Path) -> list[Entry]:
    """The requests of a log. Sympa's has no requests: each unknown action stands for one that was not found."""
    lines, found = Lines(str(log)), []
    for number, line in enumerate(log.read_bytes().splitlines(), 1):
        action = re.match(rb"(\w+ \d+ [\d:]+) .*\[client ([^\]]+)\].* Unknown action (\S+)", line)
        if action is not None:
            day = action[1].decode().split()
            line = f"{action[2].decode()} - - [{day[1]}/{day[0]}/2023:{day[2]} +0000] ".encode()
            line += b'"GET /' + action[3] + b' HTTP/1.1" 404 0 "-" "Mozilla/5.0"'
        try:
            found.append(lines.read(line, number))
        except ValueError:
            continue
    return sorted(found, key=lambda entry: entry.ns)


FOLDERS = sorted(one.parent.name for one in LOGS.glob("crowdsec/*/scenario.assert"))


@here
def test_there_is_a_scenario_for_each() -> None:
    theirs = {scenario for name in FOLDERS for scenario, _ in stated(LOGS / "crowdsec" / name)}
    assert theirs <= OURS.keys()
    assert len(FOLDERS) >= 17


@pytest.mark.parametrize("name", FOLDERS)
def test_every_stated_alert(name: str) -> None:
    folder = LOGS / "crowdsec" / name
    wanted = stated(folder)
    found: Counter[tuple[str, str]] = Counter()
    requests = entries(next(folder.glob("*.log")))
    clock = ManualClock(start=requests[0].ns / 1e9)
    scenarios = (SYMPA,) if name.startswith("sympa") else (CANARY,)
    with Guard(Config(threats=Threats(scan=False), scenarios=scenarios, dry_run=True), clock=clock) as guard:
        for entry in requests:
            clock.set_ns(entry.ns)
            request = request_of(entry)
            reasons = (*guard.inspect(request).reasons, *guard.observe(request, Response(entry.status)))
            found.update((one.detector, entry.address) for one in reasons)
    ours = Counter({(OURS[scenario], address): 0 for scenario, address in wanted})
    for (scenario, address), count in wanted.items():
        ours[OURS[scenario], address] += count
    for key, count in ours.items():
        assert found[key] == count, (key, found)
    theirs = {address for _, address in wanted}
    assert {address for _, address in found} <= theirs, "nobody else is accused"


BENIGN = {
    "web": {"91.236.75.25"},
    "api": {"91.236.75.25"},
    "strict": {"91.236.75.25", "94.153.9.168"},
    "iot": {"91.236.75.25", "75.97.9.59", "130.237.218.86"},
    "login": {
        "91.236.75.25", "75.97.9.59", "130.237.218.86", "86.76.247.183", "50.139.66.106", "14.160.65.22",
        "199.168.96.66",
    },
}  # fmt: skip
"""Who may be refused on the benign day. 91.236.75.25 looks for fckeditor under eight paths within a second. The others
had more than 60 requests in the one minute into which the log squeezes an hour: more than a device or a page for
signing in is allowed, and limits say so (429); nobody of them is banned. 94.153.9.168 posts spam into a path ("Result:
chosen nickname …"), which paranoia 2 takes for markup."""


@here
@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_benign_day(preset: str) -> None:
    played = play([str(LOGS / "apache_logs")], Config.read(preset))
    refused = {story.address: story for story in played.refused_addresses}
    assert refused.keys() <= BENIGN[preset]
    for address, story in refused.items():
        if address not in ("91.236.75.25", "94.153.9.168"):
            assert set(story.why) <= {"limits", "ddos.per_minute"}, (address, story.why)


@here
def test_scanning_a_benign_day() -> None:
    """The 10,000 targets and referrers of the day through the scanner alone."""
    config = Config(threats=dataclasses.replace(Threats(), probing=False))
    with Guard(config) as guard:
        accused = []
        for entry in entries(LOGS / "apache_logs"):
            headers = request_of(entry).headers
            verdict = guard.inspect(Request(entry.address, entry.method, entry.path, entry.query, headers))
            if verdict.reasons:
                accused.append((entry.target, verdict.reasons))
    assert accused == []
