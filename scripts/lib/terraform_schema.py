"""Checks every argument of every resource and data source in folders of
Terraform against the provider's schema, as npm's @cdktf/provider-aws publishes
it: the names that there are, and those that must be given.

    terraform_schema.py PACKAGE FOLDER…
"""

import pathlib
import re
import sys
import tarfile

import hcl2

# What every resource may have, whatever it is.
META = {"count", "for_each", "depends_on", "lifecycle", "provider", "provisioner"}

MEMBER = re.compile(
    r"/\*\*(?P<comment>(?:(?!\*/).)*?)\*/\s*"
    r"readonly \w+(?P<optional>\??): (?P<type>\{[^}]*\}|[^;{]+)",
    re.S,
)
INTERFACE = re.compile(
    r"^export interface (?P<name>\w+)(?P<base> extends [\w.]+)? \{\n(?P<body>.*?)^\}",
    re.S | re.M,
)
ARGUMENT = re.compile(r"#(\w+) [\w.]+#(\w+)")


class Schema:
    """The schema of one resource: interfaces by name, arguments by name."""

    def __init__(self, declarations):
        self.interfaces = {}
        self.top = None
        for found in INTERFACE.finditer(declarations):
            arguments = {}
            for member in MEMBER.finditer(found["body"]):
                names = ARGUMENT.findall(member["comment"])
                if names:
                    arguments[names[-1][0]] = (member["optional"] == "", member["type"].strip())
            self.interfaces[found["name"]] = arguments
            whole = "TerraformMetaArguments" in (found["base"] or "")
            if whole or found["name"] == "AwsProviderConfig":
                self.top = found["name"]

    def nested(self, type_name):
        """The interface of a block's type, if it is one."""
        for word in re.findall(r"\w+", type_name):
            if word in self.interfaces:
                return word
        return None

    def check(self, block, interface, where):
        """Sentences on what is wrong, and how many arguments were looked at."""
        arguments = self.interfaces[interface]
        given = {key for key in block if not key.startswith("__")}
        wrong = [
            f"{where}: there is no argument {name}"
            for name in sorted(given - set(arguments) - META)
        ]
        wrong += [
            f"{where}: {name} has to be given"
            for name, (required, _) in arguments.items()
            if required and name not in given
        ]
        looked_at = len(given)
        for name in given & set(arguments):
            inner = self.nested(arguments[name][1])
            for child in block[name] if isinstance(block[name], list) and inner else []:
                if isinstance(child, dict):
                    more, count = self.check(child, inner, f"{where}.{name}")
                    wrong += more
                    looked_at += count
        return wrong, looked_at


def blocks(folder):
    """(where, path in the package, body) of what the provider knows."""
    for file in sorted(pathlib.Path(folder).glob("*.tf")):
        with file.open() as text:
            parsed = hcl2.load(text)
        for kind, prefix in (("resource", ""), ("data", "data-aws-")):
            for entry in parsed.get(kind, []):
                for name, instances in entry.items():
                    if not name.startswith("aws_"):
                        continue
                    place = prefix + name.removeprefix("aws_").replace("_", "-")
                    for label, body in instances.items():
                        yield f"{file}: {kind} {name}.{label}", place, body
        for entry in parsed.get("provider", []):
            for name, body in entry.items():
                yield f"{file}: provider {name}", "provider", body


def main(package, *folders):
    found = [block for folder in folders for block in blocks(folder)]
    wanted = {f"package/lib/{place}/index.d.ts": place for _, place, _ in found}
    schemas = {}
    with tarfile.open(package, "r|gz") as archive:
        for entry in archive:
            if entry.name in wanted:
                text = archive.extractfile(entry).read().decode()
                schemas[wanted[entry.name]] = text
    wrong, looked_at = [], 0
    for where, place, body in found:
        if place not in schemas:
            wrong.append(f"{where}: the provider has no such resource")
            continue
        schema = Schema(schemas[place])
        if schema.top is None:
            wrong.append(f"{where}: its schema cannot be read")
            continue
        more, count = schema.check(body, schema.top, where)
        wrong += more
        looked_at += count
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    print(f"terraform: {len(found)} blocks with {looked_at} arguments, as the provider's schema has them")
    sys.exit(bool(wrong) or looked_at == 0)


main(*sys.argv[1:])
