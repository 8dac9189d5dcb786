"""Boots the image in a virtual machine, with a kernel of its own: what a container cannot show. That is a kernel's cgroup2 controllers
with the limits that sessions get from them, its settings, and AppArmor. The processor is emulated, so nothing here is fast, and what
the daemon gives a program for its start may be too short at first; it tries on.

usage: vm.py PACKAGE CACHE     CACHE: a folder that stays, for the base system and the packages that were fetched
"""

import pathlib
import signal
import subprocess
import sys
import time

from checks import require
from report import Report
from tree import Failed, Tree, call, inside

# Debian's, without drivers for hardware that no cloud has.
KERNEL = ("linux-image-cloud-amd64", "initramfs-tools")
DISK = "4G"
MEMORY_MIB = 6144
# An emulated boot takes two to four minutes here.
BOOT_SECONDS = 900
# Of a session that asks for less than the configuration gives.
MEMORY_BYTES, PIDS = 943718400, 500

UNIT = """[Unit]
Description=Tell the test outside how it went
After=valetd.service
[Service]
Type=oneshot
StandardOutput=file:/dev/ttyS0
StandardError=file:/dev/ttyS0
ExecStart=/bin/sh /opt/build/tell.sh
[Install]
WantedBy=multi-user.target
"""

# Each answer on a line of its own, with a word before it.
TELL = f"""
tell() {{ word=$1; shift; echo "TELL $word $("$@" 2>&1 | tr '\\n' ' ')"; }}
for _ in $(seq 300); do [ "$(curl -s http://127.0.0.1:8089/readyz)" = ready ] && break; sleep 1; done
tell readyz curl -s http://127.0.0.1:8089/readyz
tell uptime cut -d' ' -f1 /proc/uptime
tell kernel uname -r
tell unit systemctl show valetd --property=ActiveState,NRestarts
tell steps /opt/build/ami/provision --check
tell tables nft list tables
tell apparmor cat /sys/module/apparmor/parameters/enabled
cd /sys/fs/cgroup/system.slice/valetd.service
tell controllers cat cgroup.controllers
tell leaf cat /proc/"$(systemctl show valetd --property=MainPID --value)"/cgroup
tell pids cat valetd-*/*/s0/pids.max
tell weight cat valetd-*/*/s0/cpu.weight
tell small curl -s -o /dev/null -w '%{{http_code}}' --unix-socket /run/valetd/control.sock -H 'content-type: application/json' \\
  -d '{{"user_id":"eve","session_id":"small","limits":{{"memory_bytes":{MEMORY_BYTES},"pids":{PIDS}}}}}' http://localhost/v1/sessions
for _ in $(seq 100); do [ -e "$(echo valetd-*/*/s1/memory.max)" ] && break; sleep 1; done
tell small-memory cat valetd-*/*/s1/memory.max
tell small-pids cat valetd-*/*/s1/pids.max
cd /
tell stop systemctl stop valetd
tell left sh -c 'ps -e -o uid= | awk "\\$1 >= 20000 && \\$1 < 30000" | wc -l'
tell stopped systemctl show valetd --property=ActiveState,Result
echo TELL end
sync
systemctl poweroff
"""


def image(tree, package):
    """The disk, with a kernel and its first files beside it: three paths."""
    tree.make(package)
    tree.provision()
    inside(tree.path, "apt-get", "install", "-y", "-qq", "--no-install-recommends", *KERNEL, env=["DEBIAN_FRONTEND=noninteractive"])
    tree.provision("--seal", daemon=False)
    (tree.path / "etc/fstab").write_text("/dev/vda / ext4 defaults 0 1\n")
    (tree.path / "opt/build/tell.sh").write_text(TELL)
    (tree.path / "opt/build/valetd.deb").unlink()
    (tree.path / "etc/systemd/system/tell.service").write_text(UNIT)
    inside(tree.path, "systemctl", "enable", "tell.service")
    disk, kernel, initrd = (tree.cache / name for name in ("disk", "kernel", "initrd"))
    disk.unlink(missing_ok=True)
    call("mke2fs", "-q", "-t", "ext4", "-d", tree.path, disk, DISK)
    call("cp", *(tree.path / "boot").glob("vmlinuz-*"), kernel)
    call("cp", *(tree.path / "boot").glob("initrd.img-*"), initrd)
    return disk, kernel, initrd


def boot(disk, kernel, initrd, serial):
    """Boots it until it switches itself off. What it told."""
    command = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", str(MEMORY_MIB),
               "-kernel", kernel, "-initrd", initrd, "-append", "root=/dev/vda rw console=ttyS0 quiet",
               "-drive", f"file={disk},if=virtio,format=raw", "-nic", "none", "-display", "none", "-serial", f"file:{serial}", "-no-reboot"]
    try:
        subprocess.run([str(word) for word in command], timeout=BOOT_SECONDS, check=True, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired as late:
        raise Failed(f"not done in {BOOT_SECONDS} s:\n{serial.read_text(errors='replace')[-3000:]}") from late
    # A line may begin with a login's prompt.
    lines = [line[max(0, line.find("TELL ")):].strip() for line in serial.read_text(errors="replace").splitlines()]
    told = [line.split(" ", 2)[1:] for line in lines if line.startswith("TELL ")]
    require(told and told[-1] == ["end"], "it did not get to the end", lines[-20:])
    return {word: rest[0].strip() if rest else "" for word, *rest in told}


def main(package, cache):
    """Runs it all, and cleans up."""
    report, cache, told = Report(), pathlib.Path(cache), {}
    cache.mkdir(parents=True, exist_ok=True)
    tree, parts, start = Tree(cache), [], time.monotonic()

    def expect(**wanted):
        for word, value in wanted.items():
            word = word.replace("_", "-")
            require(told.get(word) == value, f"{word}: {told.get(word)!r} in place of {value!r}")

    def leaf():
        expect(leaf="0::/system.slice/valetd.service/supervisor")
        require({"cpu", "memory", "pids"} <= set(told["controllers"].split()), told["controllers"])

    def steps():
        require(told["steps"].count(": good") == 11, told["steps"])
        expect(apparmor="Y")

    try:
        if (report.tell("the scripts make a disk with a kernel", lambda: parts.extend(image(tree, package)))
                and report.tell("it boots, and switches itself off", lambda: told.update(boot(*parts, cache / "serial.log")))):
            report.tell("/readyz says 200, with the unit's first daemon", lambda: expect(readyz="ready", unit="NRestarts=0 ActiveState=active"))
            report.tell("all steps are in place on a system that runs, AppArmor among it", steps)
            report.tell("systemd hands on its controllers, and the daemon is in a leaf", leaf)
            report.tell("a session has the configuration's limits", lambda: expect(pids="4096", weight="100"))
            report.tell("one that asks for less gets less", lambda: expect(small="201", small_memory=str(MEMORY_BYTES), small_pids=str(PIDS)))
            report.tell("a stop leaves no process", lambda: expect(left="0", stopped="Result=success ActiveState=inactive"))
            print(f"{'kernel':34} {told['kernel']}, emulated")
            print(f"{'power-on to /readyz':34} {told['uptime']} s")
    finally:
        tree.remove()
        for part in parts:
            part.unlink()
    print(f"{'the whole test':34} {time.monotonic() - start:.0f} s")
    return report.close()


if __name__ == "__main__":
    # So that whoever ends it has it clean up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main(*sys.argv[1:]))
