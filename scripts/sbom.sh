#!/usr/bin/env bash
# Writes what a variant consists of, cpu or gpu (VARIANT), as CycloneDX: the Python packages that
# the image has, with versions, licences and who needs whom. Not the base of the image. The wheel is
# in dist/ or the folder that is given, where it is written to.
set -euo pipefail
cd "$(dirname "$0")/.."
variant=${VARIANT:-cpu}
[ "$variant" = cpu ] || [ "$variant" = gpu ] || { echo "make sbom: VARIANT=$variant: use cpu or gpu" >&2; exit 2; }
venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT

wheels=("${1:-dist}"/*.whl)
[ -f "${wheels[0]}" ] || { echo "make sbom: no wheel in ${1:-dist}: make dist" >&2; exit 2; }
scripts/clean_venv.sh "$venv" "$variant" "${wheels[0]}"
file=${wheels[0]%-py3-none-any.whl}-$variant.cdx.json
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' trainer/__init__.py)
sed "s/^dynamic = .*/version = \"$version\"/" pyproject.toml >"$venv/pyproject.toml"
# Without a time and a serial number of its own, equal packages make an equal file.
.venv/bin/uv run --quiet --isolated --no-project --with-requirements requirements/release.txt \
  cyclonedx-py environment "$venv" --pyproject "$venv/pyproject.toml" --mc-type application \
  --spec-version 1.6 --output-reproducible --output-format JSON --output-file "$file"
echo "$file"
