#!/bin/bash
# Makes the base images of the tests under the directory given, each an OCI layout with the tag
# `latest` and its root filesystem as a tar beside it, by means that are not Ashlar's:
#   busybox  Debian's busybox-static with all its applets as links
#   debian   mmdebstrap's minbase from this host's own package sources, with attr and libcap2-bin
# The Debian one is made again only when what it is made from changes. Where no package source
# answers it is left out, and the tests that need it say that they are skipped.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
bases=$(mkdir -p "$1" && readlink -f "$1")

# layout NAME: turns $bases/NAME.tar into the layout $bases/NAME.
layout() {
  local work=$bases/.$1.$$
  rm -rf "$work"
  umoci init --layout "$work"
  umoci new --image "$work:latest"
  umoci raw add-layer --image "$work:latest" --history.created_by "base $1" "$bases/$1.tar"
  umoci config --image "$work:latest" --config.cmd /bin/sh --no-history \
    --config.env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
  umoci gc --layout "$work"
  rm -rf "${bases:?}/$1"
  mv "$work" "$bases/$1"
}

key=$(sha256sum /bin/busybox "$here"/b*.sh | sha256sum)
if [ "$(cat "$bases/busybox.key" 2>/dev/null)" != "$key" ]; then
  "$here/busybox-root.sh" "$bases/busybox.tar"
  layout busybox
  echo "$key" >"$bases/busybox.key"
fi

mapfile -t sources < <("$here/debian-sources.sh")
include=attr,libcap2-bin
# shellcheck disable=SC1091
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
key=$({ cat "${sources[@]}"; echo "$include $codename"; sha256sum "$0"; } | sha256sum)
if [ "$(cat "$bases/debian.key" 2>/dev/null)" != "$key" ]; then
  rm -rf "$bases/debian" "$bases/debian.key"
  if mmdebstrap --quiet --variant=minbase --include="$include" --mode=root "$codename" \
    "$bases/debian.tar" "${sources[@]}"; then
    layout debian
    echo "$key" >"$bases/debian.key"
  else
    echo "NO DEBIAN BASE: mmdebstrap failed; the tests that need it will be skipped" >&2
  fi
fi
