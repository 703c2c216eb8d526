"""What users rely on, as text: `make goldens` writes it anew, a test compares.

A difference is no fault by itself: it must be meant, and be in CHANGELOG.md.
"""

import json
from pathlib import Path

from scripts.generate_docs import command_help, exit_codes
from trainer.config.schema import json_schema
from trainer.metrics import describe

FOLDER = Path(__file__).with_name("golden")


def goldens() -> dict[str, str]:
    """Text by file name."""
    return {
        "commands.txt": "\n\n".join(f"$ {path} --help\n{text}" for path, text in command_help())
        + "\n",
        "config.schema.json": json.dumps(json_schema(), indent=2) + "\n",
        "metrics.txt": "".join(
            f"{m.name} {m.kind} {','.join(m.labels)}".rstrip() + "\n" for m in describe()
        ),
        "exit_codes.txt": exit_codes(),
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in goldens().items():
        (FOLDER / name).write_text(text)
