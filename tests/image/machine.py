"""The tree as a running system: real systemd in a container, in a network of two namespaces that nothing else is in."""

import ctypes
import os
import pathlib
import signal
import subprocess
import time

from tree import Failed, call

# The container's side, and the side of everybody else.
INSIDE, OUTSIDE = "valetd-image-in", "valetd-image-out"
HOST, ROUTER = "10.87.5.2", "10.87.5.1"
HOST6, ROUTER6 = "fd87:5::2", "fd87:5::1"
METADATA, METADATA6 = "169.254.169.254", "fd00:ec2::254"
# For documentation (RFC 5737), and to the packet rules as public as any.
PUBLIC = "203.0.113.10"
# nspawn's own, which it leaves behind.
CGROUPS = ("payload", "supervisor")


class Network:
    """Two network namespaces and a cable."""

    def lay(self):
        """Makes both, and enters the outer one with this process."""
        self.remove()
        call("ip", "netns", "add", INSIDE)
        call("ip", "netns", "add", OUTSIDE)
        call("ip", "link", "add", "host0", "netns", INSIDE, "type", "veth", "peer", "name", "world0", "netns", OUTSIDE)
        for space, link, own, own6, other, other6 in (
            (INSIDE, "host0", HOST, HOST6, ROUTER, ROUTER6),
            (OUTSIDE, "world0", ROUTER, ROUTER6, HOST, HOST6),
        ):
            call("ip", "-n", space, "link", "set", "lo", "up")
            call("ip", "-n", space, "addr", "add", f"{own}/24", "dev", link)
            call("ip", "-n", space, "addr", "add", f"{own6}/64", "dev", link, "nodad")
            call("ip", "-n", space, "link", "set", link, "up")
            if space == INSIDE:
                call("ip", "-n", space, "route", "add", "default", "via", other)
                call("ip", "-n", space, "route", "add", "default", "via", other6)
        for address in (f"{METADATA}/32", f"{PUBLIC}/32"):
            call("ip", "-n", OUTSIDE, "addr", "add", address, "dev", "lo")
        call("ip", "-n", OUTSIDE, "addr", "add", f"{METADATA6}/128", "dev", "lo", "nodad")
        # Of this thread and those that it starts. Not `ip netns exec`, which covers /sys.
        with open(f"/run/netns/{OUTSIDE}") as space:
            if ctypes.CDLL(None, use_errno=True).setns(space.fileno(), 0x40000000) != 0:
                raise Failed(f"setns: {os.strerror(ctypes.get_errno())}")

    def remove(self):
        """Takes both away, and the cable with them."""
        for space in (INSIDE, OUTSIDE):
            if pathlib.Path(f"/run/netns/{space}").exists():
                call("ip", "netns", "delete", space)


class Machine:
    """A system that boots from `tree`."""

    def __init__(self, tree, log):
        self.tree, self.log = tree, log
        self.nspawn = self.leader = self.started = None

    def boot(self):
        """Switches it on."""
        command = ["systemd-nspawn", "--quiet", "--keep-unit", "--register=no", f"--directory={self.tree}", "--boot",
                   f"--network-namespace-path=/run/netns/{INSIDE}", "--capability=CAP_NET_ADMIN", "--resolv-conf=off",
                   "--console=pipe"]
        # As on Debian 12 and Ubuntu, whatever the cgroups of this machine look like.
        env = os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
        self.started = time.time()
        with open(self.log, "wb") as log:
            self.nspawn = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
        self.leader = wait_for("its first process", 20, self.first_process)

    def first_process(self):
        """The pid of its init, seen from here."""
        if self.nspawn.poll() is not None:
            raise Failed(f"systemd-nspawn ended with {self.nspawn.returncode}:\n{self.log.read_text()}")
        children = pathlib.Path(f"/proc/{self.nspawn.pid}/task/{self.nspawn.pid}/children").read_text().split()
        return children[0] if children else None

    def run(self, *command, check=True, **how):
        """Runs a command in it, as its root."""
        return call("nsenter", "--target", self.leader, "--all", *command, check=check, **how)

    def succeeds(self, *command):
        """Whether a command in it ends with 0."""
        words = ["nsenter", "--target", self.leader, "--all", *command]
        return subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0

    def unit(self, *names, unit="valetd.service"):
        """Properties of a unit."""
        lines = self.run("systemctl", "show", unit, f"--property={','.join(names)}").splitlines()
        return dict(line.split("=", 1) for line in lines)

    def off(self):
        """Switches it off, as by its button; by pulling the plug where that takes too long."""
        if self.nspawn is None:
            return
        self.nspawn.send_signal(signal.SIGTERM)
        try:
            self.nspawn.wait(60)
        except subprocess.TimeoutExpired:
            self.nspawn.kill()
            self.nspawn.wait(20)
        remove_cgroups()


def remove_cgroups():
    """Those that nspawn leaves behind; only empty ones can be removed."""
    for mount in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        for name in CGROUPS:
            left = pathlib.Path(mount, name)
            if left.is_dir():
                subprocess.run(["find", left, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"], stderr=subprocess.DEVNULL)


def wait_for(what, seconds, found):
    """Asks until there is an answer that is something, and gives it back."""
    deadline = time.monotonic() + seconds
    while True:
        answer = found()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {seconds} s")
        time.sleep(0.02)
