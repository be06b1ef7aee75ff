"""Checks that an example passes on all that its module can be told, but for what is for tests.

    terraform_variables.py MODULE EXAMPLE
"""

import pathlib
import sys

import hcl2

ONLY_FOR_TESTS = {"emulator"}


def blocks(folder, kind):
    """The blocks of this kind in a folder, by their names."""
    found = {}
    for file in sorted(pathlib.Path(folder).glob("*.tf")):
        with file.open() as text:
            for entry in hcl2.load(text).get(kind, []):
                found.update({name.strip('"'): body for name, body in entry.items()})
    return found


def main(module, example):
    wanted = set(blocks(module, "variable")) - ONLY_FOR_TESTS
    declared = set(blocks(example, "variable"))
    (call,) = blocks(example, "module").values()
    wrong = [f"{name} is no variable of {example}" for name in sorted(wanted - declared)]
    wrong += [f"{name} is not passed on by {example}" for name in sorted(wanted - set(call))]
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    sys.exit(bool(wrong) or not wanted)


main(*sys.argv[1:])
