#!/bin/bash
# The demo itself, run by an ordinary user in the directory given:
#   a base image from busybox, an image of two stages that work at the same time, a run of it, and
#   a second build that finds everything done.
set -euo pipefail
cd "$1"
export HOME=$PWD/home ASHLAR_HOME=$PWD/home/ashlar
ashlar=$PWD/ashlar

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
# Runs a command; the seconds it took are in $seconds.
timed() {
  local start=$EPOCHREALTIME
  "$@"
  seconds=$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.3f", b - a }')
}

say "I am $(id -un), user $(id -u), and no daemon runs."

say "1. A base image of busybox, from scratch"
"$ashlar" build --progress plain -t busybox:demo -o type=oci,tar=false,dest=base-image base

say "2. An image of three stages; two of them work for two seconds each, at the same time"
timed "$ashlar" build --progress plain -t demo:latest \
  --build-context base=oci-layout://"$PWD"/base-image app
first=$seconds

say "3. It runs"
"$ashlar" run --rm demo:latest

say "4. The same build again"
timed "$ashlar" build --progress plain -t demo:latest \
  --build-context base=oci-layout://"$PWD"/base-image app
again=$seconds

"$ashlar" images
say "first build: $first s    nothing changed: $again s"
