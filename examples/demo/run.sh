#!/bin/bash
# `make demo`: builds Ashlar, and shows it off as an ordinary user. Called by root it hands the
# show to the user ashlar-sub, whom it creates if need be.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
repository=$here/../..
scripts=$repository/tests/support/scripts

"$scripts/packages.sh" busybox-static uidmap
(cd "$repository" && cargo build --release --package ashlar)

# The checkout may lie where the other user cannot go: the show gets a stage of its own, on disk.
stage=$(mktemp -d /var/tmp/ashlar-demo.XXXXXX)
trap 'rm -rf "$stage" 2>/dev/null || true' EXIT
cp -r "$here/base" "$here/app" "$here/show.sh" "$stage"
cp "${CARGO_TARGET_DIR:-$repository/target}/release/ashlar" /bin/busybox "$stage"
mv "$stage/busybox" "$stage/base/"
mkdir "$stage/home"

if [ "$(id -u)" -eq 0 ]; then
  "$scripts/users.sh"
  chown -R ashlar-sub: "$stage"
  setpriv --reuid=ashlar-sub --regid=ashlar-sub --init-groups --inh-caps=-all --reset-env \
    "$stage/show.sh" "$stage"
else
  "$here/show.sh" "$stage"
  # Files of subordinate ids are removed from within the ids' namespace.
  unshare --map-root-user --map-auto rm -rf "$stage/home" 2>/dev/null || true
fi
