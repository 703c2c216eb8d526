"""Everything that a start finds out, tried one by one and told, with nothing trained."""

import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry

from trainer.backend import BACKENDS, TENSORFLOW, VARIABLE
from trainer.checkpoint.holder import this_holder
from trainer.checkpoint.lease import live_holder
from trainer.config import RunConfig
from trainer.data.builtin import resolve_data_url
from trainer.data.disk_cache import cache_parent, lack_of_room, private_folder
from trainer.errors import ConfigError, RunHeldError, StorageError, TrainerError
from trainer.launch import Launch, check
from trainer.metrics import MetricsServer, PortInUseError
from trainer.preflight import check_data
from trainer.storage import Storage, is_remote, open_storage
from trainer.storage.access import ATTEMPT_SECONDS, try_access
from trainer.stores import is_skewed, skew, stores

_PACKAGES = (("tensorflow", "tensorflow-cpu"), ("keras",))


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `exit_code` is what a start would end with because of it."""

    check: str
    detail: str
    exit_code: int = 0


def examine(start: Launch, open: Callable[..., Storage] = open_storage) -> Iterator[Finding]:
    """Findings in the order of a start; what depends on something that failed is left out."""
    config = start.config
    what = config.what if start.script is None else f"script {start.script.path}"
    yield Finding("configuration", f"{what}, run {config.run_name}")
    yield _packages()
    if any(is_remote(url) for url in stores(config)):
        from trainer.storage.gcs import identity  # takes 0.3 s that local runs do not need

        yield _tried("identity", identity)
    failed = False
    for url, writes in stores(config).items():
        for finding in _access(
            open(resolve_data_url(url), deadline_seconds=ATTEMPT_SECONDS), writes=writes
        ):
            failed |= finding.exit_code > 0
            yield finding
    if not failed and start.script is None:
        yield _tried("data set", lambda: _data(config, open))
    if not failed:
        yield _tried("run", lambda: _run(start, open))
    if is_remote(config.data.url) and config.data.disk_cache_mb:
        yield _disk_cache(config)
    if config.metrics.enabled:
        yield _tried("metrics port", lambda: _port(config))


def _tried(check: str, attempt: Callable[[], str]) -> Finding:
    try:
        return Finding(check, attempt())
    except TrainerError as error:
        return Finding(check, str(error), error.exit_code)


def _packages() -> Finding:
    found = [f"python {platform.python_version()}"]
    backend = os.environ.get(VARIABLE) or TENSORFLOW
    also = ((backend,),) if backend in BACKENDS and backend != TENSORFLOW else ()
    for names in (*_PACKAGES, *also):
        for name in names:
            try:
                found.append(f"{name} {version(name)}")
                break
            except PackageNotFoundError:
                continue
        else:
            wanted = BACKENDS.get(names[0], BACKENDS[TENSORFLOW])
            missing = f"{names[0]} is not installed: install {wanted}"
            return Finding("packages", missing, ConfigError.exit_code)
    return Finding("packages", ", ".join(found))


def _access(storage: Storage, *, writes: bool) -> Iterator[Finding]:
    """What this identity may do in one store."""
    if not is_remote(storage.url):
        return
    access = try_access(storage, writes=writes)
    for operation, error in access.refusals.items():
        yield Finding(f"{operation} {storage.url}", str(error), error.exit_code)
    if not access.refusals:
        allowed = "list, create, read, replace, delete" if writes else "list"
        yield Finding("access", f"{storage.url}: {allowed}")
    if access.clock_ahead is not None:
        code = StorageError.exit_code if is_skewed(access) else 0
        yield Finding("clock", skew(access), code)


def _data(config: RunConfig, open: Callable[..., Storage]) -> str:
    manifest = check_data(config, open=open)
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    size = sum(shard.size_bytes for shard in shards) / 1e6
    return f"{manifest.name} {manifest.version}: {len(shards)} shards, {size:,.1f} MB, all there"


def _disk_cache(config: RunConfig) -> Finding:
    """Without it data is downloaded each epoch: slower, but no reason not to start."""
    wanted = config.data.disk_cache_mb
    try:
        folder = private_folder(cache_parent(config.data.disk_cache_dir))
        lack = lack_of_room(folder, wanted * 1_000_000)
    except OSError as error:
        return Finding("disk cache", f"off: {error}")
    return Finding("disk cache", lack or f"{folder}: room for up to {wanted:,} MB")


def _run(start: Launch, open: Callable[..., Storage]) -> str:
    check(start, open)
    url = start.config.run.dir
    holder = live_holder(open(url), this_holder())
    if holder is not None:
        raise RunHeldError(f"run {url} is held by {holder}: wait for its end, or stop it")
    return f"{url} can be gone on with, or begun"


def _port(config: RunConfig) -> str:
    address, port = config.metrics.address, config.metrics.port
    trial = MetricsServer(CollectorRegistry(), port=port, address=address)
    try:
        trial.start()
    except PortInUseError:
        is_next = config.metrics.on_taken_port == "next"
        instead = "the next free one is used" if is_next else "no page, but training goes on"
        return f"port {port} of {address} is taken: {instead}"
    trial.close()
    return f"port {port} of {address} is free" if port else "any free one"
