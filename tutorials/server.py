"""A small web server for a network, made of Python's own library.

An image comes in as a list of numbers, and its label goes back. It answers one
client at a time and trusts it: for the world outside, use a real web server.
"""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np


@contextmanager
def serving(network):
    """Serves a function of inputs (1, P) to logits (1, Q); gives the address.

    with serving(network) as (host, port):
        ...
    """

    class Classifier(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # one connection for many requests
        wbufsize = -1  # an answer is one packet

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            image = np.array([json.loads(body)], dtype="float32")
            label = int(network(image)[0].argmax())
            answer = json.dumps({"label": label}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Classifier)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address
    finally:
        server.shutdown()
        server.server_close()
