# One image for every part of Slipway: api, worker, and slipway for everything else. The binaries are
# static, so there is nothing beside them but the authorities that sign certificates; there is no shell.

FROM --platform=$BUILDPLATFORM node:22 AS page
WORKDIR /src/web
COPY web/package.json web/package-lock.json ./
RUN --mount=type=cache,target=/root/.npm npm ci --no-audit --no-fund --ignore-scripts
COPY web ./
RUN npm run build

FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
COPY --from=page /src/web/dist web/dist
ARG TARGETOS TARGETARCH
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -buildvcs=false -trimpath -ldflags='-s -w' -o /image/bin/ ./cmd/...
# A volume that is mounted for the first time takes its owner from here.
RUN mkdir -p /image/staging /image/data /image/etc/ssl/certs \
    && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
    && echo 'slipway:x:65532:65532::/:/sbin/nologin' >/image/etc/passwd \
    && echo 'slipway:x:65532:' >/image/etc/group

FROM scratch
COPY --from=build /image/etc /etc
COPY --from=build /image/bin /bin
COPY --from=build --chown=65532:65532 /image/staging /staging
COPY --from=build --chown=65532:65532 /image/data /data
ENV PATH=/bin STAGING_DIR=/staging
USER 65532:65532
WORKDIR /
EXPOSE 3000 3003
CMD ["slipway", "serve"]
