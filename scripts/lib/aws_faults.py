"""Has a meter (aws_meter.py) answer a call, where its path has this in it, or one of N
such calls, in the emulator's place, until this is called again; without a call, none any more.
STATUS 0 holds it until then, unanswered.

    aws_faults.py FILE [CALL[@PATH][%N] STATUS BODY [NAME=VALUE]…]
"""

import json
import pathlib
import sys


def main(file, *fault):
    faults = []
    if fault:
        call, status, body, *headers = fault
        call, _, of = call.partition("%")
        call, _, path = call.partition("@")
        faults.append(
            {
                "call": call,
                "path": path,
                "of": int(of or 1),
                "status": int(status),
                "body": json.loads(body),
                "headers": dict(header.split("=", 1) for header in headers),
            }
        )
    written = pathlib.Path(f"{file}.faults.new")
    written.write_text(json.dumps(faults))
    # The meter reads it whole.
    written.rename(f"{file}.faults")


main(*sys.argv[1:])
