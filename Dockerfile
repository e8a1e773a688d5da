# The image holds one static binary, the certificates it needs to call https
# endpoints, and nothing else: no shell, no package manager, no writable file.

# Builds on the machine's own platform and compiles for the target's: Go needs no
# emulation for that. The version is go.mod's; a test holds it so.
FROM --platform=$BUILDPLATFORM golang:1.26-bookworm AS build
WORKDIR /src

# The modules are a layer of their own, fetched again only when they change.
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download

COPY . .
ARG TARGETOS
ARG TARGETARCH
# What `posthorn version` says. The context has no .git to read it from.
ARG VERSION=dev
ARG COMMIT=unknown
# CGO_ENABLED=0 makes the binary static, with Go's own resolver, which the sender
# relies on. timetzdata puts the time zones into it.
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -buildvcs=false -tags timetzdata \
    -ldflags "-s -w -X main.version=$VERSION -X main.commit=$COMMIT" \
    -o /posthorn ./cmd/posthorn

FROM scratch
LABEL org.opencontainers.image.title="Posthorn" \
      org.opencontainers.image.description="A transactional outbox webhook sender" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /posthorn /posthorn
# A number, because scratch has no /etc/passwd, and because Kubernetes cannot tell
# of a name whether it is root (runAsNonRoot).
USER 65532:65532
EXPOSE 8080
# There is no shell and no curl: the binary asks itself.
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 CMD ["/posthorn", "health"]
ENTRYPOINT ["/posthorn"]
CMD ["serve"]
