# What several scripts install things by. They source this file.

# Installs Debian packages where that is possible, and says what to do where it is not.
debian() {
    if [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends "$@" >/dev/null
    else
        echo "$0 needs $*; on Debian: sudo apt-get install $*" >&2
        exit 1
    fi
}

# Makes folder $1 a virtual environment of Python. The other arguments are those of pip install.
virtual_environment() {
    local venv=$1
    shift
    command -v python3 >/dev/null || debian python3
    python3 -c 'import ensurepip, venv' 2>/dev/null || debian python3-venv
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --no-cache-dir --disable-pip-version-check "$@"
}
