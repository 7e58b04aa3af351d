"""A local HTTP server that misbehaves as told, for the tests of downloads."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Script:
    """What the server does: one function per request, the last one for all further requests.

    Attributes:
        requests: Path and headers of every request so far.
    """

    def __init__(self, body: bytes, *steps):
        self.body, self.steps, self.requests = body, list(steps), []
        self.stop = threading.Event()

    def next(self, handler):
        step = self.steps[min(len(self.requests), len(self.steps) - 1)] if self.steps else whole
        self.requests.append((handler.path, dict(handler.headers)))
        return step


def whole(handler, script, ranges=True, etag='"v1"', body=None, kind="application/octet-stream", length=True):
    """Send the file, or the asked rest of it."""
    body = script.body if body is None else body
    start, asked = 0, handler.headers.get("Range")
    same = handler.headers.get("If-Range") in (None, etag)
    if ranges and asked and same:
        start = int(asked.removeprefix("bytes=").rstrip("-"))
        if start >= len(body):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(body)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
    else:
        handler.send_response(200)
    handler.send_header("Content-Type", kind)
    if etag:
        handler.send_header("ETag", etag)
    if length:
        handler.send_header("Content-Length", str(len(body) - start))
    handler.end_headers()
    handler.wfile.write(body[start:])


def cut(n_bytes, **options):
    """Send only ``n_bytes`` of the body, then close the connection."""

    def step(handler, script):
        handler.wfile = _Limited(handler.wfile, n_bytes)
        whole(handler, script, **options)

    return step


def stall(n_bytes):
    """Send ``n_bytes`` of the body, then nothing for ever."""

    def step(handler, script):
        handler.wfile = _Limited(handler.wfile, n_bytes)
        whole(handler, script)
        handler.wfile.flush()
        script.stop.wait(20)

    return step


def status(code, **headers):
    def step(handler, script):
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return step


def sends(**options):
    return lambda handler, script: whole(handler, script, **options)


class _Limited:
    """Lets the head and ``n_bytes`` of the body through."""

    def __init__(self, file, n_bytes):
        self.file, self.left = file, n_bytes

    def write(self, data):
        if data.startswith(b"HTTP/"):
            return self.file.write(data)
        part, self.left = data[: self.left], max(0, self.left - len(data))
        return self.file.write(part)

    def __getattr__(self, name):
        return getattr(self.file, name)


@contextmanager
def serving(script, context=None):
    """Serve ``script`` on a free port; gives ``http://127.0.0.1:PORT`` (``https`` with an SSL context)."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.close_connection = True
            script.next(self)(self, script)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"{'https' if context else 'http'}://127.0.0.1:{server.server_address[1]}"
    finally:
        script.stop.set()
        server.shutdown()
        server.server_close()
        thread.join()
