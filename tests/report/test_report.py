"""The report is complete and self-contained, and works in a real browser."""

import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from evaluating import album
from facenet_jax.cli import main
from facenet_jax.errors import InputError
from facenet_jax.evaluation.holdout import holdout, holdout_to_json, resolved_fars
from facenet_jax.images.cut import FaceCutter
from facenet_jax.report import galleries, tables
from facenet_jax.report.build import build
from facenet_jax.report.collect import collect
from facenet_jax.report.page import thumbnail
from facenet_jax.report.tables import mirror_images
from networks import saved_run
from served import CHROMIUM

DAMAGES = int(os.environ.get("STORM_DAMAGES", "2"))  # how many for each seed


@pytest.fixture(scope="module")
def measured(tmp_path_factory, photos):
    """Folders of `evaluate --out`, of a run and of two files of embeddings on drawn faces."""
    from facenet_jax.datasets.folder import FolderSource

    folder = tmp_path_factory.mktemp("measured")
    source = FolderSource(photos)
    names = ["/".join(source.describe(i).split("/")[-2:]) for i in range(source.index.records)]
    labels = source.index.identity_of(np.arange(len(names)))
    for name, noise in (("fine", 0.5), ("poor", 1.5)):
        rng = np.random.default_rng(len(name))
        points = rng.normal(size=(16, 16))[labels] + noise * rng.normal(size=(len(labels), 16))
        np.savez(folder / f"{name}.npz", embeddings=points, names=names)
    run = saved_run(folder / "run", photos)
    files = [f"--embedder={folder / f'{name}.npz'}" for name in ("fine", "poor")]
    where = [f"--data={photos}", f"--out={folder / 'out'}"]
    for protocol in ("photos", "holdout", "compact", "identify", "cluster"):
        assert main(["evaluate", protocol, *files, *where]) == 0
    shared = ["--keep-shared", f"--embedder={run}", f"--data={photos}", f"--out={folder / 'run' / 'evaluation'}"]
    for protocol in ("holdout", "robustness"):
        assert main(["evaluate", protocol, *shared, "--far", "0.1"]) == 0
    (folder / "run" / "metrics.jsonl").write_text('{"step": 1, "loss": 0.2}\n{"step": 2, "loss": 0.1}\n{"st')
    return folder


@pytest.fixture(scope="module")
def page(measured):
    output = measured / "report.html"
    assert main(["report", str(measured / "out"), str(measured / "run"), "-o", str(output)]) == 0
    return output


class _Parser(HTMLParser):
    """Collects headings, and addresses that a browser would fetch."""

    def __init__(self):
        super().__init__()
        self.fetched, self.open, self.sections = [], [], []

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        named = dict(attributes)
        self.fetched += [named[key] for key in ("src", "href") if named.get(key) and tag != "use"]

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2" and data.strip():
            self.sections.append(data.strip())


def test_every_table_and_figure_is_there_and_nothing_is_fetched(page):
    parser = _Parser()
    parser.feed(page.read_text())
    for wanted in ("Embedders and their training data", "Table 3", "Table 4", "Table 5", "Table 6", "Comparisons"):
        assert any(wanted in heading for heading in parser.sections), wanted
    for wanted in ("Figure 1", "Figure 4", "Figure 5", "Distances", "Figure 6", "Figure 7"):
        assert any(wanted in heading for heading in parser.sections), wanted
    for wanted in ("Worst identities", "Training", "Left out"):
        assert any(wanted in heading for heading in parser.sections), wanted
    assert parser.fetched
    assert all(address.startswith(("data:", "#")) for address in parser.fetched)
    text = page.read_text()
    assert "url(http" not in text
    assert text.count("data:image/jpeg;base64,") > 10
    assert "87.9 % ± 1.9" not in re.sub("Table 5.*", "", text, flags=re.S)  # no NN1 was measured
    # The run is an NNS2; Figure 4 has all the paper's networks whatever was measured.
    assert "51.9 % ± 2.9" in re.sub("<svg.*?</svg>", "", text, flags=re.S)


def test_marks_have_titles_that_place_them(page):
    titles = re.findall(r"<title>([^<]*)</title>", page.read_text())
    assert any(re.search(r"fine\.npz: VAL [\d.]+ % at FAR", title) for title in titles)
    assert any(re.search(r"[\d,]+ different pairs between", title) for title in titles)
    assert any("the paper's nn4: 82.0 % ± 2.3, 285M multiply-adds" in title for title in titles)


def test_without_images_no_face_is_on_the_page(measured):
    text = build(collect([measured / "out"]), "Title <1>", images=False)
    assert "data:image" not in text
    assert "False accepts" in text
    assert "Title &lt;1&gt;" in text


def test_names_that_are_not_valid_text_are_shown_by_their_bytes(measured, tmp_path):
    output, title = tmp_path / "report.html", os.fsdecode(b"of \xff")
    output.write_text("before")
    with output.open() as before:  # the page is replaced as a whole: the old file is never emptied
        assert main(["report", str(measured / "out"), "-o", str(output), "--no-images", "--title", title]) == 0
        assert before.read() == "before"
    assert b"<title>of \xff</title>" in output.read_bytes()


def test_folders_in_which_nothing_was_measured(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        collect([tmp_path / "none"])
    (tmp_path / "other.json").write_text("[1]")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(InputError, match="Nothing was measured in"):
        collect([tmp_path])


def test_a_run_that_was_measured_by_itself_alone(tmp_path, measured):
    document = json.loads((measured / "out" / "holdout.json").read_text())
    config = {"model.name": "nn4", "model.input_size": [96, 96], "model.embedding_size": 128}
    (tmp_path / "run.json").write_text(json.dumps({"config": config}))
    (tmp_path / "report.json").write_text(json.dumps({"step": 5, "holdout": document["embedders"][0]["result"]}))
    text = build(collect([tmp_path]), "Title")
    assert f"{tmp_path} at step 5" in text
    assert "82.0 % ± 2.3" in text


def test_pictures_are_cut_as_they_were_measured(tmp_path, monkeypatch):
    file = tmp_path / "ada" / "0.png"
    file.parent.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (120, 200, 3)).astype(np.uint8)).save(file)
    (face,) = FaceCutter("centre")(file.read_bytes(), (96, 96))
    assert galleries._thumbnail([tmp_path], "ada/0.png", "centre") == thumbnail(Image.fromarray(face.pixels))
    whole = galleries._thumbnail([tmp_path], "ada/0.png", "none")
    assert whole == thumbnail(file) != galleries._thumbnail([tmp_path], "ada/0.png", "centre")
    assert galleries._thumbnail([tmp_path], "ada/none.png", "centre") == ""
    monkeypatch.setattr(galleries, "_cutter", lambda crop: None)  # as if the detector were not installed
    assert galleries._thumbnail([tmp_path], "ada/0.png", "tight") == whole


def test_with_few_people_the_smallest_resolved_rate_is_shown_with_area_and_equal_error_rate(tmp_path):
    points, labels = album(6, 7)
    result = holdout_to_json(holdout(points, labels, resolved_fars(labels, (0.01, 0.001))))
    config = {"model.name": "nn4", "model.input_size": [96, 96], "model.embedding_size": 128}
    (tmp_path / "run.json").write_text(json.dumps({"config": config}))
    (tmp_path / "report.json").write_text(json.dumps({"step": 5, "holdout": result}))
    table = tables.table_3(collect([tmp_path]).embedders)
    assert table.heads[4:7] == ("at the smallest FAR", "area", "equal error")
    (row,) = table.rows
    rate, split = result["rates"][2], result["splits"][0]
    assert row[2].text == "unresolved"
    assert row[4].text == f"{100 * rate['val']:.1f} % at 0.0028"
    assert [cell.key for cell in row[5:7]] == [split["area"], split["equal_error_rate"]]
    assert "at the smallest FAR" in build(collect([tmp_path]), "Title")


def test_a_sweep_is_shown_with_its_points(tmp_path, measured):
    document = json.loads((measured / "out" / "holdout.json").read_text())
    result = document["embedders"][0]["result"]
    config = {"model.name": "nn4", "model.input_size": [96, 96], "model.embedding_size": 64}
    (tmp_path / "points" / "64").mkdir(parents=True)
    (tmp_path / "points" / "64" / "run.json").write_text(json.dumps({"config": config}))
    (tmp_path / "points" / "64" / "report.json").write_text(json.dumps({"step": 5, "holdout": result}))
    points = [
        {"name": "64", "state": "finished", "rates": result["rates"]},
        {"name": "128", "state": "failed (exit code 2)", "rates": []},
    ]
    content = {"question": "How long?", "paper": {"64": [0.868, 0.017]}, "points": points}
    (tmp_path / "sweep.json").write_text(json.dumps(content))
    (tmp_path / "sweep.png").write_bytes(b"picture")
    text = build(collect([tmp_path]), "Title")
    assert "Sweep: How long?" in text
    assert "86.8 % ± 1.7" in text
    assert "failed (exit code 2)" in text
    assert "data:image/png;base64,cGljdHVyZQ==" in text
    assert f"{tmp_path / 'points' / '64'} at step 5" in text


# Clicks each column head of the first table with several rows, and sends what it saw to the page around the frame.
_CLICKS = """
<script>
const seen = {errors: window.failures, figures: document.querySelectorAll("figure svg").length, wide: [], sorted: {}};
const table = [...document.querySelectorAll("table")].find(t => t.tBodies[0].rows.length > 2);
[...table.tHead.rows[0].cells].forEach((head, column) => {
  const text = cell => cell.dataset.key ?? cell.textContent;
  const read = () => [...table.tBodies[0].rows].map(row => text(row.cells[column]));
  head.firstChild.click(); const up = read(); head.firstChild.click();
  seen.sorted[head.textContent] = [up, read(), head.getAttribute("aria-sort")];
});
seen.broken = [...document.images].filter(image => image.complete && !image.naturalWidth).length;
seen.overflow = document.documentElement.scrollWidth > window.innerWidth;
seen.width = window.innerWidth;
seen.dark = matchMedia("(prefers-color-scheme: dark)").matches;
seen.back = getComputedStyle(document.body).backgroundColor;
parent.postMessage(JSON.stringify(seen), "*");
</script>
"""
# A browser window cannot be as narrow as a phone, but a frame can. What its page sends is put where a test reads it.
_FRAME = """<!doctype html><script>
onmessage = told => {
  const left = document.createElement("pre"); left.id = "seen"; left.textContent = told.data;
  document.body.append(left);
};
</script><iframe src="watched.html" width=WIDTH height=900 style="border: 0"></iframe>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")
@pytest.mark.parametrize(("width", "dark"), [(390, True), (1280, False)])
def test_in_a_browser_nothing_fails_and_tables_can_be_sorted(page, tmp_path, width, dark):
    watched = page.read_text().replace(
        "<meta charset=utf-8>",
        "<meta charset=utf-8><script>window.failures = []; window.onerror = m => window.failures.push(m);</script>",
    )
    (tmp_path / "watched.html").write_text(watched + _CLICKS)
    (tmp_path / "frame.html").write_text(_FRAME.replace("WIDTH", str(width)))
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1400,1000",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
    ]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--virtual-time-budget=5000"]
    done = subprocess.run(
        [*command, "--dump-dom", (tmp_path / "frame.html").as_uri()], capture_output=True, text=True, timeout=120
    )
    assert "CONSOLE" not in done.stderr
    found = json.loads(re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.S)[1].replace("&lt;", "<"))
    assert (found["errors"], found["broken"], found["overflow"]) == ([], 0, False)
    assert (found["width"], found["dark"]) == (width, dark)
    assert found["back"] == ("rgb(22, 24, 26)" if dark else "rgb(255, 255, 255)")
    assert found["figures"] >= 5
    for head, (up, down, state) in found["sorted"].items():
        key = lambda text: (0, float(text)) if re.fullmatch(r"[-\d.e]+", text) else (1, 0)  # noqa: E731
        assert state == "descending"
        assert [key(x) for x in up] == sorted(key(x) for x in up), head
        assert [key(x) for x in down] == sorted((key(x) for x in down), reverse=True), head
    assert "embedder" in found["sorted"]
    up, down, _ = found["sorted"]["embedder"]
    assert up == down[::-1]
    assert len(set(up)) == 3


def test_the_figure_with_the_mirror_image_is_shown_beside_the_single_one(tmp_path, photos):
    run, other = saved_run(tmp_path / "run", photos), saved_run(tmp_path / "other", photos, seed=1)

    def measured(out, *arguments):
        common = ["evaluate", "holdout", "--keep-shared", f"--data={photos}", "--far=0.1", f"--out={tmp_path / out}"]
        assert main([*common, *arguments]) == 0
        return collect([tmp_path / out])

    collected = measured("together", f"--embedder={run}", "--flip")
    single, flipped = collected.embedders
    assert (single.name, flipped.name) == (f"{run} at step 6", f"{run} at step 6 with flip")
    vals = [one.result("holdout")["rates"][0]["val"] for one in (single, flipped)]
    (row,) = mirror_images(collected.embedders).rows
    assert row[:3] == [single.name, "holdout", "VAL at FAR 0.1"]
    assert [cell.key for cell in row[3:]] == pytest.approx([*vals, vals[1] - vals[0]])
    assert vals[0] != vals[1]
    assert [(one["first"], one["second"]) for _, _, one in collected.comparisons] == [(single.name, flipped.name)]
    assert "The mirror image" in build(collected, "title", images=False)

    measured("apart", f"--embedder={run}", f"--embedder={other}")
    assert not mirror_images(measured("flipped", f"--embedder=flip:{run}").embedders)
    apart = collect([tmp_path / "apart", tmp_path / "flipped"])
    assert [one.name for one in apart.embedders] == [single.name, flipped.name, f"{other} at step 6"]
    assert [cell.key for cell in mirror_images(apart.embedders).rows[0][3:5]] == pytest.approx(vals)
    # Results of faces that were cut differently are not compared.
    measured("cut", f"--embedder={run}", "--crop=centre")
    assert not mirror_images(collect([tmp_path / "flipped", tmp_path / "cut"]).embedders)


@pytest.mark.parametrize(
    "harm",
    [
        lambda document: document["embedders"][0].pop("name"),
        lambda document: document["embedders"][0].update(result=None),
        lambda document: document.update(embedders={"a": 1}),
        lambda document: document.update(data=7),
    ],
)
def test_a_damaged_evaluation_is_named_and_left_out(measured, tmp_path, harm, capsys):
    shutil.copytree(measured / "out", tmp_path / "out")
    file = tmp_path / "out" / "photos.json"
    document = json.loads(file.read_text())
    harm(document)
    file.write_text(json.dumps(document))
    found = collect([tmp_path / "out"])
    assert f"{file} is damaged and left out" in capsys.readouterr().err
    assert {protocol for one in found.embedders for protocol in one.documents} == {
        "holdout", "compact", "identify", "cluster"
    }  # fmt: skip
    for other in (tmp_path / "out").glob("*.json"):
        if other != file:
            other.unlink()
    with pytest.raises(InputError, match=r"Nothing was measured in .*out"):
        collect([tmp_path / "out"])


def places(value, place=()):
    """The path of every value in a JSON document; of a list, of its first entry and its last."""
    if place:
        yield place
    keys = value if isinstance(value, dict) else sorted({0, len(value) - 1}) if isinstance(value, list) else ()
    for key in keys if value else ():
        yield from places(value[key], (*place, key))


def damages(folder):
    """(file, path, damaged value) of every single damage to the documents that a report reads."""
    for file in sorted(folder.rglob("*.json")):
        for place in places(json.loads(file.read_text())):
            yield from ((file.relative_to(folder), place, now) for now in ("gone", None, "x", -1, [], {}, [[]], 1e400))


@pytest.mark.parametrize("seed", range(3))
def test_a_document_with_any_content_leaves_a_report_of_the_others(measured, tmp_path, seed, capsys):
    place = tmp_path / "measured"
    shutil.copytree(measured, place, ignore=shutil.ignore_patterns("*.html", "checkpoints"))
    every = list(damages(place))
    for file, where, now in [every[number] for number in np.random.default_rng(seed).integers(0, len(every), DAMAGES)]:
        whole = (place / file).read_bytes()
        document = json.loads(whole)
        inner = document
        for key in where[:-1]:
            inner = inner[key]
        if now == "gone":
            del inner[where[-1]]
        else:
            inner[where[-1]] = now
        (place / file).write_text(json.dumps(document))
        capsys.readouterr()
        page = tmp_path / "report.html"
        assert main(["report", str(place / "out"), str(place / "run"), "-o", str(page)]) == 0, (file, where, now)
        assert "fine.npz" in page.read_text()
        named = capsys.readouterr().err
        assert not named or (file.name in named and named.count("\n") == 1), named
        (place / file).write_bytes(whole)
