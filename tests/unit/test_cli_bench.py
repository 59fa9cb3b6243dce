"""`penstock bench`: what it measures is decided as it should be, and both forms of its report hold together."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence

import pytest

import penstock
from penstock.cli import _timing, bench
from penstock.cli._peers import PEERS, Peer, Quota


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    assert bench.run(parser.parse_args(arguments)) == 0
    return capsys.readouterr().out


@pytest.fixture
def few_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cases with a thousandth of their keys, without the peers."""
    cases = bench.all_cases()
    small = [case._replace(keys=case.keys[:100], most=100) for case in cases if case.title != "100,000 keys"]
    monkeypatch.setattr(bench, "all_cases", lambda: small)
    monkeypatch.setattr(bench, "PEERS", PEERS[:1])


@pytest.mark.usefixtures("few_keys")
def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(capsys, "--seconds", "0.2").splitlines()
    assert lines[0].startswith(f"penstock {penstock.__version__}, ")
    assert ("NOT the compiled core" in lines[0]) is not penstock.native
    head = next(number for number, line in enumerate(lines) if line.startswith("ns per decision"))
    names = [line.split("  ")[0] for line in lines[head + 1 :]]
    assert names[: names.index("")][:3] == [bench.GET, bench.HIT, bench.CHECK]
    assert "dict and lock" in names
    ends = {len(line) for line in lines[head : head + 4]}
    assert len(ends) == 1, "the columns are not aligned"


@pytest.mark.usefixtures("few_keys")
def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    report = json.loads(run(capsys, "--seconds", "0.2", "--json"))
    assert report["native"] is penstock.native
    costs = report["cases"]["one key"]
    assert costs[bench.GET]["ratio"] == 1
    for cost in costs.values():
        assert 0 < cost["best"] <= cost["median"]
        assert cost["rounds"] >= 5
        assert cost["ratio"] == pytest.approx(cost["best"] / costs[bench.GET]["best"], rel=0.05)


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "3601", "soon", ""])
def test_wrong_seconds(capsys: pytest.CaptureFixture[str], seconds: str) -> None:
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args([f"--seconds={seconds}"])
    assert repr(seconds) in capsys.readouterr().err


def test_nothing_but_penstock_is_imported() -> None:
    """The peers, and NumPy, are imported when they are measured."""
    statement = (
        "import sys; from penstock.cli import bench;"
        " sys.exit(bool({'numpy', 'limits', 'throttled', 'pyrate_limiter', 'token_bucket'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", statement], check=False).returncode == 0


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
@pytest.mark.parametrize("quotas", [[(3, 3600)], [(3, 3600), (5, 86_400)]], ids=["one limit", "two limits"])
def test_peers_decide_alike(peer: Peer, quotas: Sequence[Quota]) -> None:
    try:
        subject = peer.make(quotas, 10)
    except ImportError:
        pytest.skip(f"{peer.name} is not installed")
    assert [subject.admitted(subject.hit("a")) for _ in range(5)] == [True] * 3 + [False] * 2
    assert subject.admitted(subject.hit("b"))
    if subject.settle:
        subject.settle()


def test_a_peer_that_decides_wrongly_is_noticed() -> None:
    case = bench.all_cases()[0]
    with pytest.raises(AssertionError, match="does not decide"):
        bench._prepared(case, bench.Subject(lambda key: False, bool))


def test_fresh_keys_are_new_objects() -> None:
    seen: list[str] = []
    loop = _timing.fresh_keys(seen.append, [b"a long enough name", b"another name here"] * 2, 2)
    loop()
    loop()
    assert seen == ["a long enough name", "another name here"] * 2
    assert len({id(key) for key in seen}) == 4


def test_each_key_starts_again() -> None:
    seen: list[str] = []
    loop = _timing.each_key(seen.append, ["a", "b", "c", "d", "e"], 2)
    for _ in range(3):
        loop()
    assert seen == ["a", "b", "c", "d", "a", "b"]


def test_in_turns() -> None:
    """Every loop runs twice in its turn, and the second lap counts."""
    laps: list[str] = []

    def loop(name: str) -> _timing.Loop:
        def lap() -> float:
            laps.append(name)
            return float(len(laps))

        return lap

    costs = _timing.in_turns({"a": loop("a"), "b": loop("b")}, seconds=0, least=3)
    assert laps == ["a", "a", "b", "b"] * 4
    assert costs["a"] == (6.0, 10.0, 8.0, 3)
    assert costs["b"] == (8.0, 12.0, 8.0, 3)


def test_cost_of_one_sample() -> None:
    assert _timing.cost_of([5.0]) == (5.0, 5.0, 0.0, 1)
