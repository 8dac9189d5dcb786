#!/usr/bin/env bash
# Has the host API judged by its own description: a real daemon is started, and schemathesis sends it requests made from
# /openapi.json, good ones and bad ones, and looks whether each answer is one that the description tells of.
# usage: tests/api/schemathesis.sh VALETD     VALETD: the binary
set -euo pipefail
valetd=$(realpath "$1")
here=$(realpath "$(dirname "$0")")
# Examples per operation; the whole run takes some 20 s.
examples=${SCHEMATHESIS_EXAMPLES:-100}
seed=20261
# As in schemathesis.toml.
session=api-test
profile=pool-44e94cafa8660a08

venv=$(realpath -m "${SCHEMATHESIS_VENV:-$here/../../target/schemathesis}")
if ! cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
  echo "schemathesis: installing into ${venv##*/}"
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement "$here/requirements.txt"
  cp "$here/requirements.txt" "$venv/requirements.txt"
fi

# Short, since a socket lies in it, and passable for the sessions' uids.
dir=$(mktemp -d /tmp/vtapi.XXXXXX)
chmod 711 "$dir"
daemon=
end() {
  status=$?
  if [ -n "$daemon" ]; then
    kill "$daemon" 2>/dev/null || true
    wait "$daemon" || true
  fi
  if [ "$status" != 0 ] && [ -s "$dir/log" ]; then
    echo "schemathesis: the end of the daemon's log:" >&2
    tail -n 20 "$dir/log" >&2
  fi
  rm -rf "$dir"
}
trap end EXIT

# Sessions here are cheap: a display, and a browser that ends at once, so that none of them is ever ready.
(umask 077 && head -c 32 /dev/urandom | base64 >"$dir/jwt_secret")
cat >"$dir/valetd.toml" <<CONFIG
[host]
state_dir = "$dir/state"
runtime_dir = "$dir/run"
[identity]
provider = "local"
[session]
id = "$session"
[sessions]
max = 2
start_deadline = "1s"
[display]
size = "64x64"
[browser]
program = "/bin/false"
[gateway]
listen = "127.0.0.1:0"
[auth]
keys = [{ algorithm = "HS256", secret = "$dir/jwt_secret" }]
[api]
listen = "127.0.0.1:0"
socket = "$dir/control.sock"
[log]
format = "json"
level = "info"
CONFIG
"$valetd" run --config "$dir/valetd.toml" 2>"$dir/log" &
daemon=$!
address=
for _ in $(seq 200); do
  address=$(sed -n 's/.*"listener":"api","address":"\([^"]*\)".*/\1/p' "$dir/log")
  [ -z "$address" ] || break
  read -r -t 0.05 <> <(:) || true
done
[ -n "$address" ] || { echo "schemathesis: the daemon does not listen" >&2; exit 1; }
token=$("$valetd" token --config "$dir/valetd.toml" --session any --user schemathesis --role operator --ttl 1h)

# The profile that the paths name.
"$valetd" profile add --config "$dir/valetd.toml" --user "$session" --json | grep -q "$profile"

# What it remembers goes with the directory.
cd "$dir"
# Events never end, and are tested elsewhere; the socket's own route is not there on TCP.
judge() {
  "$venv/bin/schemathesis" --config-file "$here/schemathesis.toml" run "http://$address/openapi.json" \
    --header "Authorization: Bearer $token" --exclude-path /v1/events --exclude-path /v1/status \
    --phases examples,coverage,fuzzing --max-examples "$examples" --seed "$seed" --generation-database none \
    --request-timeout 30 --workers 1 --warnings off "$@"
}
# The session and the profile that the paths name go last.
judge --exclude-operation-id end_session --exclude-operation-id remove_profile
judge --include-operation-id end_session
judge --include-operation-id remove_profile
# The daemon has survived it, and nothing panicked.
kill -0 "$daemon"
if grep -q '"level":"ERROR".*panick' "$dir/log"; then
  echo "schemathesis: something panicked" >&2
  exit 1
fi
