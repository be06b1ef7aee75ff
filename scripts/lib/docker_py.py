"""Compares two runs of docker-py's tests; called by scripts/docker-py.

  docker_py.py FILE slow               prints an option of pytest for each test that
                                       FILE leaves out of the short form
  docker_py.py FILE compare ENGINE OURS
                                       compares the runs' JUnit files; fails when a test
                                       that FILE does not name passes there and not here,
                                       and when one that it names passes here
"""

import json
import sys
from xml.etree import ElementTree


def outcomes(path):
    """What became of each test, by its name: (outcome, text)."""
    found = {}
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        module, _, group = case.get("classname").rpartition(".")
        module = module.removeprefix("tests.integration.")
        name = f"{module}.py::{group}::{case.get('name')}"
        outcome, text = "passed", ""
        for note in case:
            if note.tag in ("failure", "error", "skipped"):
                outcome = note.tag
                text += f"{note.get('message') or ''}\n{note.text or ''}\n"
        # An error when it is torn down is a case of its own with the same name.
        if found.get(name, ("passed",))[0] == "passed":
            found[name] = outcome, text
    return found


def named(data):
    """The reason of each test that the file names."""
    reasons = {}
    for group in data["remaining"]:
        if not group["reason"] or group["kind"] not in ("limit", "waits"):
            sys.exit(f"docker-py.json: a group without a reason or a kind: {group}")
        for test in group["tests"]:
            if test in reasons:
                sys.exit(f"docker-py.json: {test} is named twice")
            reasons[test] = group["reason"]
    return reasons


def complaints(data, engine, ours):
    """All that is wrong, as texts."""
    reasons = named(data)
    known = engine.keys() | ours.keys()
    for test in sorted(reasons.keys() - known - set(data["slow"])):
        yield f"docker-py.json: there is no test {test}"
    passed = {test for test, (outcome, _) in engine.items() if outcome == "passed"}
    if len(passed) < data["engine_passes"] - len(data["slow"]):
        yield (
            f"only {len(passed)} tests passed with the Engine, of {data['engine_passes']}: "
            "this run shows nothing"
        )
    for test in sorted(passed):
        outcome, text = ours.get(test, ("missing", ""))
        if outcome != "passed" and test not in reasons:
            yield f"{test} passes with the Engine; here: {outcome}\n{text}"
        if outcome == "passed" and test in reasons:
            yield f"docker-py.json: {test} passes now: remove it"


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        data = json.load(file)
    match sys.argv[2:]:
        case ["slow"]:
            for test in data["slow"]:
                print(f"--deselect=tests/integration/{test}")
        case ["compare", engine, ours]:
            engine, ours = outcomes(engine), outcomes(ours)
            found = list(complaints(data, engine, ours))
            for complaint in found:
                print(complaint, file=sys.stderr)
            both = [
                test
                for test, (outcome, _) in engine.items()
                if outcome == "passed" and ours.get(test, ("",))[0] == "passed"
            ]
            print(
                f"docker-py: {len(both)} tests pass with both, {len(named(data))} are named as "
                f"remaining, {len(found)} complaints"
            )
            sys.exit(1 if found else 0)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
