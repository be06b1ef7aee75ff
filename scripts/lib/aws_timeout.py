"""Sets how long an invocation of the control function may take, in seconds.

    aws_timeout.py ENDPOINT SECONDS
"""

import sys

from aws_emulator import Emulator

NAME = "sockerless"


def main(endpoint, seconds):
    Emulator(endpoint).client("lambda").update_function_configuration(
        FunctionName=NAME, Timeout=int(seconds)
    )


main(*sys.argv[1:])
