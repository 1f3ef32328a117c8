#!/bin/sh
# Makes the secrets of the farm, unless they are there: in secrets/ and .env, both for you alone.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets
random() { od -An -tx1 -N24 /dev/urandom | tr -d ' \n'; }
for name in redis-password peer-token admins builders worker-token; do
    [ -e "secrets/$name" ] || random > "secrets/$name"
done
if [ ! -e .env ]; then
    key=$(random)
    cat > secrets/s3-identities <<END
{"identities": [{"name": "ashlar", "actions": ["Read", "Write", "List"],
  "credentials": [{"accessKey": "ashlar", "secretKey": "$key"}]}]}
END
    echo "S3_SECRET_KEY=$key" > .env
fi
# The key to which secrets of builds are sealed.
[ -e secrets/farm-key ] || ashlar-worker keygen secrets/farm-key
# The containers read the files as users of their own.
chmod 755 secrets
chmod 644 secrets/*
