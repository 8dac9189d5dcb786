"""What the tests of delivery share: the tree, programs with stand-ins before them in PATH, an HTTP server that answers as told."""

import contextlib
import http.server
import pathlib
import subprocess
import threading

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
STAND_INS = pathlib.Path(__file__).resolve().parent / "stand-ins"
# Seconds for a script on a loaded machine; none of them waits by itself for long.
DEADLINE = 60


def run(*command, state=None, cwd=ROOT, input=None, **env):
    """A script of this tree, with nothing in its environment but what it needs. Programs that are installed elsewhere do not count:
    a version manager's python3 puts its own aws before the stand-in."""
    clean = {"PATH": f"{STAND_INS}:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    if state is not None:
        clean["STAND_IN"] = str(state)
    command = [str(ROOT / command[0]), *map(str, command[1:])]
    return subprocess.run(
        command, env=clean | env, cwd=cwd, input=input, capture_output=True, text=True, timeout=DEADLINE
    )


@contextlib.contextmanager
def server(answers):
    """Serves until the block ends. `answers(method, path, body, headers)` gives a status, a body and maybe headers; it is called by
    one thread at a time. Yields the address."""
    lock = threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with lock:
                status, body, *more = answers(self.command, self.path, body, self.headers)
            self.send_response(status)
            for name, value in (more[0] if more else {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = answer

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{served.server_port}"
        finally:
            served.shutdown()
            thread.join()
