#!/usr/bin/env bash
# Has Packer judge its templates, and tries that the judgement and the variables' rules can fail. Builds nothing.
# usage: tests/packer.sh
set -euo pipefail
cd "$(dirname "$0")/.."
passed=0
fail() { echo "packer: $*" >&2; exit 1; }
# Files that are named have to be there.
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for architecture in amd64 arm64; do touch "$dir/valetd_0.1.0-1_$architecture.deb"; done
touch "$dir/browser.deb"

valid() {
  packer validate "$@" packer >"$dir/said" 2>&1 || { cat "$dir/said" >&2; fail "is not valid with $*"; }
  passed=$((passed + 1))
}
refused() {
  local why=$1
  shift
  ! packer validate "$@" packer >"$dir/said" 2>&1 || fail "is valid with $*"
  grep -q "$why" "$dir/said" || { cat "$dir/said" >&2; fail "is refused with $*, but not for its $why"; }
  passed=$((passed + 1))
}

amd64=deb=$dir/valetd_0.1.0-1_amd64.deb
packer fmt -check packer >/dev/null || fail "not formatted: packer fmt packer"
valid -var "$amd64" -var "browser_deb=$dir/browser.deb"
valid -var "deb=$dir/valetd_0.1.0-1_arm64.deb"
valid -var "$amd64" -var instance_profile=build -var 'ami_users=["123456789012"]' -var kms_key_id=alias/valetd -var qemu_accelerator=tcg
refused 'deb variable' -var deb=valetd.deb
refused 'browser_deb variable' -var "$amd64" -var browser_deb=chrome.rpm
refused 'region variable' -var "$amd64" -var region=here
refused 'ami_users variable' -var "$amd64" -var 'ami_users=["12"]'
refused 'default KMS key' -var "$amd64" -var 'ami_users=["123456789012"]'
refused 'disk_gib variable' -var "$amd64" -var disk_gib=4
refused 'qemu_accelerator variable' -var "$amd64" -var qemu_accelerator=magic

# What the launch template is there for.
python3 - packer/ec2/launch-template.json <<'PYTHON'
import json, sys
data = json.load(open(sys.argv[1]))["LaunchTemplateData"]
assert data["MetadataOptions"]["HttpTokens"] == "required", "IMDSv1 is on"
assert data["MetadataOptions"]["HttpPutResponseHopLimit"] == 1, "more than one hop"
assert all(disk["Ebs"]["Encrypted"] for disk in data["BlockDeviceMappings"]), "a disk is not encrypted"
assert "KeyName" not in data, "a key for SSH"
PYTHON
passed=$((passed + 1))
echo "packer: $(packer version); nothing was built"
echo "packer: $passed passed, 0 failed"
