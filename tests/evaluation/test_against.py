"""A new embedder compared with an old one: which pairs are compared, checked by plain loops, and the commands."""

import json

import numpy as np
import pytest

from evaluating import distance, refused, unit
from facenet_jax.cli import main
from facenet_jax.evaluation.against import against_digest
from facenet_jax.evaluation.counting import squared_pair_distances
from facenet_jax.evaluation.holdout import _dealt, holdout, holdout_intervals
from facenet_jax.evaluation.pair_metrics import metrics_of_all_pairs
from facenet_jax.evaluation.protocols.identify import identify
from facenet_jax.report.build import build
from facenet_jax.report.collect import collect, compatible
from facenet_jax.report.tables import compatibility

PEOPLE, EACH = 12, 4
LABELS = np.array([f"p{person:02d}" for person in range(PEOPLE) for _ in range(EACH)])


def some_points(rng, labels=LABELS, noise=0.7, size=12):
    """Points of a new embedder, and of an old one: near the new ones, with more noise."""
    centres = rng.normal(size=(PEOPLE, size))[np.unique(labels, return_inverse=True)[1]]
    new = centres + noise * rng.normal(size=centres.shape)
    return unit(new), unit(new + noise * rng.normal(size=centres.shape))


@pytest.mark.parametrize("devices", [[], None])
@pytest.mark.parametrize("tile", [None, 7])
def test_each_pair_once_the_earlier_face_new_and_the_later_old(tile, devices):
    rng = np.random.default_rng(0)
    new, old = some_points(rng)
    order = rng.permutation(len(LABELS))  # people in any order
    labels, new, old = LABELS[order], new[order], old[order]
    counted = squared_pair_distances(new, labels, 1.0, tile=tile, devices=devices, known=old)
    by_person = np.argsort(labels, kind="stable")
    pairs = [(i, j) for place, i in enumerate(by_person) for j in by_person[place + 1 :]]
    same = sorted(distance(new[i], old[j]) for i, j in pairs if labels[i] == labels[j])
    different = sorted(distance(new[i], old[j]) for i, j in pairs if labels[i] != labels[j])
    for counts, wanted in ((counted.same, same), (counted.different, different)):
        np.testing.assert_allclose(np.repeat(counts.values, counts.counts), wanted, atol=1e-5)


def test_all_pairs_are_judged_and_named_alike():
    rng = np.random.default_rng(1)
    new, old = some_points(rng)
    order = rng.permutation(len(LABELS))
    labels, new, old = LABELS[order], new[order], old[order]
    metrics = metrics_of_all_pairs(new, labels, [0.05, 0.01], old)
    for i, j, found in (*metrics.wrong.accepts, *metrics.wrong.rejects):
        assert found == pytest.approx(distance(new[i], old[j]), abs=1e-5)
    assert metrics.wrong.accepts
    assert metrics.wrong.rejects
    same = [distance(new[i], old[j]) for i in range(48) for j in range(48) if labels[i] == labels[j] and i < j]
    threshold = metrics.points[0].threshold
    assert metrics.points[0].val == pytest.approx(np.mean(np.array(same) <= threshold + 1e-6), abs=1e-9)
    alone = metrics_of_all_pairs(new, labels, [0.05])
    assert metrics_of_all_pairs(new, labels, [0.05], new).points == alone.points


def test_the_holdout_compares_new_points_with_old_ones():
    new, old = some_points(np.random.default_rng(2))
    result = holdout(new, LABELS, [0.05], splits=2, known=old)
    _, ids, halves = _dealt(new, LABELS, 2, 0, 1e-3)
    vals = []
    for (left, right), split in zip(halves, result.splits, strict=True):
        pairs = [(distance(new[i], old[j]), bool(ids[i] == ids[j])) for i in left for j in right]
        same, different = (np.sort([x for x, is_same in pairs if is_same is wanted]) for wanted in (True, False))
        assert (split.same_pairs, split.different_pairs) == (len(same), len(different))
        # The largest threshold that keeps the rate lies below the first distance that must not be accepted.
        bound = different[int(0.05 * len(different))]
        vals.append(np.mean(same < bound))
    assert result.rates[0].val == pytest.approx(np.mean(vals))
    sure = holdout_intervals(new, LABELS, [0.05], splits=2, known=old)
    low, high = sure.over_identities[0]
    assert low <= result.rates[0].val <= high
    for wrong in sure.wrong:
        for i, j, found in wrong.accepts:
            assert found == pytest.approx(distance(new[i], old[j]), abs=1e-5)
    assert holdout(new, LABELS, [0.05], known=new).rates == holdout(new, LABELS, [0.05]).rates


def test_people_are_enrolled_by_the_old_embedder():
    new, old = some_points(np.random.default_rng(3))
    found = identify(new, LABELS, [0.5], known=old)
    exemplars = np.arange(0, len(LABELS), EACH)
    probes = [i for i in range(len(LABELS)) if i % EACH]
    hits = [LABELS[exemplars[np.argmin([distance(new[i], old[j]) for j in exemplars])]] == LABELS[i] for i in probes]
    assert found.rank1 == pytest.approx(np.mean(hits))
    assert found.rank1 != identify(new, LABELS, [0.5]).rank1


@pytest.fixture(scope="module")
def files(tmp_path_factory, photos):
    """A folder with embeddings of the drawn faces by a new and by an old embedder."""
    folder = tmp_path_factory.mktemp("points")
    names = [f"{path.parent.name}/{path.name}" for path in sorted(photos.glob("*/*"))]
    labels = np.array([name.split("/")[0] for name in names])
    rng = np.random.default_rng(4)
    centres = rng.normal(size=(16, 12))[np.unique(labels, return_inverse=True)[1]]
    new = unit(centres + 0.5 * rng.normal(size=centres.shape))
    old = unit(new + 0.4 * rng.normal(size=centres.shape))
    for name, points in (("new", new), ("old", old), ("strange", unit(rng.normal(size=new.shape)))):
        np.savez(folder / f"{name}.npz", embeddings=points, names=names)
    np.savez(folder / "small.npz", embeddings=old[:, :8], names=names)
    return folder


@pytest.mark.parametrize("protocol", ["photos", "holdout", "identify"])
def test_one_table_shows_the_old_one_both_and_the_new_one(files, photos, tmp_path, capsys, protocol):
    new, old = str(files / "new.npz"), str(files / "old.npz")
    rates = ["--false-alarms=0.2"] if protocol == "identify" else ["--far=0.05"]
    common = ["evaluate", protocol, f"--data={photos}", *rates]
    assert main([*common, f"--embedder={new}", f"--against={old}", f"--out={tmp_path}"]) == 0
    assert f"{new} against {old}" in capsys.readouterr().out
    entries = json.loads((tmp_path / f"{protocol}.json").read_text())["embedders"]
    assert [one["name"] for one in entries] == [old, f"{new} against {old}", new]
    assert entries[1]["against"] == {"new": new, "old": old}
    assert entries[1]["digest"] == against_digest(entries[2]["digest"], entries[0]["digest"])
    results = [one["result"] for one in entries]
    (key, share) = ("open_set", "rate") if protocol == "identify" else ("rates", "val")
    vals = [result[key][0][share] for result in results]
    assert vals[0] < vals[1] < vals[2]
    assert len({result[key][0]["threshold"] for result in results}) == 3
    alone = tmp_path / "alone"
    assert main([*common, f"--embedder={old}", f"--out={alone}"]) == 0
    assert json.loads((alone / f"{protocol}.json").read_text())["embedders"][0]["result"] == results[0]

    collected = collect([tmp_path])
    ((first, both, last, protocols),) = compatible(collected.embedders)
    assert (first.name, last.name, protocols) == (old, new, [protocol])
    rows = {row[1]: row[2:] for row in compatibility(first, both, last, protocols).rows}
    what = "identified at false-alarm rate 0.2" if protocol == "identify" else "VAL at FAR 0.05"
    assert [cell.key for cell in rows[what]] == pytest.approx(vals)
    assert all(f", {result[key][0]['threshold']:.4f}" in cell.text for cell, result in zip(rows[what], results))  # noqa: B905
    page = build(collected, "title", images=False)
    assert "A new network against an old one" in page
    assert not list(compatible(collect([alone]).embedders))


def test_in_lists_of_pairs_the_first_face_is_new_and_the_second_old(files, photos, tmp_path):
    lines = ["2\t8"]
    for fold in range(2):
        people = range(6 * fold, 6 * fold + 6)
        lines += [f"p{p}\t{i}\t{j}" for p in people for i, j in ((1, 2), (2, 3))][:8]
        lines += [f"p{p}\t1\tp{q}\t2" for p in people for q in people if p != q][:8]
    (tmp_path / "pairs.txt").write_text("\n".join(lines) + "\n")
    folder = tmp_path / "lfw"
    rng = np.random.default_rng(5)
    names, labels = [], []
    for person in range(12):
        (folder / f"p{person}").mkdir(parents=True)
        for number in range(1, 4):
            name = f"p{person}/p{person}_{number:04d}.jpg"
            (folder / name).write_bytes(b"never read")
            names.append(name)
            labels.append(person)
    new = unit(rng.normal(size=(12, 8))[labels] + 0.5 * rng.normal(size=(36, 8)))
    old = unit(new + 0.3 * rng.normal(size=new.shape))
    for name, points in (("new", new), ("old", old)):
        np.savez(tmp_path / f"{name}.npz", embeddings=points, names=names)
    new_file, old_file = tmp_path / "new.npz", tmp_path / "old.npz"
    command = ["evaluate", "lfw", f"--data={folder}", f"--pairs={tmp_path / 'pairs.txt'}", f"--embedder={new_file}"]
    assert main([*command, f"--against={old_file}", "--far=0.25", f"--out={tmp_path / 'out'}"]) == 0
    both = json.loads((tmp_path / "out" / "lfw.json").read_text())["embedders"][1]["result"]
    rows = {name: row for row, name in enumerate(names)}
    for first, second, found in (*both["wrong"]["false_accepts"], *both["wrong"]["false_rejects"]):
        assert found == pytest.approx(distance(new[rows[first]], old[rows[second]]), abs=1e-5)
    assert both["wrong"]["false_accepts"]


def test_mistakes_are_refused_in_one_sentence(files, photos, capsys):
    new, old = f"--embedder={files / 'new.npz'}", f"--against={files / 'old.npz'}"
    where = ["evaluate", "photos", f"--data={photos}"]
    assert "judges one new embedder: give one --embedder" in refused(
        capsys, *where, new, f"--embedder={files / 'strange.npz'}", old
    )
    assert "flip:EMBEDDER in place of --flip" in refused(capsys, *where, new, old, "--flip")
    assert "was given twice" in refused(capsys, *where, new, f"--against={files / 'new.npz'}")
    small = refused(capsys, *where, new, f"--against={files / 'small.npz'}")
    assert "gives points of 12 coordinates" in small
    assert "of 8, which cannot be compared" in small
