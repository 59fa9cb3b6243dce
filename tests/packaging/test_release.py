"""What CI publishes: the README's links, the tag, and the configuration of the wheels' builder."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from scripts import ROOT, script

ADDRESS = "https://forge.example/someone/penstock"
JOB = {
    "GITHUB_SERVER_URL": "https://forge.example",
    "GITHUB_REPOSITORY": "someone/penstock",
    "GITHUB_REF_TYPE": "tag",
    "GITHUB_REF_NAME": "v1.2.3",
    "GITHUB_SHA": "c0ffee",
}


release = script("release")
complete = script("complete")


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "guard.md").touch()
    (tmp_path / "docs" / "day.svg").touch()
    (tmp_path / "README.md").write_text("[the guard](docs/guard.md)\n")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "penstock"\n')
    (tmp_path / "src" / "penstock").mkdir(parents=True)
    (tmp_path / "src" / "penstock" / "__init__.py").write_text('__version__ = "1.2.3"\n')
    return tmp_path


@pytest.mark.parametrize(
    ("written", "published"),
    [
        ("[a](docs/guard.md)", f"[a]({ADDRESS}/blob/v1.2.3/docs/guard.md)"),
        ("[a](./docs/guard.md#lists)", f"[a]({ADDRESS}/blob/v1.2.3/docs/guard.md#lists)"),
        ("[all](docs)", f"[all]({ADDRESS}/tree/v1.2.3/docs)"),
        ("[below](#a-guard)", f"[below]({ADDRESS}/blob/v1.2.3/README.md#a-guard)"),
        ("![a day](docs/day.svg)", f"![a day]({ADDRESS}/raw/v1.2.3/docs/day.svg)"),
        ('![a](docs/day.svg "title")', f'![a]({ADDRESS}/raw/v1.2.3/docs/day.svg "title")'),
        (
            "[![a](docs/day.svg)](docs/guard.md)",
            f"[![a]({ADDRESS}/raw/v1.2.3/docs/day.svg)]({ADDRESS}/blob/v1.2.3/docs/guard.md)",
        ),
        ("[a]: docs/guard.md", f"[a]: {ADDRESS}/blob/v1.2.3/docs/guard.md"),
        ('<img src="docs/day.svg">', f'<img src="{ADDRESS}/raw/v1.2.3/docs/day.svg">'),
        ('<a href="docs/guard.md">', f'<a href="{ADDRESS}/blob/v1.2.3/docs/guard.md">'),
        ("[a](https://example.org/docs/x.md) <mailto:a@example.org>", None),
        ("`[a](docs/nowhere.md)` and ``[`b`](docs/nowhere.md)``", None),
        ("```python\nx[0](docs)\n[a](docs/nowhere.md)\n```", None),
    ],
)
def test_a_relative_link_leads_to_the_tag(sources: Path, written: str, published: str | None) -> None:
    assert release.absolute(written, ADDRESS, "v1.2.3", sources) == (written if published is None else published)


def test_a_link_to_nothing_is_found(sources: Path) -> None:
    with pytest.raises(release.Unfit, match=r"links to 'docs/nowhere.md', which is not in the repository"):
        release.absolute("[a](docs/nowhere.md)", ADDRESS, "v1.2.3", sources)


def test_no_relative_link_is_left_in_our_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    published = release.absolute(text, ADDRESS, "v1.2.3", ROOT)
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```", "", published, flags=re.MULTILINE | re.DOTALL))
    assert targets
    assert all(target.startswith("https://") for target in targets), targets
    assert published.replace(f"{ADDRESS}/blob/v1.2.3/", "").replace("README.md#", "#") == text


def test_all_is_written_for_a_tag(sources: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert release.main([str(sources)], JOB) == 0
    assert (sources / "README.md").read_text() == f"[the guard]({ADDRESS}/blob/v1.2.3/docs/guard.md)\n"
    project = tomllib.loads((sources / "pyproject.toml").read_text())["project"]
    assert project["name"] == "penstock"
    assert project["urls"]["Source"] == ADDRESS
    assert capsys.readouterr().out == f"README.md links to {ADDRESS} at v1.2.3\n"


def test_a_branch_links_to_its_commit(sources: Path) -> None:
    assert release.main([str(sources)], {**JOB, "GITHUB_REF_TYPE": "branch", "GITHUB_REF_NAME": "main"}) == 0
    assert (sources / "README.md").read_text() == f"[the guard]({ADDRESS}/blob/c0ffee/docs/guard.md)\n"


@pytest.mark.parametrize("tag", ["v1.2.4", "1.2.3", "v1.2.3.1"])
def test_a_tag_that_is_not_the_version_is_refused(sources: Path, tag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert release.main([str(sources)], {**JOB, "GITHUB_REF_NAME": tag}) == 1
    assert f"the tag is '{tag}', but __version__ is '1.2.3'" in capsys.readouterr().err
    assert (sources / "README.md").read_text() == "[the guard](docs/guard.md)\n", "nothing is written"


def test_outside_of_ci_it_says_what_it_misses(sources: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert release.main([str(sources)], {}) == 1
    assert "GITHUB_SERVER_URL is not set" in capsys.readouterr().err


def test_our_settings_take_the_addresses() -> None:
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    if "urls" in tomllib.loads(settings)["project"]:
        pytest.skip("these sources are from a release, which has them")
    changed = tomllib.loads(release.with_addresses(settings, ADDRESS, "v1.2.3", ROOT))
    assert changed["project"].pop("urls")["Issues"] == f"{ADDRESS}/issues"
    assert changed == tomllib.loads(settings)


def test_wheels_are_built_for_every_python_and_never_without_native_code() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    settings = project["tool"]["cibuildwheel"]
    pythons = [pattern.removesuffix("-*") for pattern in settings["build"].split()]
    assert all(re.fullmatch(r"cp3\d\dt?", python) for python in pythons)
    minors = sorted({int(python.removesuffix("t")[3:]) for python in pythons})
    floor = int(project["project"]["requires-python"].removeprefix(">=3."))
    assert minors == list(range(floor, minors[-1] + 1)), "from the oldest that is supported on, with none left out"
    assert settings["environment"]["PENSTOCK_NATIVE"] == "1"
    for path in settings["test-sources"]:
        assert (ROOT / path).exists(), path
    assert "src" not in settings["test-sources"], "what is tested is what was installed"
    requirements = {re.split(r"[<>=!;\[ ]", name)[0] for name in settings["test-requires"]}
    known = {re.split(r"[<>=!;\[ ]", name)[0] for name in project["project"]["optional-dependencies"]["test"]}
    assert requirements <= known


def names_of_all() -> list[str]:
    """As the builder names them."""
    tags = {
        "manylinux x86_64": "manylinux_2_27_x86_64.manylinux_2_28_x86_64",
        "manylinux aarch64": "manylinux2014_aarch64.manylinux_2_17_aarch64.manylinux_2_28_aarch64",
        "musllinux x86_64": "musllinux_1_2_x86_64",
        "musllinux aarch64": "musllinux_1_2_aarch64",
        "macOS arm64": "macosx_11_0_arm64",
        "macOS x86_64": "macosx_10_13_x86_64",
        "Windows AMD64": "win_amd64",
        "Windows ARM64": "win_arm64",
    }
    promised = sorted(complete.promised())
    return [
        "penstock-1.2.3.tar.gz",
        *(f"penstock-1.2.3-{python.removesuffix('t')}-{python}-{tags[platform]}.whl" for python, platform in promised),
    ]


def test_a_release_that_has_all_wheels_is_complete() -> None:
    assert complete.faults_of(names_of_all()) == []


def test_what_is_missing_in_a_release_or_too_many_is_found() -> None:
    names = names_of_all()
    assert complete.faults_of(names[1:]) == ["0 sdists, not one"]
    names.remove("penstock-1.2.3-cp314-cp314t-win_arm64.whl")
    names.append("penstock-1.2.3-cp313-cp313-manylinux_2_17_x86_64.whl")
    names.append("penstock-1.2.3-py3-none-any.whl")
    assert complete.faults_of(names) == [
        "there is no wheel of cp314t for Windows ARM64",
        "nobody promised none for any",
        "cp313 for manylinux x86_64 is there more than once",
    ]
