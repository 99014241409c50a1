"""Which identities are trained on, and which are held out."""

import shutil

import numpy as np
import pytest

from facenet_jax.config import as_saved, load_config, smaller_batch
from facenet_jax.errors import InputError
from facenet_jax.input.plan import BatchPlan
from facenet_jax.training.training_faces import fit_batch, online_plan, open_faces, open_held_out
from preparing import prepared


def opened(*overrides):
    return open_faces(load_config("quickstart", list(overrides)))


def test_nobody_is_trained_on_and_held_out(photos):
    faces = opened(f"--config.data.path={photos}", "--config.eval.holdout=0.3")
    held_out = set(faces.held_out.source.index.identity_of(faces.held_out.records).tolist())
    assert len(held_out) == faces.held_out.identities >= 2
    assert not held_out & set(faces.train_identities.tolist())
    assert len(held_out) + len(faces.train_identities) == len(faces.train.index.names)


def test_drawn_people_held_out_lie_beyond_any_number_of_training_identities():
    faces = opened("--config.data.drawn.identities=8000000")
    train, held_out = faces.train.index.names, faces.held_out.source.index.names
    assert train[7_999_999] == "drawn-7999999"
    assert len(train) == 8_000_000
    assert int(held_out[0].removeprefix("drawn-")) >= 10**9
    with pytest.raises(InputError, match="at most"):
        opened("--config.data.drawn.identities=1000000001")


def test_digests_depend_on_the_faces_and_on_who_is_held_out(photos, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(photos, other)
    for person in other.iterdir():
        person.rename(other / f"new {person.name}")
    base = f"--config.data.path={photos}"
    share, more, elsewhere = (
        opened(base),
        opened(base, "--config.eval.holdout=0.5"),
        opened(base, f"--config.eval.path={other}"),
    )
    assert len({share.digest, more.digest, elsewhere.digest}) == 3
    assert len({share.held_out.digest, more.held_out.digest, elsewhere.held_out.digest}) == 3
    moved = tmp_path / "moved"
    moved.symlink_to(photos)
    assert opened(f"--config.data.path={moved}").digest == share.digest


def test_the_faces_of_a_person_that_are_evaluated_are_limited(photos):
    held_out = open_held_out(str(photos), 3)
    _, counts = np.unique(held_out.source.index.identity_of(held_out.records), return_counts=True)
    assert set(counts) == {3}
    assert held_out.identities == 12


def test_names_in_both_folders_are_reported(photos, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(photos, other)
    (other / "person 00" / "0.png").unlink()
    faces = opened(f"--config.data.path={photos}", f"--config.eval.path={other}")
    assert faces.shared_names == 16
    assert "warning: 16 identities" in faces.describe()
    file = tmp_path / "names.txt"
    file.write_text("\n".join(name for name in faces.train.index.names if name not in ("person 01", "person 02")))
    exclude = f"--config.data.exclude={file}"
    faces = opened(f"--config.data.path={photos}", f"--config.eval.path={other}", exclude)
    assert faces.shared_names == 2  # people who are not trained on may be evaluated on


def test_excluded_people_are_neither_trained_on_nor_evaluated(photos, tmp_path):
    base = [f"--config.data.path={photos}", "--config.eval.holdout=0.3"]
    before = opened(*base)
    held_out = np.unique(before.held_out.source.index.identity_of(before.held_out.records))
    names = before.train.index.names
    gone = [int(held_out[0]), *before.train_identities[:2].tolist()]
    file = tmp_path / "names.txt"
    file.write_text("".join(f"{names[i]}\n" for i in gone) + "\nnobody\n")
    after = opened(*base, f"--config.data.exclude={file}")
    assert after.train_identities.tolist() == before.train_identities[2:].tolist()
    assert np.unique(before.train.index.identity_of(after.held_out.records)).tolist() == held_out[1:].tolist()
    assert (
        f"3 identities that {file} names; 1 of its names match no identity or face, such as nobody" in after.describe()
    )
    assert after.digest != before.digest
    with pytest.raises(InputError, match=r"exclude=.*cannot be read"):
        opened(*base, "--config.data.exclude=/nowhere")
    file.write_text("\n".join(names[i] for i in before.train_identities))
    with pytest.raises(InputError, match="leave nobody"):
        opened(*base, f"--config.data.exclude={file}")


def test_identities_with_few_faces_are_not_trained_on(photos):
    base = [f"--config.data.path={photos}", "--config.eval.holdout=0.3"]
    before, after = opened(*base), opened(*base, "--config.data.min_faces=2")
    assert after.held_out.digest == before.held_out.digest
    assert len(before.train_identities) - len(after.train_identities) == 4
    assert "4 identities with fewer than 2 faces" in after.describe()
    assert after.train.index.counts[after.train_identities].min() == 5


def test_a_mixture(photos, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(photos, other)
    (other / "person 00" / "0.png").rename(other / "person 00" / "new.png")
    mixture = f"--config.data.mixture=(('{photos}', 1), ('drawn', 2), ('{other}', 1.5))"
    drawn = "--config.data.drawn.identities=50"
    faces = opened(mixture, drawn, "--config.eval.holdout=0.3")
    index = faces.train.index
    assert len(index.names) == 16 + 50 + 16
    assert index.names[16] == "drawn-0000000"
    assert [part.weight for part in faces.parts] == [1, 2, 1.5]
    held_out = index.identity_of(faces.held_out.records)
    assert sorted({*faces.train_identities, *held_out}) == list(range(82))
    assert not set(faces.train_identities) & set(held_out)
    assert all(
        set(part.identities) <= set(range(*border))
        for part, border in zip(faces.parts, ((0, 16), (16, 66), (66, 82)), strict=True)
    )
    assert "22.2% of a batch" in faces.describe()
    plan = BatchPlan(index, faces.parts, size=20, faces_per_identity=4, random_negatives=2)
    batch = plan.batch(0)
    assert set(batch.labels) <= set(faces.train_identities)
    assert all(faces.train.load(int(record), (32, 32)).shape == (32, 32, 3) for record in batch.records)
    assert faces.digest != opened(mixture, "--config.data.drawn.identities=51", "--config.eval.holdout=0.3").digest
    for path in (photos, other):
        with pytest.raises(InputError, match="the very faces that are trained on"):
            opened(mixture, f"--config.eval.path={path}")


def test_too_few_people_to_hold_out(photos, tmp_path):
    few = tmp_path / "few"
    shutil.copytree(photos / "person 00", few / "a")
    with pytest.raises(InputError, match="too few"):
        opened(f"--config.data.path={few}")
    with pytest.raises(InputError, match="fewer than two identities"):
        open_held_out(str(few), 5)


def test_a_single_person_is_not_trained_on(photos, tmp_path):
    one = tmp_path / "one"
    shutil.copytree(photos / "person 00", one / "a")
    with pytest.raises(InputError, match="a alone is left to train on, without anybody to compare with"):
        opened(f"--config.data.path={one}", f"--config.eval.path={photos}")
    for name in ("01", "02"):
        shutil.copytree(photos / f"person {name}", one / name)
    with pytest.raises(
        InputError, match=r"alone is left to train on.* \(2 are held out; .* config\.eval\.path none is"
    ):
        opened(f"--config.data.path={one}", "--config.eval.holdout=0.3")


@pytest.mark.parametrize(
    ("counts", "batch"),
    [([6] * 10, ("batch.size=4", "batch.faces_per_identity=4")), ([10, *[1] * 8], ("batch.size=6",))],
)
def test_batches_of_a_single_person_are_refused(tmp_path, counts, batch):
    people, others = (written(tmp_path / name, each) for name, each in (("people", counts), ("others", [3] * 4)))
    eval_path = others.replace("data", "eval")
    config = load_config("quickstart", [people, eval_path, *(f"--config.{one}" for one in batch)])
    faces = open_faces(config)
    with pytest.raises(InputError, match="one person alone, without anybody to compare with, and every gradient"):
        online_plan(config, faces, config.batch.size)


def test_the_same_folder_twice_in_a_mixture_is_refused(photos, tmp_path):
    (tmp_path / "link").symlink_to(photos)
    for other in (tmp_path / "link", f"{photos}/"):
        with pytest.raises(InputError, match="everybody in it would be two people"):
            opened(f"--config.data.mixture=(('{photos}', 1), ('{other}', 2))")


@pytest.mark.parametrize("form", ["folder", "prepared", "mixture"])
def test_excluded_faces_are_neither_trained_on_nor_evaluated(photos, tmp_path, form):
    data = f"--config.data.path={photos}"
    if form == "prepared":
        prepared(photos, tmp_path / "faces")
        data = f"--config.data.path={tmp_path / 'faces'}"
    if form == "mixture":
        data = f"--config.data.mixture=(('drawn', 1), ('{photos}', 1))"
    base = [data, "--config.eval.holdout=0.3", "--config.data.drawn.identities=20"]
    before = opened(*base)

    def files(source, records):
        return {str(source.describe(int(r))).rstrip(")").split("(")[-1].removeprefix(f"{photos}/") for r in records}

    held = files(before.held_out.source, before.held_out.records)
    learnt = files(before.train, before.train.index.records_of(before.train_identities))
    person = [name for name in sorted(learnt) if name.startswith("person")]
    gone = {person[0], person[-1], sorted(name for name in held if name.startswith("person"))[0]}
    file = tmp_path / "faces.txt"
    file.write_text("\n".join([*gone, "person 00/never.png"]))
    after = opened(*base, f"--config.data.exclude={file}")
    assert files(after.held_out.source, after.held_out.records) == held - gone
    assert files(after.train, after.train.index.records_of(after.train_identities)) == learnt - gone
    assert f"0 identities and 3 faces that {file} names; 1 of its names match no identity or face" in after.describe()
    assert after.digest != before.digest
    assert after.digest == opened(*base, f"--config.data.exclude={file}").digest


def written(folder, counts):
    for person, count in enumerate(counts):
        (folder / f"p{person:02d}").mkdir(parents=True)
        for photo in range(count):
            (folder / f"p{person:02d}" / f"{photo}.jpg").write_bytes(b"")
    return f"--config.data.path={folder}"


@pytest.mark.parametrize(
    ("counts", "recipe", "size", "negatives"),
    [
        ([7] * 10 + [8] * 10, "recipe_cpu", None, None),  # 150 photographs of 20 people
        ([6] * 7 + [7] * 33, "recipe_cpu", None, None),  # 273 photographs of 40 people
        ([40] * 12, "recipe_cpu", 180, 30),  # 10 people are trained on, with 15 faces each in an epoch
        ([4] * 100, "nn1", 360, 40),
        ([10] * 60, "recipe_cpu", 360, 60),
    ],
)
def test_the_batch_follows_the_faces(tmp_path, counts, recipe, size, negatives):
    config = load_config(recipe, [written(tmp_path / "album", counts)])
    faces = open_faces(config)
    fitted, said = fit_batch(config, faces)
    trained_on = int(faces.train.index.counts[faces.train_identities].sum())
    size = size or trained_on  # all faces
    negatives = size // 6 if negatives is None else negatives
    assert (fitted.batch.size, fitted.batch.random_negatives) == (size, negatives)
    assert online_plan(fitted, said, size).batches_per_epoch >= 1
    assert (config.batch.size == size) == (said.remarks == faces.remarks)
    if config.batch.size != size:
        with pytest.raises(InputError, match=r"--config\.batch\.size.*--config\.batch\.random_negatives"):
            online_plan(config, faces, config.batch.size)
        larger = fitted.copy_and_resolve_references()
        # One more could fit, because the share is rounded down.
        larger.update_from_flattened_dict(smaller_batch(as_saved(config), size + 2))
        with pytest.raises(InputError):
            online_plan(larger, faces, size + 2)
        line = said.remarks[-1]
        assert f"{size:,} faces" in line
        assert "--config.batch.size" in line
        assert "\n" not in line


def test_the_batch_follows_each_dataset_of_a_mixture(tmp_path):
    paths = [written(tmp_path / name, [6] * 10).partition("=")[2] for name in "ab"]
    mixture = f"--config.data.mixture=(('{paths[0]}', 3.0), ('{paths[1]}', 1.0))"
    config = load_config("recipe_cpu", [mixture])
    fitted, faces = fit_batch(config, open_faces(config))
    assert 40 < fitted.batch.size < 120  # the first gives three quarters of the visits
    assert online_plan(fitted, faces, fitted.batch.size)
    with pytest.raises(InputError, match=r"lower batch\.size"):
        online_plan(fitted, faces, fitted.batch.size + 2)


def test_too_few_faces_for_any_batch_are_refused(tmp_path):
    config = load_config("nn1", [written(tmp_path / "few", [1, 2, 2, 2])])
    fitted, faces = fit_batch(config, open_faces(config))
    assert fitted.batch.size == 1800
    with pytest.raises(InputError, match="3 faces, fewer than one batch of 1800"):
        online_plan(fitted, faces, 1800)
