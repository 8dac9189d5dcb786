"""Dashboard and alerts against a daemon's own /metrics: each name and label that they ask for is there, each expression is one, each
alert fires on what it is for and on nothing else, and each leads to a section of the runbook."""

import functools
import json
import os
import pathlib
import re
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request

import yaml
from support import ROOT

DASHBOARD = ROOT / "docs/monitoring/dashboard.json"
ALERTS = ROOT / "docs/monitoring/alerts.yml"
RUNBOOK = ROOT / "docs/operations.md"
RUNBOOK_URL = "https://docs.example.org/valetd/operations.md#"
PROMTOOL = ROOT / "tests/delivery/promtool"
# Seconds for a daemon to have a display, on a loaded machine.
READY = 60
# What a daemon shows only when it has happened, and the labels that it then has. That it may is in its source.
LATER = {
    "valetd_gateway_viewers": {"role"},
    "valetd_gateway_closes_total": {"reason"},
    "valetd_gateway_refusals_total": {"reason"},
    "valetd_gateway_jwks_fetches_total": {"result"},
    "valetd_session_denied_total": {"reason"},
    "valetd_store_dropped_rows_total": {"reason"},
}
# Labels that Prometheus adds.
ADDED = {"job", "instance", "le"}

CONFIGURATION = """
[host]
state_dir = "{dir}/state"
runtime_dir = "{dir}/run"
[identity]
provider = "local"
[isolation]
network = "open"
[session]
id = "s1"
[display]
size = "64x64"
rfb = "x11vnc"
[browser]
program = "/bin/false"
[adspower]
enabled = true
program = "/bin/false"
api_key = "{dir}/secret"
[control_plane]
url = "http://127.0.0.1:9"
credential = "{dir}/secret"
[gateway]
listen = "127.0.0.1:0"
[auth]
keys = [{{ algorithm = "HS256", secret = "{dir}/secret" }}]
[api]
listen = "127.0.0.1:0"
socket = "{dir}/control.sock"
[log]
format = "json"
"""


def ask(address):
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        # Failing is an answer too.
        return error.read().decode()


@functools.cache
def scrape():
    """What a daemon answers to /metrics and /health that has all of its parts, and a session with a display."""
    # Short, since a socket lies in it, and passable for the sessions' uids.
    with tempfile.TemporaryDirectory(prefix="vtmon.", dir="/tmp") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o711)
        secret = folder / "secret"
        secret.touch(0o600)
        secret.write_text("0123456789abcdef0123456789abcdef")
        (folder / "valetd.toml").write_text(CONFIGURATION.format(dir=name))
        with (folder / "log").open("w") as log:
            daemon = subprocess.Popen([os.environ["VALETD"], "run", "--config", str(folder / "valetd.toml")], stderr=log)
        end = time.monotonic() + READY
        try:
            while time.monotonic() < end and daemon.poll() is None:
                address = re.search(r'"listener":"api","address":"([^"]+)"', (folder / "log").read_text())
                if address:
                    text, health = (ask(f"http://{address[1]}/{path}") for path in ("metrics", "health"))
                    shown = [f'valetd_service_up{{service="{service}"}}' for service in ("xvfb", "x11vnc", "browser")]
                    # Who the machine is takes a moment, too.
                    if all(sample in text for sample in [*shown, "valetd_host_info{"]):
                        return text, {part["name"] for part in json.loads(health)["components"]}
                time.sleep(0.05)
        finally:
            daemon.terminate()
            daemon.wait(READY)
        raise AssertionError("the daemon does not show all that it has: " + (folder / "log").read_text()[-2000:])


def series(text):
    """Labels by name, and the values that each has. A histogram is there under its own name and its three parts'."""
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, labels = re.match(r"([a-z_]+)(?:\{(.*?)\})?", line).groups()
            mine = found.setdefault(name, {})
            for label, value in re.findall(r'([a-z_]+)="([^"]*)"', labels or ""):
                mine.setdefault(label, set()).add(value)
    return found


def asked(expression):
    """Names of ours in an expression, with the labels that their selectors name."""
    for name, selector in re.findall(r"\b(valetd_[a-z_]+)(?:\{([^}]*)\})?", expression):
        yield name, set(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", selector))


def expressions():
    """Where each is, and what it says."""
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield f"panel {panel['id']}", target["expr"]
    for note in dashboard["annotations"]["list"]:
        yield note["name"], note["expr"]


def faults_of_names(expression, known):
    for name, labels in asked(expression):
        if name in LATER:
            allowed = LATER[name]
        elif name in known:
            allowed = set(known[name])
        else:
            yield f"nobody shows {name}"
            continue
        for label in labels - allowed - ADDED:
            yield f"{name} has no label {label}"


def promtool(*args):
    return subprocess.run([PROMTOOL, *map(str, args)], capture_output=True, text=True, timeout=300)


def judged(rules):
    """promtool's word on a file of rules."""
    with tempfile.TemporaryDirectory() as name:
        path = pathlib.Path(name) / "rules.yml"
        path.write_text(yaml.safe_dump({"groups": [{"name": "judged", "rules": rules}]}))
        return promtool("check", "rules", path)


# For each alert a host that it is for: series and what they do, a minute a step, and the minute at which it has to fire. A step is
# written as promtool does: `0+1x9` is 0 to 9, `1x9` ten times 1.
FIRES = {
    "ValetdDown": ({"up": "0x9"}, 3),
    "ValetdRestarts": ({"valetd_start_time_seconds": "0+60x9"}, 5),
    "ValetdServiceDown": ({'valetd_service_up{service="xvfb"}': "0x9"}, 4),
    "ValetdSessionDegraded": ({'valetd_session_count{state="degraded"}': "1x9"}, 6),
    "ValetdCrashLoop": (
        {'valetd_service_starts{service="browser"}': "7x9", 'valetd_session_count{state="ready"}': "2x9"}, 3
    ),
    "ValetdSessionsDoNotStart": ({'valetd_session_ended_total{cause="start_failed"}': "0+1x9"}, 5),
    "ValetdStartsSlowly": (
        {
            'valetd_session_start_seconds_bucket{warmth="cold",le="10"}': "0x40",
            'valetd_session_start_seconds_bucket{warmth="cold",le="30"}': "0+1x40",
            'valetd_session_start_seconds_bucket{warmth="cold",le="+Inf"}': "0+1x40",
        },
        30,
    ),
    "ValetdTabsCrash": ({"valetd_session_tab_crashes_total": "0+1x9"}, 8),
    "ValetdMachineLeaves": ({'valetd_host_notices{kind="rebalance"}': "1x9"}, 1),
    "ValetdIdentityUnknown": ({'valetd_host_lookup_failures_total{what="identity"}': "0+1x9"}, 8),
    "ValetdStoreFails": ({"valetd_store_write_failures_total": "0+1x9"}, 6),
    "ValetdRowsLost": ({'valetd_store_dropped_rows_total{reason="full"}': "_x9 4x9"}, 12),
    "ValetdStateSetAside": ({"valetd_store_set_aside_total": "1x9"}, 1),
    "ValetdControlPlaneLost": ({"valetd_control_plane_connected": "0x9"}, 6),
    "ValetdControlPlaneRefuses": ({"valetd_control_plane_refused": "1x9"}, 2),
    "ValetdEventsWait": ({"valetd_control_plane_oldest_event_seconds": "301x9"}, 6),
    "ValetdEventsSetAside": ({"valetd_control_plane_set_aside_events_total": "0+1x9"}, 5),
    "ValetdClockSkew": ({"valetd_control_plane_clock_skew_seconds": "-6x20"}, 12),
    "ValetdAdsPowerOpen": ({'valetd_adspower_breaker{state="open"}': "1x9"}, 3),
    "ValetdAdsPowerLosesBrowsers": ({"valetd_adspower_lost_total": "0+1x9"}, 5),
    "ValetdProfilesQuarantined": ({'valetd_profile_count{state="quarantined"}': "1x20"}, 16),
    "ValetdConnectionPanics": ({"valetd_gateway_panics_total": "0+1x9"}, 5),
    "ValetdRefusesViewers": ({'valetd_gateway_refusals_total{reason="origin"}': "0+120x20"}, 12),
    "ValetdKeysNotFetched": ({'valetd_gateway_jwks_fetches_total{result="failed"}': "0+1x9"}, 6),
    "ValetdHandoffsUnanswered": ({'valetd_handoffs_total{kind="captcha",outcome="expired"}': "0+1x9"}, 6),
    "ValetdFleetFull": ({'valetd_session_count{state="ready"}': "9x9"}, 6),
    "ValetdFleetIdle": ({'valetd_session_count{state="ready"}': "2x90"}, 61),
    "ValetdRequestsWait": ({"valetd_session_queued": "1x9"}, 3),
    "ValetdRequestsRefused": ({'valetd_session_denied_total{reason="over-capacity"}': "0+1x9"}, 8),
    "ValetdVersionsMixed": ({'valetd_build_info{version="0.0.9"}': "1x150"}, 130),
}
# A host on which nothing is to fire: what is not said above is as here.
WELL = {
    "up": "1x200",
    "valetd_start_time_seconds": "0x200",
    'valetd_build_info{version="0.1.0"}': "1x200",
    'valetd_host_info{provider="ec2"}': "1x200",
    'valetd_host_notices{kind="rebalance"}': "0x200",
    'valetd_host_lookup_failures_total{what="identity"}': "3x200",
    'valetd_service_up{service="xvfb"}': "5x200",
    'valetd_service_up{service="adspower"}': "1x200",
    'valetd_service_starts{service="xvfb"}': "6x200",
    # It was updated six times, and is up.
    'valetd_service_starts{service="adspower"}': "7x200",
    'valetd_session_count{state="ready"}': "5x200",
    'valetd_session_count{state="degraded"}': "0x200",
    'valetd_session_count{state="stopped"}': "4x200",
    "valetd_session_capacity": "10x200",
    "valetd_session_queued": "0x200",
    'valetd_session_ended_total{cause="start_failed"}': "5x200",
    'valetd_session_denied_total{reason="over-capacity"}': "9x200",
    "valetd_session_tab_crashes_total": "9x200",
    'valetd_session_start_seconds_bucket{warmth="cold",le="10"}': "0+1x200",
    'valetd_session_start_seconds_bucket{warmth="cold",le="30"}': "0+1x200",
    'valetd_session_start_seconds_bucket{warmth="cold",le="+Inf"}': "0+1x200",
    "valetd_store_write_failures_total": "9x200",
    "valetd_store_pending_rows": "3x200",
    "valetd_store_set_aside_total": "0x200",
    'valetd_store_dropped_rows_total{reason="rejected"}': "0x200",
    "valetd_control_plane_connected": "1x200",
    "valetd_control_plane_refused": "0x200",
    "valetd_control_plane_oldest_event_seconds": "2x200",
    "valetd_control_plane_set_aside_events_total": "9x200",
    "valetd_control_plane_clock_skew_seconds": "-1x200",
    'valetd_adspower_breaker{state="open"}': "0x200",
    'valetd_adspower_breaker{state="closed"}': "1x200",
    "valetd_adspower_lost_total": "9x200",
    'valetd_profile_count{state="quarantined"}': "0x200",
    "valetd_gateway_panics_total": "1x200",
    "valetd_api_panics_total": "1x200",
    "valetd_control_panics_total": "1x200",
    'valetd_gateway_refusals_total{reason="origin"}': "0+30x200",
    'valetd_gateway_jwks_fetches_total{result="failed"}': "9x200",
    'valetd_handoffs_total{kind="captcha",outcome="expired"}': "9x200",
}
HOSTS = ("h1", "h2", "h3")


def on(host, name):
    labels = f'job="valetd",instance="{host}"'
    return name.replace("{", "{" + labels + ",", 1) if "{" in name else f"{name}{{{labels}}}"


def trial(name, changed, minute, fires):
    """A test of promtool's: three hosts, all of them as `changed` has it."""
    values = WELL | changed
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": on(host, key), "values": value} for host in HOSTS for key, value in values.items()],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": f'{{alertname="{one}"}}', "value": count} for one, count in fires.items()],
            }
        ],
    }


class Monitoring(unittest.TestCase):
    def test_each_name_and_label_that_is_asked_for_is_there(self):
        text, _ = scrape()
        known = series(text)
        source = "".join(path.read_text() for path in (ROOT / "src").rglob("*.rs"))
        for name in LATER:
            self.assertIn(f'"{name}"', source)
        seen = set()
        for where, expression in expressions():
            self.assertEqual(list(faults_of_names(expression, known)), [], where)
            seen |= {name for name, _ in asked(expression)}
        self.assertGreater(len(seen), 40)
        # Values of labels, too, where the daemon shows them all from the start.
        for where, expression in expressions():
            for name, selector in re.findall(r"\b(valetd_[a-z_]+)\{([^}]*)\}", expression):
                for label, value in re.findall(r'([a-z_]+)!?="([^"$]+)"', selector):
                    if name not in LATER and label not in ("provider", "outcome"):
                        self.assertIn(value, known[name][label], f"{where}: {name} {label}")
        for broken, why in [
            ("valetd_session_countt > 0", "nobody shows valetd_session_countt"),
            ('valetd_session_count{status="ready"}', "no label status"),
            ('valetd_gateway_viewers{who="x"}', "no label who"),
        ]:
            self.assertIn(why, " ".join(faults_of_names(broken, known)))
        lint = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, text=True, timeout=300)
        self.assertIn(lint.returncode, (0, 3), lint.stderr)

    def test_each_expression_is_one(self):
        self.assertEqual(promtool("check", "rules", ALERTS).returncode, 0)
        rules = []
        for at, (_, expression) in enumerate(expressions()):
            for variable, value in [("$__rate_interval", "5m"), ("$job", "valetd"), ("$instance", ".*")]:
                expression = expression.replace(variable, value)
            rules.append({"record": f"expression:{at}", "expr": expression})
        self.assertGreater(len(rules), 60)
        said = judged(rules)
        self.assertEqual(said.returncode, 0, said.stderr)
        rules[3]["expr"] += ")"
        self.assertNotEqual(judged(rules).returncode, 0)

    def test_each_alert_fires_on_what_it_is_for_and_on_nothing_else(self):
        names = [rule["alert"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
        self.assertEqual(set(FIRES), set(names))
        self.assertEqual(len(names), len(set(names)))
        whole = {"ValetdFleetFull", "ValetdFleetIdle", "ValetdVersionsMixed"}
        kinds = {"ValetdRowsLost": 1}
        trials = [trial("all is well", {}, minute, {}) for minute in (1, 20, 130)]
        for name, (changed, minute) in FIRES.items():
            count = 1 if name in whole else len(HOSTS) * kinds.get(name, 1)
            trials.append(trial(name, changed, minute, {name: count}))
        # A sandbox on Fly has one place, and it is taken.
        sandboxes = {'valetd_host_info{provider="fly"}': "1x200", 'valetd_host_info{provider="ec2"}': "_x200"}
        trials.append(trial("sandboxes", sandboxes | {"valetd_session_capacity": "5x200"}, 20, {}))
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "trials.yml"
            tests = {"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": trials}
            path.write_text(yaml.safe_dump(tests))
            said = promtool("test", "rules", path)
            self.assertEqual(said.returncode, 0, said.stdout + said.stderr)
            # And the trial of trials: one that has to fail.
            tests["tests"] = [trial("nothing fires", *FIRES["ValetdDown"], {})]
            path.write_text(yaml.safe_dump(tests))
            self.assertNotEqual(promtool("test", "rules", path).returncode, 0)

    def test_each_alert_says_how_grave_it_is_and_leads_to_its_section(self):
        anchors = {
            re.sub("[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-")
            for heading in re.findall("^#+ (.*)$", RUNBOOK.read_text(), re.MULTILINE)
        }
        sections = {anchor for anchor in anchors if anchor.startswith("valetd")}
        led = set()
        for group in yaml.safe_load(ALERTS.read_text())["groups"]:
            for rule in group["rules"]:
                self.assertEqual(rule["annotations"].keys(), {"summary", "runbook_url"})
                self.assertIn(rule["labels"]["severity"], ("page", "ticket", "info"))
                url = rule["annotations"]["runbook_url"]
                self.assertTrue(url.startswith(RUNBOOK_URL), url)
                self.assertIn(url.removeprefix(RUNBOOK_URL), anchors)
                self.assertEqual(url.removeprefix(RUNBOOK_URL), rule["alert"].lower())
                led.add(rule["alert"].lower())
        self.assertEqual(sections, led, "sections of alerts that are not there")

    def test_each_part_that_health_names_has_an_alert(self):
        text, parts = scrape()
        services = series(text)["valetd_service_up"]["service"]
        # The watchdog ends a daemon whose manager does not answer.
        alerts = {"manager": "ValetdRestarts", "store": "ValetdStoreFails", "control_plane": "ValetdControlPlaneLost"}
        alerts |= {service: "ValetdServiceDown" for service in services}
        self.assertEqual(set(alerts), parts)
        self.assertLessEqual(set(alerts.values()), set(FIRES))

    def test_the_dashboard_is_one_that_grafana_takes(self):
        dashboard = json.loads(DASHBOARD.read_text())
        panels = dashboard["panels"]
        self.assertEqual(len({panel["id"] for panel in panels}), len(panels))
        self.assertGreater(len(panels), 25)
        variables = {variable["name"] for variable in dashboard["templating"]["list"]}
        taken = set()
        for panel in panels:
            place = panel["gridPos"]
            self.assertLessEqual(place["x"] + place["w"], 24)
            cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
            self.assertFalse(cells & taken, f"panel {panel['id']} lies on another")
            taken |= cells
            self.assertTrue(panel["title"])
            self.assertEqual(bool(panel.get("targets")), panel["type"] != "row")
            for target in panel.get("targets", []):
                self.assertEqual(target["datasource"], {"type": "prometheus", "uid": "${datasource}"})
                self.assertLessEqual(set(re.findall(r"\$([a-z_]+)", target["expr"])) - {"__rate_interval"}, variables)


if __name__ == "__main__":
    unittest.main()
