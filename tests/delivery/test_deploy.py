"""Deploys against stand-ins for `fly`, `aws` and Fly's API: what is well stays, what is not goes back, and what cannot go back is said."""

import json
import pathlib
import tempfile
import unittest

from support import ROOT, run, server

QUICK = ["--interval", "0.01", "--deadline", "20"]
# For what never comes right.
SHORT = ["--interval", "0.01", "--deadline", "0.5"]
TOKEN = "made-up"


def machine(image, env=None, state="started"):
    return {"id": "m1", "state": state, "config": {"image": image, "env": env or {}}, "checks": [], "events": []}


class World(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.state = pathlib.Path(folder.name)

    def calls(self):
        path = self.state / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Fly(World):
    def deploy(self, *args, machines=(), fates=None, quick=QUICK):
        (self.state / "machines").write_text(json.dumps(list(machines)))
        return run(
            "fly/deploy", *args, *quick, state=self.state, FLY_API_TOKEN=TOKEN, FATES=json.dumps(fates or {})
        )

    def deployed(self):
        """Images in the order in which they were deployed, with what was set."""
        found = []
        for call in self.calls():
            if call[0] == "deploy":
                image = call[call.index("--image") + 1]
                found.append((image, [call[at + 1] for at, word in enumerate(call) if word == "--env"]))
        return found

    def test_a_good_image_stays(self):
        with server(lambda *_: (200, b"")) as address:
            done = self.deploy("staging", "api", "--image", "api:2", "--url", address, machines=[machine("api:1")])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.deployed(), [("api:2", [])])
        deploy = next(call for call in self.calls() if call[0] == "deploy")
        self.assertEqual(deploy[1:5], ["--config", str(ROOT / "fly/api.toml"), "--app", "valet-api-stg"])
        self.assertNotIn(TOKEN, json.dumps(self.calls()) + done.stdout + done.stderr)

    def test_what_is_not_well_goes_back_to_what_ran(self):
        for fate, why in [
            ("refused", "fly deploy ended with 1"),
            ("sick", "http is critical"),
            ("crash", "ended by itself"),
            ("stuck", "no Machine runs"),
        ]:
            with self.subTest(fate):
                (self.state / "calls").unlink(missing_ok=True)
                done = self.deploy(
                    "production", "worker", "--image", "worker:2",
                    machines=[machine("worker:1")], fates={"worker:2": fate}, quick=SHORT,
                )  # fmt: skip
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertIn(why, done.stderr)
                self.assertIn("valet-worker is rolled back to worker:1", done.stderr)
                self.assertEqual(self.deployed(), [("worker:2", []), ("worker:1", [])])

    def test_an_address_that_does_not_answer_brings_the_old_image_back(self):
        def answers(*_):
            # As long as the new one is there.
            return (200 if self.deployed()[-1][0] == "api:1" else 502), b""

        with server(answers) as address:
            done = self.deploy(
                "staging", "api", "--image", "api:2", "--url", address, machines=[machine("api:1")], quick=SHORT
            )
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("status 502", done.stderr)
        self.assertEqual([image for image, _ in self.deployed()], ["api:2", "api:1"])

    def test_what_was_set_goes_back_with_the_image(self):
        before = machine("api:1", {"SANDBOX_IMAGE": "sandbox:1", "PORT": "3000"})
        done = self.deploy("staging", "api", "--env", "SANDBOX_IMAGE=sandbox:2", machines=[before])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.deployed(), [("api:1", ["SANDBOX_IMAGE=sandbox:2"])])
        (self.state / "calls").unlink()
        with server(lambda *_: ((200 if self.deployed()[-1][1][0].endswith(":1") else 500), b"")) as address:
            done = self.deploy(
                "staging", "api", "--env", "SANDBOX_IMAGE=sandbox:2", "--url", address, machines=[before], quick=SHORT
            )
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual([env for _, env in self.deployed()], [["SANDBOX_IMAGE=sandbox:2"], ["SANDBOX_IMAGE=sandbox:1"]])

    def test_what_cannot_go_back_needs_a_person(self):
        sick = {"web:2": "sick", "web:1": "sick"}
        done = self.deploy("staging", "web", "--image", "web:2", fates=sick, quick=SHORT)
        self.assertEqual(done.returncode, 2)
        self.assertIn("nothing before", done.stderr)
        done = self.deploy("staging", "web", "--image", "web:2", machines=[machine("web:1")], fates=sick, quick=SHORT)
        self.assertEqual(done.returncode, 2)
        self.assertIn("rolling valet-web-stg back", done.stderr)
        done = self.deploy("staging", "web")
        self.assertEqual(done.returncode, 2)
        self.assertIn("--image has to say", done.stderr)

    def test_hatchet_has_its_image_in_its_file_and_no_production_of_its_own(self):
        done = self.deploy("staging", "hatchet")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(self.deployed()[0][0], r"hatchet-lite:v[0-9.]+$")
        self.assertIn("no hatchet of production", self.deploy("production", "hatchet").stderr)
        self.assertEqual(len(self.deployed()), 1)

    def test_an_old_end_of_a_machine_is_not_held_against_a_new_image(self):
        before = machine("api:1")
        before["events"] = [{"type": "exit", "timestamp": 7, "request": {"exit_event": {"requested_stop": False}}}]
        self.assertEqual(self.deploy("staging", "api", "--image", "api:2", machines=[before]).returncode, 0)

    def test_a_push_is_of_the_sandboxes_image_and_changes_nothing_that_runs(self):
        (self.state / "machines").write_text("[]")
        done = run("fly/push", "v1.2.3", state=self.state, FLY_API_TOKEN=TOKEN, FATES="{}")
        self.assertEqual(done.stdout, "image=registry.fly.io/valetd-sandboxes:v1.2.3\n")
        [call] = self.calls()
        self.assertLessEqual({"--build-only", "--push", "fly/sandbox.toml"}, set(call))
        self.assertNotEqual(run("fly/push", "v1;id", state=self.state).returncode, 0)


class Try(unittest.TestCase):
    def attempt(self, image, looks):
        """The stand-in's Machine is each of `looks` in turn, and then the last. Gives what was asked of it."""
        seen = []

        def api(method, path, body, headers):
            seen.append((method, path))
            self.assertEqual(headers["Authorization"], f"Bearer {TOKEN}")
            if method == "POST":
                self.wanted = json.loads(body)
                return 201, b'{"id":"e1"}'
            if method == "DELETE":
                return 200, b'{"ok":true}'
            return 200, json.dumps(looks.pop(0) if len(looks) > 1 else looks[0]).encode()

        with server(api) as address:
            done = run("fly/try", "staging", image, *SHORT, FLY_API_TOKEN=TOKEN, FLY_MACHINES_API=address)
        return done, seen

    @staticmethod
    def look(ready, state="started"):
        checks = [{"name": "live", "status": "passing"}, {"name": "ready", "status": ready, "output": "unready"}]
        return {"state": state, "checks": checks}

    def test_an_image_that_comes_up_is_taken_and_its_machine_destroyed(self):
        done, seen = self.attempt("i:2", [{"state": "starting"}, self.look("critical"), self.look("passing")])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.wanted["config"]["image"], "i:2")
        self.assertEqual(self.wanted["config"]["env"]["VALETD_SESSION__ID"], "release-check")
        self.assertTrue(self.wanted["config"]["auto_destroy"])
        path = "/v1/apps/valetd-sandboxes-stg/machines"
        self.assertEqual(seen, [("POST", path)] + 3 * [("GET", path + "/e1")] + [("DELETE", path + "/e1?force=true")])

    def test_one_that_does_not_is_refused_and_its_machine_destroyed_too(self):
        for looks, why in [([self.look("critical")], "ready: unready"), ([{"state": "stopped"}], "it is stopped")]:
            done, seen = self.attempt("i:2", looks)
            self.assertEqual(done.returncode, 1)
            self.assertIn(why, done.stderr)
            self.assertEqual(seen[-1][0], "DELETE")

    def test_an_api_that_says_no_is_no_traceback(self):
        with server(lambda *_: (422, b"no such image")) as address:
            done = run("fly/try", "staging", "i:2", *SHORT, FLY_API_TOKEN=TOKEN, FLY_MACHINES_API=address)
        self.assertEqual((done.returncode, done.stderr), (1, "try: i:2 in valetd-sandboxes-stg: Fly answers 422: no such image\n"))


class Roll(World):
    def roll(self, *args, fates=None, group="3", deadline="20", **env):
        (self.state / "world").write_text(json.dumps({"group": group, "latest": 3, "default": "3"}))
        quick = ["--interval", "0.01", "--deadline", deadline, "--health-deadline", "0.5"]
        return run(
            "packer/roll", "fleet", "hosts", "ami-2", *args, *quick, state=self.state, FATES=json.dumps(fates or {}), **env
        )

    def world(self):
        return json.loads((self.state / "world").read_text())

    def test_a_good_image_is_the_fleets_and_the_templates_default(self):
        health = b'{"status":"ok","version":"1.2.3"}'
        with server(lambda *_: (200, health)) as address:
            done = self.roll("--url", f"{address}/health", "--version", "1.2.3")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual((self.world()["group"], self.world()["default"]), ("4", "4"))
        call = next(call for call in self.calls() if call[1] == "start-instance-refresh")
        preferences = json.loads(call[call.index("--preferences") + 1])
        self.assertTrue(preferences["AutoRollback"])
        self.assertGreaterEqual(preferences["MinHealthyPercentage"], 50)

    def test_a_refresh_that_ec2_takes_back_leaves_the_default(self):
        done = self.roll(fates={"4": "RollbackSuccessful"})
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual((self.world()["group"], self.world()["default"]), ("3", "3"))

    def test_one_that_takes_too_long_is_taken_back(self):
        done = self.roll(fates={"4": "hangs"}, deadline="1")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("rollback-instance-refresh", [call[1] for call in self.calls()])
        self.assertEqual(self.world()["default"], "3")

    def test_a_fleet_that_does_not_answer_as_the_new_version_gets_the_old_one_back(self):
        health = b'{"status":"ok","version":"1.2.2"}'
        with server(lambda *_: (200, health)) as address:
            done = self.roll("--url", f"{address}/health", "--version", "1.2.3")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("of version 1.2.2", done.stderr)
        self.assertEqual((self.world()["group"], self.world()["default"]), ("3", "3"))

    def test_in_a_job_it_renews_who_it_is(self):
        asked = []

        def github(*request):
            asked.append(request[1])
            return 200, b'{"value":"again"}'

        with server(github) as address:
            job = {
                "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/deploy",
                "GITHUB_ENV": str(self.state / "env"),
                "RUNNER_TEMP": str(self.state),
                "ACTIONS_ID_TOKEN_REQUEST_URL": f"{address}/?v=2",
                "ACTIONS_ID_TOKEN_REQUEST_TOKEN": TOKEN,
            }
            done = self.roll(**job)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual((self.state / "aws-identity").read_text(), "again")
        self.assertEqual(len(asked), 1)

    def test_what_cannot_go_back_needs_a_person(self):
        self.assertEqual(self.roll(fates={"4": "Failed"}).returncode, 2)
        (self.state / "calls").unlink()
        done = self.roll(group="$Latest")
        self.assertEqual(done.returncode, 2)
        self.assertIn("$Latest", done.stderr)
        self.assertEqual([call[1] for call in self.calls()], ["describe-auto-scaling-groups"])


class Bake(World):
    def test_a_browser_that_is_not_the_one_is_not_built_in(self):
        with server(lambda *_: (200, b"another browser")) as address:
            env = {"AWS_REGION": "eu-central-1", "BROWSER_URL": address, "BROWSER_SHA256": "0" * 64}
            done = run("packer/bake", "valetd_1.2.3-1_amd64.deb", **env)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("did NOT match", done.stderr)
        self.assertEqual(done.stdout, "")


if __name__ == "__main__":
    unittest.main()
