"""What a host meets outside, as small servers: a cloud's metadata service, a server of a private network, and the internet."""

import http.server
import socket
import threading

# As EC2 has them; all else is 404.
METADATA = {
    "/latest/meta-data/instance-id": "i-0123456789abcdef0",
    "/latest/meta-data/instance-type": "t3.medium",
    "/latest/meta-data/placement/region": "eu-central-1",
    "/latest/meta-data/placement/availability-zone": "eu-central-1a",
    "/latest/meta-data/local-ipv4": "10.87.5.2",
}
INSTANCE = METADATA["/latest/meta-data/instance-id"]


class Answers(http.server.BaseHTTPRequestHandler):
    """IMDSv2, and a plain page for everybody else's paths."""

    def do_PUT(self):  # noqa: N802
        """A token for the metadata service."""
        self.answer(200 if self.path == "/latest/api/token" else 404, "token-of-the-stand-in")

    def do_GET(self):  # noqa: N802
        """A fact, or the page."""
        if not self.path.startswith("/latest/"):
            return self.answer(200, "a stand-in")
        if self.headers.get("X-aws-ec2-metadata-token") is None:
            return self.answer(401, "")
        text = METADATA.get(self.path)
        return self.answer(404 if text is None else 200, text or "")

    def answer(self, status, text):
        """Sends it, and counts."""
        self.server.asked += 1
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        if "token" in text:
            self.send_header("X-aws-ec2-metadata-token-ttl-seconds", "21600")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        """Says nothing."""


class StandIn(http.server.ThreadingHTTPServer):
    """A server on an address of this network namespace, from its making on."""

    def __init__(self, address, port):
        if ":" in address:
            self.address_family = socket.AF_INET6
        self.asked = 0
        super().__init__((address, port), Answers)
        host = f"[{address}]" if ":" in address else address
        self.url = f"http://{host}:{port}/"
        threading.Thread(target=self.serve_forever, daemon=True).start()
