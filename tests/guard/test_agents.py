"""User agents and paths: who is what by its own words, no browser taken for a bot, and patterns that cannot blow up."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import OUTSIDE, needs

pytest.importorskip("penstock._match", reason="the guard needs the compiled modules")

from penstock.guard.agents import BROWSER, EMPTY, PATH_RULES, Agents, PathMatch, Paths
from penstock.guard.expressions import LOWER, Refused, read_expression

SHARED = OUTSIDE
CRAWLERS = SHARED / "bots" / "crawler-user-agents.json"
APACHE = SHARED / "logs" / "apache_logs"
CROWDSEC = SHARED / "logs" / "crowdsec"
need_crawlers = needs(CRAWLERS)
need_apache = needs(APACHE)
need_crowdsec = needs(CROWDSEC)
REQUEST = re.compile(r'"([A-Z]+) (\S+)[^"]*" (\d{3}) \S+(?: "[^"]*" "([^"]*)")?')

BROWSERS = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/125.0.0.0 Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:126.0) Gecko/20100101 Firefox/126.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5"
    " Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 9; CUBOT_NOTE_S) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Mobile"
    " Safari/537.36",
    "Opera/9.80 (J2ME/MIDP; Opera Mini/7.1.32052/34.1244; U; en) Presto/2.8.119 Version/11.10",
    "Lynx/2.8.7rel.2 libwww-FM/2.14 SSL-MM/1.4.1 OpenSSL/1.0.1f",
]


@pytest.fixture(scope="module")
def agents() -> Agents:
    return Agents.load(CRAWLERS)


# ---- user agents ----


@pytest.mark.parametrize(
    ("user_agent", "kind", "name"),
    [
        ("sqlmap/1.8.2#stable (https://sqlmap.org)", "scanner", "sqlmap"),
        ("Mozilla/5.00 (Nikto/2.1.5) (Evasions:None) (Test:Port Check)", "scanner", "nikto"),
        ("Mozilla/5.0 zgrab/0.x", "scanner", "zgrab"),
        ("Mozilla/5.0 (compatible; Nmap Scripting Engine; https://nmap.org)", "scanner", "nmap scripting engine"),
        ("Fuzz Faster U Fool v2.1.0", "scanner", "fuzz faster u fool"),
        ("curl/8.5.0", "library", "curl"),
        ("CURL/8.5.0", "library", "curl"),
        ("python-requests/2.32.3", "library", "python-requests"),
        ("Go-http-client/2.0", "library", "go-http-client"),
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "bot", "googlebot"),
        ("SomeCrawler/1.0", "bot", "crawler"),
        ("Thing/1.0 (+https://example.com/about)", "bot", "+https"),
        ("Scrapy/2.11 (+https://scrapy.org)", "library", "scrapy"),
        ("Mozilla/5.0 curl/8", "browser", ""),
        (None, "empty", ""),
        ("", "empty", ""),
        ("  ", "empty", ""),
        ("-", "empty", ""),
        ("\udcff\0", "browser", ""),
        *[(browser, "browser", "") for browser in BROWSERS],
    ],
)
def test_the_built_in_names(user_agent: str | None, kind: str, name: str) -> None:
    match = Agents().match(user_agent)
    assert match[:2] == (kind, name)
    assert match.points == {"scanner": 5, "empty": 2, "bot": 1, "library": 1, "browser": 0}[kind]


def test_a_long_user_agent_is_cut() -> None:
    agents = Agents()
    assert agents.match("x" * 600 + " sqlmap") == agents.match("sqlmap")
    assert agents.match("x" * 131_072 + " sqlmap") == BROWSER
    assert agents.match("\ud800" * 131_072) == BROWSER
    assert agents.match(" " * 131_072) == EMPTY


@need_crawlers
def test_each_example_is_what_its_tags_say(agents: Agents) -> None:
    """A library's example may also be a bot's by another pattern, and a bot's a scanner's; none is nothing at all."""
    assert (agents.rejected.lines, agents.memory < 1_000_000) == (0, True)
    counted: Counter[tuple[str, str]] = Counter()
    rows = json.loads(CRAWLERS.read_text())
    for row in rows:
        for example in row["instances"]:
            match = agents.match(example)
            assert match.kind in ("bot", "library", "scanner"), example
            if match.kind == "scanner":
                assert "scanner" in row["tags"], example
            counted["library" if "http-library" in row["tags"] else "bot", match.kind] += 1
            alone = Agents.load([row]).match(example).kind
            assert alone in (("scanner", "library", "bot") if "http-library" in row["tags"] else ("scanner", "bot"))
    assert counted["bot", "library"] == 0
    assert counted["library", "library"] >= 0.9 * (counted["library", "library"] + counted["library", "bot"])


@need_apache
@need_crawlers
def test_no_browser_of_a_real_day_is_a_bot(agents: Agents) -> None:
    """Of 558 user agents. Browsers are those that tell of a platform and an engine, and have none of these words."""
    words = "bot|crawl|spider|slurp|feed|rss|fetch|preview|proxy|http|reader|archive|@|google|easou"
    declared = re.compile(words, re.I)
    counted: Counter[str] = Counter()
    for line in APACHE.read_text(errors="replace").splitlines():
        found = REQUEST.search(line)
        user_agent = found[4] if found and found[4] else ""
        if user_agent.startswith(("Mozilla/", "Opera/")) and not declared.search(user_agent):
            kind = agents.match(user_agent).kind
            counted[kind] += 1
            if kind != "browser":
                assert re.search("PhantomJS|Indy Library|Genieo", user_agent), user_agent
    assert counted["browser"] > 6_500
    assert sum(counted.values()) - counted["browser"] < 10


def test_kinds_go_before_each_other_and_longer_names_before_shorter() -> None:
    rows = [
        {"pattern": "Thing", "tags": ["seo"]},
        {"pattern": "ThingBot\\/", "tags": ["ai-crawler"]},
        {"pattern": "^lib\\/", "tags": ["http-library"]},
        {"pattern": "[sS]ome(Tool|Thing)$", "tags": []},
    ]
    agents = Agents.load(rows)
    assert agents.match("ThingBot/1.0") == ("bot", "ThingBot/", 1, ("ai-crawler",))
    assert agents.match("lib/2 Thing") == ("bot", "Thing", 1, ("seo",))
    assert agents.match("lib/2") == ("library", "^lib/", 1, ("http-library",))
    assert agents.match("x lib/2").kind == "browser"
    assert agents.match("thingbot/1.0").kind == "browser", "case as the pattern says"
    assert agents.match("a someTool").kind == "bot"
    assert agents.match("a someTool 2").kind == "browser"
    assert agents.match("lib/2 Thing sqlmap").kind == "scanner"


def test_what_is_no_list_of_patterns(tmp_path: Path) -> None:
    path = tmp_path / "agents.json"
    for content, told in [
        ("<html>", "is no JSON"),
        ("{}", "must be a list"),
        ("[1]", "no list of patterns: 1 are rejected and 0 taken.*number 1: not"),
        ('[{"pattern": "(a+)+b"}, {"pattern": "abc"}, {"pattern": 5}]', "2 are rejected and 1 taken"),
        ('[{"pattern": "abc", "tags": 5}]', "tags"),
        ("[" * 100_000, "is no JSON"),
    ]:
        path.write_text(content)
        with pytest.raises(ValueError, match=told):
            Agents.load(path)
    path.write_text('[{"pattern": "abc"}, {"pattern": ".*"}]')
    loaded = Agents.load(path)
    assert loaded.rejected.lines == 1
    assert loaded.rejected.first[0][0] == 2
    with pytest.raises(ValueError, match="at most 16384"):
        Agents.load([{"pattern": "abc"}] * 16_385)
    with pytest.raises(FileNotFoundError):
        Agents.load(tmp_path / "absent")


# ---- expressions ----


@pytest.mark.parametrize(
    ("pattern", "literals", "plain"),
    [
        ("Googlebot\\/", {"googlebot/"}, "Googlebot/"),
        ("[wW]get", {"wget"}, None),
        ("^curl", {"curl"}, None),
        ("(^| )sentry\\/", {"sentry/", " sentry/"}, None),
        ("Ahrefs(Bot|SiteAudit)", {"ahrefsbot", "ahrefssiteaudit"}, None),
        ("AdsBot-Google([^-]|$)", {"adsbot-google"}, None),
        ("Traffic\\/\\d\\.\\d+ Fetcher", {"traffic/"}, None),
        ("Spider[\\s\\S]*spider\\.com", {"spider.com"}, None),
        ("(?:ab)?cde", {"cde", "abcde"}, None),
        ("ab{2}cd", {"cd"}, None),
        ("a[b-d]e", {"abe", "ace", "ade"}, None),
        ("Bot.x", {"bot"}, None),
        ("Ⅱ Bot", {"Ⅱ bot"}, "Ⅱ Bot"),
    ],
)
def test_the_literals_of_an_expression(pattern: str, literals: set[str], plain: str | None) -> None:
    found = read_expression(pattern)
    assert (set(found.literals), found.plain) == (literals, plain)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+bc", "(ab|a)*cd", "[a-z]+bot", ".*bot", "bot.*bot.*", "(bot){5}", "(|ab).*cd", "x", "", "(foo|b)", "\\d+",
        "bot\\b", "(?i)bot", "(?=bot)bot", "(?P<n>bot)", "\\1bot", "bot(", "bot)", "[bot", "bot**", "*bot", "bot{2,1}",
        "bot{x}", "bot{1", "[[]bot", "[a--b]bot", "[b-a]bot", "bot\\", "\\x41bot", "a{1,99}bot", "bot" * 200,
        "(a|b)(c|d)(e|f)(g|h)(i|j)(k|l)(m|n)bot", "(" * 99 + "bot" + ")" * 99,
    ],
    ids=lambda pattern: pattern[:20],
)  # fmt: skip
def test_what_is_refused_of_expressions(pattern: str) -> None:
    with pytest.raises(Refused):
        read_expression(pattern)


PIECES = st.sampled_from(
    ["ab", "C", "d?", "[xy]", "[^q]", "\\d", ".", "(ab|cd)", "(e|)", "\\.", "f+", "g*", "h{2}", "^", "$", "|", "ij"]
)


@given(st.lists(PIECES, max_size=8).map("".join), st.data())
def test_a_match_has_one_of_the_literals(pattern: str, data: st.DataObject) -> None:
    try:
        expression = read_expression(pattern)
    except Refused:
        return
    text = data.draw(st.from_regex(expression.search) | st.text("abCcdxy12efghij.", max_size=20))
    if expression.search.search(text):
        assert any(literal in text.translate(LOWER) for literal in expression.literals)
        assert expression.plain is None or expression.plain in text
    elif expression.plain is not None:
        assert expression.plain not in text


@given(st.text(max_size=30) | st.text("ab(|)[]{}?*+^$\\.-,12", max_size=30))
def test_any_text_is_an_expression_or_refused(pattern: str) -> None:
    try:
        expression = read_expression(pattern)
    except Refused:
        return
    assert re.compile(pattern) == expression.search
    assert all(len(literal) >= 2 for literal in expression.literals)


def test_the_worst_expression_that_is_taken_is_soon_answered() -> None:
    """Backtracking over what it may take at most; an exponential one would not end in this test's life."""
    agents = Agents.load([{"pattern": "ab(c|c)(c|c)(c|c)(c|c)(c|c)(c|c).*x$"}])
    begun = time.process_time()
    assert agents.match("abcccccc" * 1_000).kind == "browser"
    assert time.process_time() - begun < 60


# ---- paths ----


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/.env", "sensitive_file"),
        ("/api/.ENV.local", "sensitive_file"),
        ("/%2eenv", "sensitive_file"),
        ("/%252Eenv", "sensitive_file"),
        ("/.git/config", "sensitive_file"),
        ("/.git", "sensitive_file"),
        ("//.ssh/id_rsa", "sensitive_file"),
        ("/backup/site.sql.gz", "sensitive_file"),
        ("/wp-config.php.bak", "sensitive_file"),
        ("/cgi-bin/luci", "technology"),
        ("/server-status", "admin"),
        ("/vendor/phpunit/phpunit/src/Util/PHP/eval-stdin.php", "backdoor"),
        ("/uploads/c99.php", "backdoor"),
        ("/w00tw00t.at.ISC.SANS.DFind:)", "w00tw00t"),
        ("/wp-login.php", "admin"),
        ("/blog/wp-admin/", "admin"),
        ("/phpMyAdmin/index.php", "admin"),
        ("http://elsewhere.example/", "open_proxy"),
    ],
)
def test_what_scanners_ask_for(path: str, kind: str) -> None:
    found = Paths().match(path)
    assert found is not None
    assert found.kind == kind
    assert found.points > 0


@pytest.mark.parametrize(
    "path",
    [
        "/", "", "/robots.txt", "/sitemap.xml", "/sitemap_index.xml.gz", "/favicon.ico", "/security.txt", "/humans.txt",
        "/ads.txt", "/actuator/health", "/autodiscover/autodiscover.xml", "/.well-known/security.txt",
        "/.well-known/acme-challenge/x", "/apple-touch-icon.png",
        "/manifest.json", "/environment", "/api/v1/users", "/docs/git/", "/administrators-guide", "/login", "/sql",
        "/blog/how-i-left-wordpress", "/a.sqlite3", "/static/config.js", "/x" * 70_000, "\ud800", "/%", "/%zz%00",
    ],
    ids=lambda path: ascii(path)[:30],
)  # fmt: skip
def test_what_is_innocent(path: str) -> None:
    assert Paths().match(path) is None


def test_connect_asks_for_a_proxy() -> None:
    assert Paths().match("elsewhere.example:25", "CONNECT") == PathMatch("open_proxy", "", 5)


def test_own_rules() -> None:
    without = {kind: [word for word in words if "wp-" not in word] for kind, words in PATH_RULES.items()}
    assert Paths(without).match("/wp-login.php") is None
    own = Paths({"honeypot": ["/secret-door$"], "other": ["/secret"]}, points={"honeypot": 9})
    assert own.match("/a/SECRET-door") == ("honeypot", "/secret-door", 9)
    assert own.match("/secret-doors") == ("other", "/secret", 1)
    for rules in ({"x": [""]}, {"x": ["$"]}, {"x": [5]}, {"x": ["y" * 300]}):
        with pytest.raises(ValueError, match=r"literal"):
            Paths(rules)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="several literals"):
        Paths({"x": "/secret"})


@need_apache
def test_a_real_day_has_few_such_paths_and_none_was_there() -> None:
    paths, found = Paths(), Counter[str]()
    for line in APACHE.read_text(errors="replace").splitlines():
        request = REQUEST.search(line)
        assert request is not None
        match = paths.match(request[2].partition("?")[0], request[1])
        if match:
            assert request[3] == "404", line
            found[match.kind] += 1
    assert set(found) <= {"admin", "technology"}
    assert 0 < sum(found.values()) < 100


@need_crowdsec
@pytest.mark.parametrize(
    ("folder", "kind", "least"),
    [
        ("bunkerweb-http-sensitive-files", "sensitive_file", 9),
        ("litespeed-http-sensitive-files", "sensitive_file", 6),
        ("nginx-http-sensitive-files", "sensitive_file", 8),
        ("http-technology-probing", "technology", 3),
        ("nginx-http-w00twoot", "w00tw00t", 1),
        ("nginx-http-open-proxy", "open_proxy", 2),
        ("http-bf-wordpress-bf", "admin", 9),
    ],
)
def test_the_kinds_in_attack_logs(folder: str, kind: str, least: int) -> None:
    paths, found = Paths(), Counter[Any]()
    for log in (CROWDSEC / folder).glob("*.log"):
        for request in REQUEST.finditer(log.read_text(errors="replace")):
            match = paths.match(request[2].partition("?")[0], request[1])
            found[match and match.kind] += 1
    assert found[kind] >= least
