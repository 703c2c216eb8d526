"""All benchmarks, each script in a process of its own: python -m bench [--only NAME] [--json FILE].

NAME is a measure or a script. With --keep, what was measured takes its place in results/, where
what was not stays as it is.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.kept import keep
from bench.pairs import Result, describe, machine, table, write_json

# Not imported from the scripts: they bring TensorFlow, and each wants a fresh process.
SCRIPTS = {
    "bench.loop": ("loop_small", "loop_compute_bound"),
    "bench.fit": ("fit_small", "fit_compute_bound"),
    "bench.scaling": (
        "scaling_small", "scaling_group_share_small",
        "scaling_compute_bound", "scaling_group_share_compute_bound",
    ),
    "bench.hooks": ("hooks_share", "hooks_at_12_ms"),
    "bench.metrics": ("metrics_scrapes", "metrics_page"),
    "bench.save": ("save_blocked_vs_sync", "save_blocked_vs_copy"),
    "bench.checkpoint": (
        "checkpoint_blocked_local", "checkpoint_total_local", "checkpoint_bytes_local",
        "checkpoint_restore_local", "checkpoint_blocked_gs", "checkpoint_total_gs",
        "checkpoint_bytes_gs", "checkpoint_restore_gs",
    ),
    "bench.seek": ("seek",),
    "bench.input": (
        "input_local_1kb", "input_local_shuffled_1kb", "input_gcs_1kb",
        "input_local_100kb", "input_local_shuffled_100kb", "input_gcs_100kb",
        "input_data_wait",
    ),
    "bench.gathering": (
        "gathering_told", "gathering_death", "gathering_cpu", "gathering_memory",
        "gathering_growth",
    ),
    "bench.responsiveness": ("responsive_page", "responsive_signal", "responsive_heartbeat"),
    "bench.recovery": tuple(
        f"recovery_{kind}_{what}"
        for kind in ("worker", "agent", "leader", "spare")
        for what in ("detected", "p50", "p95", "growth")
    ),
}  # fmt: skip
RESULTS = Path(__file__).with_name("results")


def main() -> None:
    """Run what was asked for; a missed aim is printed like the others and fails nothing."""
    names = [name for script, measures in SCRIPTS.items() for name in (script, *measures)]
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", choices=names, metavar="NAME", help="run one measure or script")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results, too")
    parser.add_argument("--keep", action="store_true", help=f"put them into {RESULTS.name}/, too")
    options = parser.parse_args()
    found = machine()
    if options.keep and not found["commit"]:
        parser.error("--keep: no commit to name beside the results: run it in a git checkout")
    print(describe(found), flush=True)
    started = time.monotonic()
    results = []
    for script, measures in SCRIPTS.items():
        if options.only in (None, script, *measures):
            print(f"{script} ...", file=sys.stderr, flush=True)
            results += run(script, options.only if options.only in measures else None)
    print(table(results))
    missed = [result.name for result in results if not result.meets_aim]
    print(
        f"{len(results) - len(missed)} of {len(results)} aims met"
        f"{': missed ' + ', '.join(missed) if missed else ''}; {time.monotonic() - started:.0f} s"
    )
    write_json(options.json, [result.brief() for result in results])
    if options.keep:
        keep(RESULTS, found, results)


def run(script: str, only: str | None) -> list[Result]:
    """The results of one script."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        file = Path(folder) / "results.json"
        command = [sys.executable, "-m", script, "--full-json", str(file)]
        command += ["--only", only] if only else []
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return [Result(**fields) for fields in json.loads(file.read_text(encoding="utf-8"))]


if __name__ == "__main__":
    main()
