"""The project files agree with the code: versions, Pythons, workflows, pins."""

import re
import tomllib
from pathlib import Path

import pytest

from facenet_jax import __version__

ROOT = Path(__file__).parents[1]
yaml = pytest.importorskip("yaml")


def read(path):
    return yaml.safe_load((ROOT / path).read_text())


def test_the_citation_names_this_version_and_licence():
    citation = read("CITATION.cff")
    assert citation["version"] == __version__
    assert citation["license"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"]


def test_the_changelog_begins_with_this_version():
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1] == __version__


def test_the_workflow_tests_every_python_that_the_package_names():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [kind.rpartition(" ")[2] for kind in project["classifiers"] if re.search(r"Python :: 3\.\d+$", kind)]
    workflow = read(".github/workflows/tests.yml")
    assert set(named) <= set(workflow["jobs"]["tests"]["strategy"]["matrix"]["python"])


@pytest.mark.parametrize("file", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda file: file.name)
def test_workflows_call_targets_that_exist(file):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert read(file)
    for target in re.findall(r"run: make ([a-z-]+)", file.read_text()):
        assert target in targets


@pytest.mark.parametrize("file", ["constraints.txt", "constraints-newest.txt"])
def test_pins_are_exact_and_hold_every_dependency(file):
    lines = [line for line in (ROOT / file).read_text().splitlines() if line and not line.startswith("#")]
    pins = {re.fullmatch(r"([A-Za-z0-9_.-]+)==([^\s;]+)(?: ; .+)?", line)[1] for line in lines}
    pins = {re.sub(r"[-_.]+", "-", name).lower() for name in pins}
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    for requirement in needed:
        assert re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower() in pins


def test_the_image_holds_all_that_the_package_is_built_from():
    kept = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {project["project"]["readme"], *project["project"]["license-files"], "constraints.txt", "pyproject.toml"}
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed |= {path.split("/")[0] for path in [*wheel["packages"], *wheel["force-include"]]}
    assert needed == set(kept)
