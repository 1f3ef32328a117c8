#!/bin/bash
# Writes a small root filesystem made of Debian's busybox-static to the tar given.
set -euo pipefail
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"

mkdir -p "$root"/{bin,sbin,dev,etc,home,proc,root,run,sys,usr/bin,usr/sbin,usr/local/bin,var/log}
mkdir -m 1777 "$root"/tmp "$root"/var/tmp
chmod 700 "$root/root"
install -m 755 /bin/busybox "$root/bin/busybox"
for applet in $(/bin/busybox --list); do
  [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
done
printf '%s\n' root:x:0:0:root:/root:/bin/sh daemon:x:1:1:daemon:/usr/sbin:/bin/false \
  www-data:x:33:33:www-data:/var/www:/bin/false app:x:1000:1000:app:/home/app:/bin/sh \
  nobody:x:65534:65534:nobody:/:/bin/false >"$root/etc/passwd"
printf '%s\n' root:x:0: daemon:x:1: wheel:x:10:root audio:x:29:app www-data:x:33: \
  app:x:1000: nogroup:x:65534: >"$root/etc/group"
mkdir "$root/home/app"
chown 1000:1000 "$root/home/app"

tar --create --file "$1" --directory "$root" --numeric-owner --sort=name \
  --mtime=@1600000000 --format=pax --pax-option=delete=atime,delete=ctime .
