# Python packages in environments of their own, below the cache folder.
#
# Sourced by the scripts beside it, after debian.bash.
# shellcheck shell=bash

# python_environment NAME PACKAGE==VERSION…: makes the environment unless it is
# there, and prints the path of its python.
python_environment() {
    local name=$1 cache environment
    shift
    cache=$(cache_folder)
    environment=$cache/$name
    if [[ $(cat "$environment/packages" 2>/dev/null) != "$*" ]]; then
        with_lock "$cache/$name.lock" make_environment "$environment" "$@"
    fi
    printf '%s\n' "$environment/bin/python"
}

# make_environment ENVIRONMENT PACKAGE…: under the lock. Python environments cannot
# be moved, so that the list of packages, written last, says that it is complete.
make_environment() {
    local environment=$1
    shift
    [[ $(cat "$environment/packages" 2>/dev/null) == "$*" ]] && return 0
    need_program python3 python3
    rm -rf "$environment"
    python3 -m venv "$environment" >&2 ||
        die "python3 cannot make an environment: install the package python3-venv"
    say "fetching $*"
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check "$@" >&2 ||
        die "$* could not be installed from PyPI; set PIP_INDEX_URL to an index that this machine reaches"
    printf '%s\n' "$*" >"$environment/packages"
}
