"""Checks an image as Lambda's unpacker would, and beside the image that it was made of.

    check_prepared.py PREPARED ORIGINAL

Both are folders with an OCI layout `layout` of one image and what `umoci unpack` made of it, in
`bundle`. Shares no code with what prepares images. Prints what it has seen, as JSON.
"""

import gzip
import hashlib
import io
import json
import os
import pathlib
import stat
import sys
import tarfile

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
# Of Lambda: more layers than this are refused.
MOST_LAYERS = 127


def blob(layout, digest):
    content = (layout / "blobs" / digest.replace(":", "/")).read_bytes()
    found = "sha256:" + hashlib.sha256(content).hexdigest()
    assert found == digest, f"{digest} is {found}"
    return content


def described(layout, descriptor):
    content = blob(layout, descriptor["digest"])
    assert len(content) == descriptor["size"], descriptor
    return content


def image(layout):
    index = json.loads((layout / "index.json").read_text())
    assert len(index["manifests"]) == 1, index
    entry = index["manifests"][0]
    assert entry["mediaType"] == MANIFEST, entry
    manifest = json.loads(described(layout, entry))
    return entry["digest"], manifest, json.loads(described(layout, manifest["config"]))


def check_layer(content):
    """The rules for one layer; gives how many entries it has."""
    tar = gzip.decompress(content)
    folders, files = {""}, set()
    count = 0
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        for member in archive:
            count += 1
            name = member.name.removeprefix("./").rstrip("/")
            name = "" if name == "." else name
            parts = name.split("/") if name else []
            assert not member.name.startswith("/"), member.name
            assert ".." not in parts and "" not in parts, member.name
            assert name == "" or "/".join(parts[:-1]) in folders, f"{name} is before its folder"
            assert not member.ischr() and not member.isblk(), f"{name} is a device"
            assert not member.issparse(), f"{name} is sparse"
            assert member.uid >= 0 and member.gid >= 0, name
            if member.isdir():
                folders.add(name)
                continue
            if member.islnk():
                target = member.linkname.removeprefix("./")
                assert target in files, f"{name} is linked to {target}, which is not there"
            if parts[-1].startswith(".wh."):
                assert member.isreg() and member.size == 0, f"{name} is no whiteout"
            else:
                files.add(name)
    return hashlib.sha256(tar).hexdigest(), count


def tree(root):
    """All that is below a folder, in a form that can be compared."""
    found, links = {}, {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            if kind in (stat.S_IFCHR, stat.S_IFBLK):
                # Left out of what is prepared.
                continue
            content = None
            if kind == stat.S_IFREG:
                content = hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
                if status.st_nlink > 1:
                    links.setdefault(status.st_ino, []).append(os.path.relpath(path, root))
            elif kind == stat.S_IFLNK:
                content = os.readlink(path)
            attributes = {
                key: os.getxattr(path, key, follow_symlinks=False).hex()
                for key in os.listxattr(path, follow_symlinks=False)
            }
            found[os.path.relpath(path, root)] = [
                status.st_mode,
                status.st_uid,
                status.st_gid,
                content,
                attributes,
            ]
    return found, sorted(sorted(names) for names in links.values())


def main(prepared, original):
    prepared, original = pathlib.Path(prepared), pathlib.Path(original)
    digest, manifest, config = image(prepared / "layout")
    assert manifest.get("mediaType", MANIFEST) == MANIFEST, manifest
    layers = manifest["layers"]
    assert 1 <= len(layers) <= MOST_LAYERS, len(layers)
    ids = config["rootfs"]["diff_ids"]
    steps = [step for step in config["history"] if not step.get("empty_layer")]
    assert len(layers) == len(ids) == len(steps), "layers and history are out of step"
    entries = 0
    for layer, expected in zip(layers, ids):
        assert layer["mediaType"] == GZIP, layer
        found, count = check_layer(described(prepared / "layout", layer))
        assert "sha256:" + found == expected, f"{layer['digest']} is not {expected}"
        entries += count
    assert config["config"]["Entrypoint"] == ["/.sockerless/agent"], config["config"]
    _, _, before = image(original / "layout")
    assert config["architecture"] == before["architecture"] and config["os"] == "linux"
    theirs, their_links = tree(original / "bundle/rootfs")
    ours, our_links = tree(prepared / "bundle/rootfs")
    agent = {name for name in ours if name.split("/")[0] == ".sockerless"}
    assert agent == {".sockerless", ".sockerless/agent"}, agent
    for name in agent:
        del ours[name]
    for name in sorted(set(theirs) | set(ours)):
        assert theirs.get(name) == ours.get(name), f"{name}: {theirs.get(name)} {ours.get(name)}"
    assert their_links == our_links, f"{their_links} {our_links}"
    print(json.dumps({"digest": digest, "layers": len(layers), "entries": entries}))


main(*sys.argv[1:])
