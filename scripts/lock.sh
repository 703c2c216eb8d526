#!/usr/bin/env bash
# Solves requirements/*.txt for the platforms and Pythons of [tool.uv] in pyproject.toml.
# Versions already locked are kept; `--upgrade` or `--upgrade-package NAME` moves them.
set -euo pipefail
cd "$(dirname "$0")/.."

lock() { # FILE, EXTRA…
  local file=requirements/$1.txt; shift
  # No header and no index: the files hold nothing of the machine that made them.
  "${BIN:-.venv/bin}/uv" pip compile pyproject.toml --quiet --universal --generate-hashes \
    --python-version 3.11 --no-header --no-emit-index-url --no-emit-find-links \
    ${upgrade[@]+"${upgrade[@]}"} "${@/#/--extra=}" --output-file "$file"
}

upgrade=("$@")
lock cpu cpu
lock gpu gpu
lock dev cpu dev
