"""The process restarts itself with huge pages, once, and only where Linux gives them on request."""

import os
import sys

import pytest

from facenet_jax import __main__, cli
from facenet_jax.runtime import huge_pages


@pytest.fixture
def begun_again(monkeypatch, tmp_path):
    """A function of the kernel's setting and the environment: (the command it restarts with, its settings), or None."""

    def ask(kernel, given):
        (tmp_path / "enabled").write_text(kernel)
        monkeypatch.setattr(huge_pages, "_KERNEL", tmp_path / "enabled" if kernel else tmp_path / "none")
        monkeypatch.setenv("GLIBC_TUNABLES", given)
        calls = []
        monkeypatch.setattr(os, "execv", lambda program, words: calls.append((program, words)))
        huge_pages.ask_for_huge_pages()
        return (calls[0], os.environ["GLIBC_TUNABLES"]) if calls else None

    return ask


def test_it_restarts_with_the_same_arguments_and_settings(begun_again):
    (program, words), tunables = begun_again("always [madvise] never", "glibc.malloc.check=0")
    assert program == sys.executable
    assert words[1:] == sys.orig_argv[1:]
    assert tunables == "glibc.malloc.check=0:glibc.malloc.hugetlb=1"


@pytest.mark.parametrize(
    ("kernel", "given"),
    [
        ("[always] madvise never", ""),
        ("always madvise [never]", ""),
        ("", ""),
        ("always [madvise] never", "glibc.malloc.hugetlb=0"),
        ("always [madvise] never", "glibc.malloc.check=0:glibc.malloc.hugetlb=1"),
    ],
)
def test_it_does_not_restart_without_effect(begun_again, kernel, given):
    assert begun_again(kernel, given) is None


@pytest.mark.parametrize(("word", "asks"), [("train", True), ("config", False), ("--help", False)])
def test_only_training_asks_for_huge_pages(word, asks, monkeypatch):
    asked = []
    monkeypatch.setattr(__main__, "ask_for_huge_pages", lambda: asked.append(word))
    monkeypatch.setattr(cli, "main", lambda: 0)
    monkeypatch.setattr(__main__.library_log, "watch", lambda command: None)  # it would redirect this process's output
    monkeypatch.setattr(sys, "argv", ["facenet-jax", word])
    assert __main__.main() == 0
    assert bool(asked) == asks
