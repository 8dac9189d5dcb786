"""The scripts that the workflows run: notes of a release, what a change needs, health, the release's page, AWS's trust."""

import hashlib
import json
import pathlib
import stat
import tempfile
import unittest

from support import ROOT, run, server

CHANGELOG = """# Changelog

## [1.3.0] - Unreleased

### Added
- Not out yet.

## [1.2.0] - 2026-11-30

### Fixed
- Two things,
  of which one is long.

### Removed
- A third.

## [1.1.0] - 2026-10-01

## [1.0.0] - yesterday
- Old.

[1.2.0]: https://example.org/1.2.0
"""


class Notes(unittest.TestCase):
    def notes(self, *args, changelog=CHANGELOG, version="1.2.0"):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            (folder / "CHANGELOG.md").write_text(changelog)
            (folder / "Cargo.toml").write_text(f'[package]\nname = "x"\nversion = "{version}"\n[dependencies]\na = {{ version = "9" }}\n')
            files = {"CHANGELOG": str(folder / "CHANGELOG.md"), "MANIFEST": str(folder / "Cargo.toml")}
            return run(".ci/release-notes", *args, **files)

    def test_they_are_the_section_of_the_version_and_nothing_else(self):
        notes = self.notes("v1.2.0")
        self.assertEqual(notes.returncode, 0, notes.stderr)
        self.assertEqual(
            notes.stdout, "### Fixed\n- Two things,\n  of which one is long.\n\n### Removed\n- A third.\n"
        )

    def test_a_release_that_the_changelog_does_not_tell_of_is_none(self):
        for args, version, why in [
            (["v2.0.0"], "2.0.0", "0 sections"),
            (["v1.3.0"], "1.3.0", "no date"),
            (["v1.0.0"], "1.0.0", "no date"),
            (["v1.1.0"], "1.1.0", "tells of nothing"),
            (["v1.2.0"], "1.3.0", "has version 1.3.0"),
            (["1.2.0"], "1.2.0", "no tag"),
            (["v1.2"], "1.2", "no tag"),
            (["v1.2.0;id"], "1.2.0", "no tag"),
            ([], "1.2.0", "usage"),
        ]:
            notes = self.notes(*args, version=version)
            self.assertEqual((notes.returncode, notes.stdout), (1, ""), args)
            self.assertIn(why, notes.stderr)
        twice = CHANGELOG + "\n## [1.2.0] - 2026-11-29\n- Again.\n"
        self.assertIn("2 sections", self.notes("v1.2.0", changelog=twice).stderr)

    def test_the_version_to_come_has_notes_in_our_own_changelog(self):
        version = next(
            line.split('"')[1] for line in (ROOT / "Cargo.toml").read_text().splitlines() if line.startswith("version = ")
        )
        notes = run(".ci/release-notes", "--draft", f"v{version}")
        self.assertEqual(notes.returncode, 0, notes.stderr)
        self.assertIn("\n- ", notes.stdout)


class Changed(unittest.TestCase):
    def jobs(self, paths):
        done = run(".ci/changed", "--stdin", input="".join(path + "\n" for path in paths))
        self.assertEqual(done.returncode, 0, done.stderr)
        jobs = dict(line.split("=") for line in done.stdout.splitlines())
        self.assertEqual(set(jobs), {"test", "package", "packer"})
        return {job for job, needed in jobs.items() if needed == "true"}

    def test_a_change_needs_what_its_paths_need(self):
        for paths, jobs in [
            (["src/main.rs"], {"test", "package"}),
            (["ARCHITECTURE.md", "docs/design/001.md"], set()),
            (["packer/README.md"], {"packer"}),
            (["tests/it/main.rs"], {"test"}),
            (["tests/image/run"], {"package"}),
            (["docs/operations.md", "packer/valetd.pkr.hcl"], {"package", "packer"}),
            (["src/main.rs", "an/unknown/path"], {"test", "package", "packer"}),
            (["srcs/main.rs"], {"test", "package", "packer"}),
            ([], set()),
        ]:
            self.assertEqual(self.jobs(paths), jobs, paths)

    def test_without_a_base_everything_is_needed(self):
        for base in [[], ["0" * 40], ["--not-a-commit"]]:
            done = run(".ci/changed", *base)
            self.assertEqual(done.stdout.count("=true"), 3, done)

    def test_no_file_of_ours_stands_nowhere(self):
        files = run("tests/delivery/files").stdout
        self.assertGreater(files.count("\n"), 300)
        done = run(".ci/changed", "--stdin", input=files)
        self.assertEqual(done.stderr, "")

    def test_each_area_is_there(self):
        lines = [line.split() for line in (ROOT / ".ci/areas").read_text().splitlines() if line and line[0] != "#"]
        self.assertGreater(len(lines), 20)
        for path, *jobs in lines:
            self.assertTrue((ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).is_file(), path)
            self.assertTrue(jobs and set(jobs) <= {"-", "test", "package", "packer"}, path)


class Healthy(unittest.TestCase):
    def ask(self, answers, *args, path="/health", deadline="20"):
        with server(answers) as address:
            return run(".ci/healthy", address + path, "--interval", "0.02", "--deadline", deadline, *args)

    def test_it_waits_until_three_answers_in_a_row_are_good(self):
        given = iter([503, 200, 200, 500, 200, 200, 200])
        done = self.ask(lambda *_: (next(given), b"{}"))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(list(given), [])

    def test_it_ends_at_its_deadline_and_says_what_was_wrong(self):
        health = json.dumps({"status": "ok", "version": "1.0.0"}).encode()
        for answer, args, why in [
            ((503, b"unready"), [], "status 503"),
            ((200, health), ["--version", "1.0.1"], "it is ok, of version 1.0.0"),
            ((200, b"<html>"), ["--version", "1.0.1"], "not the answer of a daemon"),
            ((204, b""), [], "status 204"),
        ]:
            done = self.ask(lambda *_, answer=answer: answer, *args, deadline="0.5")
            self.assertEqual(done.returncode, 1, answer)
            self.assertIn(why, done.stderr)

        def elsewhere(_, path, *__):
            return (302, b"", {"Location": "/good"}) if path == "/health" else (200, b"")

        self.assertIn("status 302", self.ask(elsewhere, deadline="0.5").stderr)
        # Nobody listens on a port that was just given back.
        with server(lambda *_: (200, b"")) as address:
            pass
        done = run(".ci/healthy", address, "--deadline", "0.3", "--interval", "0.05")
        self.assertEqual(done.returncode, 1)
        self.assertIn("refused", done.stderr)

    def test_a_daemon_of_the_right_version_is_healthy(self):
        health = json.dumps({"status": "ok", "version": "1.0.1"}).encode()
        self.assertEqual(self.ask(lambda *_: (200, health), "--version", "1.0.1").returncode, 0)


class Publish(unittest.TestCase):
    def test_the_page_has_the_notes_and_the_sums_of_the_files(self):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            (folder / "CHANGELOG.md").write_text(CHANGELOG)
            (folder / "Cargo.toml").write_text('version = "1.2.0"\n')
            (folder / "valetd_1.2.0-1_amd64.deb").write_bytes(b"package")
            files = {"CHANGELOG": str(folder / "CHANGELOG.md"), "MANIFEST": str(folder / "Cargo.toml")}
            done = run(".ci/publish", "v1.2.0", folder / "valetd_1.2.0-1_amd64.deb", state=folder, **files)
            self.assertEqual(done.returncode, 0, done.stderr)
            calls = (folder / "calls").read_text().splitlines()
            self.assertEqual(calls[:4], ["release", "create", "v1.2.0", "--verify-tag"])
            self.assertIn("- A third.", (folder / "notes.md").read_text())
            digest = hashlib.sha256(b"package").hexdigest()
            self.assertEqual((folder / "SHA256SUMS").read_text(), f"{digest}  valetd_1.2.0-1_amd64.deb\n")
            (folder / "calls").unlink()
            for refused in [("v1.3.0", folder / "CHANGELOG.md"), ("v1.2.0",)]:
                self.assertNotEqual(run(".ci/publish", *refused, state=folder, **files).returncode, 0)
            self.assertFalse((folder / "calls").exists())


class AwsLogin(unittest.TestCase):
    def test_the_token_comes_into_a_file_of_this_user_alone(self):
        seen = []

        def github(method, path, _, headers):
            seen.append((method, path, headers["Authorization"]))
            return 200, b'{"value":"header.claims.signature"}'

        with tempfile.TemporaryDirectory() as name, server(github) as address:
            folder = pathlib.Path(name)
            env = {
                "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/deploy",
                "GITHUB_ENV": str(folder / "env"),
                "RUNNER_TEMP": name,
                "ACTIONS_ID_TOKEN_REQUEST_URL": f"{address}/token?api-version=2",
                "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "made-up",
            }
            done = run(".ci/aws-login", **env)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(seen, [("GET", "/token?api-version=2&audience=sts.amazonaws.com", "bearer made-up")])
            file = folder / "aws-identity"
            self.assertEqual(file.read_text(), "header.claims.signature")
            self.assertEqual(stat.S_IMODE(file.stat().st_mode), 0o600)
            self.assertIn(f"AWS_WEB_IDENTITY_TOKEN_FILE={file}\n", (folder / "env").read_text())
            self.assertNotIn("signature", (folder / "env").read_text() + done.stdout + done.stderr)
            del env["ACTIONS_ID_TOKEN_REQUEST_URL"]
            self.assertIn("id-token: write", run(".ci/aws-login", **env).stderr)


if __name__ == "__main__":
    unittest.main()
