"""What a host must do, asked from outside it, in the order of its life."""

import json
import os
import pathlib
import re
import ssl
import subprocess
import time
import urllib.error
import urllib.request

from machine import HOST, METADATA, METADATA6, PUBLIC, ROUTER, wait_for
from stand_ins import INSTANCE
from tree import Failed, call

HERE = pathlib.Path(__file__).resolve().parent
READY_SECONDS = 90
# systemd-analyze security, as systemd 252 reckons. What is left has its reason in the unit.
EXPOSURE = 3.9
# uids of sessions, one that has none at the moment, and AdsPower's.
SESSIONS = (20000, 29999)
A_SESSION, ADSPOWER = 25000, 19999


def require(true, *what):
    """Fails with what was seen, unless it is so."""
    if not true:
        raise Failed("; ".join(str(part) for part in what))


def ask(path, port=8089):
    """Status and text of an answer of the host's API; (0, "") where there is none."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def is_ready():
    """Whether the host says that it is."""
    return ask("/readyz") == (200, "ready")


class Checks:
    """Each method that begins with a number is a check; its documentation says what of. It fails by an exception, and gives
    back a figure to print, or ("skip", why)."""

    def __init__(self, machine, tree, stand_ins):
        self.machine, self.tree, self.stand_ins = machine, tree, stand_ins
        self.figures = {}
        self.watchdog = None

    def in_order(self):
        """The checks: (what it says, what to call)."""
        names = sorted(name for name in dir(self) if re.match(r"c\d\d", name))
        return [(getattr(self, name).__doc__, getattr(self, name)) for name in names]

    # Small things that several ask.

    def pid(self):
        """The daemon's, as systemd knows it; none where there is none, since 0 would be everybody."""
        pid = self.machine.unit("MainPID")["MainPID"]
        return None if pid == "0" else pid

    def running(self):
        """The same, of a daemon that has to be there."""
        pid = self.pid()
        require(pid, "the daemon does not run")
        return pid

    def another(self, before, seconds):
        """Waits for a daemon that is not that one, and until it is ready. How long both took."""
        start = time.monotonic()
        wait_for("another daemon", seconds, lambda: self.pid() not in (None, before))
        wait_for("/readyz", READY_SECONDS, is_ready)
        return time.monotonic() - start

    def token(self, role):
        """A token that the host makes."""
        line = f"CREDENTIALS_DIRECTORY=/etc/valetd/credentials valetd token --session default --user image --role {role}"
        return self.machine.run("sh", "-c", line)

    def journal(self, *matches):
        """Records of this boot, as journald has them."""
        lines = self.machine.run("journalctl", "--boot", "--output=json", "--no-pager", *matches).splitlines()
        return [json.loads(line) for line in lines]

    def processes_of_sessions(self):
        """Processes with a session's uid."""
        lines = self.machine.run("ps", "-e", "-o", "uid=,pid=,comm=").splitlines()
        return [line for line in lines if SESSIONS[0] <= int(line.split()[0]) <= SESSIONS[1]]

    def reaches(self, uid, url):
        """Whether a process with this uid gets an answer there; refused is an answer too, a timeout fails."""
        who = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] if uid else []
        words = [*who, "curl", "--silent", "--globoff", "--output", "/dev/null", "--max-time", "10", url]
        code = subprocess.run(["nsenter", "--target", self.machine.leader, "--all", *words]).returncode
        require(code in (0, 7), f"curl as {uid} to {url} ended with {code}")
        return code == 0

    def closed_to(self, uid):
        """Nothing that a session must not reach answers it."""
        metadata = [self.stand_ins[name] for name in ("metadata", "metadata6")]
        before = [server.asked for server in metadata]
        urls = [f"http://{METADATA}/", f"http://[{METADATA6}]/"]
        if uid != ADSPOWER:
            urls += [f"http://{ROUTER}:8000/", "http://127.0.0.1:8089/readyz", "http://[::1]:8089/readyz", f"http://{HOST}:8089/readyz"]
        for url in urls:
            require(not self.reaches(uid, url), f"uid {uid} reaches {url}")
        after = [server.asked for server in metadata]
        require(before == after, "the metadata service was asked", before, after)

    # The checks.

    def c01_ready(self):
        """it boots, and /readyz says 200"""
        wait_for("/readyz", READY_SECONDS, is_ready)
        self.figures["power-on to /readyz"] = f"{time.time() - self.machine.started:.2f} s"

    def c02_unit(self):
        """the unit is active and has told systemd so, at the first try"""
        seen = self.machine.unit("ActiveState", "SubState", "Result", "NRestarts", "StatusText", "Type")
        expected = {"ActiveState": "active", "SubState": "running", "Result": "success", "NRestarts": "0", "Type": "notify",
                    "StatusText": "session default: ready"}
        require(seen == expected, seen)
        self.watchdog = self.machine.unit("WatchdogTimestampMonotonic")["WatchdogTimestampMonotonic"]

    def c03_system(self):
        """nothing else has failed to start"""
        wait_for("the boot's end", 60, lambda: self.machine.run("systemctl", "is-system-running", check=False) != "starting")
        failed = self.machine.run("systemctl", "--failed", "--plain", "--no-legend", check=False)
        require(not failed, failed)

    def c04_time(self):
        """where the time to READY goes"""
        unit = self.machine.unit("ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic")
        start, active = (int(value) for value in unit.values())
        records = self.journal("--unit=valetd.service")
        up = {record["SERVICE"]: int(record["__MONOTONIC_TIMESTAMP"]) for record in records if record["MESSAGE"] == "up" and "SERVICE" in record}
        said = lambda word: next(int(record["__MONOTONIC_TIMESTAMP"]) for record in records if record["MESSAGE"] == word)  # noqa: E731
        listening = said("listening")
        require({"xvfb", "browser"} <= up.keys(), sorted(up))
        ms = lambda moment: f"{(moment - start) / 1000:.0f} ms"  # noqa: E731
        self.figures["unit started to READY"] = ms(active)
        self.figures["  its first word"] = f"{ms(said('starting'))} (systemd's sandboxing before the program, mostly)"
        self.figures["  its listeners"] = ms(listening)
        for service in ("xvfb", "browser"):
            self.figures[f"  {service} answers"] = ms(up[service])
        # What is before the first program and after the last is the daemon's own.
        own = (listening - said("starting")) + (active - max(up.values()))
        self.figures["  the daemon's own part"] = f"{own / 1000:.0f} ms"

    def c05_identity(self):
        """the machine has an id and a secret of its own, made at this boot"""
        require(re.fullmatch(r"[0-9a-f]{32}", self.machine.run("cat", "/etc/machine-id")), "no machine id")
        mode = self.machine.run("stat", "-c", "%a %U %s", "/etc/valetd/credentials/jwt_secret")
        require(mode == "600 root 44", mode)

    def c06_cloud(self):
        """the daemon reaches the metadata service, and /health has the instance's id"""
        seen = lambda: json.loads(ask("/health")[1])["host"]  # noqa: E731
        host = wait_for("the instance's id", 30, lambda: seen() if seen()["id"] == INSTANCE else None)
        require(host["provider"] == "ec2", host)

    def c07_viewer(self):
        """a noVNC viewer sees the browser's page over wss, and that browser says that it is sandboxed"""
        # Its certificate was made for this run, and nobody has signed it.
        env = os.environ | {"NODE_TLS_REJECT_UNAUTHORIZED": "0", "NODE_NO_WARNINGS": "1",
                            "CONTROLLER": self.token("controller"), "OPERATOR": self.token("operator")}
        said = call("node", HERE / "viewer.js", f"https://{HOST}:6080", env=env, timeout=240)
        seen = json.loads(said.splitlines()[-1])
        require(seen["url"].startswith("https:"), seen["url"])
        require(all(abs(a - b) <= 10 for a, b in zip(seen["colour"], seen["expected"])), seen["colour"])
        require(not seen["complaints"], seen["complaints"])
        wanted = (r"Layer 1 Sandbox\s+Namespace", r"PID namespaces\s+Yes", r"Network namespaces\s+Yes", r"Seccomp-BPF sandbox\s+Yes",
                  "You are adequately sandboxed")
        for line in wanted:
            require(re.search(line, seen["sandbox"]), f"{line} is not in:\n{seen['sandbox']}")

    def c08_renderer(self):
        """a session's processes have its uid, no capabilities and no way to new ones, and renderers namespaces of their own"""
        pids = self.machine.run("pgrep", "--full", "type=renderer").split()
        status = self.machine.run("cat", f"/proc/{pids[0]}/status")
        for line in (r"Uid:\s+20000\s+20000", r"CapEff:\s+0+$", r"CapPrm:\s+0+$", r"NoNewPrivs:\s+1", r"Seccomp:\s+2"):
            require(re.search(line, status, re.M), line, status)
        for space in ("user", "pid", "net"):
            links = [self.machine.run("readlink", f"/proc/{pid}/ns/{space}") for pid in (pids[0], "1")]
            require(links[0] != links[1], space, links)

    def c09_cgroups(self):
        """the daemon is in a leaf of its cgroup, and its sessions beside it"""
        cgroup = self.machine.run("cat", f"/proc/{self.running()}/cgroup").splitlines()[-1]
        require(cgroup == "0::/system.slice/valetd.service/supervisor", cgroup)
        pid = self.machine.run("pgrep", "--exact", "Xvfb")
        cgroup = self.machine.run("cat", f"/proc/{pid}/cgroup").splitlines()[-1]
        require(re.fullmatch(r"0::/system\.slice/valetd\.service/valetd-[0-9a-f]{8}/[0-9a-f]{12}/s0/xvfb", cgroup), cgroup)

    def c10_limits(self):
        """limits are set on a session's cgroup"""
        if "pids" not in self.machine.run("cat", "/sys/fs/cgroup/cgroup.controllers").split():
            return "skip", "this machine's cgroup2 has no controllers (they are bound to cgroup1); vm.py looks at it"
        found = self.machine.run("sh", "-c", "cat /sys/fs/cgroup/system.slice/valetd.service/valetd-*/*/s0/pids.max")
        require(found == "4096", found)
        return None

    def c11_network(self):
        """a session's uid reaches no metadata, no private network and no service of the host; it does reach the internet"""
        require(self.reaches(A_SESSION, f"http://{PUBLIC}/"), "not even the internet")
        self.closed_to(A_SESSION)
        self.closed_to(ADSPOWER)
        # Were these not there, nothing would have been shown.
        for url in (f"http://{METADATA}/", f"http://[{METADATA6}]/", f"http://{ROUTER}:8000/", "http://127.0.0.1:8089/readyz"):
            require(self.reaches(0, url), f"root does not reach {url}")

    def c12_apparmor(self):
        """AppArmor profiles are loaded where it restricts user namespaces"""
        if not pathlib.Path("/sys/kernel/security/apparmor").exists():
            return "skip", "this kernel has no AppArmor; Debian 12's would not know the rule either"
        return "skip", "Debian 12's AppArmor does not know the rule; Ubuntu 24.04 cannot be built here"

    def c13_journal(self):
        """journald has structured records: what of, which session, which part"""
        records = self.journal("SESSION=default", "SERVICE=browser")
        require(records, "no record with SESSION and SERVICE")
        one = next(record for record in records if record["MESSAGE"] == "up")
        require(one["_SYSTEMD_UNIT"] == "valetd.service" and one["PRIORITY"] == "5" and one["TARGET"].startswith("valetd::"), one)

    def c14_secrets(self):
        """the secret is in no record, no argument and no environment"""
        secret = self.machine.run("cat", "/etc/valetd/credentials/jwt_secret")
        records = self.machine.run("journalctl", "--boot", "--output=export", "--no-pager", "--all")
        require(secret not in records, "it is in the journal")
        seen = self.machine.run("sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'", check=False)
        require("valetd" in seen and secret not in seen, "it is in an argument or a variable")

    def c15_reload(self):
        """systemctl reload takes a change, and refuses a mistake"""
        pid = self.running()
        line = "sed -i 's|^allowed_origins = .*|allowed_origins = {}|' /etc/valetd/valetd.toml"
        self.machine.run("sh", "-c", line.format('["https://app.example.org"]'))
        self.machine.run("systemctl", "reload", "valetd")
        wait_for("the reload in the log", 20, lambda: [r for r in self.journal("--unit=valetd.service") if r["MESSAGE"].startswith("configuration reloaded")])
        self.machine.run("sh", "-c", line.format('"mistake"'))
        self.machine.run("systemctl", "reload", "valetd")
        wait_for("the refusal in the log", 20, lambda: [r for r in self.journal("--unit=valetd.service", "--priority=4") if "allowed_origins" in json.dumps(r)])
        require(self.pid() == pid and is_ready(), "it is not the same daemon, or not ready")
        self.machine.run("sh", "-c", line.format('["https://app.example.org"]'))

    def c15b_rotation(self):
        """a secret is rotated by reloads, as docs/operations.md says: old and new tokens, then new ones alone"""
        folder = "/etc/valetd/credentials"
        old = self.token("controller")
        self.machine.run("sh", "-c", f"openssl rand -base64 32 | install -m 600 /dev/stdin {folder}/jwt_2026b")
        listed = lambda *names: ", ".join(f'{{ algorithm = "HS256", secret = "{folder}/{name}" }}' for name in names)  # noqa: E731
        self.keys(listed("jwt_2026b", "jwt_secret"))
        # The first of the list signs.
        new = self.token("controller")
        wait_for("both tokens", 20, lambda: (self.ticket(old), self.ticket(new)) == (200, 200))
        self.keys(listed("jwt_2026b"))
        wait_for("the new token alone", 20, lambda: (self.ticket(old), self.ticket(new)) == (401, 200))
        self.keys('{ algorithm = "HS256", secret = "jwt_secret" }')
        wait_for("the first token again", 20, lambda: (self.ticket(old), self.ticket(new)) == (200, 401))

    def keys(self, keys):
        """Takes these keys by a reload."""
        path = self.tree.path / "etc/valetd/valetd.toml"
        path.write_text(re.sub(r"(?m)^keys = .*", f"keys = [{keys}]", path.read_text()))
        self.machine.run("systemctl", "reload", "valetd")

    def ticket(self, token):
        """The status of an answer to a request for a ticket."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        url = f"https://{HOST}:6080/sessions/default/ticket"
        request = urllib.request.Request(url, method="POST", headers={"Authorization": f"Bearer {token}"})
        try:
            with urllib.request.urlopen(request, timeout=5, context=context) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    def c16_watchdog(self):
        """the watchdog ticks"""
        seen = lambda: self.machine.unit("WatchdogTimestampMonotonic")["WatchdogTimestampMonotonic"]  # noqa: E731
        wait_for("another tick", 25, lambda: seen() != self.watchdog)

    def c17_hang(self):
        """f43: a daemon that hangs is ended by its watchdog, and the next one is ready"""
        before = self.running()
        self.machine.run("kill", "-STOP", before)
        self.figures["from a hang to /readyz"] = f"{self.another(before, 60):.1f} s"

    def c18_restart(self):
        """systemctl restart ends it in order, and the next one is ready"""
        before = self.running()
        self.machine.run("systemctl", "restart", "valetd", timeout=READY_SECONDS)
        self.another(before, 1)
        stopped = [record for record in self.journal(f"_PID={before}") if record["MESSAGE"] == "stopped"]
        require(stopped, "the first one did not end in order")
        warned = [record["MESSAGE"] for record in self.journal(f"_PID={before}", "--priority=4") if record["MESSAGE"] == "tasks did not end in time"]
        require(not warned, "a task of it did not end by itself")

    def c19_kill(self):
        """f42: a daemon that is killed comes back by itself, and leaves nothing of before"""
        before, sessions = self.running(), self.processes_of_sessions()
        self.machine.run("kill", "-KILL", before)
        self.figures["from kill -9 to /readyz"] = f"{self.another(before, 30):.1f} s"
        left = [line for line in self.processes_of_sessions() if line in sessions]
        require(sessions and not left, left)

    def c20_mistake(self):
        """a configuration with a mistake ends with 78, and is not tried again and again"""
        folder = self.tree.path / "etc/systemd/system/valetd.service.d"
        folder.mkdir(exist_ok=True)
        (self.tree.path / "opt/build/bad.toml").write_text("[host]\nfirst_uid = 0\n")
        (folder / "bad.conf").write_text("[Service]\nExecStart=\nExecStart=/usr/bin/valetd run --config /opt/build/bad.toml\n")
        self.machine.run("systemctl", "daemon-reload")
        self.machine.run("systemctl", "restart", "valetd", check=False)
        failed = lambda: self.machine.unit("ActiveState")["ActiveState"] == "failed"  # noqa: E731
        wait_for("its failure", 20, failed)
        seen = self.machine.unit("ExecMainStatus", "Result")
        require(seen == {"ExecMainStatus": "78", "Result": "exit-code"}, seen)
        (folder / "bad.conf").unlink()
        folder.rmdir()
        self.machine.run("systemctl", "daemon-reload")
        self.machine.run("systemctl", "start", "valetd", timeout=READY_SECONDS)
        self.another(None, 1)

    def c21_exposure(self):
        """systemd-analyze security is not worse than it was"""
        last = self.machine.run("systemd-analyze", "security", "valetd.service", "--no-pager").splitlines()[-1]
        self.figures["systemd-analyze security"] = figure = re.search(r"([0-9.]+) [A-Z]+", last)[0]
        require(float(figure.split()[0]) <= EXPOSURE, last)

    def c22_upgrade(self):
        """an upgrade restarts the daemon, and keeps its configuration, secret and profiles"""
        self.change_package("0.1.0-2")

    def c23_downgrade(self):
        """so does going back to the version before"""
        self.change_package("0.1.0-1")

    def change_package(self, version):
        """Installs a package of this version, made from the one that was built, with another example configuration."""
        folder = self.tree.path / "opt/build"
        call("dpkg-deb", "--raw-extract", folder / "valetd.deb", folder / "raw")
        control = folder / "raw/DEBIAN/control"
        control.write_text(re.sub(r"(?m)^Version: .*", f"Version: {version}", control.read_text()))
        with open(folder / "raw/etc/valetd/valetd.toml", "a") as example:
            example.write(f"# of {version}\n")
        call("dpkg-deb", "-Znone", "--build", folder / "raw", folder / "other.deb")
        call("rm", "-r", folder / "raw")
        state = "sha256sum /etc/valetd/valetd.toml /etc/valetd/credentials/jwt_secret; ls /var/lib/valetd/profiles"
        before, pid = self.machine.run("sh", "-c", state), self.running()
        self.machine.run("apt-get", "install", "--yes", "--quiet", "--allow-downgrades", "--option", "Dpkg::Options::=--force-confold",
                         "/opt/build/other.deb", timeout=180, env={"DEBIAN_FRONTEND": "noninteractive", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
        require(self.machine.run("dpkg-query", "-W", "-f", "${Version}", "valetd") == version, "it is not installed")
        require(self.machine.run("sh", "-c", state) == before, "the configuration, the secret or the profiles changed")
        self.another(pid, 1)

    def c24_stop(self):
        """systemctl stop leaves nothing: no process, no cgroup, no socket, no rules but those of the boot, which hold"""
        require(self.processes_of_sessions(), "there was nothing to stop")
        start = time.monotonic()
        self.machine.run("systemctl", "stop", "valetd", timeout=60)
        self.figures["systemctl stop, with a session"] = f"{time.monotonic() - start:.2f} s"
        unit = self.machine.unit("Result", "ActiveState", "ExecMainStatus")
        require(unit == {"Result": "success", "ActiveState": "inactive", "ExecMainStatus": "0"}, unit)
        self.nothing_is_left()
        tables = self.machine.run("nft", "list", "tables").splitlines()
        require(tables == ["table inet valetd_boot"], tables)
        # The daemon's own table is gone, so it is the boot's that holds.
        self.closed_to(A_SESSION)

    def nothing_is_left(self):
        """Of a daemon that has ended."""
        require(not self.processes_of_sessions(), self.processes_of_sessions())
        require(not self.machine.succeeds("pgrep", "--exact", "valetd"), "the daemon or its keeper")
        for path in ("/run/valetd", "/sys/fs/cgroup/system.slice/valetd.service"):
            require(not self.machine.succeeds("test", "-e", path), f"{path} is left")
        require(ask("/livez") == (0, "") and not self.machine.run("ss", "-Hltn", "sport = 6080"), "a listener is left")

    def c25_purge(self):
        """a purge leaves nothing, also of one that runs and has its socket units enabled"""
        self.machine.run("systemctl", "start", "valetd", timeout=READY_SECONDS)
        self.another(None, 1)
        self.machine.run("systemctl", "enable", "valetd-gateway.socket", "valetd-api.socket")
        # Of whoever put it there.
        self.machine.run("rm", "-r", "/etc/valetd/tls")
        self.machine.run("apt-get", "purge", "--yes", "--quiet", "valetd", timeout=120,
                         env={"DEBIAN_FRONTEND": "noninteractive", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
        self.nothing_is_left()
        names = "-name '*valetd*' -not -path '/proc/*' -not -path '/sys/*' -not -path '/opt/build/*' -not -path '/var/log/*'"
        # The scripts' own settings of the system are not the package's.
        kept = {"/etc/sysctl.d/60-valetd.conf", "/etc/modules-load.d/valetd.conf", "/etc/systemd/journald.conf.d/valetd.conf",
                "/etc/apt/apt.conf.d/60valetd"}
        left = set(self.machine.run("sh", "-c", f"find / -xdev {names}").splitlines()) - kept
        # dpkg's own notes of a package that was once there.
        left = {path for path in left if not path.startswith(("/var/lib/dpkg/", "/var/cache/apt/", "/usr/share/doc-base/"))}
        require(not left, sorted(left))
        require(not self.machine.run("nft", "list", "tables"), "packet rules are left")
        require(not self.machine.succeeds("getent", "group", "valetd"), "the group is left")
        require(not self.machine.succeeds("dpkg-query", "-W", "valetd"), "dpkg still knows it")
