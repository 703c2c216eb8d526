#!/usr/bin/env bash
# Installs what some tests and `make monitoring` need. From Debian: `prometheus`, which brings promtool,
# `prometheus-alertmanager`, `graphviz`, and `dataset-fashion-mnist`, the original images; nothing is
# started. Built by Go into .tools/: `fake-gcs-server`, an emulator of Google Cloud Storage.
# `tools.sh emulator` does the last alone: the others take rights that who only tries gs:// may not have;
# `tools.sh syft` alone builds what lists an image's contents, unless it is on the PATH (5 minutes).
set -euo pipefail
cd "$(dirname "$0")/.."

build_emulator() { scripts/go_build.sh fake-gcs-server github.com/fsouza/fake-gcs-server@v1.56.1; }

install_packages() {
  local originals=/usr/share/datasets/fashion-mnist
  local packages=(prometheus prometheus-alertmanager graphviz dataset-fashion-mnist)
  command -v prometheus >/dev/null && command -v promtool >/dev/null && command -v dot >/dev/null &&
    command -v prometheus-alertmanager >/dev/null && [ -d "$originals" ] && return

  if ! command -v apt-get >/dev/null; then
    echo "make tools: install Prometheus and Graphviz with your package manager (macOS: brew install" \
      "prometheus graphviz), so that prometheus, promtool and dot are on the PATH, and put the original" \
      "Fashion-MNIST files into $originals" >&2
    exit 1
  fi
  sudo=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "make tools: run as root: apt-get install ${packages[*]}" >&2; exit 1; }
    sudo=(sudo)
  fi

  # Debian starts a service as it installs it, unless this file says no.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    trap '"${sudo[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null
    "${sudo[@]}" chmod 755 "$policy"
  fi

  echo "Installing Debian's ${packages[*]} …"
  local log
  log=$(mktemp)
  if ! { "${sudo[@]}" apt-get update --quiet --quiet && "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install --yes --quiet --quiet --no-install-recommends "${packages[@]}"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "make tools: apt-get could not install them (above); is there a network?" >&2
    exit 1
  fi
  rm -f "$log"
  # Nor shall it start when a machine with systemd boots next.
  [ ! -d /run/systemd/system ] || "${sudo[@]}" systemctl --quiet disable prometheus prometheus-alertmanager
}

case ${1:-} in
  syft) command -v syft >/dev/null || scripts/go_build.sh syft github.com/anchore/syft/cmd/syft@v1.57.1 ;;
  emulator) build_emulator ;;
  *)
    install_packages
    build_emulator
    ;;
esac
