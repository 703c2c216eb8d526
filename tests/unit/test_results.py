"""What is kept of a run of tests names the commit of the code that it was of."""

import subprocess

import pytest

from scripts.results import circumstances, commit


@pytest.fixture
def checkout(tmp_path):
    """A function: writes a file, and commits it if told so; returns what git calls that commit."""

    def git(*words):
        command = ["git", "-c", "user.name=n", "-c", "user.email=e@example.org", *words]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout

    def write(name, text, *, commits):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if commits:
            git("add", "--all")
            git("commit", "--quiet", "--message", name)
            return git("rev-parse", "--short=12", "HEAD").strip()
        return None

    git("init", "--quiet")
    return write


@pytest.mark.needs_git
def test_documents_and_results_are_no_code(checkout, tmp_path):
    code = checkout("code.py", "1", commits=True)
    checkout("docs/page.md", "1", commits=True)
    checkout("bench/results/results.json", "1", commits=True)
    assert commit(tmp_path) == code
    checkout("docs/other.md", "1", commits=False)
    assert commit(tmp_path) == code
    checkout("code.py", "2", commits=False)
    assert commit(tmp_path) == f"{code}+changes"
    assert commit(tmp_path) != checkout("bench/pairs.py", "1", commits=True) == commit(tmp_path)


def test_without_a_repository_there_is_none(tmp_path):
    assert commit(tmp_path) == ""
    assert {"date", "commit", "machine", "versions"} == circumstances().keys()
