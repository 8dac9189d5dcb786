"""A Debian tree made by the provisioning scripts that any image is made with."""

import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
SUITE = "bookworm"
# What a cloud's image has and the smallest Debian has not; SSH and its keys, so that there is something to switch off.
HOST = "systemd,systemd-sysv,dbus,udev,openssh-server,ca-certificates,procps"
# As fly/Dockerfile begins: systemd is not there, or comes as somebody's dependency, and does not run.
CONTAINER = "adduser"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# nspawn complains of this where the host's /run is on its disk.
NOISE = "Attempted to remove disk file system under"


class Failed(Exception):
    """Something that has to work did not; says what."""


def call(*command, check=True, **how):
    """Runs a command, in a process group of its own, and gives back what it printed, which is in the error where it fails."""
    command = [str(word) for word in command]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, **how)
    lines = [line for line in done.stdout.splitlines() if NOISE not in line]
    if check and done.returncode != 0:
        raise Failed(f"{' '.join(command)} ended with {done.returncode}:\n" + "\n".join(lines[-30:]))
    return "\n".join(lines)


def sources():
    """Where this machine's apt has Debian from: (address, suite) of each list."""
    text = call("apt-get", "indextargets", "--format", "$(ORIGIN)|$(SITE)|$(RELEASE)|$(COMPONENT)", "Created-By: Packages")
    found = set()
    for line in text.splitlines():
        origin, site, suite, component = line.split("|")
        if origin == "Debian" and suite.startswith(SUITE) and component == "main":
            found.add((site, suite))
    if (mirror := next((site for site, suite in found if suite == SUITE), None)) is None:
        raise Failed(f"this machine's apt does not have Debian's {SUITE}: run apt-get update, on Debian 12")
    return mirror, sorted(found)


def inside(tree, *command, check=True, env=()):
    """Runs a command in the tree, which does not run as a system then."""
    # NET_ADMIN is for a network namespace that a check makes for itself.
    nspawn = ["systemd-nspawn", "--quiet", "--keep-unit", "--register=no", f"--directory={tree}", "--as-pid2",
              "--resolv-conf=copy-host", "--capability=CAP_NET_ADMIN"]
    return call(*nspawn, "env", *env, *command, check=check)


class Tree:
    """Beneath `cache`: the base system and its packages, which stay, and the tree, which goes."""

    def __init__(self, cache, kind="host", include=HOST):
        self.cache, self.kind, self.include = cache, kind, include
        self.path = cache / f"{kind}-tree"
        self.packages = cache / "packages"

    def base(self):
        """The base system, made once."""
        base, draft = self.cache / f"{self.kind}-base", self.cache / f"{self.kind}-draft"
        mirror, _ = sources()
        if not base.exists():
            shutil.rmtree(draft, ignore_errors=True)
            call("debootstrap", "--variant=minbase", f"--include={self.include}", SUITE, draft, mirror)
            call("rm", "-r", *(draft / "var/cache/apt/archives").glob("*.deb"))
            draft.rename(base)
        return base

    def make(self, package):
        """A fresh tree with the scripts and the package in it, and packages that were fetched before."""
        base = self.base()
        self.remove()
        call("cp", "-a", base, self.path)
        (self.path / "etc/apt/sources.list").unlink(missing_ok=True)
        lines = [f"deb [signed-by={KEYRING}] {site} {suite} main\n" for site, suite in sources()[1]]
        (self.path / "etc/apt/sources.list.d/image.list").write_text("".join(lines))
        build = self.path / "opt/build"
        build.mkdir()
        shutil.copytree(ROOT / "ami", build / "ami")
        shutil.copy(package, build / "valetd.deb")
        self.packages.mkdir(exist_ok=True)
        # Links: nothing is copied, and what the tree removes stays here.
        call("cp", "-aln", f"{self.packages}/.", self.path / "var/cache/apt/archives")

    def provision(self, *flags, daemon=True, check=True):
        """Runs the scripts. What they said."""
        env = ["DAEMON_DEB=/opt/build/valetd.deb"] if daemon else []
        said = inside(self.path, "/opt/build/ami/provision", *flags, env=env, check=check)
        for package in (self.path / "var/cache/apt/archives").glob("*.deb"):
            kept = self.packages / package.name
            if not kept.exists():
                kept.hardlink_to(package)
        return said

    def changed_since(self, moment):
        """Files in /etc and /usr that were written after `moment`, but for those that any package manager's run writes."""
        found = call("find", self.path / "etc", self.path / "usr", "-newermt", f"@{moment}", "-type", "f", "-printf", "/%P\\n")
        # nspawn itself writes resolv.conf.
        return [path for path in found.splitlines() if path not in ("/ld.so.cache", "/resolv.conf")]

    def remove(self):
        """Takes the tree away."""
        if self.path.exists():
            call("rm", "-rf", "--one-file-system", self.path)


if __name__ == "__main__":
    sys.exit("this is a part of tests/image/run")
