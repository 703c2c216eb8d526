"""Who everybody is: an authority of this one cluster's, certificates, and kubeconfigs."""

import base64
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

from k8s.cluster.places import API_SERVER, API_SERVICE, NODE, NODE_ADDRESS

DAYS = "30"


@dataclass(frozen=True)
class Identity:
    """A name that the authority signs, and under which names and addresses it is reached."""

    file: str
    subject: str
    reached_as: tuple[str, ...] = ()


IDENTITIES = (
    Identity(
        "apiserver", "/CN=kube-apiserver",
        (f"IP:{NODE_ADDRESS}", f"IP:{API_SERVICE}", "IP:127.0.0.1", "DNS:kubernetes.default.svc"),
    ),
    Identity("admin", "/O=system:masters/CN=admin"),
    Identity("controller-manager", "/CN=system:kube-controller-manager"),
    Identity("scheduler", "/CN=system:kube-scheduler"),
    Identity(
        "kubelet", f"/O=system:nodes/CN=system:node:{NODE}",
        (f"IP:{NODE_ADDRESS}", f"DNS:{NODE}"),
    ),
)  # fmt: skip
CLIENTS = ("admin", "controller-manager", "scheduler", "kubelet")


def make_certificates(pki: Path) -> None:
    """Write the authority, a key and certificate for everybody, and the service accounts' key."""
    pki.mkdir(parents=True)
    _openssl(pki, *_new_key("ca"))
    what = ("-subj", "/CN=trainer-cluster", "-addext", "keyUsage=critical,keyCertSign")
    _openssl(pki, "req", "-x509", "-key", "ca.key", *what, "-days", DAYS, "-out", "ca.crt")
    for identity in IDENTITIES:
        _sign(pki, identity)
    _openssl(pki, "genrsa", "-out", "accounts.key", "2048")
    _openssl(pki, "rsa", "-in", "accounts.key", "-pubout", "-out", "accounts.pub")


def extensions(identity: Identity) -> str:
    """What a certificate may be used for, and where."""
    lines = [
        "basicConstraints=CA:FALSE",
        "keyUsage=digitalSignature,keyEncipherment",
        "extendedKeyUsage=serverAuth,clientAuth",
        "subjectKeyIdentifier=hash",
        "authorityKeyIdentifier=keyid",
    ]
    if identity.reached_as:
        lines.append(f"subjectAltName={','.join(identity.reached_as)}")
    return "\n".join(lines) + "\n"


def kubeconfig(pki: Path, client: str) -> str:
    """How a client reaches the API server, and as whom."""

    def data(name: str) -> str:
        return base64.b64encode((pki / name).read_bytes()).decode()

    server = {"server": API_SERVER, "certificate-authority-data": data("ca.crt")}
    user = {
        "client-certificate-data": data(f"{client}.crt"),
        "client-key-data": data(f"{client}.key"),
    }
    whole = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "trainer", "cluster": server}],
        "users": [{"name": client, "user": user}],
        "contexts": [{"name": "trainer", "context": {"cluster": "trainer", "user": client}}],
        "current-context": "trainer",
    }
    return yaml.safe_dump(whole, sort_keys=False)


def _sign(pki: Path, identity: Identity) -> None:
    name = identity.file
    (pki / f"{name}.ext").write_text(extensions(identity))
    _openssl(pki, *_new_key(name))
    request = ("-key", f"{name}.key", "-subj", identity.subject, "-out", f"{name}.csr")
    _openssl(pki, "req", "-new", *request)
    by_authority = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", DAYS)
    what = ("-in", f"{name}.csr", "-extfile", f"{name}.ext", "-out", f"{name}.crt")
    _openssl(pki, "x509", "-req", *by_authority, *what)


def _new_key(name: str) -> tuple[str, ...]:
    return ("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")


def _openssl(pki: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=pki, capture_output=True, timeout=60, check=True)
