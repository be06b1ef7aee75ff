"""A registry with one image, whose blobs come slowly.

    slow_registry.py HOST PORT SIZE RATE LOG

The image has one layer with so many random bytes, and any name and tag. Its id is said at the
start. RATE is in bytes a second, for each request. LOG gets a line for each blob that was asked
for: its digest, the first byte that was wanted, and how many were sent.
"""

import hashlib
import io
import json
import os
import pathlib
import platform
import re
import sys
import tarfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PIECE = 64 * 1024
KIND = "application/vnd.oci.image"


class Image:
    """An image of one layer, and its blobs by their digests."""

    def __init__(self, size):
        self.blobs = {}
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            member = tarfile.TarInfo("random")
            member.size = size
            tar.addfile(member, io.BytesIO(os.urandom(size)))
        layer = self.add(f"{KIND}.layer.v1.tar", archive.getvalue())
        config = {
            "architecture": "arm64" if platform.machine() == "aarch64" else "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        }
        config = self.add(f"{KIND}.config.v1+json", json.dumps(config).encode())
        self.id = config["digest"]
        manifest = {"schemaVersion": 2, "mediaType": f"{KIND}.manifest.v1+json"}
        manifest |= {"config": config, "layers": [layer]}
        self.manifest = self.add(manifest["mediaType"], json.dumps(manifest).encode())

    def add(self, media_type, content):
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        self.blobs[digest] = content
        return {"mediaType": media_type, "digest": digest, "size": len(content)}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        *_, kind, name = self.path.split("/")
        if kind == "manifests":
            headers = {
                "Content-Type": IMAGE.manifest["mediaType"],
                "Docker-Content-Digest": IMAGE.manifest["digest"],
            }
            self.send(IMAGE.blobs[IMAGE.manifest["digest"]], headers)
        elif kind == "blobs" and name in IMAGE.blobs:
            self.send(IMAGE.blobs[name], {}, name)
        else:
            self.head(200 if self.path == "/v2/" else 404, {"Content-Length": "0"})

    do_HEAD = do_GET

    def send(self, content, headers, digest=None):
        """All of it, or from the byte on that is wanted; slowly if it is a blob."""
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        first = int(wanted[1]) if wanted else 0
        if wanted:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        headers["Content-Length"] = str(len(content) - first)
        self.head(206 if wanted else 200, headers)
        if self.command == "HEAD":
            return
        sent = 0
        try:
            for start in range(first, len(content), PIECE):
                piece = content[start : start + PIECE]
                self.wfile.write(piece)
                sent += len(piece)
                if digest:
                    time.sleep(len(piece) / RATE)
        except ConnectionError:
            self.close_connection = True
        finally:
            if digest:
                with LOG.open("a") as log:
                    log.write(f"{digest} {first} {sent}\n")

    def head(self, status, headers):
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name, text)
        self.end_headers()

    def log_message(self, *_):
        pass


IMAGE, RATE, LOG = Image(int(sys.argv[3])), int(sys.argv[4]), pathlib.Path(sys.argv[5])
server = ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Handler)
print(f"listening, with the image {IMAGE.id}", flush=True)
server.serve_forever()
