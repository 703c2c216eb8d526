"""What the client of Google Cloud Storage raises: what to repeat, how to count it, what to say.

Messages never hold what a request was sent with: URLs of this service carry upload sessions and
signatures.
"""

import http.client

import requests
import urllib3
from google.api_core.exceptions import (
    BadRequest,
    Forbidden,
    GoogleAPICallError,
    GoogleAPIError,
    NotFound,
    PreconditionFailed,
    RequestRangeNotSatisfiable,
    RetryError,
    Unauthorized,
)
from google.auth.exceptions import GoogleAuthError, TransportError
from google.cloud.storage.exceptions import (  # type: ignore[import-untyped]
    DataCorruption,
    InvalidResponse,
)

from trainer.errors import NoBucketError, ObjectNotFoundError, RefusedError, StorageError
from trainer.storage.base import Operation

# Also of upload sessions: 308, a part was kept, and 410, it is over; the next try begins anew.
_TEMPORARY_CODES = frozenset({308, 401, 408, 410, 429, 500, 502, 503, 504})
BROKEN_CONNECTION = (
    ConnectionError, http.client.HTTPException, requests.RequestException,
    urllib3.exceptions.HTTPError, TransportError,
)  # fmt: skip
# All that a request may raise.
CLIENT_ERRORS = (
    GoogleAPIError, GoogleAuthError, DataCorruption, InvalidResponse, *BROKEN_CONNECTION,
)  # fmt: skip
_WAIT = "check the network and the service's status"
IDENTIFY = (
    "give the pod a service account (workload identity), set GOOGLE_APPLICATION_CREDENTIALS to a "
    "key file, or run 'gcloud auth application-default login'"
)
_WORDS = {
    "checksum": ("bytes that differ from their checksum", _WAIT),
    "timeout": ("no answer in time", _WAIT),
    "connection": ("no connection", _WAIT),
    "credentials": ("no valid credentials", IDENTIFY),
}
# What each operation needs; replacing an object also needs the permission to delete it.
_PERMISSIONS: dict[Operation, str] = {
    "list": "storage.objects.list",
    "stat": "storage.objects.get",
    "read": "storage.objects.get",
    "write": "storage.objects.create and storage.objects.delete",
    "create": "storage.objects.create",
    "delete": "storage.objects.delete",
}


class PreconditionError(StorageError):
    """The object is not of the version that was asked for."""


class EmptyRange(StorageError):  # noqa: N818 - not an error of anybody
    """A range that starts at the object's end or after it."""


def explained(
    operation: Operation, root: str, path: str, error: Exception, *, waited: float
) -> StorageError:
    """The error to raise for one of the client's; requests were repeated for `waited` seconds."""
    cause = error.cause if isinstance(error, RetryError) and error.cause else error
    where = f"{root}/{path}".rstrip("/")
    if isinstance(cause, PreconditionFailed):
        return PreconditionError(f"{where} has changed")
    if isinstance(cause, RequestRangeNotSatisfiable):
        return EmptyRange(f"{where} ends before")
    if isinstance(cause, NotFound) and operation == "list":
        return NoBucketError(f"no bucket gs://{root.split('/')[2]}: check the name, or make it")
    if isinstance(cause, NotFound):
        return ObjectNotFoundError(f"no object {where}: check the URL")
    if isinstance(cause, Forbidden | Unauthorized):
        return RefusedError(
            f"cannot {operation} {where}: refused ({code_of(cause)}); this identity needs "
            f"{_PERMISSIONS[operation]}, as in roles/storage.objectUser on the bucket"
        )
    what, way_out = _WORDS.get(code_of(cause), (f"HTTP status {code_of(cause)}", _WAIT))
    span = f" for {waited:g} s" if isinstance(error, RetryError) else ""
    return StorageError(f"cannot {operation} {where}: {what}{span}; {way_out}")


def is_temporary(error: Exception) -> bool:
    """Whether the same request may be answered a little later."""
    if code_of(error) == "checksum":
        return True
    if isinstance(error, GoogleAPICallError):
        return error.code in _TEMPORARY_CODES
    if isinstance(error, InvalidResponse):
        return error.response.status_code in _TEMPORARY_CODES
    return isinstance(error, (*BROKEN_CONNECTION, GoogleAuthError))


def code_of(error: Exception) -> str:
    """A short name of what went wrong, for a metric's label: one of a few."""
    # An upload that was damaged on the way is a bad request to the service.
    is_damaged_upload = isinstance(error, BadRequest) and "CRC32C" in str(error).upper()
    if is_damaged_upload or isinstance(error, DataCorruption):
        return "checksum"
    if isinstance(error, GoogleAPICallError) and error.code is not None:
        return str(int(error.code))
    if isinstance(error, InvalidResponse):
        return str(int(error.response.status_code))
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError | TimeoutError):
        return "timeout"
    return "credentials" if isinstance(error, GoogleAuthError) else "connection"
