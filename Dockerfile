# syntax=docker/dockerfile:1

FROM rust:1.95-bookworm AS build
# For the zlib-ng that pingora compiles. Debian's stable releases hold its version still.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends cmake \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin forebay \
 && install -D -m 0755 -s target/release/forebay /out/usr/bin/forebay \
 && install -D -m 0644 LICENSE /out/usr/share/doc/forebay/LICENSE

# No shell, no package manager; authorities for TLS are there.
FROM gcr.io/distroless/cc-debian12:nonroot
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Forebay" \
      org.opencontainers.image.description="A gateway in front of LLM servers" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /out/ /
# A number, so that `runAsNonRoot` can be checked.
USER 65532:65532
WORKDIR /
EXPOSE 8080 9090
# SIGTERM drains: requests under way end, new ones go elsewhere.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s \
  CMD ["/usr/bin/forebay", "health", "-c", "/etc/forebay/forebay.yaml"]
ENTRYPOINT ["/usr/bin/forebay"]
CMD ["run", "-c", "/etc/forebay/forebay.yaml"]
