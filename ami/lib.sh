# shellcheck shell=bash
# What the steps share. A step sets STEP, defines apply and check, and ends with: step "$@"
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

say() { echo "$STEP: $*"; }
die() { echo "$STEP: $*" >&2; exit 1; }

# debian-12, ubuntu-22.04, ubuntu-24.04.
release() { (. /etc/os-release && echo "$ID-$VERSION_ID"); }

# Whether this system runs, rather than being put together in a folder or a container build.
live() { [ -d /run/systemd/system ]; }

# Whether there is a systemd to start things at boot; a container's image may have none.
managed() { command -v systemctl >/dev/null; }

# Brings packages in. Lists that are there and fresh enough are not fetched again.
packages() {
  local lists=/var/lib/apt/lists
  [ -n "$(find $lists -maxdepth 1 -name '*_Packages*' -mmin -720 -print -quit 2>/dev/null)" ] || apt-get update -qq
  # A file that somebody changed stays as it is.
  apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0 "$@" >/dev/null
}

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# Writes standard input to a file, where it says something else so far.
put() {
  local path=$1 mode=${2:-644} new
  new=$(mktemp)
  cat >"$new"
  cmp -s "$new" "$path" || install -D -m "$mode" "$new" "$path"
  rm -f "$new"
}

# Whether a unit would start at boot. A system that does not run can be asked too.
enabled() { [[ $(systemctl is-enabled "$1" 2>/dev/null) =~ ^(enabled|alias|static|indirect)$ ]]; }

# No unit of these names starts any more, installed already or not.
off() {
  local unit
  managed || return 0
  for unit; do
    systemctl disable "$unit" >/dev/null 2>&1 || true
    # Also in place of a unit file that somebody wrote into /etc.
    ln -sfn /dev/null "/etc/systemd/system/$unit"
  done
  ! live || systemctl daemon-reload
}

step() {
  [ "$(id -u)" = 0 ] || die "must run as root"
  case ${1:-} in
    '')
      apply
      check
      say "in place"
      ;;
    check)
      check
      say "good"
      ;;
    *) die "usage: $0 [check]" ;;
  esac
}
