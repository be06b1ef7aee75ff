"""Delivers a container's invocation a second time, as Lambda may.

    aws_deliver.py ENDPOINT FILE   FILE: what the meter has kept
"""

import json
import pathlib
import sys

from aws_emulator import Emulator


def main(endpoint, file):
    kept = json.loads(pathlib.Path(file).read_text())
    answer = Emulator(endpoint).client("lambda").invoke(
        FunctionName=kept["function"], InvocationType="Event", Payload=kept["payload"]
    )
    assert answer["StatusCode"] == 202, answer


main(*sys.argv[1:])
