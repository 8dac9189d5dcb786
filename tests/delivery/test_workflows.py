"""A lint of .github/workflows/: what a step runs is here and runs elsewhere too, nobody gets more rights than the job needs, and what
jobs tell each other is told. Each rule is tried on a workflow that breaks it."""

import copy
import os
import re
import unittest

import yaml
from support import ROOT

FOLDER = ROOT / ".github/workflows"
# Actions that may be used: GitHub's own and Fly's, each by the whole id of a commit.
ACTIONS = {
    "actions/checkout",
    "actions/upload-artifact",
    "actions/download-artifact",
    "superfly/flyctl-actions/setup-flyctl",
}
RUNNERS = {"ubuntu-24.04"}
TRIGGERS = {"pull_request", "push", "workflow_dispatch"}
# Minutes.
LONGEST = 150
# One command: a target of the Makefile or a script of ours, with arguments that are words, variables in quotes, options or a path;
# its output may go to where GitHub reads outputs.
ARGUMENT = r'''(?:--?[a-z][a-z-]*|[A-Za-z0-9_./*-]+|"(?:[A-Za-z0-9_./=-]|\$[A-Z_]+|\$\{[A-Z_]+#v\})*")'''
COMMAND = re.compile(rf'(?P<program>make|[.a-z][a-z./-]*/[a-z-]+)(?P<arguments>(?: {ARGUMENT})*)(?P<output> >>"\$GITHUB_OUTPUT")?')
DEPLOYS = ("fly/deploy", "fly/try", "fly/push", "packer/roll", "packer/bake")


def targets():
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def strings(node, path=""):
    """All strings below a node, with where they are."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from strings(value, f"{path}.{key}")
    elif isinstance(node, list):
        for at, value in enumerate(node):
            yield from strings(value, f"{path}[{at}]")
    elif isinstance(node, str):
        yield path, node


def needs_of(job):
    needs = job.get("needs", [])
    return [needs] if isinstance(needs, str) else needs


def faults_of_run(run):
    match = COMMAND.fullmatch(run)
    if not match:
        return [f"not one command of ours: {run!r}"]
    program, arguments = match["program"], match["arguments"].split()
    if program == "make":
        return [f"no target {target}" for target in arguments if target not in targets()]
    path = ROOT / program
    return [] if path.is_file() and os.access(path, os.X_OK) else [f"{program} is not there, or cannot be run"]


def faults_of_step(step):
    faults = []
    if ("run" in step) == ("uses" in step):
        return ["neither run nor uses, or both"]
    if "uses" in step:
        name, _, commit = step["uses"].partition("@")
        if name not in ACTIONS:
            faults.append(f"action {name}")
        if not re.fullmatch("[0-9a-f]{40}", commit):
            faults.append(f"{name} is not pinned by a commit")
        if name == "actions/checkout" and step.get("with", {}).get("persist-credentials") is not False:
            faults.append("the checkout leaves its credentials behind")
    else:
        faults += faults_of_run(step["run"])
    return faults


def faults_of_job(job, rights):
    faults = []
    if job.get("runs-on") not in RUNNERS:
        faults.append(f"runs on {job.get('runs-on')}")
    if not 0 < job.get("timeout-minutes", 0) <= LONGEST:
        faults.append("no timeout, or a long one")
    runs = [step.get("run", "") for step in job["steps"]]
    environment = job.get("environment")
    for at, step in enumerate(job["steps"]):
        faults += [f"step {at + 1}: {fault}" for fault in faults_of_step(step)]
    if any(run.startswith(DEPLOYS) for run in runs) and environment not in ("staging", "production"):
        faults.append("deploys without an environment")
    for run in runs:
        words = run.split()
        if words[:1] and words[0] in ("fly/deploy", "fly/try") and words[1] != environment:
            faults.append(f"{run!r} in environment {environment}")
    mine = job.get("permissions", rights)
    if (mine.get("id-token") == "write") != any(run == ".ci/aws-login" for run in runs):
        faults.append("id-token: write is for .ci/aws-login, and for nothing else")
    if (mine.get("contents") == "write") != any(run.startswith(".ci/publish") for run in runs):
        faults.append("contents: write is for .ci/publish, and for nothing else")
    if set(mine) - {"contents", "id-token"} or set(mine.values()) - {"read", "write"}:
        faults.append(f"rights {mine}")
    return faults


def faults_of_references(name, job, jobs, outer):
    """What expressions name has to be there."""
    faults = []
    steps = {step["id"] for step in job["steps"] if "id" in step}
    for path, text in [*strings(job, name), *strings(outer, "env")]:
        if path.endswith(".run") and "${{" in text:
            faults.append(f"{path}: an expression in a command; hand it over in the environment")
        inside = " ".join(re.findall(r"\$\{\{(.*?)\}\}", text)) + (" " + text if path.endswith(".if") else "")
        for other, output in re.findall(r"\bneeds\.([\w-]+)\.outputs\.([\w-]+)", inside):
            if other not in needs_of(job) or output not in jobs.get(other, {}).get("outputs", {}):
                faults.append(f"{path}: needs.{other}.outputs.{output}")
        for step, _ in re.findall(r"\bsteps\.([\w-]+)\.outputs\.([\w-]+)", inside):
            if step not in steps:
                faults.append(f"{path}: steps.{step}")
        if "secrets." in inside and not job.get("environment"):
            faults.append(f"{path}: a secret outside an environment")
        # Not the job's: an action would see it.
        if "secrets." in inside and not re.search(r"\.steps\[[0-9]+\]\.env\.[A-Z_]+$", path):
            faults.append(f"{path}: a secret that is not in the environment of one step")
    return faults


def faults_of(workflow):
    # YAML 1.1 reads `on` as true.
    triggers = workflow.get(True) or {}
    faults = [f"trigger {name}" for name in set(triggers) - TRIGGERS]
    rights = workflow.get("permissions")
    if rights != {"contents": "read"}:
        faults.append("the workflow's own rights are not to read alone")
    if not isinstance(workflow.get("concurrency"), dict) or "group" not in workflow["concurrency"]:
        faults.append("runs of it are not kept apart")
    jobs = workflow["jobs"]
    if "pull_request" in triggers and any("secrets" in text or "write" in text for _, text in strings(jobs)):
        faults.append("a change from anybody meets a secret or a right to write")
    order = []
    while left := [name for name in jobs if name not in order]:
        ready = [name for name in left if set(needs_of(jobs[name])) <= set(order)]
        if not ready:
            faults.append(f"jobs that never start: {left}")
            break
        order += ready
    for name, job in jobs.items():
        faults += [f"{name}: {fault}" for fault in faults_of_job(job, rights or {})]
        faults += faults_of_references(name, job, jobs, workflow.get("env", {}))
        if job.get("environment") == "production":
            before = set()
            ahead = needs_of(job)
            while ahead:
                before |= set(ahead)
                ahead = [other for one in ahead for other in needs_of(jobs.get(one, {}))]
            staged = {run.split()[0] for one in before for run in runs_of(jobs.get(one)) if run.startswith(("fly/deploy", "packer/roll"))}
            mine = {run.split()[0] for run in runs_of(job) if run.startswith(("fly/deploy", "packer/roll"))}
            if not mine or not mine <= staged:
                faults.append(f"{name}: production before staging")
    return faults


def runs_of(job):
    return [step["run"] for step in (job or {"steps": []})["steps"] if "run" in step]


def workflows():
    return {path.name: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yml"))}


class Workflows(unittest.TestCase):
    def test_they_keep_the_rules(self):
        found = workflows()
        self.assertEqual(set(found), {"ci.yml", "deploy.yml", "release.yml"})
        self.assertEqual(set(os.listdir(FOLDER)), set(found))
        for name, workflow in found.items():
            self.assertEqual(faults_of(workflow), [], name)

    def test_an_action_is_one_commit_wherever_it_is_used(self):
        uses = {line.strip() for path in FOLDER.iterdir() for line in path.read_text().splitlines() if "uses:" in line}
        self.assertEqual(len(uses), len(ACTIONS))
        for line in uses:
            # A person sees which version it is.
            self.assertRegex(line, r"@[0-9a-f]{40} # v?[0-9.]+$")

    def test_ci_asks_for_each_job_that_an_area_names(self):
        areas = (ROOT / ".ci/areas").read_text().splitlines()
        named = {job for line in areas if line and line[0] != "#" for job in line.split()[1:]} - {"-"}
        ci = workflows()["ci.yml"]
        self.assertEqual(set(ci["jobs"]["changes"]["outputs"]), named)
        for job in named:
            self.assertEqual(ci["jobs"][job]["if"], f"needs.changes.outputs.{job} == 'true'")

    def test_each_rule_can_fail(self):
        def job(name, change):
            return lambda workflow: change(workflow["jobs"][name])

        def step(name, at, **keys):
            return lambda workflow: workflow["jobs"][name]["steps"][at].update(keys)

        fly = 2
        for file, why, breaks in [
            ("ci.yml", "trigger pull_request_target", lambda w: w[True].update(pull_request_target=None)),
            ("ci.yml", "to read alone", lambda w: w.pop("permissions")),
            ("ci.yml", "to read alone", lambda w: w.update(permissions={"contents": "write"})),
            ("ci.yml", "kept apart", lambda w: w.pop("concurrency")),
            ("ci.yml", "no timeout", job("check", lambda j: j.pop("timeout-minutes"))),
            ("ci.yml", "runs on", job("check", lambda j: j.update({"runs-on": "ubuntu-latest"}))),
            ("ci.yml", "no target nothing", step("check", 1, run="make nothing")),
            ("ci.yml", "not one command", step("check", 1, run="make check && curl example.org")),
            ("ci.yml", "not one command", step("check", 1, run="cargo test")),
            ("ci.yml", "not one command", step("check", 1, run="make check\nmake test")),
            ("ci.yml", "is not there", step("check", 1, run=".ci/missing")),
            ("ci.yml", "an expression in a command", step("changes", 1, run='.ci/changed "${{ github.head_ref }}"')),
            ("ci.yml", "meets a secret", step("check", 1, env={"TOKEN": "${{ secrets.TOKEN }}"})),
            ("ci.yml", "never start", job("test", lambda j: j.update(needs="package") or None)),
            ("ci.yml", "needs.changes", job("test", lambda j: j.pop("needs"))),
            ("ci.yml", "needs.changes.outputs.tests", job("test", lambda j: j.update({"if": "needs.changes.outputs.tests == 'true'"}))),
            ("ci.yml", "steps.change", job("changes", lambda j: j["outputs"].update(test="${{ steps.change.outputs.test }}"))),
            ("ci.yml", "not pinned", step("check", 0, uses="actions/checkout@v7")),
            ("ci.yml", "action somebody/else", step("check", 0, uses="somebody/else@" + "0" * 40)),
            ("ci.yml", "credentials behind", job("check", lambda j: j["steps"][0].pop("with"))),
            ("release.yml", "deploys without", job("staging-fly", lambda j: j.pop("environment"))),
            ("release.yml", "a secret outside", job("staging-fly", lambda j: j.pop("environment"))),
            ("release.yml", "in environment production", step("production-fly", fly, run='fly/try staging "$IMAGE"')),
            ("release.yml", "that is not in the environment", step("staging-fly", 1, **{"with": {"token": "${{ secrets.T }}"}})),
            ("release.yml", "that is not in the environment", job("staging-fly", lambda j: j["env"].update(T="${{ secrets.T }}"))),
            ("release.yml", "production before staging", job("production-fly", lambda j: j.update(needs=["image-fly"]))),
            ("release.yml", "id-token: write", job("staging-ec2", lambda j: j.pop("permissions"))),
            ("release.yml", "contents: write", job("package", lambda j: j.update(permissions={"contents": "write"}))),
            ("release.yml", "rights", job("package", lambda j: j.update(permissions={"packages": "write"}))),
            ("deploy.yml", "production before staging", job("production", lambda j: j.pop("needs"))),
        ]:
            workflow = copy.deepcopy(workflows()[file])
            breaks(workflow)
            if why == "never start":
                workflow["jobs"]["package"]["needs"] = "test"
            faults = faults_of(workflow)
            self.assertTrue(any(why in fault for fault in faults), f"{file}: {why}: {faults}")


if __name__ == "__main__":
    unittest.main()
