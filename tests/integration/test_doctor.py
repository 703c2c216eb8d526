"""`trainer doctor` against a real store."""

import json
import uuid

import pytest
from click.testing import CliRunner

from tests.fault_proxy import Fault
from trainer.cli.doctor import doctor
from trainer.storage import gcs, open_storage

pytestmark = pytest.mark.needs_gcs


def examine(*settings):
    args = ["-c", "fashion_mnist", "--json", *(f"--set={setting}" for setting in settings)]
    result = CliRunner().invoke(doctor, args)
    return result.exit_code, {found["check"]: found for found in json.loads(result.stdout)}


@pytest.fixture
def url(proxy):
    # The client knows the last test's proxy.
    gcs._client.cache_clear()
    return f"gs://bucket/{uuid.uuid4().hex}/run"


def test_all_is_well(url, proxy):
    code, found = examine(f"run.dir={url}")
    assert code == 0, found
    assert found.keys() >= {"identity", "access", "clock", "data set", "run"}
    assert "anonymous" in found["identity"]["detail"]
    assert list(open_storage(url).list()) == []
    # Object-level rights are enough: the bucket itself is never asked for.
    assert all("/o" in line.split("?")[0] for line in proxy.requests)


def test_each_missing_permission_is_named(url, proxy):
    proxy.faults.append(Fault("status", "(POST|DELETE)", 403, times=100))
    code, found = examine(f"run.dir={url}")
    assert code == 1
    for operation, permission in (
        ("create", "create"),
        ("replace", "create"),
        ("delete", "delete"),
    ):
        finding = found[f"{operation} {url}"]
        assert f"storage.objects.{permission}" in finding["detail"]
        assert not finding["ok"]
    assert "run" not in found


def test_the_disk_cache_of_remote_data_is_looked_at(url, tmp_path):
    cache = f"data.disk_cache_dir={tmp_path}"
    code, found = examine(f"run.dir={tmp_path / 'run'}", f"data.url={url}", cache)
    assert code == 3  # there is no data
    assert "room for up to 512 MB" in found["disk cache"]["detail"]


def test_a_bucket_that_is_not_there(proxy):
    gcs._client.cache_clear()
    code, found = examine("run.dir=gs://nowhere/run")
    assert code == 2
    assert "no bucket gs://nowhere" in found["list gs://nowhere/run"]["detail"]
