# A worker's image. In the root of the repository:
#   ashlar build -f examples/farm/worker.Dockerfile -t ashlar-worker .
FROM docker.io/library/rust:1-slim-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY proto proto
COPY builder builder
COPY worker worker
COPY cache-server cache-server
COPY tests tests
RUN --mount=type=cache,id=cargo-registry,target=/usr/local/cargo/registry \
    --mount=type=cache,id=ashlar-target,target=/src/target \
    cargo build --release --locked --package ashlar-worker \
    && cp target/release/ashlar-worker /ashlar-worker

# newuidmap and git are what steps of builds need of it.
FROM docker.io/library/debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates git uidmap \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 65532 --create-home worker \
    && echo worker:100000:65536 | tee /etc/subuid > /etc/subgid \
    && install -d -o worker -g worker /var/lib/ashlar-worker
COPY --from=build /ashlar-worker /usr/local/bin/ashlar-worker
USER 65532:65532
EXPOSE 8984
ENTRYPOINT ["/usr/local/bin/ashlar-worker"]
CMD ["run"]
