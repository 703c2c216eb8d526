"""Certificates that openssl itself verifies, and kubeconfigs made of them."""

import base64
import shutil
import subprocess

import pytest
import yaml

from k8s.cluster.certificates import CLIENTS, IDENTITIES, kubeconfig, make_certificates

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl missing")


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster") / "pki"
    make_certificates(folder)
    return folder


@pytest.mark.parametrize("identity", IDENTITIES, ids=lambda identity: identity.file)
def test_signed_by_the_authority(pki, identity):
    command = ["openssl", "verify", "-CAfile", "ca.crt", "-x509_strict", f"{identity.file}.crt"]
    result = subprocess.run(command, cwd=pki, capture_output=True, text=True)
    assert result.stdout == f"{identity.file}.crt: OK\n", result.stderr


@pytest.mark.parametrize("address", ["198.18.0.2", "10.245.0.1", "127.0.0.1"])
def test_the_api_server_is_reached_at(pki, address):
    command = ["openssl", "x509", "-in", "apiserver.crt", "-noout", "-checkip", address]
    result = subprocess.run(command, cwd=pki, capture_output=True, text=True)
    assert "does match" in result.stdout


@pytest.mark.parametrize("client", CLIENTS)
def test_kubeconfig_holds_all_that_a_client_needs(pki, client):
    config = yaml.safe_load(kubeconfig(pki, client))
    user = config["users"][0]["user"]
    assert base64.b64decode(user["client-key-data"]) == (pki / f"{client}.key").read_bytes()
    assert config["contexts"][0]["context"]["user"] == config["users"][0]["name"]
