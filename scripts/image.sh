#!/usr/bin/env bash
# Builds the image, pushes it, or lists what is in it, with the docker, podman or buildah that is there
# (ENGINE=… to choose). IMAGE is its name, without a tag that of the version; VARIANT is cpu or gpu;
# PLATFORM is linux/amd64 unless told otherwise; BASE is another base image. More options of the
# engine's `build` may follow.
set -euo pipefail
cd "$(dirname "$0")/.."

action=${1:?"usage: scripts/image.sh build|push|sbom"}
shift

fail() {
  echo "make image ($action): $1" >&2
  exit 2
}

engine() {
  for name in ${ENGINE:-docker podman buildah}; do
    "$name" info >/dev/null 2>&1 && { echo "$name"; return; }
  done
  fail "no ${ENGINE:-docker, podman or buildah} that works here ('info' fails): start it, or install one (Debian: apt-get install buildah; macOS, Windows: Docker Desktop)"
}

variant=${VARIANT:-cpu}
[ "$variant" = cpu ] || [ "$variant" = gpu ] || fail "VARIANT=$variant: use cpu or gpu"
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' trainer/__init__.py)
image=${IMAGE:-trainer}
# A colon before the last slash is of a port.
case ${image##*/} in
  *:* | *@*) ;;
  *) image=$image:$version$([ "$variant" = cpu ] || echo -gpu) ;;
esac

build() {
  local flags=(--file docker/Dockerfile --tag "$image" --platform "${PLATFORM:-linux/amd64}"
    --build-arg "VARIANT=$variant" --build-arg "VERSION=$version"
    --build-arg "REVISION=$(git describe --always --abbrev=40 --exclude '*' --dirty 2>/dev/null || echo unknown)"
    ${BASE:+--build-arg "BASE=$BASE"} "$@")
  case $tool in
    docker)
      docker buildx version >/dev/null 2>&1 || fail "docker has no buildx: install its plugin (Debian: docker-buildx)"
      docker buildx build --load "${flags[@]}" . ;;
    *) "$tool" build --layers --ignorefile docker/Dockerfile.dockerignore "${flags[@]}" . ;;
  esac
  echo "Built $image"
}

push() {
  [ "$image" != "${image#*/}" ] || fail "IMAGE=$image names no registry: make image push IMAGE=REGISTRY/$image"
  local file=""
  if [ "$tool" = docker ]; then
    docker push "$image"
    echo "Pushed; to pin it: $(docker image inspect --format '{{index .RepoDigests 0}}' "$image")"
  else
    file=$(mktemp)
    "$tool" push --digestfile "$file" "$image"
    echo "Pushed; to pin it: ${image%:*}@$(cat "$file")"
    rm -f "$file"
  fi
}

sbom() {
  local syft name=${image##*/} folder file
  scripts/tools.sh syft
  syft=$(command -v syft || echo .tools/syft)
  file=dist/${name//[:@]/-}.cdx.json
  folder=$(mktemp -d)
  trap "rm -rf '$folder'" EXIT
  if [ "$tool" = buildah ]; then
    buildah push --quiet "$image" "docker-archive:$folder/image"
  else
    "$tool" save --output "$folder/image" "$image"
  fi
  mkdir -p dist
  # Packages, and not each of the files that they consist of.
  SYFT_FILE_METADATA_SELECTION=none SYFT_CHECK_FOR_APP_UPDATE=false "$syft" scan --quiet \
    --source-name "$image" --output "cyclonedx-json@1.6=$file" "docker-archive:$folder/image"
  echo "$file"
}

tool=$(engine)
"$action" "$@"
