"""Objects under a prefix of a Google Cloud Storage bucket.

Only object-level calls are made (`roles/storage.objectUser` is enough). Every one has a time-out
and is repeated, with jitter, until a deadline; the client's own retries are off, so that there is
one place that counts and bounds them.
"""

import base64
import os
import random
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from importlib import import_module
from io import BytesIO
from typing import Any, TypeVar

import google.auth
import google.auth.transport.requests
from google.api_core.exceptions import (
    RetryError,
)
from google.api_core.retry import retry_target
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
from google.cloud import storage  # type: ignore[import-untyped]

from trainer.errors import ConfigError, ObjectNotFoundError, StorageError
from trainer.storage.base import (
    Entry,
    OnRequest,
    Operation,
    PassOver,
    check_path,
    is_name,
    pass_over,
)
from trainer.storage.gcs_errors import (
    CLIENT_ERRORS,
    IDENTIFY,
    EmptyRange,
    PreconditionError,
    code_of,
    explained,
    is_temporary,
)

_Result = TypeVar("_Result")

_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.5, 20
# Not that of the process: by it Keras draws the seeds of layers, alike in all workers and lives,
# and a request of another thread in between would change them all. The client draws from there
# what parts the contents of an upload, and waits between tries for a token.
_chance = random.SystemRandom()
for _module in ("google.cloud.storage._media._upload", "google.auth._exponential_backoff"):
    vars(import_module(_module))["random"] = _chance
# Of a host as many are kept as threads ask at once: beyond that each request makes one, and the
# client warns of it.
_POOLS, _CONNECTIONS = 10, 64
_PAGE = 1000
_FIELDS = "items(name,size,updated,generation,crc32c),nextPageToken"


def _waits() -> Iterator[float]:
    """Seconds between repeats: exponential, with full jitter."""
    longest: float = _FIRST_WAIT_SECONDS
    while True:
        yield _chance.uniform(0, longest)
        longest = min(2 * longest, _LONGEST_WAIT_SECONDS)


@cache
def _client() -> storage.Client:
    # One for the process: its connections and its token are shared by all threads. Objects need
    # no project, and asking for one would cost a lookup. The client would also read the bucket,
    # for traces that nobody takes here and with a right that nobody else needs.
    os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    host = os.environ.get("STORAGE_EMULATOR_HOST")
    if host and not host.startswith(("http://", "https://")):
        raise ConfigError(f"STORAGE_EMULATOR_HOST={host} is no URL: write http://HOST:PORT")
    try:
        client = storage.Client(project="none")
    except OSError as error:
        raise DefaultCredentialsError(str(error)) from error  # type: ignore[no-untyped-call]
    http = client._http
    for adapter in http.adapters.values():
        adapter.init_poolmanager(_POOLS, _CONNECTIONS)
    # Once: for each request the session would look through the whole environment.
    found = http.merge_environment_settings(client.api_endpoint, {}, None, None, None)
    http.proxies, http.verify, http.trust_env = found["proxies"], found["verify"], False
    return client


def identity() -> str:
    """Whom the store takes this process for, in words. May ask the cloud's metadata server.

    Raises StorageError when there are no credentials.
    """
    if host := os.environ.get("STORAGE_EMULATOR_HOST"):
        return f"anonymous, at STORAGE_EMULATOR_HOST={host}"
    try:
        credentials, _ = google.auth.default()
        if getattr(credentials, "service_account_email", "") == "default":
            credentials.refresh(google.auth.transport.requests.Request())  # type: ignore[no-untyped-call]
    except (GoogleAuthError, OSError) as error:
        raise StorageError(f"no credentials ({type(error).__name__}): {IDENTIFY}") from error
    email = getattr(credentials, "service_account_email", None)
    return email or f"a user's own ({type(credentials).__module__})"


class _Received(list[bytes]):
    """A file to the client: what it downloads is kept, where a buffer would hold a copy."""

    def write(self, data: bytes) -> None:
        self.append(data)


class GCSStorage:
    """`Storage` on a bucket, under a prefix.

    Args:
        timeout_seconds: so long one request may take to connect, and then stay without a byte.
        deadline_seconds: a refused or broken request is repeated for so long in all.
        on_request: told of every request; see `OnRequest`.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        timeout_seconds: float = 60,
        deadline_seconds: float = 300,
        on_request: OnRequest = lambda *_: None,
    ) -> None:
        self.url = f"gs://{bucket}/{prefix}".rstrip("/")
        self._bucket_name = bucket
        self._root = f"{prefix}/" if prefix else ""
        self._timeout = min(timeout_seconds, deadline_seconds)
        self._deadline = deadline_seconds
        self._on_request = on_request

    def list(self, prefix: str = "", *, pass_over: PassOver = pass_over) -> Iterator[Entry]:
        """Objects under the folder `prefix`, ordered by path; 1,000 a request."""
        folder = f"{self._name(prefix.removesuffix('/'))}/" if prefix else self._root
        token = None
        while True:
            page, token = self._repeat("list", prefix, partial(self._page, folder, token))
            # Others may have put anything there, as the empty "folders/" of a console.
            for entry in map(self._entry, page):
                if all(map(is_name, entry.path.split("/"))):
                    yield entry
                else:
                    pass_over(entry.path)
            if token is None:
                return

    def folders(self) -> Sequence[str]:
        """Names of the folders right below the root, in order; 1,000 a request."""
        names: set[str] = set()
        token = None
        while True:
            prefixes, token = self._repeat("list", "", partial(self._folders, token))
            names |= {prefix[len(self._root) : -1] for prefix in prefixes}
            if token is None:
                return sorted(filter(is_name, names))

    def _folders(self, token: str | None) -> tuple[set[str], str | None]:
        found = _client().list_blobs(
            self._bucket_name, prefix=self._root, delimiter="/", page_token=token,
            fields="prefixes,nextPageToken", page_size=_PAGE, **self._once,
        )  # fmt: skip
        next(found.pages, None)
        return found.prefixes, found.next_page_token

    def _page(self, folder: str, token: str | None) -> tuple[Iterator[storage.Blob], str | None]:
        # An iterator a page: one that failed takes itself for exhausted when it is asked again.
        found = _client().list_blobs(
            self._bucket_name,
            prefix=folder,
            page_token=token,
            fields=_FIELDS,
            page_size=_PAGE,
            **self._once,
        )
        page = iter(next(found.pages, ()))
        return page, found.next_page_token

    def stat(self, path: str) -> Entry:
        """The entry of one object."""
        return self._entry(self._reloaded(path))

    def _reloaded(self, path: str) -> storage.Blob:
        def reload(blob: storage.Blob) -> storage.Blob:
            blob.reload(**self._once)
            return blob

        return self._call("stat", path, reload)

    def read(self, path: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Bytes [start, start + length), fewer where the object ends before.

        A whole object is compared with its checksum; a range cannot be.
        """
        if start < 0 or (length is not None and length < 0):
            raise ValueError(f"start and length must not be negative, got {start} and {length}")
        if length == 0:
            return b""
        end = None if length is None else start + length - 1
        whole = start == 0 and length is None

        def download(blob: storage.Blob) -> bytes:
            # As stored: a range of a decompressed object would be a range of something else. And
            # read at once: in pieces of 8 KB, as it is by default, it takes twice the time or more.
            received = _Received()
            blob.download_to_file(
                received, start=start or None, end=end, raw_download=True,
                single_shot_download=True, checksum="crc32c" if whole else None, **self._once,
            )  # fmt: skip
            return b"".join(received)

        try:
            return self._call("read", path, download, size=len)
        except EmptyRange:
            return b""

    def write(self, path: str, data: bytes | memoryview) -> Entry:
        """Create or replace an object; the server compares it with its checksum."""
        return self._upload("write", path, data)

    def create(self, path: str, data: bytes | memoryview) -> Entry | None:
        """Create an object only if the path is free; None when it was taken."""
        return self._upload_if("create", path, data, generation=0)

    def replace(self, path: str, data: bytes | memoryview, *, version: str) -> Entry | None:
        """Replace an object only while it is of `version`; None when it is not any more."""
        return self._upload_if("write", path, data, generation=int(version))

    def check_writable(self, path: str) -> None:
        """Whether the bucket answers. Nothing is written, so the right to write stays unknown."""
        self._repeat("list", path, partial(self._page, self._name(path), None))

    def delete(self, path: str) -> None:
        """Remove an object; an absent one is fine."""
        try:
            self._call("delete", path, lambda blob: blob.delete(**self._once))
        except ObjectNotFoundError:
            return

    def remove_temporaries(self, *, older_than_seconds: float) -> int:  # noqa: ARG002
        """Nothing to do: an interrupted upload leaves no object."""
        return 0

    @property
    def _once(self) -> dict[str, Any]:
        return {"timeout": self._timeout, "retry": None}

    def _name(self, path: str) -> str:
        check_path(path)
        return self._root + path

    def _entry(self, blob: storage.Blob) -> Entry:
        return Entry(
            path=blob.name.removeprefix(self._root),
            size=blob.size,
            updated=blob.updated.timestamp(),
            version=str(blob.generation),
            crc32c=base64.b64decode(blob.crc32c).hex(),
        )

    def _upload_if(
        self, operation: Operation, path: str, data: bytes | memoryview, *, generation: int
    ) -> Entry | None:
        writer = uuid.uuid4().hex
        try:
            return self._upload(operation, path, data, writer, if_generation_match=generation)
        except PreconditionError:
            # Somebody else was first; or it was this upload, and the reply to it was lost.
            try:
                blob = self._reloaded(path)
            except ObjectNotFoundError:
                return None
            return self._entry(blob) if (blob.metadata or {}).get("writer") == writer else None

    def _upload(
        self,
        operation: Operation,
        path: str,
        data: bytes | memoryview,
        writer: str | None = None,
        **conditions: int,
    ) -> Entry:
        content = bytes(data)

        def upload(blob: storage.Blob) -> storage.Blob:
            if writer is not None:
                blob.metadata = {"writer": writer}
            try:
                blob.upload_from_file(
                    BytesIO(content), size=len(content), content_type="application/octet-stream",
                    checksum="crc32c", **conditions, **self._once,
                )  # fmt: skip
            except CLIENT_ERRORS:
                raise
            except ValueError as error:
                # The client's, too, where the service has kept a part alone of what it was sent.
                raise ConnectionError("the upload was kept in part") from error
            return blob

        return self._entry(self._call(operation, path, upload, size=lambda _: len(content)))

    def _call(
        self,
        operation: Operation,
        path: str,
        request: Callable[[storage.Blob], _Result],
        *,
        size: Callable[[_Result], int] = lambda _: 0,
    ) -> _Result:
        """Send a request for one object."""
        name = self._name(path)

        def on_blob() -> _Result:
            # Here, because the first client looks for credentials, which may fail as well.
            return request(_client().bucket(self._bucket_name).blob(name))

        return self._repeat(operation, path, on_blob, size=size)

    def _repeat(
        self,
        operation: Operation,
        path: str,
        request: Callable[[], _Result],
        *,
        size: Callable[[_Result], int] = lambda _: 0,
    ) -> _Result:
        """Send a request until it is answered or the deadline has passed."""
        answered = 0

        def tell(code: str, num_bytes: int = 0) -> None:
            nonlocal answered
            self._on_request(operation, code, num_bytes, answered > 0)
            answered += 1

        try:
            result = retry_target(
                request, is_temporary, _waits(), timeout=self._deadline,
                on_error=lambda error: tell(code_of(error)),
            )  # fmt: skip
        except CLIENT_ERRORS as error:
            # Those that are repeated were counted as they came.
            if not isinstance(error, RetryError):
                tell(code_of(error))
            # Without the cause: it shows the URL of an upload session, which is a key to it.
            raise explained(operation, self.url, path, error, waited=self._deadline) from None
        tell("ok", size(result))
        return result
