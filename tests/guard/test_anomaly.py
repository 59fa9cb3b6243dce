"""Anomaly: scores that can be reached and keep their meaning, what one client can teach, hostile rows, threads."""

from __future__ import annotations

import csv
import math
import os
import pickle
import random
import re
import threading
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import OUTSIDE, needs

if os.environ.get("PENSTOCK_PURE", "") not in ("", "0"):
    pytest.skip("PENSTOCK_PURE asks to do without compiled code", allow_module_level=True)

from penstock.guard.anomaly import FEATURES, THRESHOLD, Anomaly, row_of
from penstock.guard.request import Request

DATA = OUTSIDE
LOG, VALUES = DATA / "logs" / "apache_logs", DATA / "payloads" / "http_params_half.csv"
needs_data = needs(LOG)
BROWSER = {
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "accept": "text/html,*/*;q=0.8",
    "accept-language": "en",
    "accept-encoding": "gzip",
    "host": "example.org",
}

Row = tuple[float, ...]


def ordinary(lot: random.Random, shift: float = 0.0) -> Row:
    """Eight columns of ordinary traffic: some habits, some noise; `shift` moves some of them."""
    habit = lot.randrange(4)
    return (
        0.2 * habit + lot.gauss(shift, 0.03),
        habit / 4,
        lot.gauss(0.4 + shift, 0.05),
        float(lot.random() < 0.1 + shift),
        lot.random() ** 3,
        0.0,
        lot.gauss(0.1 * habit, 0.02),
        shift + lot.random() / 10,
    )


def odd(lot: random.Random) -> Row:
    """Rows unlike those in more than one way."""
    return (0.5, 0.1, 0.9, 1.0, 0.9, 0.8 + lot.gauss(0, 0.02), 0.9, 0.7)


def taught(seed: int = 1, rows: int = 12_000, **options: Any) -> Anomaly:
    anomaly, lot = Anomaly(8, seed=seed, **options), random.Random(seed)
    for number in range(rows):
        anomaly.score(ordinary(lot), f"client {number % 500}")
    return anomaly


def share_above(anomaly: Anomaly, lot: random.Random, shift: float = 0.0, rows: int = 10_000) -> float:
    scores = [anomaly.score(ordinary(lot, shift), f"client {number % 500}") for number in range(rows)]
    return sum(score >= THRESHOLD for score in scores) / rows


@pytest.mark.parametrize("seed", range(4))
def test_the_threshold_can_be_reached(seed: int) -> None:
    anomaly, lot = taught(seed), random.Random(99)
    assert all(anomaly.score(odd(lot), learn=False) > THRESHOLD for _ in range(100))


def test_scores_are_shares_of_what_is_usual() -> None:
    """0.25 is one in ten, 0.5 one in a hundred, 0.7 one in 631; counted on rows it has not seen."""
    anomaly, lot = taught(rows=20_000), random.Random(5)
    scores = [anomaly.score(ordinary(lot), learn=False) for _ in range(40_000)]
    for score, share in ((0.25, 0.1), (0.5, 0.01), (0.7, 10**-2.8)):
        found = sum(one >= score for one in scores) / len(scores)
        assert share / 2.5 < found < share * 2.5, (score, found)


def test_the_same_on_the_first_day_and_the_thirtieth() -> None:
    """Traffic drifts for thirty days, by six widths of its noise; the share above the threshold stays what it was."""
    anomaly, lot = taught(rows=20_000), random.Random(6)
    days = [share_above(anomaly, lot, shift=day / 150, rows=8_000) for day in range(30)]
    assert max(days) < 0.02
    assert 0.0003 < sum(days) / len(days) < 0.006
    assert anomaly.score(odd(lot), learn=False) > THRESHOLD


def test_no_score_before_there_is_something_to_compare_with() -> None:
    anomaly, lot = Anomaly(8), random.Random(1)
    for number in range(511):
        assert anomaly.score(ordinary(lot), f"{number % 50}") == 0.0
        assert not anomaly.learned.trained
    assert anomaly.score(odd(lot)) == 0.0
    assert anomaly.learned.trained
    assert anomaly.score(odd(lot)) > 0.5


def test_looking_teaches_nothing() -> None:
    anomaly, lot = Anomaly(8), random.Random(1)
    for _ in range(2_000):
        assert anomaly.score(odd(lot), learn=False) == 0.0
    assert anomaly.learned[:3] == (False, 0, 0)


def test_one_client_cannot_teach_that_its_odd_request_is_usual() -> None:
    """Half of all traffic for 100,000 requests."""
    anomaly, lot = taught(), random.Random(3)
    row = odd(lot)
    for number in range(50_000):
        anomaly.score(row, "attacker")
        anomaly.score(ordinary(lot), f"client {number % 500}")
    assert anomaly.score(row, learn=False) > THRESHOLD
    assert share_above(anomaly, lot) < 0.01


def test_what_many_clients_do_becomes_usual() -> None:
    anomaly, lot = taught(), random.Random(3)
    before = anomaly.score(odd(lot), learn=False)
    for number in range(100_000):
        anomaly.score(odd(lot) if number % 4 == 0 else ordinary(lot), f"client {number % 499}")
    assert before > THRESHOLD
    assert anomaly.score(odd(lot), learn=False) < 0.5


def test_a_flood_of_one_client_does_not_make_it_forget_the_others() -> None:
    anomaly, lot = taught(), random.Random(3)
    flood = ordinary(lot)
    for _ in range(100_000):
        anomaly.score(flood, "flood")
    fresh = random.Random(7)
    assert sum(anomaly.score(ordinary(fresh), learn=False) >= THRESHOLD for _ in range(5_000)) / 5_000 < 0.1


def test_one_client_alone_is_learned_too() -> None:
    anomaly, lot = Anomaly(8), random.Random(2)
    for _ in range(20_000):
        anomaly.score(ordinary(lot), "the only one")
    assert anomaly.learned.trained
    assert anomaly.score(odd(lot), learn=False) > THRESHOLD
    assert sum(anomaly.score(ordinary(lot), learn=False) >= THRESHOLD for _ in range(5_000)) / 5_000 < 0.02


def test_a_seed_decides() -> None:
    def scores(seed: int) -> list[float]:
        anomaly, lot = taught(seed=1, rows=0), random.Random(4)
        anomaly = Anomaly(8, seed=seed)
        return [anomaly.score(ordinary(lot), f"client {number % 9}") for number in range(5_000)]

    assert scores(1) == scores(1)
    assert scores(1) != scores(2)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e300, -1e300, 5e-324])
def test_values_that_are_none_are_bounded(bad: float) -> None:
    anomaly, lot = taught(rows=3_000), random.Random(1)
    for number in range(3_000):
        row = list(ordinary(lot))
        row[number % 8] = bad
        assert 0.0 <= anomaly.score(row, f"{number % 20}") <= 1.0
    assert 0.0 <= anomaly.score([bad] * 8) <= 1.0
    assert 0.0 <= anomaly.score(ordinary(lot)) <= 1.0


@given(st.lists(st.floats(), min_size=3, max_size=3), st.integers(0, 2**64 - 1))
def test_any_row_is_scored(row: list[float], seed: int) -> None:
    anomaly = Anomaly(3, trees=2, height=3, window=64, seed=seed)
    for _ in range(300):
        assert 0.0 <= anomaly.score(row) <= 1.0


@pytest.mark.parametrize(
    ("trees", "height", "window", "features"), [(1, 1, 64, 1), (128, 12, 64, 64), (3, 11, 65_536, 2), (5, 7, 100, 33)]
)
def test_sizes_at_their_bounds(trees: int, height: int, window: int, features: int) -> None:
    anomaly, lot = Anomaly(features, trees=trees, height=height, window=window), random.Random(1)
    for number in range(3_000):
        assert 0.0 <= anomaly.score([lot.random() for _ in range(features)], f"{number % 40}") <= 1.0
    assert anomaly.learned.trained
    assert anomaly.learned.shown == 3_000
    assert 0 < anomaly.learned.learned <= 3_000


@pytest.mark.parametrize("row", [[], [1.0] * 7, [1.0] * 9])
def test_a_row_of_another_length(row: list[float]) -> None:
    with pytest.raises(ValueError, match=f"row has {len(row)} values; it must have 8"):
        Anomaly(8).score(row)


def test_a_row_that_lies_about_its_length() -> None:
    class Lying(list[float]):
        def __len__(self) -> int:
            return 8

    with pytest.raises(ValueError, match="row gave 3 values"):
        Anomaly(8).score(Lying([1.0, 2.0, 3.0]))
    assert Anomaly(8).score(Lying([1.0] * 500)) == 0.0


def test_a_row_of_what_are_no_numbers() -> None:
    with pytest.raises(TypeError):
        Anomaly(1).score(["1"])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"features": 0}, ValueError, "features=0 must be from 1 to 64"),
        ({"features": 65}, ValueError, "features=65"),
        ({"trees": 129}, ValueError, "trees=129 must be from 1 to 128"),
        ({"height": 13}, ValueError, "height=13 must be from 1 to 12"),
        ({"window": 63}, ValueError, "window=63 must be from 64 to 65536"),
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"seed": 1.5}, TypeError, "seed must be an int, not float"),
        ({"trees": True}, TypeError, "trees must be an int, not bool"),
    ],
)
def test_settings_are_checked(options: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        Anomaly(**options)


def test_it_cannot_be_copied() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(Anomaly()._forest)


def test_memory_does_not_grow() -> None:
    anomaly, lot = Anomaly(8), random.Random(1)
    before = anomaly.learned.memory
    for number in range(20_000):
        anomaly.score(ordinary(lot), f"client {number}")
    assert anomaly.learned.memory == before < 1_000_000


def test_many_threads_at_once() -> None:
    anomaly, wrong = Anomaly(8, window=64), []

    def work(seed: int) -> None:
        lot = random.Random(seed)
        for number in range(20_000):
            if not 0.0 <= anomaly.score(ordinary(lot), f"client {number % 50}") <= 1.0:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert anomaly.learned.trained
    assert anomaly.score(odd(random.Random(1)), learn=False) > 0.5


# ---- requests ----


def asked(path: str = "/", query: str = "", **headers: str) -> Request:
    return Request("192.0.2.1", "GET", path, query, {**BROWSER, **headers})


def feature(request: Request, name: str) -> float:
    return row_of(request)[FEATURES.index(name)]


def test_what_a_row_is_made_of() -> None:
    plain = asked("/shop/items", "page=2&sort=price")
    assert len(row_of(plain)) == len(FEATURES) == 16
    assert feature(plain, "path_depth") == pytest.approx(math.log2(3) / math.log2(33))
    assert feature(plain, "path_length") == pytest.approx(math.log2(12) / math.log2(2049))
    assert feature(plain, "parameters") == pytest.approx(math.log2(3) / math.log2(65))
    assert feature(plain, "longest_value") == pytest.approx(math.log2(6) / math.log2(2049))
    assert feature(plain, "digit_share") == pytest.approx(1 / 17)
    assert feature(plain, "odd_signs") == feature(plain, "escapes") == feature(plain, "blank_share") == 0
    assert feature(asked("/", "a=1%27%20b+c"), "odd_signs") == pytest.approx(1 / math.log2(65))
    assert feature(asked("/", "a=1%27%20b+c"), "blank_share") == pytest.approx(2 / 8)
    assert feature(asked("/", "a=%zz%2"), "odd_signs") == pytest.approx(math.log2(3) / math.log2(65))
    assert feature(asked("/a%00b"), "path_odd_signs") > 0
    assert feature(asked("/ünïcode"), "escapes") > 0
    assert [row_of(Request(None, method))[12] for method in ("GET", "POST", "BREW")] == [0.0, 0.5, 1.0]
    assert feature(Request("192.0.2.1"), "headers") > feature(asked(), "headers")
    assert row_of(asked(), 0.25)[15] == 0.25
    assert [row_of(asked(), share)[15] for share in (-1.0, 7.0, math.nan)] == [0.0, 1.0, 0.0]


@given(st.text(), st.text(), st.text(max_size=9), st.text())
def test_any_request_has_a_row(path: str, query: str, method: str, agent: str) -> None:
    row = row_of(Request(None, method, path, query, {"User-Agent": agent}))
    assert all(0.0 <= one <= 1.0 for one in row)


@pytest.mark.parametrize("sign", ["\0", "%", "%00", "\udcff", "\U0010ffff", "&", "=", "/", "'", "%25"])
def test_huge_requests_have_rows(sign: str) -> None:
    text = (sign * 131_072)[:131_072]
    request = Request(text, text, text, text, {text: text, "user-agent": text})
    assert all(0.0 <= one <= 1.0 for one in row_of(request))
    anomaly = Anomaly(window=64)
    for _ in range(600):
        assert 0.0 <= anomaly.score_request(request) <= 1.0


def test_a_request_is_scored_as_its_row() -> None:
    one, other, lot = Anomaly(seed=3), Anomaly(seed=3), random.Random(1)
    for number in range(3_000):
        agent = {"user-agent": "x" * (number % 9)}
        request = asked("/" + "a" * lot.randrange(30), f"id={lot.randrange(10**6)}", **agent)
        request.address = f"192.0.2.{number % 200}"
        assert one.score_request(request, 0.1) == other.score(row_of(request, 0.1), request.address)


def test_requests_need_their_own_number_of_features() -> None:
    with pytest.raises(ValueError, match="features=8 must be 16 for requests"):
        Anomaly(8).score_request(asked())


LINE = re.compile(r'^(\S+) \S+ \S+ \[[^\]]+\] "(\S+) ([^ ?"]*)\??(\S*)[^"]*" \d+ \S+ "[^"]*" "([^"]*)')


def log_requests() -> list[Request]:
    found = []
    for line in LOG.read_text("latin-1").splitlines():
        if parts := LINE.match(line):
            address, method, path, query, agent = parts.groups()
            found.append(Request(address, method, path, query, {**BROWSER, "user-agent": agent}))
    return found


def search(value: str, number: int) -> Request:
    return Request(f"198.51.100.{number % 250}", "GET", "/search", "q=" + quote_plus(value), BROWSER)


@needs_data
def test_a_real_day_is_seldom_odd() -> None:
    requests = log_requests()
    assert len(requests) > 9_900
    for seed in (1, 2, 3):
        anomaly = Anomaly(seed=seed)
        odd_ones = [request.address for request in requests if anomaly.score_request(request) >= THRESHOLD]
        assert len(odd_ones) / len(requests) < 0.02
        assert len(set(odd_ones)) / len({request.address for request in requests}) < 0.04


@needs_data
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_attacks_are_odd_among_ordinary_values(seed: int) -> None:
    """Learns half of the log and half of the ordinary values; scores the other halves and the attacks."""
    lot = random.Random(seed)
    with VALUES.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = [(row["attack_type"], row["payload"]) for row in csv.DictReader(file)]
    values = [value for kind, value in rows if kind == "norm"]
    benign = [*log_requests(), *(search(value, number) for number, value in enumerate(values))]
    lot.shuffle(benign)
    anomaly, half = Anomaly(seed=seed), len(benign) // 2
    for request in benign[:half]:
        anomaly.score_request(request)
    false = sum(anomaly.score_request(request, learn=False) >= THRESHOLD for request in benign[half:]) / half
    assert false < 0.01
    for kind, least in (("sqli", 0.8), ("xss", 0.3)):
        found = [anomaly.score_request(search(value, 0), learn=False) for one, value in rows if one == kind]
        assert len(found) > 200
        assert sum(score >= THRESHOLD for score in found) / len(found) > least
