"""A registry whose tokens come from a server that may refuse: name `bob`, password `secret`.

    token_server.py HOST PORT

Knows no images. Gives an identity token, `renewed`, to whoever asks for one, and takes it.
"""

import base64
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

PASSWORD = "Basic " + base64.b64encode(b"bob:secret").decode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urlsplit(self.path)
        authorization = self.headers.get("Authorization", "")
        if url.path == "/token":
            wanted = parse_qs(url.query)
            self.token(authorization == PASSWORD, "offline_token" in wanted)
        elif authorization == "Bearer good":
            error = {"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}
            self.answer(*((200, {}) if url.path == "/v2/" else (404, {"errors": [error]})))
        else:
            host, port = self.server.server_address
            realm = f'Bearer realm="http://{host}:{port}/token",service="test"'
            self.refuse({"WWW-Authenticate": realm})

    do_HEAD = do_GET

    def do_POST(self):
        size = int(self.headers.get("Content-Length", 0))
        asked = parse_qs(self.rfile.read(size).decode())
        by_identity = asked.get("refresh_token") == ["renewed"]
        by_password = (asked.get("username"), asked.get("password")) == (["bob"], ["secret"])
        self.token(by_identity or by_password, True)

    def token(self, is_good, wants_identity):
        if not is_good:
            return self.refuse({})
        token = {"token": "good", "access_token": "good", "expires_in": 300}
        if wants_identity:
            token["refresh_token"] = "renewed"
        return self.answer(200, token)

    def refuse(self, headers):
        error = {"code": "UNAUTHORIZED", "message": "authentication required"}
        self.answer(401, {"errors": [error]}, headers)

    def answer(self, status, value, headers=None):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Handler)
print(f"listening on {sys.argv[1]}:{sys.argv[2]}", flush=True)
server.serve_forever()
