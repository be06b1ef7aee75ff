"""Tells of the control function, or changes it.

    aws_function.py ENDPOINT code              prints the SHA-256 of its package, in base64
    aws_function.py ENDPOINT timeout SECONDS   sets how long an invocation may take
"""

import sys

from aws_emulator import Emulator

NAME = "sockerless"


def main(endpoint, what, *value):
    functions = Emulator(endpoint).client("lambda")
    if what == "code":
        print(functions.get_function_configuration(FunctionName=NAME)["CodeSha256"])
    elif what == "timeout":
        functions.update_function_configuration(FunctionName=NAME, Timeout=int(value[0]))
    else:
        sys.exit(__doc__)


main(*sys.argv[1:])
