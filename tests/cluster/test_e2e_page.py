"""What `make e2e` writes into docs/e2e.md."""

import json

from scripts.e2e import page, read_tests

REPORT = """<testsuites><testsuite>
<testcase classname="tests.e2e" name="test_pod_taken_away[evicted]" time="61.4"/>
<testcase classname="tests.e2e" name="test_preempted" time="3"><failure/></testcase>
</testsuite></testsuites>"""
STORY = {"test": "test_pod_taken_away[evicted]", "lines": ["   1.0 s  pod 1 of 3: evict"]}


def test_page(tmp_path):
    (tmp_path / "report.xml").write_text(REPORT)
    (tmp_path / "transcript.jsonl").write_text(json.dumps(STORY) + "\n")
    tests = read_tests(tmp_path / "report.xml", tmp_path / "transcript.jsonl")
    text = page(tests, {"Kubernetes": "v1.35.1"})
    assert "| Kubernetes | v1.35.1 |" in text
    assert "| pod taken away: evicted | passed | 61 |" in text
    assert "| preempted | failed | 3 |" in text
    assert "### pod taken away: evicted\n\n```\n   1.0 s  pod 1 of 3: evict\n```\n" in text
    assert "### preempted" not in text


def test_no_story_at_all(tmp_path):
    (tmp_path / "report.xml").write_text(REPORT)
    tests = read_tests(tmp_path / "report.xml", tmp_path / "transcript.jsonl")
    assert [test.lines for test in tests] == [(), ()]
