"""Prints what the goals for shared limits come to with real processes on a real Redis: as rows of a table.

    python benchmarks/sync_lab_figures.py [goal ...]

Needs a redis-server and redis-py. Goals are called as in ROWS; all of them take half an hour. Counts are of this
machine's scheduling too: each figure that is not of a single run is the median of several, with the least and the most.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from random import Random
from time import perf_counter_ns
from typing import Any, NamedTuple

sys.path[:0] = [str(Path(__file__).parent.parent / "tests" / part) for part in ("integration", "")]

import redis  # noqa: E402
from proxy import Faults, Proxy  # noqa: E402
from servers import Server, made, sentinel, until  # noqa: E402

from penstock import Limiter, Sync  # noqa: E402
from penstock.clock import NS  # noqa: E402
from penstock.lab import design, instance, trial  # noqa: E402
from penstock.lab.design import OURS, Design  # noqa: E402
from penstock.lab.fleet import Fleet  # noqa: E402
from penstock.lab.instance import Job  # noqa: E402
from penstock.lab.measure import SECOND, Measured, quantile  # noqa: E402
from penstock.lab.settings import Outage, Settings  # noqa: E402
from penstock.lab.shared import Shared  # noqa: E402
from penstock.lab.trial import Bound, Event, Meter, Outcome  # noqa: E402

PROGRAM = (sys.executable, __file__, "an instance")
FLEET = 8
"""Processes of the fleets that are not about something else."""
SEEDS = (1, 2, 3)
HERE = Path(__file__).parent


def quiet(doing: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""


def row(goal: str, what: str, bound: str, *values: float, unit: str = "", digits: int = 2) -> None:
    """One line of the table: the median of the values, and their range where there are several."""
    middle = f"{statistics.median(values):,.{digits}f}{unit}"
    spread = f" ({min(values):,.{digits}f} to {max(values):,.{digits}f})" if len(values) > 1 else ""
    print(f"| {goal} | {what} | {bound} | {middle}{spread} |", flush=True)


def excess(measured: Measured, bound: Bound) -> float:
    """Units that the worst interval had above the limit."""
    return max(0.0, measured.peak - bound.burst)


def promise(runs: Sequence[tuple[Measured, Bound]]) -> str:
    """The bounds of several runs: they differ where a slow network has lengthened T."""
    least, most = min(bound.excess for _, bound in runs), max(bound.excess for _, bound in runs)
    return f"bound {least:,.0f}" + (f" to {most:,.0f}" if round(most) > round(least) else "")


def stalls(runs: Sequence[tuple[Measured, Bound]]) -> None:
    """How calm the machine was: a process that stalls makes its calls late, and a slow exchange lengthens T."""
    row("", "  the latest call of each run", "", *(1000 * one.late_s for one, _ in runs), unit=" ms", digits=0)
    row("", "  the longest T of each run", "", *(1000 * bound.interval for _, bound in runs), unit=" ms", digits=0)


def ours(settings: Settings) -> tuple[Measured, Bound]:
    """Our design alone, on a server of its own."""
    outcome = trial.run(settings, quiet, [OURS])
    return outcome.designs[OURS], outcome.bound


def after(counts: Sequence[int], second: float, end: float | None = None) -> int:
    """What slices of 100 ms count from a second on."""
    return sum(counts[round(second * SECOND) : None if end is None else round(end * SECOND)])


# ---- 1: a decision while batches run, and while Redis hangs ----


def times_of(call: Callable[[str], object], seconds: float) -> list[int]:
    """What each of many calls takes, ns, less what the clock takes itself."""
    clock = perf_counter_ns
    own = statistics.median([-(clock() - clock()) for _ in range(100_000)])
    took, end = [], clock() + round(seconds * NS)
    while (begin := clock()) < end:
        call("k")
        took.append(clock() - begin)
    return sorted(max(0, round(value - own)) for value in took)


def goal_1() -> None:
    """p99 of hit and check in one process, one key at 1000/s, in a loop without rest; five turns of 2 s."""
    private = Limiter("1000/second")
    with own_server() as server, Limiter("1000/second", name="p99", sync=Sync(server.url, fleet_hint=1)) as shared:
        until("the limiter", lambda: shared.stats().sync.connected)
        for name in ("hit", "check"):
            cases = {"private": private, "while batches run": shared, "while Redis hangs": shared}
            found: dict[str, list[list[int]]] = {case: [] for case in cases}
            for _ in range(5):
                for case, limiter in cases.items():
                    with hanging(server) if "hangs" in case else contextlib.nullcontext():
                        found[case].append(times_of(getattr(limiter, name), 2.0))
                until("Redis to be back", lambda: shared.stats().sync.mode == "normal")
            for case, turns in found.items():
                for part in (0.5, 0.99, 0.9999):
                    figures = [float(quantile(took, part)) for took in turns]
                    row("1", f"`{name}` {case}, {100 * part:g} % below", "p99 1 us", *figures, unit=" ns", digits=0)
                row("1", f"`{name}` {case}, the longest", "", *(took[-1] / 1e6 for took in turns), unit=" ms")


@contextlib.contextmanager
def own_server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder)) as server:
        yield server


@contextlib.contextmanager
def hanging(server: Server) -> Iterator[None]:
    """It stands still, and everybody has noticed."""
    server.pause()
    time.sleep(0.6)
    try:
        yield
    finally:
        server.resume()


# ---- 2, 3, 4, 8: fleets under load ----


def goal_2() -> None:
    """1000/s, demand 1.5 r for 20 s: drift against one exact bucket, excess beside the bound; updates of goal 8 too"""
    for load in ("even", "skewed"):
        for rate in ("1000/second", "200/second"):
            runs = [ours(Settings(rate, instances=FLEET, load=load, seconds=20, seed=seed)) for seed in SEEDS]
            case = f"{rate}, {load}, N={FLEET}"
            row("2", f"{case}: drift", "+1, -2 %", *(100 * one.drift for one, _ in runs), unit=" %")
            row("2", f"{case}: excess", promise(runs), *(excess(*run) for run in runs), unit=" units", digits=0)
            updates = [one.per_thousand(one.updates) for one, _ in runs]
            row("8", f"{case}: updates per 1000 decisions", "300", *updates, digits=0)
            row("8", f"{case}: batches/s", f"{FLEET * 40}", *(one.batches / 20 for one, _ in runs), digits=0)
            stalls(runs)


def goal_3() -> None:
    """0.5 r, then ten times the limit for 5 s: over-admission in the crowd, and in its worst second"""
    for rate, instances in product(("1000/second", "1000/second burst 100"), (4, FLEET)):
        case, over, worst = f"{rate}, N={instances}", [], []
        runs = [ours(Settings(rate, instances=instances, load="flash", seconds=15, seed=seed)) for seed in SEEDS]
        for one, _ in runs:
            apart = [after(one.admitted, s, s + 1) / after(one.exact, s, s + 1) - 1 for s in range(5, 10)]
            worst.append(100 * max(apart))
            over.append(100 * (after(one.admitted, 5, 10) / after(one.exact, 5, 10) - 1))
        row("3", f"{case}: over", "3 %", *over, unit=" %")
        row("3", f"{case}: worst second", "10 %", *worst, unit=" %")
        row("3", f"{case}: excess", promise(runs), *(excess(*run) for run in runs), unit=" units", digits=0)
        stalls(runs)


def goal_4() -> None:
    """demand 1.5 r for 64 s: what the last 60 admit beside 60 r"""
    for rate in (1000, 100):
        for load in ("even", "skewed"):
            one, _ = ours(Settings(f"{rate}/second", instances=FLEET, load=load, seconds=64))
            apart = 100 * (after(one.admitted, 4) / 60 / rate - 1)
            row("4", f"{rate}/s, {load}, N={FLEET}, 60 s", "0.5 %", apart, unit=" %")


def goal_6() -> None:
    """0.9 of the burst at one instance within b / 50 r, by hit: what is refused wrongly"""
    runs = [ours(Settings(load="burst", seconds=15, seed=seed)) for seed in SEEDS]
    row("6", "1000/second, N=4: under", "5 %", *(100 * one.under for one, _ in runs), unit=" %")
    stalls(runs)


def goal_8() -> None:
    """below the limit, and what refusals of an empty key cost"""
    for load in ("even", "skewed"):
        runs = [ours(Settings(instances=FLEET, load=load, factor=0.8, seconds=20, seed=seed)) for seed in SEEDS]
        case = f"1000/second, {load}, demand 0.8 r, N={FLEET}"
        row("8", f"{case}: updates per 1000", "300", *(one.per_thousand(one.updates) for one, _ in runs), digits=0)
        row("5", f"{case}: under", "0.1 %", *(100 * one.under for one, _ in runs), unit=" %")
        stalls(runs)
    with own_server() as server, contextlib.ExitStack() as stack:
        client = stack.enter_context(server.client())
        limiters = [stack.enter_context(Limiter("100/day", name="e", sync=Sync(server.url))) for _ in range(4)]
        until("the fleet", lambda: all(each.stats().sync.connected for each in limiters))
        while any(limiter.acquire("k", timeout=0.2) for limiter in limiters):
            pass
        time.sleep(0.5)
        meter = Meter(client)
        meter.begin()
        for index in range(20_000):
            limiters[index % 4].hit("k")
            time.sleep(0.0001)
        meter.end()
        row("8", "updates for 20,000 refusals of an empty key", "0", meter.sets - meter.calls, digits=0)


# ---- 9: outages ----

START, LONG, END = 10, 30, 55


def goal_9() -> None:
    """Redis stopped for 30 s, demand 1.5 r: what is admitted meanwhile, and each second after; plotted"""
    drawn: list[tuple[str, str, Measured]] = []
    for load in ("even", "skewed"):
        for mode in ("share", "open", "closed"):
            settings = Settings(load=load, mode=mode, seconds=END, outage=Outage(LONG, START))
            one, bound = ours(settings)
            drawn.append((load, mode, one))
            part = 100 * after(one.admitted, START, START + LONG) / (LONG * 1000)
            goal = {"even": "95 to 105 %", "skewed": "75 % at least"}[load] if mode == "share" else ""
            row("9", f"`{mode}`, {load}: admitted in the outage, of r", goal, part, unit=" %", digits=1)
            seconds = [after(one.admitted, s, s + 1) / 10 for s in range(START + LONG, END)]
            row("9", f"`{mode}`, {load}: the first second after it, of r", "", seconds[0], unit=" %", digits=1)
            row("9", f"`{mode}`, {load}: the worst second later, of r", "90 %", min(seconds[1:]), unit=" %", digits=1)
            kept = "none" if mode == "open" else f"bound {bound.excess:,.0f}"
            row("9", f"`{mode}`, {load}: excess", kept, excess(one, bound), unit=" units", digits=0)
    draw_outages(drawn, HERE / "outage.svg")


def draw_outages(drawn: Sequence[tuple[str, str, Measured]], path: Path) -> None:
    """Admissions per second around the outage, a panel for each mode and load."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.6), layout="constrained")
    panels = figure.subplots(3, 2, sharex=True)
    for column, load in enumerate(("even", "skewed")):
        for line, mode in enumerate(("share", "open", "closed")):
            (one,) = (one for its_load, its_mode, one in drawn if (its_load, its_mode) == (load, mode))
            axes = panels[line][column]
            per_second = [after(one.admitted, s, s + 1) for s in range(END)]
            offered = [after(one.offered, s, s + 1) for s in range(END)]
            axes.axvspan(START, START + LONG, color="#f3e9d7", linewidth=0)
            axes.stairs(offered, range(END + 1), color="#9aa3aa", baseline=None, linewidth=1, label="offered")
            axes.stairs(per_second, range(END + 1), fill=True, color="#2a78b8", label="admitted")
            axes.axhline(1000, color="#d1495b", linewidth=1, linestyle="--", label="the limit's rate")
            axes.text(START + 0.4, 1760, "Redis stopped", fontsize=8, va="top")
            axes.set_title(f'on_outage="{mode}", {load} load', loc="left", fontsize=10)
            axes.set_ylim(0, 1800)
            axes.set_xlim(0, END)
            axes.spines[["top", "right"]].set_visible(False)
            if column == 0:
                axes.set_ylabel("calls per second")
            if line == 2:
                axes.set_xlabel("seconds from the start")
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, metadata={"Date": None})


# ---- 10, 11: a network and servers that lose ----


class Losing(Faults):
    """Every fiftieth reply is lost, by chance, and its connection cut in its place."""

    chance = Random(1)
    lost = 0

    @property
    def lose_replies(self) -> int:  # type: ignore[override]
        lost = self.chance.random() < 0.02
        self.lost += lost
        return int(lost)

    @lose_replies.setter
    def lose_replies(self, value: int) -> None:
        """Counts down in a Proxy; here each reply has its own chance."""


def goal_10() -> None:
    """2 % of replies lost with their connection: drift; batches that came twice are told from new ones"""
    drifts, twice = [], []
    for seed in SEEDS:
        settings = Settings(seconds=30, seed=seed)
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(own_server())
            client = stack.enter_context(server.client())
            proxy = stack.enter_context(Proxy(server.host, server.port))
            proxy.faults = Losing()
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            one, _ = trial.play(settings, OURS, folder, proxy.url, "lossy", Meter(client), lambda fleet: [])
        drifts.append(100 * one.drift)
        twice.append(float(one.duplicates))
    row("10", "2 % of replies lost, N=4, 30 s: drift", "0.5 %", *drifts, unit=" %")
    row("10", "  batches that were sent twice and applied once", "", *twice, digits=0)


class Away(Meter):
    """For a server that will not be there at the end."""

    def _read(self, sign: int) -> None:
        """Nothing: what it spent is not asked."""


def goal_11() -> None:
    """The replica stops following 1 s before its master is killed; the Sentinel promotes it: excess"""
    runs: list[tuple[Measured, Bound]] = []
    for seed in SEEDS:
        settings = Settings(seconds=20, seed=seed)
        with contextlib.ExitStack() as stack:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            master, replica, watch = stack.enter_context(sentinel(home))
            client, other = (stack.enter_context(server.client()) for server in (master, replica))

            def cut_off(other: Any = other) -> None:
                other.execute_command("REPLICAOF", "NO", "ONE")

            events: list[Event] = [(7.0, cut_off), (8.0, master.kill)]
            url = f"sentinel://{watch.host}:{watch.port}"
            one, bound = trial.play(
                settings, OURS, made(home, "lab"), url, "failover", Away(client), lambda fleet, e=events: e, PROGRAM
            )
        assert bound is not None
        runs.append((one, bound))
    above = [excess(*run) for run in runs]
    row("11", "failover that loses 1 s, N=4, b=1000: excess", f"250; {promise(runs)}", *above, unit=" units", digits=0)
    row("11", "  instances that found writes missing", "4", *(float(one.lost) for one, _ in runs), digits=0)


# ---- processes that come, stop and go ----


class Fault(NamedTuple):
    """settings; what happens, given the fleet and how to join it; the program of an instance."""

    settings: Settings
    events: Callable[[Fleet, Callable[[Settings, int], object]], list[Event]]
    program: Sequence[str] = PROGRAM


FAULTS = {
    "kill one of 4": Fault(Settings(), lambda fleet, join: [(5.0, fleet.members[3].kill)]),
    "stop one of 4 for 3 s": Fault(
        Settings(), lambda fleet, join: [(4.0, fleet.members[3].pause), (7.0, fleet.members[3].resume)]
    ),
    "a fifth joins": Fault(Settings(), lambda fleet, join: [(4.0, lambda: join(Settings(instances=5), 4))]),
    "one of 4 forks": Fault(Settings(), lambda fleet, join: [], (*PROGRAM, "that forks")),
}


def faults() -> None:
    """kill, stop, join, fork at 1.5 r for 10 s: excess beside the bound, and the drift"""
    for name, fault in FAULTS.items():
        runs: list[tuple[Measured, Bound]] = []
        for seed in SEEDS:
            settings = replace(fault.settings, seed=seed)
            with own_server() as server, server.client() as client, tempfile.TemporaryDirectory() as folder:
                url, home = server.url, Path(folder)

                def events(fleet: Fleet, fault: Fault = fault, url: str = url, home: Path = home) -> list[Event]:
                    def join(joining: Settings, number: int) -> None:
                        fleet.join(Job(joining, OURS, number, str(home / f"late-{number}"), url, "faults"))

                    return fault.events(fleet, join)

                one, bound = trial.play(settings, OURS, home, url, "faults", Meter(client), events, fault.program)
            assert bound is not None
            runs.append((one, bound))
        row("", f"{name}: excess", promise(runs), *(excess(*run) for run in runs), unit=" units", digits=0)
        row("", f"{name}: drift", "", *(100 * one.drift for one, _ in runs), unit=" %")


def beside() -> None:
    """The three designs in the same run, four loads"""
    for load in ("even", "skewed", "burst", "flash"):
        outcome: Outcome = trial.run(Settings(load=load, seconds=12), quiet)
        for one in outcome.designs.values():
            cells = [
                load,
                design.DESIGNS[one.design].title,
                f"{100 * one.drift:+.2f} %",
                f"{excess(one, outcome.bound):,.0f}",
                f"{one.per_thousand(one.updates):,.0f}",
                f"{one.batches / outcome.settings.seconds:,.0f}",
                f"{1000 * one.per_thousand(one.cpu_s):.1f} ms",
                f"{one.median_ns / 1e3:,.0f} us",
                f"{one.p99_ns / 1e3:,.0f} us",
            ]
            print(f"| {' | '.join(cells)} |", flush=True)


ROWS: dict[str, Callable[[], None]] = {
    "1": goal_1, "2": goal_2, "3": goal_3, "4": goal_4, "6": goal_6, "8": goal_8,
    "9": goal_9, "10": goal_10, "11": goal_11, "faults": faults, "beside": beside,
}  # fmt: skip


# ---- instances of these fleets ----


class BySentinel(Shared):
    """An instance whose Redis is the master that a Sentinel names; url: sentinel://host:port of it."""

    def __init__(self, settings: Settings, url: str, name: str) -> None:
        host, port = url.removeprefix("sentinel://").split(":")
        super().__init__(settings, redis.Sentinel([(host, int(port))]).master_for("limits"), name)  # type: ignore[arg-type]


def play_and_fork(
    hit: Callable[[], bool], arrivals: Sequence[int], start: int, end: int, words: memoryview[int] | list[int]
) -> int:
    """As instance.play; after half of the calls the process forks, and from then on both make every other one."""
    half = len(arrivals) // 2
    late = PLAY(hit, arrivals[:half], start, end, words)
    child = os.fork()
    first = half + (child == 0)
    own = [0] * (2 * len(arrivals[first::2]))
    late = max(late, PLAY(hit, arrivals[first::2], start, end, own))
    for number in range(len(own) // 2):
        place = 2 * (first + 2 * number)
        words[place], words[place + 1] = own[2 * number], own[2 * number + 1]  # the file is mapped by both
    if child == 0:
        hit.func.__self__.close()  # type: ignore[attr-defined]  # the limiter, which settles
        os._exit(0)
    os.waitpid(child, 0)
    return late


PLAY = instance.play


def be_an_instance(forks: bool) -> None:
    """What a process of these fleets does."""
    if forks:
        instance.play = play_and_fork
    make = design.DESIGNS[OURS].make
    design.DESIGNS[OURS] = Design(
        OURS, lambda *facts: (BySentinel if facts[1].startswith("sentinel:") else make)(*facts)
    )
    instance.main(instance.tell)


if __name__ == "__main__":
    asked = sys.argv[1:]
    if asked[:1] == ["an instance"]:
        be_an_instance(forks=asked[1:] == ["that forks"])
    else:
        print("| goal | what | bound | median (least to most) |\n|---|---|---|---|")
        for goal in asked or ROWS:
            ROWS[goal]()
