# The image: one static program and nothing else. No shell, no libraries, nobody's user.
#
#   docker build --build-arg SIDECAR_BUILD_COMMIT="$(git rev-parse --short=12 HEAD)" -t wechat-sidecar:0.1.0 .
#
# The builder alone comes from a registry. Where Docker Hub or static.rust-lang.org cannot be reached, name mirrors:
#
#   docker build --build-arg BUILDER=MIRROR/rust:1.95.0-bookworm --build-arg RUSTUP_DIST_SERVER=https://MIRROR …
#
# Crates come through a mirror when a file config.toml is put into /usr/local/cargo of the builder's image.
# With this compiler, on x86-64, pgo/ has its effect. Another will do, if there is bash; a call is a tenth dearer then.
# packaging/image makes the same image without an engine.
ARG BUILDER=rust:1.95.0-bookworm

FROM ${BUILDER} AS build
WORKDIR /build
ARG RUSTUP_DIST_SERVER=https://static.rust-lang.org
RUN rustup target add "$(uname -m)-unknown-linux-musl"
# The dependencies alone, with an empty program: a layer that lasts until they change, in any builder. Cargo wants the
# files of every [[bench]] in Cargo.toml to be there, though it does not build them.
COPY packaging/build packaging/
COPY pgo/rustc pgo/rustc.version pgo/calls.musl.profdata pgo/
COPY Cargo.toml Cargo.lock ./
RUN mkdir src benches \
    && touch src/lib.rs benches/micro.rs benches/reviews.rs \
    && echo 'fn main() {}' > src/main.rs \
    && packaging/build
COPY build.rs ./
COPY src src
# build.rs reads it.
ARG SIDECAR_BUILD_COMMIT=unknown
# cargo goes by times, and those of the sources may be older than the empty program's.
RUN touch src/lib.rs src/main.rs \
    && packaging/build \
    && mkdir -p root/usr/local/bin \
    && mv "target/packages/$(uname -m)/wechat-sidecar" root/usr/local/bin/
# Volumes that are mounted there belong to the image's user then: for --ca-dir and --trust-dir.
RUN mkdir -p folders/wechat-sidecar folders/wechat-trust

# The program brings its own root certificates, and looks names up itself.
FROM scratch
ARG SIDECAR_BUILD_COMMIT=unknown
LABEL org.opencontainers.image.title="wechat-sidecar" \
      org.opencontainers.image.description="A reverse proxy beside your app that appends WeChat's access_token, renews it, and heals an expiry" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${SIDECAR_BUILD_COMMIT}" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /build/root /
COPY --from=build --chown=65532:65532 /build/folders /var/lib
USER 65532:65532
# For Docker; Kubernetes has probes of its own. It asks the admin port.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["/usr/local/bin/wechat-sidecar", "health"]
ENTRYPOINT ["/usr/local/bin/wechat-sidecar"]
