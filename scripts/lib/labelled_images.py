"""Writes a Docker archive of so many images without layers, each with a label of so many
bytes, which a list of images shows.

    labelled_images.py ARCHIVE IMAGES BYTES
"""

import hashlib
import io
import json
import sys
import tarfile


def main(target, count, size):
    manifest = []
    with tarfile.open(target, "w") as archive:
        for number in range(int(count)):
            config = {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Labels": {"long": f"{number} " + "." * int(size)}},
                "rootfs": {"type": "layers", "diff_ids": []},
            }
            content = json.dumps(config).encode()
            file = f"{hashlib.sha256(content).hexdigest()}.json"
            add(archive, file, content)
            manifest.append({"Config": file, "RepoTags": [f"labelled:{number}"], "Layers": []})
        add(archive, "manifest.json", json.dumps(manifest).encode())


def add(archive, name, content):
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


main(*sys.argv[1:])
