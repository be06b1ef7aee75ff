"""The control function's zip: `bootstrap`, the agents that containers get, and where there
are any, certificates of registries, a folder `certs.d` with a folder for each. The same
files make the same bytes.

    lambda_zip.py ZIP BOOTSTRAP AGENT_OR_FOLDER…
"""

import io
import pathlib
import sys
import zipfile


def package(bootstrap, *others):
    """The zip's bytes. Others keep their names, and folders what is in them."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        add(archive, "bootstrap", pathlib.Path(bootstrap))
        for path in map(pathlib.Path, others):
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.is_file():
                    add(archive, str(file.relative_to(path.parent)), file)
    return content.getvalue()


def add(archive, name, file):
    # Of a fixed time, 1980.
    entry = zipfile.ZipInfo(name)
    entry.external_attr = 0o100755 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, file.read_bytes())


def main(target, bootstrap, *others):
    content = package(bootstrap, *others)
    target = pathlib.Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    print(f"{target}: {len(content) / 1e6:.1f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:])
