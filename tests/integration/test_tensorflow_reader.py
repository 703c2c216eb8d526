"""TensorFlow's own reader of `gs://`: it knows Google's address alone, so a proxy leads it here."""

import multiprocessing
import socket
import socketserver
import threading
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
import trustme

from tests.emulator import GOOGLE, Tls, emulator, free_port
from trainer.config import DataConfig
from trainer.data.builtin import resolve_data_url
from trainer.data.dataset import open_dataset
from trainer.data.pipeline import Place
from trainer.data.spec import DataSpec
from trainer.data.tensorflow_files import TensorFlowFiles
from trainer.errors import ObjectNotFoundError
from trainer.storage import open_storage

pytestmark = pytest.mark.needs_gcs

DEADLINE = 120
BUILT_IN = resolve_data_url("builtin:fashion_mnist")
URL = "gs://bucket/fashion_mnist"


class Tunnel(socketserver.ThreadingTCPServer):
    """A proxy for HTTPS whose every connection ends at `port`; `asked_for` are the hosts."""

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.port = port
        self.asked_for: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Connection(socketserver.StreamRequestHandler):
    server: Tunnel

    def handle(self) -> None:
        self.server.asked_for.add(self.rfile.readline().split()[1].decode())
        while self.rfile.readline().strip():
            pass
        with socket.create_connection(("127.0.0.1", self.server.port)) as store:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=_pump, args=(store, self.connection))
            back.start()
            _pump(self.connection, store)
            back.join(DEADLINE)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@pytest.fixture
def tunnel(tmp_path, monkeypatch):
    """Leads to an emulator that holds the built-in data set; the environment says so."""
    authority = trustme.CA()
    issued = authority.issue_cert(GOOGLE)
    tls = Tls(free_port(), tmp_path / "certificate.pem", tmp_path / "key.pem")
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    issued.cert_chain_pems[0].write_to_path(tls.certificate)
    issued.private_key_pem.write_to_path(tls.key)
    with emulator(tmp_path / "store", tls=tls) as store, Tunnel(tls.port) as tunnel:
        store.make_bucket("bucket")
        serving = threading.Thread(target=tunnel.serve_forever, args=(0.01,))
        serving.start()
        for name, value in store.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("NO_GCE_CHECK", "true")
        monkeypatch.setenv("https_proxy", tunnel.url)
        monkeypatch.setenv("CURL_CA_BUNDLE", str(tmp_path / "authority.pem"))
        yield tunnel
        tunnel.shutdown()
        serving.join(DEADLINE)


def read_with_tensorflow() -> list[np.ndarray]:
    """What a process of its own reads: TensorFlow looks at its environment once."""
    source, target = open_storage(BUILT_IN), open_storage(URL)
    for entry in source.list():
        target.write(entry.path, source.read(entry.path))
    with pytest.raises(ObjectNotFoundError, match="no object absent in"):
        TensorFlowFiles(URL, piece_bytes=1).read("absent", start=0, length=1)
    return batches(URL)


def batches(url: str) -> list[np.ndarray]:
    """Some steps of training."""
    config = DataConfig(url=url, batch_size=64, gs_reader="tensorflow", disk_cache_mb=0)
    spec = DataSpec(lambda features: (features["image"], features["label"]))
    steps = open_dataset(config, spec, seed=5, threads=2).training(Place()).dataset(3).take(20)
    return [tensor.numpy() for element in steps for tensor in tf.nest.flatten(element)]


@pytest.mark.long
def test_tensorflow_reads_what_the_client_reads(tunnel):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(read_with_tensorflow).result(DEADLINE)
    expected = batches(BUILT_IN)
    assert len(found) == len(expected)
    assert all(map(np.array_equal, found, expected))
    assert tunnel.asked_for == {f"{GOOGLE}:443"}
