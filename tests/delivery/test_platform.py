"""The platform's services on Fly, against what the deployment guide says of them. Each rule is tried on a file that breaks it."""

import copy
import re
import tomllib
import unittest

from support import ROOT

FOLDER = ROOT / "fly"
SERVICES = {"api", "worker", "web", "hatchet"}
# Port inside, the check's path, memory in MB.
HTTP = {"api": (3000, "/api/v1/health", 512), "web": (8080, "/health", 256)}
GRPC, DASHBOARD = 7077, 8888
# Seconds that Fly lets a Machine have at most before it kills it.
LONGEST_STOP = 300
# Seconds that a task has to end in.
TASK = 60


def seconds(text):
    return int(re.fullmatch("([0-9]+)s", text)[1])


def megabytes(text):
    number, unit = re.fullmatch("([0-9]+)(mb|gb)", text).groups()
    return int(number) * (1024 if unit == "gb" else 1)


def services(app):
    """All that Fly's proxy lets in, in whichever way it is written."""
    return [app[key] for key in ("http_service",) if key in app] + app.get("services", [])


def general(app, region):
    if app.get("kill_signal") != "SIGTERM" or not 0 < app.get("kill_timeout", 0) <= LONGEST_STOP:
        yield "not stopped by SIGTERM, within a time that Fly gives"
    if app["primary_region"] != region:
        yield "in another region than the sandboxes"
    if "app" in app:
        yield "names an app, and so is for one environment"
    if app.get("build", {}).keys() - {"image"} or app.get("build", {}).get("image", ":v1").endswith(":latest"):
        yield "builds here what is not here, or takes the latest of something"
    for key, value in app.get("env", {}).items():
        if not isinstance(value, str):
            yield f"{key} is no string"
        secret = re.search("TOKEN|SECRET|PASSWORD|API_KEY|_URL$", key)
        if secret or re.search("://[^/]*:[^/]*@", str(value)):
            yield f"{key} is for `fly secrets`"
    [machine] = app["vm"]
    if megabytes(machine["memory"]) % 256:
        yield "memory comes in pieces of 256 MB"


def proxied(service):
    if service.get("auto_start_machines") is not True or service.get("min_machines_running", 0) < 1:
        yield "nobody may be there to answer"
    limits = service.get("concurrency")
    if limits and not limits["soft_limit"] < limits["hard_limit"]:
        yield "the proxy looks for another Machine too late"


def http(app, port, path, memory):
    service = app.get("http_service", {})
    if "services" in app or service.get("internal_port") != port:
        yield "is not the one HTTP service"
    if app.get("env", {}).get("PORT", str(port)) != str(port):
        yield "listens where nobody asks"
    if service.get("force_https") is not True:
        yield "takes HTTP in the clear"
    if service.get("auto_stop_machines") != "stop":
        yield "Machines that nobody asks stay"
    checks = service.get("checks", [])
    if [check.get("path") for check in checks] != [path]:
        yield "is not checked"
    for check in checks:
        if check.get("method") != "GET" or not seconds(check["timeout"]) < seconds(check["interval"]) <= 30:
            yield "checks take longer than the time between them"
    if megabytes(app["vm"][0]["memory"]) < memory:
        yield "has too little memory"


def worker(app):
    if services(app) or "checks" in app:
        yield "has a service, and would be stopped when nobody asks it"
    if app["kill_timeout"] < TASK:
        yield "tasks are cut off"
    if app["vm"][0].get("processes") != list(app.get("processes", {})) or not app.get("processes"):
        yield "its Machine is not its process's"
    if megabytes(app["vm"][0]["memory"]) < 1024:
        yield "has too little memory"


def hatchet(app):
    grpc = app.get("http_service", {})
    # A [[services]] has no ALPN, or no HTTP/2 to the back end.
    if grpc.get("internal_port") != GRPC or any(service["internal_port"] == GRPC for service in app.get("services", [])):
        yield "gRPC is not the http_service"
    if grpc.get("http_options", {}).get("h2_backend") is not True:
        yield "gRPC without HTTP/2 to the back end"
    if grpc.get("tls_options", {}).get("alpn") != ["h2"]:
        yield "gRPC without h2 alone in ALPN"
    env = app.get("env", {})
    if env.get("SERVER_GRPC_PORT") != str(GRPC) or env.get("SERVER_GRPC_INSECURE") != "t":
        yield "the engine does not speak HTTP/2 in the clear where the proxy does"
    if not env.get("SERVER_GRPC_BROADCAST_ADDRESS", "").endswith(":443"):
        yield "clients are told another address"
    if grpc.get("checks"):
        yield "HTTP/1.1 checks on gRPC"
    dashboards = [service for service in app.get("services", []) if service["internal_port"] == DASHBOARD]
    ports = [port for service in dashboards for port in service["ports"]]
    if ports != [{"port": 8443, "handlers": ["tls", "http"]}]:
        yield "the dashboard has no port of its own with TLS"
    # The proxy's default is never to stop; one service that says otherwise counts for the Machine.
    if any(service.get("auto_stop_machines") == "stop" for service in services(app)):
        yield "stopped, it makes new keys"
    pools = [int(env.get(f"DATABASE_MAX{queue}_CONNS", "50")) for queue in ("", "_QUEUE")]
    if sum(pools) > 10:
        yield "takes the database's connections from everybody else"
    if "image" not in app.get("build", {}):
        yield "has no image"


def faults(name, app, region):
    found = [*general(app, region), *(fault for service in services(app) for fault in proxied(service))]
    if name in HTTP:
        found += http(app, *HTTP[name])
    return found + list({"worker": worker, "hatchet": hatchet}.get(name, lambda _: [])(app))


def apps():
    return {path.stem: tomllib.loads(path.read_text()) for path in FOLDER.glob("*.toml")}


class Platform(unittest.TestCase):
    def setUp(self):
        found = apps()
        self.region = found["sandbox"]["primary_region"]
        # The sandboxes' own are looked at by tests/package.rs.
        self.apps = {name: app for name, app in found.items() if name not in ("sandbox", "valetd")}

    def test_each_service_keeps_the_rules(self):
        self.assertEqual(set(self.apps), SERVICES)
        for name, app in self.apps.items():
            self.assertEqual(faults(name, app, self.region), [], name)

    def test_services_find_each_other(self):
        worker, hatchet = self.apps["worker"]["env"], self.apps["hatchet"]["env"]
        address = hatchet["SERVER_GRPC_BROADCAST_ADDRESS"]
        self.assertEqual(worker["HATCHET_CLIENT_HOST_PORT"], address)
        self.assertEqual(worker["HATCHET_CLIENT_TLS_SERVER_NAME"], address.removesuffix(":443"))
        self.assertEqual(worker["HATCHET_CLIENT_TLS_STRATEGY"], "tls")
        image = self.apps["api"]["env"]["SANDBOX_IMAGE"]
        self.assertTrue(image.startswith(f"registry.fly.io/{apps()['sandbox']['app']}:"), image)

    def test_each_rule_can_fail(self):
        def put(*path):
            *way, last, value = path

            def change(app):
                for key in way:
                    app = app[key]
                if value is None:
                    del app[last]
                else:
                    app[last] = value

            return change

        grpc_as_service = {"internal_port": GRPC, "ports": [{"port": 443, "handlers": ["tls"]}], "protocol": "tcp"}
        for name, why, breaks in [
            ("api", "SIGTERM", put("kill_signal", "SIGINT")),
            ("api", "SIGTERM", put("kill_timeout", 301)),
            ("api", "another region", put("primary_region", "iad")),
            ("api", "one environment", put("app", "valet-api")),
            ("api", "builds here", put("build", {"dockerfile": "apps/api/Dockerfile"})),
            ("hatchet", "the latest", put("build", "image", "hatchet-lite:latest")),
            ("api", "no string", put("env", "PORT", 3000)),
            ("worker", "fly secrets", put("env", "HATCHET_CLIENT_TOKEN", "t")),
            ("api", "fly secrets", put("env", "DATABASE", "postgresql://u:p@host/db")),
            ("api", "pieces of 256", put("vm", 0, "memory", "600mb")),
            ("api", "nobody may be there", put("http_service", "min_machines_running", 0)),
            ("web", "nobody may be there", put("http_service", "auto_start_machines", None)),
            ("api", "too late", put("http_service", "concurrency", "soft_limit", 250)),
            ("api", "not the one HTTP", put("http_service", "internal_port", 3001)),
            ("api", "where nobody asks", put("env", "PORT", "3001")),
            ("web", "in the clear", put("http_service", "force_https", None)),
            ("web", "stay", put("http_service", "auto_stop_machines", "off")),
            ("web", "not checked", put("http_service", "checks", None)),
            ("api", "longer than", put("http_service", "checks", 0, "timeout", "15s")),
            ("api", "too little", put("vm", 0, "memory", "256mb")),
            ("worker", "has a service", put("http_service", {"internal_port": 1, "min_machines_running": 1})),
            ("worker", "has a service", put("checks", {"live": {"type": "tcp", "port": 1}})),
            ("worker", "cut off", put("kill_timeout", 30)),
            ("worker", "not its process's", put("processes", None)),
            ("worker", "too little", put("vm", 0, "memory", "512mb")),
            ("hatchet", "not the http_service", put("services", [grpc_as_service])),
            ("hatchet", "to the back end", put("http_service", "http_options", None)),
            ("hatchet", "in ALPN", put("http_service", "tls_options", "alpn", ["h2", "http/1.1"])),
            ("hatchet", "in the clear", put("env", "SERVER_GRPC_INSECURE", "f")),
            ("hatchet", "another address", put("env", "SERVER_GRPC_BROADCAST_ADDRESS", "valet-hatchet-stg.fly.dev:7077")),
            ("hatchet", "checks on gRPC", put("http_service", "checks", [{"path": "/"}])),
            ("hatchet", "no port of its own", put("services", 0, "ports", 0, "port", 443)),
            ("hatchet", "no port of its own", put("services", 0, "ports", 0, "handlers", ["tls"])),
            ("hatchet", "new keys", put("services", 0, "auto_stop_machines", "stop")),
            ("hatchet", "everybody else", put("env", "DATABASE_MAX_CONNS", None)),
            ("hatchet", "no image", put("build", None)),
        ]:
            app = copy.deepcopy(self.apps[name])
            breaks(app)
            found = faults(name, app, self.region)
            self.assertTrue(any(why in fault for fault in found), f"{name}: {why}: {found}")


if __name__ == "__main__":
    unittest.main()
