# What all commands of packaging/ agree on; sourced by them.

target=${CARGO_TARGET_DIR:-$root/target}
mkdir -p "$target"
target=$(cd "$target" && pwd)
version=$(sed -n 's/^version = "\(.*\)"/\1/p;/^version/q' "$root/Cargo.toml")
# The time of all files is that of the commit.
if [[ -z ${SOURCE_DATE_EPOCH:-} ]]; then
    SOURCE_DATE_EPOCH=$(git -C "$root" log -1 --format=%ct)
fi
export SOURCE_DATE_EPOCH
# What the program says of itself: the same one for both machines, whatever is committed meanwhile.
export SIDECAR_BUILD_COMMIT=${SIDECAR_BUILD_COMMIT:-$(git -C "$root" rev-parse --short=12 HEAD)}

packages=$target/packages
dist=$packages/dist

# Of all that is to be published, in $dist.
sums() {
    (cd "$dist" && find . -type f ! -name SHA256SUMS -printf '%P\n' | LC_ALL=C sort | xargs sha256sum -- >SHA256SUMS)
    cat "$dist/SHA256SUMS"
}
