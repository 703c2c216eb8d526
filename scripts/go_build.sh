#!/usr/bin/env bash
# Builds a program by Go as .tools/NAME, unless that version of it is there: go_build.sh NAME PACKAGE@VERSION
set -euo pipefail
cd "$(dirname "$0")/.."

[ "$(cat ".tools/.$1" 2>/dev/null)" != "$2" ] || [ ! -x ".tools/$1" ] || exit 0
go=$(scripts/go.sh "$1")
echo "Building $1 …"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
CGO_ENABLED=0 GOBIN=$folder "$go" install -trimpath "$2"
mkdir -p .tools
mv "$folder"/* ".tools/$1"
echo "$2" >".tools/.$1"
