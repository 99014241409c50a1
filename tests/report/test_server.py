"""`facenet-jax view`: what it serves and to whom, and what it never serves."""

import http.client
import os
import re
import signal
import subprocess
import sys

import pytest

from facenet_jax.cli import main
from facenet_jax.report.page import Table, render, templates
from served import CHROMIUM, seen_in_frames, serving


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of results, with links and files beside it that must not be served."""
    root = tmp_path_factory.mktemp("place")
    results = root / "results"
    (results / "audit").mkdir(parents=True)
    (results / "site").mkdir()
    (root / "secret.txt").write_text("secret")
    (root / "results-2").mkdir()
    (root / "results-2" / "x.txt").write_text("secret")
    page = render("folder.html", "A report", above=False, pages=[], entries=[], more=0)
    (results / "report.html").write_text(page)
    (results / "audit" / "audit.html").write_text(page)
    (results / "site" / "index.html").write_text("<!doctype html><title>index</title>")
    (results / "photos.json").write_text('{"a": 1}')
    (results / "roc.PNG").write_bytes(b"\x89PNG")
    (results / "index.faiss").write_bytes(bytes(300_000))
    (results / "a b#?&'<i>é.csv").write_text("a,b\n")
    (results / os.fsdecode(b"\xff.txt")).write_text("bytes")
    (results / ".lock").write_text("secret")
    (results / "out.txt").symlink_to(root / "secret.txt")
    (results / "beside").symlink_to(root / "results-2")
    (results / "inside.json").symlink_to("photos.json")
    (results / "circle").symlink_to("circle")
    os.mkfifo(results / "pipe.txt")
    return results


@pytest.fixture(scope="module")
def server(folder):
    with serving(folder) as one:
        yield one


def asked(server, target, method="GET", **headers):
    """(status, headers, body)."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.putrequest(method, target, skip_host="Host" in headers)
    for name, value in headers.items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.headers, body


@pytest.mark.parametrize(
    ("target", "kind", "begins"),
    [
        ("/report.html", "text/html; charset=utf-8", b"<!doctype html>"),
        ("/audit/audit.html?x=1", "text/html; charset=utf-8", b"<!doctype html>"),
        ("/site/", "text/html; charset=utf-8", b"<!doctype html><title>index"),
        ("/photos.json", "application/json", b'{"a": 1}'),
        ("/inside.json", "application/json", b'{"a": 1}'),
        ("/roc.PNG", "image/png", b"\x89PNG"),
        ("/index.faiss", "application/octet-stream", bytes(300_000)),
        ("/a%20b%23%3F%26%27%3Ci%3E%C3%A9.csv", "text/csv; charset=utf-8", b"a,b"),
        ("/%FF.txt", "text/plain; charset=utf-8", b"bytes"),
    ],
)
def test_files_of_the_folder_are_served_whole_with_their_type(server, target, kind, begins):
    status, headers, body = asked(server, target)
    assert (status, headers["Content-Type"]) == (200, kind)
    assert body.startswith(begins)
    assert int(headers["Content-Length"]) == len(body)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    status, alone, nothing = asked(server, target, "HEAD")
    assert (status, alone["Content-Length"], nothing) == (200, headers["Content-Length"], b"")


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/../secret.txt", 404),
        ("/audit/../../secret.txt", 404),
        ("/%2e%2e/secret.txt", 404),
        ("/..%2fsecret.txt", 404),
        ("/audit/%2e%2e%2f%2e%2e%2fsecret.txt", 404),
        ("/../results-2/x.txt", 404),
        ("/.lock", 404),
        ("/%2Elock", 404),
        ("/report.html%00.txt", 404),
        ("/none", 404),
        ("/" + "x" * 5000, 404),
        ("/circle", 404),
        ("/out.txt", 403),
        ("/beside/x.txt", 403),
        ("/beside/", 403),
        ("/pipe.txt", 403),
        ("/report.html/x", 404),
        ("//etc/passwd", 404),
        ("http://127.0.0.1/report.html", 400),
        ("report.html", 400),
        ("*", 400),
    ],
)
def test_files_outside_the_folder_are_not_served(server, target, status):
    found, _, body = asked(server, target, Host=f"localhost:{server.server_port}")
    assert found == status
    assert b"secret" not in body
    assert b"root:" not in body


def test_hosts_of_other_names_and_other_methods_are_refused(server):
    port = server.server_port
    for host in (f"localhost:{port}", f"LOCALHOST:{port}", f"127.0.0.1:{port}"):
        assert asked(server, "/photos.json", Host=host)[0] == 200
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "localhost",
        f"localhost:{port + 1}",
        f"127.0.0.1.evil:{port}",
        "",
    ):
        status, _, body = asked(server, "/photos.json", Host=host)
        assert status == 421, host
        assert b'"a"' not in body
    assert asked(server, "/photos.json", Host=None)[0] == 421
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert asked(server, "/photos.json", method)[0] == 501
    assert server.server_address[0] == "127.0.0.1"


def test_a_folder_lists_what_it_serves_and_its_links_lead_there(server):
    status, headers, body = asked(server, "/")
    text = body.decode()
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    links = re.findall(r'href="\./(.*?)"', text)
    assert links[:3] == ["audit/audit.html", "report.html", "site/index.html"]
    for link in links:
        assert asked(server, f"/{link}")[0] == 200, link
    for hidden in ("out.txt", "beside", "pipe", "circle", ".lock", "secret"):
        assert hidden not in text
    assert "&lt;i&gt;" in text
    assert "<i>" not in text
    status, headers, _ = asked(server, "/audit")
    assert (status, headers["Location"]) == (301, "./audit/")
    assert b"the folder above" in asked(server, "/audit/")[2]


def test_the_command_prints_its_address_and_ends_cleanly_on_ctrl_c(folder):
    # Background jobs of a shell, and processes that they start, ignore SIGINT.
    code = """import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("facenet_jax", run_name="__main__")"""
    command = [sys.executable, "-c", code, "view", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            found = re.fullmatch(r"open +http://127\.0\.0\.1:(\d+)/\n", process.stdout.readline())
            connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=10)
            connection.request("GET", "/photos.json")
            assert connection.getresponse().read() == b'{"a": 1}'
            process.send_signal(signal.SIGINT)
            _, error = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, error) == (0, "")


def test_mistakes_are_refused_in_one_sentence(server, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for arguments, sentence in (
        ([str(tmp_path / "none")], "none cannot be read (No such file or directory)"),
        ([str(tmp_path / "file")], "file is not a folder"),
        ([str(tmp_path), f"--port={server.server_port}"], "cannot be listened on (Address already in use)"),
        ([str(tmp_path), "--port=70000"], "give a number from 1 to 65535"),
        ([str(tmp_path), "--port=-1"], "give a number from 1 to 65535"),
    ):
        assert main(["view", *arguments]) == 2
        assert sentence in capsys.readouterr().err


@pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser_pages_fit_and_their_scripts_run(tmp_path, width):
    results = tmp_path / "results"
    (results / "audit").mkdir(parents=True)
    (results / f"{'a_rather_long_name_of_a_file_' * 7}.json").write_text("{}")
    page = '{% extends "page.html" %}{% from "parts.html" import table %}{% block body %}{{ table(one) }}{% endblock %}'
    table = Table(["name", "value"], [["b", "2"], ["a", "1"]])
    (results / "audit" / "audit.html").write_text(templates().from_string(page).render(title="Sorted", one=table))
    listing, audit = seen_in_frames(results, ("./", "audit/audit.html"), width, tmp_path / "profile")
    for seen in (listing, audit):
        assert (seen["width"], seen["needs"], seen["broken"]) == (width, width, 0)
    assert listing["links"][:2] == ["/audit/audit.html", "/frames.html"]
    assert audit["sorted"] == "ascending"
