# Fetches programs from Debian's archive into a folder of their own.
#
# Sourced by the scripts beside it. Nothing is installed into the system: apt
# runs with its own sources, lists and cache below the folder given, checks the
# archive's signature and every hash, and the packages are only unpacked.
# shellcheck shell=bash

# The archive that packages come from; a mirror may be named instead.
SOCKERLESS_DEBIAN_MIRROR=${SOCKERLESS_DEBIAN_MIRROR:-http://deb.debian.org/debian}

# say WORDS: progress for a person, on stderr.
say() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

# die WORDS: says why and gives up.
die() {
    say "error: $*"
    exit 1
}

# cache_folder: prints the folder for what was fetched, and makes it.
cache_folder() {
    local folder
    folder=${XDG_CACHE_HOME:-${HOME:?HOME or XDG_CACHE_HOME must be set}/.cache}/sockerless
    mkdir -p "$folder" || die "cannot make the cache folder $folder; set XDG_CACHE_HOME to a writable one"
    printf '%s\n' "$folder"
}

# need_program NAME PACKAGE: a program of the base system must be there.
need_program() {
    command -v "$1" >/dev/null 2>&1 || die "$1 is missing: install the package $2"
}

# with_lock FILE COMMAND…: runs a command while holding the lock on a file, so
# that two scripts that need the same download do it once.
with_lock() {
    local file=$1
    shift
    need_program flock util-linux
    (
        flock 9
        "$@"
    ) 9>"$file"
}

# private_apt FOLDER PROGRAM ARGS…: apt-get or apt-cache on Debian's archive,
# with all state below the folder.
private_apt() {
    local folder=$1 program=$2
    shift 2
    # Read after the system's own configuration, which may name a proxy.
    "$program" -c "$folder/apt.conf" "$@"
}

# prepare_apt FOLDER SUITE…: writes the configuration and fetches the signed
# package lists of the suites, unless that was done within the hour.
prepare_apt() {
    local folder=$1 suite keyring
    shift
    need_program apt-get apt
    need_program dpkg-deb dpkg
    mkdir -p "$folder/lists/partial" "$folder/archives/partial"
    keyring=$(debian_keyring "$folder")
    : >"$folder/sources.list"
    for suite in "$@"; do
        printf 'deb [signed-by=%s] %s %s main\n' \
            "$keyring" "$SOCKERLESS_DEBIAN_MIRROR" "$suite" >>"$folder/sources.list"
    done
    cat >"$folder/apt.conf" <<CONF
Dir::Etc::SourceList "$folder/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State::Lists "$folder/lists";
Dir::Cache "$folder";
Dir::Cache::Archives "$folder/archives";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
APT::Sandbox::User "";
APT::Update::Post-Invoke-Success "";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons-small::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons::DefaultEnabled "false";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
Acquire::Retries "3";
CONF
    if [[ $(cat "$folder/lists.of" 2>/dev/null) == "$*" &&
        -n $(find "$folder/lists.of" -mmin -60) ]]; then
        return 0
    fi
    say "fetching the package lists of Debian $*"
    private_apt "$folder" apt-get -qq --error-on=any update >&2 ||
        die "the package lists of Debian $* could not be fetched from $SOCKERLESS_DEBIAN_MIRROR; set SOCKERLESS_DEBIAN_MIRROR to a mirror that this machine reaches"
    printf '%s\n' "$*" >"$folder/lists.of"
}

# debian_keyring FOLDER: prints the path of the archive's public keys: the
# system's, else (on Ubuntu) those of the system's own package of them.
debian_keyring() {
    local folder=$1 system=/usr/share/keyrings/debian-archive-keyring.gpg
    if [[ -r $system ]]; then
        printf '%s\n' "$system"
        return 0
    fi
    if [[ ! -r $folder/keyring$system ]]; then
        say "fetching debian-archive-keyring from this system's own archive"
        (
            mkdir -p "$folder/keyring" && cd "$folder/keyring" &&
                apt-get -qq download debian-archive-keyring >&2 &&
                dpkg-deb -x debian-archive-keyring_*.deb .
        ) || die "no keys to check Debian's signature with: install the package debian-archive-keyring"
    fi
    printf '%s\n' "$folder/keyring$system"
}

# fetch_deb FOLDER PACKAGE SUITE: downloads a package (checked against the
# signed lists) and prints the path of the file.
fetch_deb() {
    local folder=$1 package=$2 suite=$3 version place files
    version=$(archive_version "$folder" "$package" "$suite") || exit 1
    place=$folder/archives/$package=$version
    files=("$place"/*.deb)
    if [[ ! -s ${files[0]} ]]; then
        say "fetching $package $version"
        rm -rf "$place"
        mkdir -p "$place.part"
        (cd "$place.part" && private_apt "$folder" apt-get -qq download "$package=$version" >&2) ||
            die "the package $package $version could not be downloaded from $SOCKERLESS_DEBIAN_MIRROR"
        mv "$place.part" "$place"
        files=("$place"/*.deb)
    fi
    printf '%s\n' "${files[0]}"
}

# archive_version FOLDER PACKAGE SUITE: prints the version that a suite has.
archive_version() {
    local folder=$1 package=$2 suite=$3 version
    version=$(private_apt "$folder" apt-cache madison "$package" |
        awk -F' *[|] *' -v suite="$suite/main" '$3 ~ " " suite " " {print $2; exit}')
    [[ -n $version ]] || die "Debian $suite has no package $package for this machine's architecture"
    printf '%s\n' "$version"
}
