"""Files on `gs://` read by TensorFlow's own file system, in place of Google's client."""

import os

import tensorflow as tf

from trainer.errors import ObjectNotFoundError, StorageError


class TensorFlowFiles:
    """Ranges of the files under `url`, a `gs://` prefix, for `trainer.data.pieces`.

    TensorFlow finds credentials, repeats requests and bounds them by itself; none of them is
    counted. It knows no STORAGE_EMULATOR_HOST.

    Args:
        piece_bytes: what is mostly read at once. TensorFlow makes a connection a request, and
            asks for so much (for the process, in MiB) each time: 64 MiB unless it is told.
    """

    def __init__(self, url: str, *, piece_bytes: int) -> None:
        self.url = url
        os.environ.setdefault("GCS_READ_CACHE_BLOCK_SIZE_MB", str(1 + (piece_bytes >> 20)))

    def read(self, path: str, *, start: int, length: int) -> bytes:
        """Bytes [start, start + length), fewer where the object ends before."""
        try:
            with tf.io.gfile.GFile(f"{self.url}/{path}", "rb") as file:
                file.seek(start)
                data: bytes = file.read(length)
                return data
        except tf.errors.NotFoundError as error:
            raise ObjectNotFoundError(f"no object {path} in {self.url}: check the URL") from error
        except tf.errors.OutOfRangeError:
            return b""
        except tf.errors.OpError as error:
            raise StorageError(
                f"cannot read {path} in {self.url} ({_reason(error)}): check TensorFlow's"
                " credentials, or set data.gs_reader to client"
            ) from error


def _reason(error: tf.errors.OpError) -> str:
    # An answer's body may follow, of any length.
    return f"{type(error).__name__}: {(error.message or '?').splitlines()[0][:200]}"
