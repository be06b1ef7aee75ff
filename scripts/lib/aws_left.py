"""Prints what the control plane has made at an emulator and is still there:
functions of containers, schedules.

    aws_left.py ENDPOINT
"""

import sys

from aws_emulator import Emulator


def main(endpoint):
    emulator = Emulator(endpoint)
    for function in emulator.client("lambda").list_functions()["Functions"]:
        if function["FunctionName"].startswith("skls-"):
            print(function["FunctionArn"])
    for schedule in emulator.client("scheduler").list_schedules()["Schedules"]:
        print(schedule["Arn"])


main(*sys.argv[1:])
