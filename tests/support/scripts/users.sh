#!/bin/bash
# Creates the ordinary users of the tests, as root and as often as one likes:
#   ashlar-sub    has 65536 subordinate user and group ids
#   ashlar-other  has others, as many
#   ashlar-one    has none
set -euo pipefail

for user in ashlar-sub ashlar-other ashlar-one; do
  getent passwd "$user" >/dev/null ||
    useradd --create-home --user-group --shell /bin/bash "$user"
done

# useradd hands out ranges by itself on some systems and not on others.
touch /etc/subuid /etc/subgid
for file in /etc/subuid /etc/subgid; do
  sed -i '/^ashlar-one:/d' "$file"
  for user in ashlar-sub ashlar-other; do
    grep -q "^$user:" "$file" && continue
    # The first id above every range there is.
    start=$(awk -F: 'BEGIN { top = 100000 } $2 + $3 > top { top = $2 + $3 } END { print top }' "$file")
    echo "$user:$start:65536" >>"$file"
  done
done
