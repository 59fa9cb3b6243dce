"""The scanner: what it finds in values of each kind, what it leaves alone, and what it does with hostile ones."""

from __future__ import annotations

import base64
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("penstock._scan", reason="the guard needs the compiled modules")

from scan_cases import ATTACKS, HARMLESS

from penstock._scan import scan_pairs
from penstock.guard.scan import CONVICTS, KINDS, RULES, SCAN_MOST, Finding, scan

ATTACKS_OF = [(kind, value) for kind, values in ATTACKS.items() for value in values]
known = [value for _, value in ATTACKS_OF]
FORMS = {"as it is": str, "percent": quote, "form": quote_plus}


@pytest.mark.parametrize("form", FORMS)
def test_ordinary_values_have_no_findings(form: str) -> None:
    found = {value: scan(FORMS[form](value)) for value in HARMLESS}
    assert {value: findings for value, findings in found.items() if findings} == {}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_attacks_are_found(kind: str, form: str) -> None:
    missed = [value for value in ATTACKS[kind] if kind not in {one.kind for one in scan(FORMS[form](value))}]
    assert missed == []


def test_one_finding_to_the_last_field() -> None:
    assert scan("1' union select password from users--") == (
        Finding("sqli", 5, "union-select", 3, 35),
    )
    assert scan("hello") == ()


def test_every_rule_of_level_1_convicts_alone_and_others_do_not() -> None:
    assert {rule.points for rule in RULES if rule.paranoia == 1} == {CONVICTS}
    assert all(0 < rule.points < CONVICTS for rule in RULES if rule.paranoia > 1)
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert {rule.kind for rule in RULES} == set(KINDS)


def test_every_rule_is_there_for_something() -> None:
    found = {one.rule for value in (*HARMLESS, *known) for one in scan(value, 4)}
    assert {rule.name for rule in RULES} - found == set()


@pytest.mark.parametrize(
    ("value", "rule", "level"),
    [
        ("1--", "quote-and-comment", 1),
        ("sleep(5)", "lone-function", 2),
        ("kids' --toddler", "comment-tail", 2),
        ("1' or 1", "weak-condition", 2),
        ("select a from b", "select-from", 2),
        ("1 order by 5 pm", "keyword-pair", 3),
        ("O'Brien", "loose-quote", 4),
        ("<b>x</b>", "any-tag", 2),
        ("please call eval(x) now", "lone-script-call", 2),
        ("5 > 3", "angle-bracket", 4),
        ("see /etc/passwd there", "mentioned-file", 2),
        ("see ../docs for more", "one-parent-directory", 2),
        ("run `ls -l` there", "weak-chain", 2),
        ("a; b", "shell-sign", 4),
    ],
)
def test_higher_levels_ask_more_rules(value: str, rule: str, level: int) -> None:
    for paranoia in range(1, 5):
        assert (rule in {one.rule for one in scan(value, paranoia)}) == (paranoia >= level), paranoia


@given(st.text() | st.binary(), st.integers(1, 3))
def test_a_higher_level_forgets_no_points(value: str | bytes, paranoia: int) -> None:
    here, above = scan(value, paranoia), scan(value, paranoia + 1)
    if sum(one.points for one in here) >= CONVICTS:
        assert sum(one.points for one in above) >= CONVICTS


def test_layers_of_encoding_are_taken_off() -> None:
    attack = "<script>alert(1)</script>"
    for layers in range(5):
        found = scan(attack)
        assert found, f"{layers} layers"
        assert found[0].kind == "xss"
        attack = quote(attack)
    for text in ("' or 1=1 --  ", "../../../etc/passwd"):
        encoded = base64.b64encode(text.encode())
        assert scan(encoded), encoded
        assert scan(encoded.rstrip(b"=")), encoded
        assert scan(base64.urlsafe_b64encode(text.encode())), encoded
        assert scan(quote(encoded)), encoded


def test_places_are_in_the_value_as_given() -> None:
    [finding] = scan("some text %3Cscript%3E")
    assert (finding.start, finding.end) == (10, 19)
    [finding] = scan("ünïcödé %3Cscript%3E")
    assert (finding.start, finding.end) == (8, 17)
    [finding] = scan("ünïcödé %3Cscript%3E".encode())
    assert (finding.start, finding.end) == (12, 21)
    [finding] = scan("\udcff\udcff<script>")
    assert (finding.start, finding.end) == (2, 9)


@pytest.mark.parametrize("kind", KINDS)
def test_an_attack_in_the_middle_of_much_else_is_found(kind: str) -> None:
    sql, path = "' union select 1--", " /../../etc/passwd "
    attacks = {"sqli": sql, "xss": "<script>", "traversal": path, "command": "$(whoami)"}
    attack = attacks[kind]
    for before in range(0, SCAN_MOST - 100, 4_001):
        value = "lorem ipsum " * (before // 12) + attack + " dolor sit amet" * 30
        [finding, *_] = scan(value)
        assert finding.kind == kind
        assert before - 12 <= finding.start <= before + 40
    far = "x" * SCAN_MOST
    assert scan(far + attack)
    assert scan(attack + far)
    assert scan(far + attack + far) == (), "the middle of a longer one is not looked at"


HOSTILE = [
    "'", '"', "`", "(", ")", "<", ">", "/", "\\", ".", "-", "#", ";", "|", "&", "$", "%", "+", "\0", "\n",
    "\udc80", "é", "\uff46", "%25", "%2525", "&#", "&#x", "&lt;", "\\u", "\\u0041", "%u0041", "a||", "1 or ",
    "or(", "select ", "select a,", "(select ", "case when ", "if(a,", "union ", "<a ", "<a style=x ",
    "style=/*", "<!--", "/*", "*/", "/*!", "--\n", "../", "./", "/e", ";ls ", "${", "$(", "on", "onload",
    "javascript:", "alert(", "' '>;alert(", "QUJD", "@", "0x", "1e", "{file}", "\xa0", "_a'", "n'",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_values_of_128_kb(piece: str) -> None:
    value = (piece * (131_072 // len(piece) + 1))[:131_072]
    for paranoia in (1, 4):
        for given_value in (value, value.encode("utf-8", "surrogatepass")):
            found = scan(given_value, paranoia)
            assert len(found) <= 16
            assert all(0 <= one.start <= one.end <= len(given_value) for one in found)


pieces = st.lists(st.sampled_from([*HOSTILE, *known, *HARMLESS[:40]]), max_size=12).map("".join)


@given(st.text() | pieces, st.integers(1, 4))
def test_any_text(value: str, paranoia: int) -> None:
    found = scan(value, paranoia)
    assert scan(value, paranoia) == found, "the same again"
    assert len({one.rule for one in found}) == len(found) <= 16
    for one in found:
        assert 0 <= one.start <= one.end <= len(value)
        assert one.points > 0
        assert one.kind in KINDS
    data = value.encode("utf-8", "surrogatepass")
    as_bytes = scan(data, paranoia)
    assert [one[:3] for one in as_bytes] == [one[:3] for one in found], "str and bytes agree"
    if value.isascii():
        assert as_bytes == found


@given(st.binary(max_size=5000), st.integers(1, 4))
def test_any_bytes(value: bytes, paranoia: int) -> None:
    for one in scan(value, paranoia):
        assert 0 <= one.start <= one.end <= len(value)


def test_arguments_that_are_wrong() -> None:
    for wrong in (None, 5, ["a"], bytearray(b"a"), memoryview(b"a")):
        with pytest.raises(TypeError, match=r"value is .*, and must be str or bytes"):
            scan(wrong)  # type: ignore[arg-type]
    for level in (0, 5, -1, 10**30):
        with pytest.raises(ValueError, match=r"paranoia is -?\d+, and must be from 1 to 4"):
            scan("a", level)
    with pytest.raises(TypeError, match="paranoia is str"):
        scan("a", "1")  # type: ignore[arg-type]


def test_pairs_of_a_query() -> None:
    assert scan_pairs("a=1&b=2&q=red+shoes&sort=-price,+name&page=10&token=d41d8cd98f00b204e9800998ecf8427e") == ()
    [(name, value, of_name, of_value)] = scan_pairs("a=1&id=1%27+or+1%3D1--&b=2")
    assert (name, value, of_name) == (b"id", b"1%27+or+1%3D1--", ())
    assert {row[0] for row in of_value} == {"sqli"}
    [(name, value, of_name, of_value)] = scan_pairs(b"<script>=1")
    assert (name, value, of_value) == (b"<script>", b"1", ())
    assert of_name[0][0] == "xss"
    [(name, value, of_name, of_value)] = scan_pairs("1;drop table users--")
    assert (name, value) == (b"1;drop table users--", b"")
    assert scan_pairs("a=1;drop table users--"), "a semicolon does not cut an attack in two"
    assert scan_pairs("&&&===&=&a&=b&") == ()
    assert scan_pairs("") == ()
    assert scan_pairs("a=%3Cscript%3E", 1, 5) == (), "beyond the limit"


names, values = st.sampled_from(HARMLESS), st.sampled_from([*HARMLESS, *known])


@given(st.lists(st.tuples(names, values), max_size=6))
def test_pairs_are_scanned_as_their_values_are(pairs: list[tuple[str, str]]) -> None:
    query = "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in pairs)
    sent = [(quote_plus(name), quote_plus(value)) for name, value in pairs]
    expected = [value.encode() for name, value in sent if scan(value) or scan(name)]
    assert [value for _, value, _, _ in scan_pairs(query)] == expected
