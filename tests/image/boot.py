"""Makes a Debian tree with the provisioning scripts, boots it with real systemd, and asks from outside whether it does what a
host must do.

usage: boot.py PACKAGE CACHE     CACHE: a folder that stays, for the base system and the packages that were fetched
"""

import pathlib
import signal
import sys
import time

from checks import Checks, require
from machine import HOST, METADATA, METADATA6, PUBLIC, ROUTER, Machine, Network
from report import Report
from stand_ins import StandIn
from tree import Tree, call

# A page that can be told by its colour, which tests/image/viewer.js knows.
START_URL = "data:text/html,<body/bgcolor=2e8b57>"

# Steps before the boot.
PROVISIONING = 4


def provision(tree, package, report):
    """The tree, made by the scripts, with what a build leaves behind on purpose. Whether all went well."""
    def first():
        tree.make(package)
        tree.provision()

    def again():
        moment = time.time()
        tree.provision(daemon=False)
        changed = tree.changed_since(moment)
        require(not changed, "written again", changed)

    def check():
        said = tree.provision("--check", daemon=False)
        require(said.count("good") >= 11, said)
        (tree.path / "etc/sysctl.d/60-valetd.conf").rename(tree.path / "etc/sysctl.d/away")
        said = tree.provision("--check", daemon=False, check=False)
        (tree.path / "etc/sysctl.d/away").rename(tree.path / "etc/sysctl.d/60-valetd.conf")
        require("kernel: " in said and "is missing" in said, said)

    def seal():
        leave_traces(tree.path)
        tree.provision("--seal", daemon=False)
        left = [str(path) for path in TRACES(tree.path) if path.exists() or path.is_symlink()]
        require(not left, left)
        require((tree.path / "etc/machine-id").read_bytes() == b"", "a machine id")

    return (report.tell("the scripts make a host of a fresh Debian", first)
            and report.tell("a second run changes nothing", again)
            and report.tell("--check finds all in place, and says what is not", check)
            and report.tell("the last step takes identity, secrets and logins away", seal))


def TRACES(root):  # noqa: N802
    """What must not get into an image."""
    return [root / path for path in (
        "etc/valetd/credentials/jwt_secret", "var/lib/valetd/profiles/p/SingletonLock", "var/lib/valetd/state.db",
        "root/.bash_history", "root/.ssh/authorized_keys", "home/builder/.config/adspower_global", "etc/ssh/ssh_host_ed25519_key",
    )]


def leave_traces(root):
    """As a build would that was not careful."""
    for path in TRACES(root):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.name == "SingletonLock":
            path.symlink_to("builder-4711")
        elif path.name == "adspower_global":
            path.mkdir()
            (path / "login").write_text("of the builder")
        else:
            path.write_text("of the builder")


def user_data(root):
    """What a machine is told at its first boot: where it serves TLS, what its browser opens, whom it asks for names."""
    tls = root / "etc/valetd/tls"
    tls.mkdir()
    call("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={HOST}",
         "-addext", f"subjectAltName=IP:{HOST}", "-out", tls / "fullchain.pem", "-keyout", tls / "privkey.pem")
    (tls / "privkey.pem").chmod(0o600)
    (root / "etc/default/valetd").write_text(
        "VALETD_GATEWAY__TLS_CERTIFICATE=/etc/valetd/tls/fullchain.pem\n"
        "VALETD_GATEWAY__TLS_PRIVATE_KEY=/etc/valetd/tls/privkey.pem\n"
        f"VALETD_BROWSER__START_URL={START_URL}\n")
    resolver = root / "etc/resolv.conf"
    resolver.unlink(missing_ok=True)
    resolver.write_text(f"nameserver {ROUTER}\n")
    (root / "etc/hostname").write_text("image-test\n")


def main(package, cache):
    """Runs it all, and cleans up."""
    start = time.monotonic()
    report = Report()
    cache = pathlib.Path(cache)
    cache.mkdir(parents=True, exist_ok=True)
    tree, network = Tree(cache), Network()
    machine = Machine(tree.path, cache / "console.log")
    checks = None
    try:
        if provision(tree, package, report):
            user_data(tree.path)
            network.lay()
            stand_ins = {"metadata": StandIn(METADATA, 80), "metadata6": StandIn(METADATA6, 80),
                         "private": StandIn(ROUTER, 8000), "public": StandIn(PUBLIC, 80)}
            checks = Checks(machine, tree, stand_ins)
            machine.boot()
            for what, do in checks.in_order():
                if not report.tell(what, do):
                    print(machine.run("journalctl", "--unit=valetd*", "--no-pager", "--lines=30", check=False), flush=True)
                    # One that does not come up is not asked for more.
                    if report.passed == PROVISIONING:
                        break
    finally:
        machine.off()
        network.remove()
        tree.remove()
    print("\nnot looked at: Ubuntu 22.04 and 24.04 (their archives are not reached from where this was made); the scripts name them")
    for name, figure in (checks.figures if checks else {}).items():
        print(f"{name:34} {figure}")
    print(f"{'the whole test':34} {time.monotonic() - start:.0f} s")
    return report.close()


if __name__ == "__main__":
    # So that whoever ends it has it clean up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main(*sys.argv[1:]))
