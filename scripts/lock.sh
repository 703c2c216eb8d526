#!/usr/bin/env bash
# Solves requirements/*.txt for the platforms and Pythons of [tool.uv] in pyproject.toml.
# Versions already locked are kept; `--upgrade` or `--upgrade-package NAME` moves them.
set -euo pipefail
cd "$(dirname "$0")/.."

lock() { # FILE, WHAT…
  local file=requirements/$1.txt; shift
  # No header and no index: the files hold nothing of the machine that made them.
  "${BIN:-.venv/bin}/uv" pip compile "$@" --quiet --universal --generate-hashes \
    --python-version 3.11 --no-header --no-emit-index-url --no-emit-find-links \
    ${upgrade[@]+"${upgrade[@]}"} --output-file "$file"
}

upgrade=("$@")
lock cpu pyproject.toml --extra=cpu
lock gpu pyproject.toml --extra=gpu
lock dev pyproject.toml --extra=cpu --extra=jax --extra=dev --extra=pictures --extra=tensorboard \
  --extra=mlflow --extra=wandb
lock build --group=build --constraint=requirements/dev.txt
lock torch --group=torch --constraint=requirements/dev.txt
lock release --group=release --constraint=requirements/dev.txt
