"""A GCS emulator to try out, with the embedded data in it; ends with Ctrl-C, objects stay.

usage: emulator.py [FOLDER]   FOLDER holds the objects, by default .emulator
"""

import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.emulator import emulator  # noqa: E402
from trainer.data.builtin import resolve_data_url  # noqa: E402
from trainer.storage import open_storage  # noqa: E402

BUCKET = "demo"
DATA = f"gs://{BUCKET}/data/fashion_mnist"


def seed() -> None:
    """Copy the embedded data set into the bucket, unless it is there."""
    here, there = open_storage(resolve_data_url("builtin:fashion_mnist")), open_storage(DATA)
    known = {entry.path for entry in there.list()}
    for entry in here.list():
        if entry.path not in known:
            there.write(entry.path, here.read(entry.path))


def main(folder: Path) -> int:
    if not shutil.which("fake-gcs-server"):
        print("make emulator: fake-gcs-server is missing: make tools", file=sys.stderr)
        return 2
    (folder / BUCKET).mkdir(parents=True, exist_ok=True)
    with emulator(folder) as running:
        os.environ |= running.environment()
        seed()
        print(
            f"A store at {running.url}, its objects in {folder}. In another terminal:\n\n"
            f"  export STORAGE_EMULATOR_HOST={running.url}\n"
            f"  .venv/bin/trainer train -c fashion_mnist --set data.url={DATA} "
            f"--set run.dir=gs://{BUCKET}/runs/demo\n\n"
            "Ctrl-C ends it; the objects stay.",
            flush=True,
        )
        with suppress(KeyboardInterrupt):
            signal.pause()
    return 0


if __name__ == "__main__":
    os.environ["PATH"] += f":{ROOT / '.tools'}"
    # SIGINT, too: it is ignored in what a shell starts in the background.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    raise SystemExit(main(Path(*sys.argv[1:] or [ROOT / ".emulator"]).resolve()))
