#!/usr/bin/env bash
# Where Go is, or how to come by one that can build what is named.
set -euo pipefail

go=$(command -v go || echo /usr/local/go/bin/go)
# Since 1.21 it fetches the version that a module wants; one before does not understand it.
if ! [ -x "$go" ] || [ "$("$go" env GOVERSION | sed -E 's/^go1\.([0-9]+).*/\1/')" -lt 21 ]; then
  echo "install Go 1.21 or later to build $1 (Debian 13 and Ubuntu 24.04: golang-go; macOS: brew install go;" \
    "others: a release of go.dev in /usr/local/go, and no older go on the PATH)" >&2
  exit 1
fi
echo "$go"
