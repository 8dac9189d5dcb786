"""Makes the tree that fly/Dockerfile describes, and runs valetd in it as Fly's init does: as the child of pid 1, without systemd.
No Dockerfile is read here, and no image built; the steps and the configuration are the same.

usage: container.py PACKAGE CACHE     CACHE: a folder that stays, for the base system and the packages that were fetched
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import urllib.request

from checks import HOST, READY_SECONDS, ask, is_ready, require
from machine import INSIDE, Network, remove_cgroups, wait_for
from report import Report
from tree import CONTAINER, ROOT, Tree, call

# As Fly sets it.
FLY = {"FLY_APP_NAME": "valetd-sandboxes", "FLY_MACHINE_ID": "148e272b7d6989", "FLY_REGION": "fra", "FLY_PRIVATE_IP": "fd87:5::2",
       "FLY_VM_MEMORY_MB": "4096"}
# What fly/machine.json sets.
SESSION = {"CREDENTIALS_DIRECTORY": "/etc/valetd/credentials", "VALETD_SESSION__ID": "sandbox-7", "VALETD_SESSION__USER": "user-42"}
# fly/sandbox.toml's kill_timeout.
STOP_SECONDS = 40


def daemon_of(nspawn):
    """The pid of the daemon, seen from here: the child of the container's pid 1."""
    def children(pid):
        return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    first = children(nspawn.pid)
    second = children(first[0]) if first else []
    return next((pid for pid in second if "run" in pathlib.Path(f"/proc/{pid}/cmdline").read_text().split("\0")), None)


def run(tree, report, log, deleted):
    """Starts it, asks it, and stops it as Fly does; or has it end with its session, where that is to be deleted."""
    command = ["systemd-nspawn", "--quiet", "--keep-unit", "--register=no", f"--directory={tree.path}", "--as-pid2",
               f"--network-namespace-path=/run/netns/{INSIDE}", "--capability=CAP_NET_ADMIN", "--resolv-conf=off", "--console=pipe"]
    command += [f"--setenv={name}={value}" for name, value in (FLY | SESSION).items()]
    command += ["/usr/bin/valetd", "run", "--config", "/etc/valetd/valetd.toml"]
    start = time.monotonic()
    with open(log, "wb") as output:
        nspawn = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)

    def ready():
        wait_for("/readyz", READY_SECONDS, is_ready)
        print(f"      started to /readyz: {time.monotonic() - start:.2f} s")

    def health():
        seen = json.loads(ask("/health")[1])
        require(seen["host"]["provider"] == "fly" and seen["host"]["id"] == FLY["FLY_MACHINE_ID"], seen["host"])
        require({part["session"] for part in seen["components"] if "session" in part} == {"sandbox-7"}, seen["components"])
        require(seen["sessions"]["capacity"] == 1, seen["sessions"])

    def records():
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        require(any(line["fields"].get("message") == "up" if "fields" in line else line.get("message") == "up" for line in lines), lines[:3])

    def stop():
        pid = wait_for("the daemon", 10, lambda: daemon_of(nspawn))
        call("kill", "-TERM", pid)
        begun = time.monotonic()
        status = nspawn.wait(STOP_SECONDS)
        require(status == 0, f"ended with {status}")
        print(f"      TERM to the end: {time.monotonic() - begun:.2f} s")

    def delete():
        token = call("nsenter", "--target", wait_for("the daemon", 10, lambda: daemon_of(nspawn)), "--mount", "valetd", "token",
                     "--session=sandbox-7", "--user=user-42", "--role=operator", env={**os.environ, **SESSION})
        request = urllib.request.Request(f"http://{HOST}:8089/v1/sessions/sandbox-7?wait=ended", method="DELETE", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            require(answer.status == 200, answer.status)
        begun = time.monotonic()
        status = nspawn.wait(STOP_SECONDS)
        require(status == 0, f"ended with {status}")
        print(f"      DELETE to the end: {time.monotonic() - begun:.2f} s")

    try:
        if deleted:
            report.tell("it is ready again", ready) and report.tell("with its session the daemon ends, and says that all went well", delete)
            return
        report.tell("it runs without systemd, as the child of pid 1, and /readyz says 200", ready) and (
            report.tell("it is the Machine that Fly's environment names, with the session of its environment and no other", health)
            and report.tell("it writes JSON lines", records)
            and report.tell("TERM ends it in order, within Fly's patience", stop))
        if report.failed:
            print(log.read_text()[-3000:])
    finally:
        if nspawn.poll() is None:
            nspawn.send_signal(signal.SIGKILL)
            nspawn.wait(20)
        remove_cgroups()


def main(package, cache):
    """Runs it all, and cleans up."""
    report, cache = Report(), pathlib.Path(cache)
    cache.mkdir(parents=True, exist_ok=True)
    tree, network = Tree(cache, "container", CONTAINER), Network()

    def make():
        tree.make(package)
        tree.provision("--container")
        shutil.copy(ROOT / "fly/valetd.toml", tree.path / "etc/valetd/valetd.toml")
        secret = tree.path / "etc/valetd/credentials/jwt_secret"
        secret.write_text("0123456789abcdef0123456789abcdef")
        # Fly does not say which mode a file gets.
        secret.chmod(0o644)
        (tree.path / "etc/resolv.conf").write_text("nameserver fdaa::3\n")
        require(not (tree.path / "run/systemd/system").exists(), "a systemd runs")

    try:
        if report.tell("the steps for a container make a host of a Debian without systemd", make):
            network.lay()
            run(tree, report, cache / "container.log", deleted=False)
            run(tree, report, cache / "container-deleted.log", deleted=True)
    finally:
        network.remove()
        tree.remove()
    print("not looked at: Fly's own kernel, init and network, and the Dockerfile itself, which needs a Docker engine")
    return report.close()


if __name__ == "__main__":
    # So that whoever ends it has it clean up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main(*sys.argv[1:]))
