"""Servers on this machine that lose the connection in the middle of a download."""

import contextlib
import http.server
import os
import signal
import socket
import time
from pathlib import Path

LOSSES = ("half", "silent", "refused")
SILENT_SECONDS = 1.0  # after which the scripts give up, instead of half a minute


class Half(http.server.BaseHTTPRequestHandler):
    """Sends half of what it promises, then nothing."""

    folder: Path
    silent = False

    def do_HEAD(self):
        self._headers()

    def do_GET(self):
        content = self._headers()
        self.wfile.write(content[: len(content) // 2])
        self.wfile.flush()
        time.sleep(60 * self.silent)

    def _headers(self):
        path = self.folder / Path(self.path).name
        content = path.read_bytes() if path.is_file() else b""
        self.send_response(200 if content else 404)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return content

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def losing(folder, loss):
    """Address of a server of the files in a folder that is lost in one of the ways of `LOSSES`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    if loss == "refused":  # nobody listens there
        yield f"http://127.0.0.1:{port}/"
        return
    handler = type("Handler", (Half,), {"folder": Path(folder), "silent": loss == "silent"})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    process = os.fork()  # no thread here: this process forks others
    if not process:
        server.serve_forever()
    server.server_close()
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def download_from(address):
    """A change of a script's process: data are downloaded from there."""

    def change(_):
        from tensorflow_datasets.image_classification import MNIST

        from datasets import gas_archive, gas_sensor, gas_sensor_builder, sources

        sources.SILENT_SECONDS = SILENT_SECONDS
        MNIST.URL = address
        url = address + gas_archive.ARCHIVE_NAMES[0]
        for module in (gas_archive, gas_sensor, gas_sensor_builder):
            module.URL = url

    return change
