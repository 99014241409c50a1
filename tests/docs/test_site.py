"""The documentation site: its reference is complete, and its links lead to the same places as in the repository."""

import importlib.util
import re
from pathlib import Path

import pytest

from facenet_jax.cli import make_parser
from facenet_jax.commands.options import all_parsers
from facenet_jax.config import KEYS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def hooks():
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_config_key_is_in_the_reference(hooks):
    rows = re.findall(r"^\| `([a-z0-9_.]+)` \| `(.*)` \| .+ \|$", hooks.config_table(), re.MULTILINE)
    assert rows == [(key.name, repr(key.default)) for key in KEYS]


def test_every_command_and_option_is_in_the_reference(hooks, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    text = hooks.commands()
    for words, parser in all_parsers(make_parser()):
        if words:
            heading = f"\n{'#' * (len(words) + 1)} {' '.join(words)}\n"
            assert text.count(heading) == 1
            section = text.partition(heading)[2].partition("\n## ")[0]
            for option in parser._option_string_actions:
                assert option in {"-h", "--help"} or f"`{option}`" in section


@pytest.mark.parametrize(
    ("page", "markdown", "wanted"),
    [
        ("index.md", "[a](docs/data.md#scale-and-speed)", "[a](data.md#scale-and-speed)"),
        ("index.md", "[a](benchmarks/results/index.md)", "[a](measured/index.md)"),
        ("index.md", "![a](docs/faces.png)", "![a](faces.png)"),
        ("results.md", "[a](../README.md) and [b](../CHANGELOG.md)", "[a](index.md) and [b](changelog.md)"),
        ("measured/audit.md", "[a](../../docs/datasets.md)", "[a](../datasets.md)"),
        ("data.md", "[a](../launch/local.py), [b](#folders), [c](https://x.org/y)",
         "a, [b](#folders), [c](https://x.org/y)"),
        ("index.md", "[![a](https://img.shields.io/badge/b)](LICENSE)[c](LICENSE)", "[c](LICENSE.txt)"),
        ("data.md", "`[a](../README.md)`", "`[a](../README.md)`"),
        ("data.md", "```\n[a](../README.md)\n```\n", "```\n[a](../README.md)\n```\n"),
    ],
)  # fmt: skip
def test_links_lead_to_the_same_place_on_the_site(hooks, page, markdown, wanted):
    assert hooks.links_of_the_site(markdown, page) == wanted


def pages():
    folders = ROOT / "docs", ROOT / "benchmarks" / "results", ROOT
    return [*folders[0].rglob("*.md"), *folders[1].glob("*.md"), *folders[2].glob("*.md")]


@pytest.mark.parametrize("page", sorted(pages()), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_targets_of_links_exist(page):
    text = re.sub(r"^```.*?^```\n|`[^`\n]+`", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        inside = "://" not in target and "badge" not in target and "actions/workflows" not in target
        assert not inside or (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_is_in_the_navigation():
    yaml = pytest.importorskip("yaml")
    entries = re.findall(r"[\w/]+\.md", str(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert len(entries) == len(set(entries))
    missing = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")} - set(entries)
    assert not missing, f"mkdocs.yml: nav lacks {missing}"
