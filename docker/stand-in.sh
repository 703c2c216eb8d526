#!/usr/bin/env bash
# Builds the image where no registry of images can be reached, to test it, and prints the file that
# holds it (docker-archive) as its last line: `ctr images import FILE`, `podman load --input FILE`.
#
# In place of the base it takes Debian's own Python 3.11, put together from Debian's packages and
# named like the base, in a store of its own: what the machine's own engines know stays as it is.
# Everything lies in one folder of the user's cache; remove it, and all of it is made anew.
# IMAGE is the image's name, trainer:local unless told otherwise. A command that is given is run
# instead of that, with podman seeing that store. Linux, as root.
set -euo pipefail
cd "$(dirname "$0")/.."

[ "$(id -u)" -eq 0 ] || { echo "make image-local: run as root; or make image, which needs no root but a registry" >&2; exit 2; }
cache=${XDG_CACHE_HOME:-$HOME/.cache}/trainer/image
base=$(sed -n 's/^ARG BASE=//p' docker/Dockerfile)
mkdir -p "$cache"
exec 9>"$cache/lock"
flock --timeout 900 9 || { echo "make image-local: another one has been at work for 15 minutes" >&2; exit 1; }

printf '[storage]\ndriver = "overlay"\ngraphroot = "%s/graph"\nrunroot = "%s/run"\n' "$cache" "$cache" >"$cache/storage.conf"
export CONTAINERS_STORAGE_CONF=$cache/storage.conf
export IMAGE=${IMAGE:-trainer:local}

install_tools() {
  local missing=()
  for tool in buildah podman debootstrap runc; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || { echo "make image-local: install ${missing[*]}" >&2; exit 2; }
  echo "Installing Debian's ${missing[*]} …"
  { apt-get update --quiet --quiet && DEBIAN_FRONTEND=noninteractive \
    apt-get install --yes --quiet --quiet --no-install-recommends "${missing[@]}"; } >"$cache/apt.log" 2>&1 ||
    { tail -n 20 "$cache/apt.log" >&2; exit 1; }
}

make_base() {
  if buildah inspect --type image "$base" >/dev/null 2>&1; then return; fi
  echo "Making a base of Debian's packages …"
  rm -rf "$cache/root"
  debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv bookworm "$cache/root" \
    >"$cache/debootstrap.log" 2>&1 || { tail -n 20 "$cache/debootstrap.log" >&2; exit 1; }
  rm -rf "$cache/root"/var/cache/apt/* "$cache/root"/var/lib/apt/lists/*
  printf 'FROM scratch\nCOPY . /\nCMD ["python3"]\n' |
    buildah build --isolation chroot --quiet --tag "$base" --file - "$cache/root" >/dev/null
  rm -rf "$cache/root"
}

write_archive() {
  local id
  id=$(buildah inspect --type image --format '{{.FromImageID}}' "$IMAGE")
  archive=$cache/${IMAGE//[:\/]/-}-${id:0:12}.tar
  [ ! -f "$archive" ] || return 0
  rm -f "$cache/${IMAGE//[:\/]/-}"-*.tar
  buildah push --quiet "$IMAGE" "docker-archive:$cache/partial:docker.io/library/$IMAGE"
  mv "$cache/partial" "$archive"
}

install_tools
make_base
# Whom this network trusts, and where its index of packages is, so that pip gets through.
flags=(--isolation chroot --pull-never)
for file in /etc/ssl/certs/ca-certificates.crt /etc/pip.conf; do
  [ ! -f "$file" ] || flags+=(--volume "$file:$file:ro")
done
ENGINE=buildah PLATFORM=linux/$(dpkg --print-architecture) scripts/image.sh build "${flags[@]}"
if [ $# -gt 0 ]; then
  ENGINE=podman exec "$@" 9>&-
fi
write_archive
echo "$archive"
