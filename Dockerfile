# doorcast in a container. It needs a database to follow:
#
#   docker run -v doorcast:/var/lib/doorcast -e DOORCAST_DB=mysql://doorcast@db/doors \
#     -e DOORCAST_PASSWORD_FILE=/run/secrets/doorcast ... doorcast
#
# It listens on every address of the container, so it wants tokens or --allow-anonymous; `docker run
# doorcast run --help` tells.
FROM rust:1-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin doorcast

FROM debian:bookworm-slim
COPY --from=build /src/target/release/doorcast /usr/local/bin/
# The checkpoint file: keep it in a volume, or a new container misses what came in between.
RUN install -d -o 10001 -g 10001 /var/lib/doorcast
WORKDIR /var/lib/doorcast
USER 10001:10001
ENV DOORCAST_LISTEN=0.0.0.0:8080
EXPOSE 8080
# With bash, for there is no curl in here.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /livez HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [ \"$status\" = 200 ]"]
ENTRYPOINT ["doorcast"]
CMD ["run"]
