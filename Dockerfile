FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY benches benches
RUN cargo build --release --locked --bin forebay && strip target/release/forebay

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
 && useradd --system --no-create-home --uid 65532 forebay
COPY --from=build /src/target/release/forebay /usr/bin/forebay
USER 65532
EXPOSE 8080
# SIGTERM drains: requests under way end, new ones go elsewhere.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/forebay"]
CMD ["run", "-c", "/etc/forebay/forebay.yaml"]
