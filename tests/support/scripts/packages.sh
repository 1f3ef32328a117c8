#!/bin/bash
# Installs the Debian packages named as arguments: only those that are missing, with one
# `apt-get update` and a few tries, since package sources sometimes do not answer.
set -euo pipefail

missing=()
for package in "$@"; do
  dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null |
    grep -qx installed || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -eq 0 ]; then
  as_root=(env)
elif sudo -n true 2>/dev/null; then
  as_root=(sudo -n env)
else
  echo "These Debian packages are missing: ${missing[*]}" >&2
  echo "Install them as root:  apt-get install --no-install-recommends ${missing[*]}" >&2
  exit 3
fi

# Services that come with packages are not started, now or at the next boot: tests start their own.
# shellcheck disable=SC2016
install='
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    trap "rm -f $policy" EXIT
    printf "#!/bin/sh\nexit 101\n" >$policy && chmod 755 $policy
  fi
  apt-get -qq update &&
    apt-get -qq install --yes --no-install-recommends "$@" || exit
  for service in redis-server docker-registry; do
    case " $* " in *" $service "*) update-rc.d $service disable || : ;; esac
  done'
for pause in 0 5 20 60; do
  sleep "$pause"
  if "${as_root[@]}" DEBIAN_FRONTEND=noninteractive sh -c "$install" sh "${missing[@]}" \
    </dev/null >/tmp/ashlar-apt.$$ 2>&1; then
    rm -f /tmp/ashlar-apt.$$
    exit 0
  fi
done
cat /tmp/ashlar-apt.$$ >&2
echo "The packages could not be installed: ${missing[*]}" >&2
exit 3
