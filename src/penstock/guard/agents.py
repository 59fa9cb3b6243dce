"""What a user agent says it is, and what a path says is looked for: found by literals, in one pass of an automaton.

    agents = Agents.load("crawler-user-agents.json")
    agents.match("sqlmap/1.8")          # AgentMatch("scanner", "sqlmap", points=5, tags=("attack-tool",))
    Paths().match("/.git/config")       # PathMatch("sensitive_file", "/.git/", points=3)

A user agent is what a visitor chooses to say, and an honest client of an API is a script: libraries and declared bots
have one point, and only the names of attack tools weigh. A path alone convicts nobody either; many of them may.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

from penstock._match import Automaton
from penstock.errors import shown
from penstock.guard.addresses import Rejected
from penstock.guard.expressions import Expression, Refused, read_expression

AGENT_MOST = 1024
"""Characters of a user agent that are looked at."""
PATH_MOST = 2048
"""Characters of a path that are looked at."""
PATTERNS_MOST = 16_384
_DECODED = 2
REMEMBERED = 2048
"""User agents whose answer is kept; those above 512 characters are not."""

POINTS: Mapping[str, int] = {"scanner": 5, "empty": 2, "bot": 1, "library": 1, "browser": 0}

SCANNERS = (
    "acunetix", "appscan", "arachni/", "bsqlbf", "burp suite", "burpcollaborator", "cgichk", "commix/", "crimscanner",
    "dirb ", "dirbuster", "dirsearch", "dotdotpwn", "evil-scanner", "feroxbuster", "fimap", "fuzz faster u fool",
    "ffuf/", "go-buster", "gobuster", "golismero", "grendel-scan", "havij", "hydra)", "inspath", "interactsh",
    "jaeles", "jorgee", "joomscan", "l9explore", "l9tcpid", "libredtail", "masscan", "morfeus", "muieblackcat",
    "n-stealth", "nessus", "netsparker", "invicti", "nikto", "nmap scripting engine", "nuclei", "openvas", "pangolin",
    "paros/", "qualys was", "rustbuster", "skipfish", "sqlmap", "sqlninja", "sqlsus", "subfinder", "uniscan", "w3af",
    "wapiti", "webinspect", "webshag", "wfuzz", "whatweb", "wpscan", "wprecon", "xsser", "xsstrike", "zgrab", "zmeu",
    "zmap/",
)  # fmt: skip
"""Tools that look for weaknesses, as they name themselves."""

LIBRARIES = (
    "^aiohttp/", "^apache-httpclient", "^aria2/", "^axios/", "^curl/", "^dart/", "^deno/", "^dio/", "^faraday v",
    "^fetch libfetch", "^go-http-client", "^go-resty", "^got (", "^guzzlehttp", "^http_request2", "^httpie/",
    "^httpx/", "^insomnia/", "^java/", "^java-http-client", "^jakarta commons-httpclient", "^libcurl", "^libwww-perl",
    "^lwp::", "^lwp-trivial", "^node-fetch", "^node.js", "^okhttp", "^pear http_request", "^perl", "^php/",
    "^postmanruntime", "^python-httpx", "^python-requests", "^python-urllib", "^python/", "^reqwest/", "^rest-client",
    "^restsharp", "^ruby", "^scrapy", "^typhoeus", "^undici", "^ureq/", "^urllib3", "^wget", "winhttp",
    "windowspowershell/", "libcurl/", "python-requests/", "guzzlehttp/",
)  # fmt: skip
"""Libraries and command-line clients; ^ where the user agent must begin so."""

BOTS = (
    "adsbot", "ahrefsbot", "amazonbot", "applebot", "archive.org_bot", "baiduspider", "bingbot", "bytespider",
    "ccbot/", "chatgpt-user", "claudebot", "dotbot", "duckduckbot", "facebookexternalhit", "feedburner",
    "feedfetcher", "googlebot", "gptbot", "ia_archiver", "linkedinbot", "mail.ru_bot", "mj12bot", "msnbot",
    "perplexitybot", "petalbot", "pingdom", "semrushbot", "seznambot", "slackbot", "slurp", "sogou web",
    "telegrambot", "twitterbot", "uptimerobot", "yandexbot", "headlesschrome", "phantomjs",
)  # fmt: skip
"""The best known bots that say so."""

BOT_WORDS = ("crawler", "spider", "+http://", "+https://")
"""What other bots say; a library's name goes before these, as some give an address too."""

_BUILT_IN = (("scanner", SCANNERS), ("bot", BOTS), ("library", LIBRARIES), ("bot", BOT_WORDS))
_RANK = {"scanner": 0, "bot": 1, "library": 2}  # which goes before which
_RANK_OF_WORDS = 3


class AgentMatch(NamedTuple):
    """kind: "scanner", "bot", "library", "empty", or "browser", which is all else; name: what was found of it."""

    kind: str
    name: str
    points: int
    tags: tuple[str, ...]


class _Named(NamedTuple):
    """One thing that is looked for."""

    rank: int
    match: AgentMatch
    expression: Expression | None  # to be asked when a literal of it is found; the built-in names are literals alone

    @property
    def literals(self) -> tuple[str, ...]:
        return () if self.expression is None else self.expression.literals

    def is_there(self, user_agent: str) -> bool:
        expression = self.expression
        if expression is None:
            return True
        if expression.plain is not None:
            return expression.plain in user_agent
        return expression.search.search(user_agent) is not None


EMPTY = AgentMatch("empty", "", POINTS["empty"], ())
BROWSER = AgentMatch("browser", "", POINTS["browser"], ())


class Agents:
    """User agents by name. `Agents()` has the built-in names, `Agents.load` those of a file too. Never changes.

    patterns  how many names there are
    rejected  what in the file was no pattern that can be used
    memory    bytes of the automaton
    """

    def __init__(self) -> None:
        self._make([], Rejected())

    @classmethod
    def load(cls, source: str | os.PathLike[str] | Iterable[object]) -> Agents:
        """With the patterns of a file in the format of crawler-user-agents.json, or of such a list.

        Each is {"pattern": regular expression, "tags": [text, …], …}. The tag "http-library" makes a library of it; all
        others are bots, also "scanner", which stands for services that look at sites on somebody's behalf.

        An expression must have a literal of two characters at least, without which it cannot match, and nothing that
        takes long (penstock.guard.expressions); others are counted in `rejected`, by their place in the list. Raises
        ValueError when more are rejected than taken, above 16,384 patterns, and for what is no such list; OSError when
        the file cannot be read.
        """
        where: object = "patterns"
        if isinstance(source, (str, os.PathLike)):
            where = os.fspath(source)
            with open(source, encoding="utf-8") as file:
                try:
                    source = json.load(file)
                except (ValueError, RecursionError) as error:
                    raise ValueError(f"{shown(where)} is no JSON: {error}") from None
        if not isinstance(source, list) or len(source) > PATTERNS_MOST:
            raise ValueError(f"{shown(where)} must be a list of at most {PATTERNS_MOST} patterns")
        named: list[_Named] = []
        first: list[tuple[int, str]] = []
        rejected = 0
        for number, row in enumerate(source, 1):
            try:
                named.append(_read_row(row))
            except Refused as error:
                rejected += 1
                if len(first) < 8:
                    first.append((number, str(error)))
        if rejected > len(named):
            raise ValueError(
                f"{shown(where)} is no list of patterns: {rejected} are rejected and {len(named)} taken, and at most"
                f" half may be rejected; number {first[0][0]}: {first[0][1]}"
            )
        made = cls.__new__(cls)
        made._make(named, Rejected(rejected, tuple(first)))
        return made

    def _make(self, loaded: list[_Named], rejected: Rejected) -> None:
        literals: dict[tuple[bytes, bool, bool], list[_Named]] = {}
        for kind, words in _BUILT_IN:
            rank = _RANK_OF_WORDS if words is BOT_WORDS else _RANK[kind]
            tags = ("attack-tool",) if kind == "scanner" else ()
            for word in words:
                match = AgentMatch(kind, word.strip("^/: ()"), POINTS[kind], tags)
                key = (word.removeprefix("^").encode(), word.startswith("^"), False)
                literals.setdefault(key, []).append(_Named(rank, match, None))
        for one in loaded:
            for literal in one.literals:
                literals.setdefault((literal.encode("utf-8", "surrogatepass"), False, False), []).append(one)
        self._named = sorted({one for named in literals.values() for one in named}, key=_order)
        place = {one: number for number, one in enumerate(self._named)}
        self._places = tuple(tuple(sorted(place[one] for one in named)) for named in literals.values())
        self._automaton = Automaton(tuple(literals), fold=True)
        self._remembered = lru_cache(REMEMBERED)(self._find)
        self.patterns = sum(len(words) for _, words in _BUILT_IN) + len(loaded)
        self.rejected = rejected
        self.memory = self._automaton.memory

    def match(self, user_agent: str | None) -> AgentMatch:
        """What a user agent says it is. None, "", blanks and "-" are "empty"; the first 1,024 characters count."""
        if user_agent is None:
            return EMPTY
        if len(user_agent) <= 512:
            return self._remembered(user_agent)
        return self._find(user_agent[:AGENT_MOST])

    def _find(self, user_agent: str) -> AgentMatch:
        hits = self._automaton.find(user_agent)
        if not hits:
            return BROWSER if user_agent.strip() not in ("", "-") else EMPTY
        places = self._places
        named = self._named[min([places[hit][0] for hit in hits])]
        if named.is_there(user_agent):  # as it mostly is
            return named.match
        for place in sorted({place for hit in hits for place in places[hit]}):
            named = self._named[place]
            if named.is_there(user_agent):
                return named.match
        return BROWSER


def _order(named: _Named) -> tuple[int, bool, int, str]:
    """By rank; of one rank the names of a file, which are told with tags, and of these the longest."""
    return named.rank, named.expression is None, -len(named.match.name), named.match.name


def _read_row(row: object) -> _Named:
    """One row of a file. Raises Refused."""
    pattern = row.get("pattern") if isinstance(row, dict) else None
    if not isinstance(pattern, str):
        raise Refused('not {"pattern": text, …}')
    tags = row.get("tags", []) if isinstance(row, dict) else []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise Refused("its tags are no list of texts")
    expression = read_expression(pattern)
    name = expression.plain or pattern.replace("\\", "")
    kind = "library" if "http-library" in tags else "bot"
    return _Named(_RANK[kind], AgentMatch(kind, name, POINTS[kind], tuple(tags)), expression)


# ---- paths ----

PATH_POINTS: Mapping[str, int] = {
    "w00tw00t": 5, "open_proxy": 5, "backdoor": 4, "sensitive_file": 3, "technology": 2, "admin": 1,
}  # fmt: skip

PATH_RULES: Mapping[str, tuple[str, ...]] = {
    "w00tw00t": ("/w00tw00t", "/muieblackcat", "/core/skin/login.aspx"),
    "backdoor": (
        "/0x.php$", "/alfa.php$", "/alfacgiapi/", "/b374k", "/c99.php$", "/c99shell", "/cmd.asp$", "/cmd.aspx$",
        "/cmd.jsp$", "/cmd.php$", "/eval-stdin.php$", "/indoxploit", "/leafmailer", "/marijuana.php$",
        "/r57.php$", "/shell.asp$", "/shell.aspx$", "/shell.jsp$", "/shell.php$", "/weevely",
        "/webshell", "/wp-conflg.php$", "/wso.php$", "/wso2.php$", "/wsoyanz", "/xleet",
    ),
    "sensitive_file": (
        "/.aws/", "/.azure/", "/.bash_history$", "/.bash_profile$", "/.bashrc$", "/.boto$", "/.bzr", "/.cache$",
        "/.config$", "/.cvs", "/.docker/", "/.dockercfg$", "/.dockerenv$", "/.ds_store$", "/.env$", "/.env.",
        "/.env/", "/.env_", "/.env-", "/.env~$", "/.forward$", "/.ftpconfig$", "/.git$", "/.git/",
        "/.git-credentials$", "/.gitconfig$", "/.gitignore$", "/.hg/", "/.hg$", "/.history$", "/.htaccess",
        "/.htpasswd", "/.idea/", "/.kube/", "/.listing$", "/.mysql_history$", "/.netrc$", "/.npmrc$", "/.passwd$",
        "/.pgpass$", "/.profile$", "/.psql_history$", "/.pypirc$", "/.rhosts$", "/.s3cfg$", "/.sh_history$", "/.ssh$",
        "/.ssh/", "/.subversion", "/.svn$", "/.svn/", "/.viminfo$", "/.vscode/sftp.json$", "/.web.config",
        "/.zsh_history$", "/appsettings.json$", "/aws/credentials$", "/backup.sql", "/backup.tar", "/backup.zip$",
        "/composer.lock$", "/config.inc.php", "/config.php.", "/configuration.php~$", "/credentials.json$",
        "/database.sql", "/database.yml$", "/db.sql", "/docker-compose.y", "/dump.sql", "/etc/passwd", "/etc/shadow",
        "/ftpsync.settings$", "/id_dsa$", "/id_ecdsa$", "/id_ed25519$", "/id_rsa$", "/localsettings.php.",
        "/parameters.yml$", "/proc/self/", "/sftp-config.json$", "/terraform.tfstate", "/web-inf/", "/web.config$",
        "/win.ini$", "/wp-config.php", "/wp-config.bak$", ".sql$", ".sql.bz2$", ".sql.gz$", ".sql.zip$", ".php.bak$",
        ".php.old$", ".php.save$", ".php.swp$", ".php~$", "/phpinfo.php$",
    ),
    "technology": (
        "/_ignition/execute-solution", "/actuator/configprops", "/actuator/env", "/actuator/gateway",
        "/actuator/heapdump", "/actuator/logfile", "/axis2/axis2-admin", "/boaform/", "/cgi-bin/..",
        "/cgi-bin/account_mgr", "/cgi-bin/authlogin", "/cgi-bin/config.exp", "/cgi-bin/jarrewrite",
        "/cgi-bin/kerbynet", "/cgi-bin/luci", "/cgi-bin/mainfunction", "/cgi-bin/nas_sharing", "/cgi-bin/php",
        "/cgi-bin/test-cgi", "/cgi-bin/video", "/cgi-bin/viewcert", "/cgi-bin/webproc", "/containers/json$",
        "/crx/de/", "/crx/explorer", "/crx/packmgr", "/ecp/current/exporttool", "/goform/", "/hnap1",
        "/invoker/jmxinvokerservlet", "/jbossmq-httpil", "/jmx-console", "/latest/meta-data", "/nmaplowercheck",
        "/phpunit/", "/portal/redlion", "/remote/fgt_lang", "/remote/logincheck", "/sdk/weblanguage", "/setup.cgi",
        "/struts/webconsole", "/struts2-showcase", "/tmui/login.jsp", "/vendor/phpunit", "/wls-wsat",
    ),
    "admin": (
        "/_profiler/", "/adm$", "/admin$", "/admin.asp", "/admin.cgi", "/admin.html$", "/admin.jsp", "/admin.php",
        "/admin/", "/admin_login", "/adminer", "/administrator$", "/administrator/", "/adminpanel",
        "/api/jsonws/invoke", "/cgi-bin/", "/cgi-mod/", "/console/login/loginform.jsp", "/cpanel$", "/dbadmin",
        "/debug/default/view", "/druid/index", "/fckeditor", "/geoserver/", "/host-manager/", "/hudson$", "/jolokia",
        "/manager/html", "/manager/status$", "/myadmin", "/mysqladmin", "/owa/auth", "/pgadmin", "/php-my-admin",
        "/phpmyadmin", "/phppgadmin", "/plesk-stat", "/pma$", "/pma/", "/server-info$", "/server-status$",
        "/skin/login.aspx$", "/solr/admin", "/sqladmin", "/sqlmanager", "/telescope/requests$", "/trace.axd$",
        "/typo3/index.php$", "/user/login.aspx$", "/webadmin", "/webmin", "/websql", "/wp-admin", "/wp-login.php",
        "/xmlrpc.php$",
    ),
}  # fmt: skip
"""Literals by kind, looked for anywhere in a path, without regard to case; $ where the path must end.

What an honest visitor never asks for is technology; what some sites do have, and others are probed for, is admin.
"""


class PathMatch(NamedTuple):
    """kind: a key of the rules, or "open_proxy"; name: the literal that was found."""

    kind: str
    name: str
    points: int


class Paths:
    """Paths that scanners ask for. Never changes; robots.txt, sitemap.xml and favicon.ico are innocent.

    rules   literals by kind, in the order in which kinds go before each other; a site with a /wp-admin gives its own
    points  of each kind, 1 where it says nothing
    """

    def __init__(
        self, rules: Mapping[str, Iterable[str]] = PATH_RULES, *, points: Mapping[str, int] = PATH_POINTS
    ) -> None:
        literals: dict[tuple[bytes, bool, bool], PathMatch] = {}
        for kind, words in rules.items():
            if isinstance(words, str):
                raise TypeError(f"rules: {kind}={shown(words)} must be several literals")
            for word in words:
                bare = word.removesuffix("$") if isinstance(word, str) else ""
                if not bare:
                    raise ValueError(f"rules: {kind}: {shown(word)} must be a literal")
                match = PathMatch(kind, bare, points.get(kind, 1))
                literals.setdefault((bare.encode("utf-8", "surrogatepass"), False, bare != word), match)
        self._meanings = tuple(literals.values())
        self._order = {kind: place for place, kind in enumerate(rules)}
        self._automaton = Automaton(tuple(literals), fold=True)
        self._proxy = PathMatch("open_proxy", "", points.get("open_proxy", 1))
        self.memory = self._automaton.memory

    def match(self, path: str, method: str = "GET") -> PathMatch | None:
        """What is looked for under a path (without its query), or None. Of 2,048 characters, decoded twice at most.

        A target that is a whole URL, and the method CONNECT, ask for a proxy.
        """
        path = path[:PATH_MOST]
        if method == "CONNECT" or path[:8].lower().startswith(("http://", "https://")):
            return self._proxy
        for _ in range(_DECODED):
            if "%" in path:
                path = unquote(path)
        hits = self._automaton.find(path)
        if not hits:
            return None
        return min((self._meanings[hit] for hit in hits), key=lambda match: self._order[match.kind])
