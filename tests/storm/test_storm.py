"""A few hundred damaged inputs for all readers; `make storm` has ten thousand."""

import pytest

from benchmarks.storm import Storm
from benchmarks.storm_readers import KINDS

# Readers that leave out what they cannot read, or take any text.
QUIET = ("metrics.jsonl", "report.json of a run", "run.json, digests", "exclude list")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("storm")


@pytest.mark.parametrize("name", [kind.name for kind in KINDS if not kind.slow])
def test_damage_is_reported_or_harmless(place, name):
    storm = Storm(place / name.replace("/", " "), seed=1, only=[name], slow=False)
    for package in filter(None, (kind.needs for kind in storm.kinds)):
        pytest.importorskip(package)
    cases = [storm.case(number) for number in range(12)]
    assert [case for case in cases if case.end == "finding"] == []
    if name not in QUIET:
        assert "refused" in {case.end for case in cases}, "the damage does not reach the reader"


def test_a_case_is_made_again_by_its_number(place):
    only = ["LFW pairs"]
    first, again = (Storm(place / part, seed=3, only=only).case(17)[:4] for part in ("a", "b"))
    assert first == again
