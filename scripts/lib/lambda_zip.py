"""The control function's zip: `bootstrap`, and the agents that containers get.
The same programs make the same bytes.

    lambda_zip.py ZIP BOOTSTRAP AGENT…
"""

import io
import pathlib
import sys
import zipfile


def package(bootstrap, *agents):
    """The zip's bytes. An agent keeps its file's name."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, path in [("bootstrap", bootstrap)] + [(pathlib.Path(a).name, a) for a in agents]:
            # Of a fixed time, 1980.
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o100755 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, pathlib.Path(path).read_bytes())
    return content.getvalue()


def main(target, bootstrap, *agents):
    content = package(bootstrap, *agents)
    target = pathlib.Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    print(f"{target}: {len(content) / 1e6:.1f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:])
