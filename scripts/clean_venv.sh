#!/usr/bin/env bash
# Makes an environment that holds what a user gets: the locked requirements of a variant, and the
# wheel. What uv's cache has is not fetched again, and then no network is needed.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:?"usage: scripts/clean_venv.sh FOLDER cpu|gpu WHEEL"} variant=$2 wheel=$3

install() {
  .venv/bin/uv pip install --quiet --python "$venv" --link-mode=hardlink "$@"
}

.venv/bin/uv venv --quiet --clear --python .venv/bin/python "$venv"
# What is no wheel on the index is built with what is locked for that.
locked=(--require-hashes --build-constraints requirements/build.txt --requirement "requirements/$variant.txt")
install --offline "${locked[@]}" 2>/dev/null || install "${locked[@]}"
install --offline --no-deps "$wheel"
