"""Boots real systemd over this machine's own files, which stay as they are, with the units and a binary that is there already: a
short look that builds no package and fetches nothing. tests/image/boot.py is the whole.

usage: smoke.py BINARY CACHE     CACHE: a folder for the log
"""

import contextlib
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from machine import Machine, wait_for
from report import Report
from tree import ROOT, Failed

READY_SECONDS = 60
UNITS = ("valetd.service", "valetd-secret.service", "valetd-firewall.service", "valetd-gateway.socket", "valetd-api.socket")
# Everything that is to start, in place of what this machine starts.
TARGET = """[Unit]
Wants=valetd.service systemd-journald.service
After=valetd.service
AllowIsolate=yes
"""
CLONE_NEWNET = 0x40000000
# Over the whole of this machine, into memory; what is mounted in it is not seen. In a cgroup of its own, since nspawn calls its
# cgroups alike each time.
ENTER = """
set -e
folder=$1 cgroup=$2; shift 2
if mkdir "$cgroup" 2>/dev/null; then echo $$ >"$cgroup/cgroup.procs"; fi
mount -t tmpfs tmpfs "$folder/layer"
mkdir "$folder/layer/upper" "$folder/layer/work"
mount -t overlay -o "lowerdir=/,upperdir=$folder/layer/upper,workdir=$folder/layer/work" overlay "$folder/root"
exec systemd-nspawn "$@"
"""


def require(true, *what):
    """Fails with what was seen, unless it is so."""
    if not true:
        raise Failed("; ".join(str(part) for part in what))


class Smoke(Machine):
    """This machine's files as another system."""

    def __init__(self, folder, binary, log):
        super().__init__(folder / "root", log)
        self.folder, self.binary = folder, binary
        unified = pathlib.Path("/sys/fs/cgroup/unified")
        self.cgroup = (unified if unified.is_dir() else unified.parent) / f"valetd-smoke-{os.getpid()}"
        # Where there is cgroup1 beside, nspawn makes the same there.
        self.cgroups = [self.cgroup, pathlib.Path("/sys/fs/cgroup/systemd", self.cgroup.name)]

    def furnish(self):
        """What a package would bring."""
        for name in ("layer", "root", "units", "etc", "lib"):
            (self.folder / name).mkdir()
        for unit in UNITS:
            shutil.copy(ROOT / "systemd" / unit, self.folder / "units")
        (self.folder / "units/valetd-smoke.target").write_text(TARGET)
        (self.folder / "etc/credentials").mkdir(mode=0o700)
        shutil.copy(ROOT / "config/valetd.example.toml", self.folder / "etc/valetd.toml")
        shutil.copy(ROOT / "deb/boot.nft", self.folder / "etc")
        shutil.copy(ROOT / "deb/lib/make-secret", self.folder / "lib")

    def boot(self):
        """Switches it on."""
        nspawn = ["--quiet", "--keep-unit", "--register=no", f"--directory={self.tree}", "--boot", "--private-network",
                  "--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=pipe", "--tmpfs=/var/lib/valetd",
                  "--tmpfs=/var/log", f"--bind-ro={self.binary}:/usr/bin/valetd", f"--bind-ro={self.folder}/units:/etc/systemd/system",
                  f"--bind={self.folder}/etc:/etc/valetd", f"--bind-ro={self.folder}/lib:/usr/lib/valetd", "--", "--unit=valetd-smoke.target"]
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", ENTER, "sh", self.folder, self.cgroup, *nspawn]
        env = os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
        self.started = time.monotonic()
        with open(self.log, "wb") as log:
            self.nspawn = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
        self.leader = wait_for("its first process", 20, self.first_process)
        # It has loopback alone; this process asks it from there.
        with open(f"/proc/{self.leader}/ns/net") as space:
            if ctypes.CDLL(None, use_errno=True).setns(space.fileno(), CLONE_NEWNET) != 0:
                raise Failed(f"setns: {os.strerror(ctypes.get_errno())}")

    def first_process(self):
        """The pid of its init, seen from here, once it is one."""
        leader = super().first_process()
        named = leader and pathlib.Path(f"/proc/{leader}/comm").read_text().strip()
        return leader if named == "systemd" else None

    def off(self):
        """Switches it off, and takes away the cgroup that it was in."""
        super().off()
        for left in self.cgroups:
            subprocess.run(["find", left, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"], stderr=subprocess.DEVNULL)


def ask(path):
    """Status and text of an answer of the host's API; (0, "") where there is none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:8089{path}", timeout=READY_SECONDS) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def is_refused():
    """Whether nobody takes connections. One that is being answered when a daemon ends may be cut off, which is something else."""
    try:
        with urllib.request.urlopen("http://127.0.0.1:8089/livez", timeout=READY_SECONDS):
            return False
    except urllib.error.URLError as error:
        return isinstance(error.reason, ConnectionRefusedError)
    except OSError:
        return False


def is_ready():
    """Whether it says that it is."""
    return ask("/readyz") == (200, "ready")


class Checks:
    """What is asked, in order."""

    def __init__(self, machine):
        self.machine, self.ticked = machine, None

    def pid(self):
        """The daemon's, as systemd knows it."""
        return self.machine.unit("MainPID")["MainPID"]

    def another(self, before):
        """Waits for a daemon that is not that one, and until it is ready."""
        wait_for("another daemon", READY_SECONDS, lambda: self.pid() not in ("0", before))
        wait_for("/readyz", READY_SECONDS, is_ready)

    def ready(self):
        """the unit is active and has said READY at the first try, and /readyz says 200"""
        wait_for("systemctl", READY_SECONDS, lambda: self.machine.succeeds("systemctl", "show", "valetd.service"))
        wait_for("/readyz, or a failure", READY_SECONDS, lambda: is_ready() or self.machine.unit("ActiveState")["ActiveState"] == "failed")
        seen = lambda: self.machine.unit("ActiveState", "NRestarts", "StatusText")  # noqa: E731
        wanted = {"ActiveState": "active", "NRestarts": "0", "StatusText": "session default: ready"}
        require(is_ready() and seen() == wanted, seen())
        print(f"      power-on to /readyz: {time.monotonic() - self.machine.started:.1f} s")
        self.ticked = self.machine.unit("WatchdogTimestampMonotonic")["WatchdogTimestampMonotonic"]

    def sandbox(self):
        """its browser's renderers are in namespaces of their own, under a filter, without rights"""
        # Whichever is first may be the zygote's, which has its own namespaces already.
        pids = wait_for("a renderer", 20, lambda: self.machine.run("pgrep", "--full", "type=renderer", check=False).split())
        status = self.machine.run("cat", f"/proc/{pids[0]}/status")
        for line in (r"Uid:\s+20000\s+20000", r"CapEff:\s+0+$", r"NoNewPrivs:\s+1", r"Seccomp:\s+2"):
            require(re.search(line, status, re.M), line, status)
        for space in ("user", "pid", "net"):
            links = [self.machine.run("readlink", f"/proc/{pid}/ns/{space}") for pid in (pids[0], "1")]
            require(links[0] != links[1], space, links)

    def processes(self):
        """of /proc, a daemon without SYS_PTRACE sees its sessions, and a session's uid sees neither it nor another's"""
        inside = ["nsenter", "--target", self.pid(), "--mount"]
        seen = lambda *who: set(self.machine.run(*inside, "setpriv", *who, "ls", "/proc").split())  # noqa: E731
        renderers = set(self.machine.run("pgrep", "--full", "type=renderer").split())
        daemon = seen("--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace")
        require(renderers and renderers <= daemon, renderers, daemon)
        # Not the uid of the session that runs.
        session = seen("--reuid=25000", "--regid=25000", "--clear-groups")
        require("self" in session and not session & {"1", self.pid(), *renderers}, session)

    def records(self):
        """journald has structured records of the browser"""
        lines = self.machine.run("journalctl", "--boot", "--output=json", "--no-pager", "SESSION=default", "SERVICE=browser").splitlines()
        require(any(json.loads(line)["MESSAGE"] == "up" for line in lines), lines[-3:])

    def reload(self):
        """systemctl reload takes a change, and refuses a mistake"""
        pid, path = self.pid(), self.machine.folder / "etc/valetd.toml"
        text = path.read_text()
        for origins, status in (('["https://app.example.org"]', "configuration reloaded"), ('"mistake"', "configuration not reloaded")):
            path.write_text(re.sub(r"(?m)^allowed_origins = .*", f"allowed_origins = {origins}", text))
            self.machine.run("systemctl", "reload", "valetd")
            wait_for(status, 20, lambda: self.machine.unit("StatusText")["StatusText"].startswith(status))
        path.write_text(text)
        require(self.pid() == pid and is_ready(), "it is not the same daemon, or not ready")

    def kill(self):
        """a daemon that is killed comes back by itself"""
        before = self.pid()
        self.machine.run("kill", "-KILL", before)
        self.another(before)

    def sockets(self):
        """with its socket units a restart refuses nobody"""
        self.machine.run("systemctl", "stop", "valetd")
        self.machine.run("systemctl", "start", "valetd-gateway.socket", "valetd-api.socket")
        require(self.pid() == "0", "it runs already")
        # Whoever asks has it started, and is answered.
        status = ask("/livez")
        require(status == (200, "alive"), status)
        wait_for("/readyz", READY_SECONDS, is_ready)
        before = self.pid()
        restart = subprocess.Popen(["nsenter", "--target", self.machine.leader, "--all", "systemctl", "restart", "valetd"])
        while restart.poll() is None:
            require(not is_refused(), "a connection was refused")
        require(restart.returncode == 0 and self.pid() != before, restart.returncode, before)
        wait_for("/readyz", READY_SECONDS, is_ready)

    def watchdog(self):
        """the watchdog has ticked meanwhile"""
        seen = lambda: self.machine.unit("WatchdogTimestampMonotonic")["WatchdogTimestampMonotonic"]  # noqa: E731
        wait_for("a tick", 25, lambda: seen() not in ("0", self.ticked))

    def stop(self):
        """systemctl stop leaves nothing"""
        self.machine.run("systemctl", "stop", "valetd-gateway.socket", "valetd-api.socket", "valetd", timeout=60)
        unit = self.machine.unit("Result", "ActiveState", "ExecMainStatus")
        require(unit == {"Result": "success", "ActiveState": "inactive", "ExecMainStatus": "0"}, unit)
        lines = self.machine.run("ps", "-e", "-o", "uid=,comm=").splitlines()
        left = [line for line in lines if 20000 <= int(line.split()[0]) <= 29999 or line.split()[1] == "valetd"]
        require(not left, left)
        for path in ("/run/valetd", "/sys/fs/cgroup/system.slice/valetd.service"):
            require(not self.machine.succeeds("test", "-e", path), f"{path} is left")
        require(ask("/livez") == (0, ""), "a listener is left")
        tables = self.machine.run("nft", "list", "tables").splitlines()
        require(tables == ["table inet valetd_boot"], tables)


def main(binary, cache):
    """Runs it all, and cleans up."""
    report, log = Report(), pathlib.Path(cache) / "smoke.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="valetd-smoke-")))
        machine = Smoke(folder, binary, log)
        machine.furnish()
        stack.callback(machine.off)
        checks = Checks(machine)
        order = (checks.sandbox, checks.processes, checks.records, checks.reload, checks.kill, checks.sockets, checks.watchdog, checks.stop)
        if report.tell("real systemd boots over this machine's files", machine.boot) and report.tell(checks.ready.__doc__, checks.ready):
            for check in order:
                report.tell(check.__doc__, check)
        if report.failed and machine.leader:
            print(machine.run("journalctl", "--unit=valetd*", "--no-pager", "--lines=60", check=False))
            print(log.read_text()[-3000:])
    print(f"{time.monotonic() - start:.0f} s in all")
    return report.close()


if __name__ == "__main__":
    # So that whoever ends it has it clean up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main(*sys.argv[1:]))
