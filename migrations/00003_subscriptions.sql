-- +goose Up
-- Who wants what: endpoints, their versions and their secrets.

-- One row, counted up by every change of a subscription, in the change's own
-- transaction. Writers queue for the row, so revisions become visible in order,
-- and a reader that has seen revision n has seen every change up to n. (A sequence
-- would show n before its change has committed.)
CREATE TABLE posthorn.subscriptions_revision (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    revision bigint NOT NULL
);
INSERT INTO posthorn.subscriptions_revision (revision) VALUES (1);

CREATE TABLE posthorn.endpoints (
    id              uuid        PRIMARY KEY,
    tenant_id       text        NOT NULL,  -- '*' sees every tenant's events
    url             text        NOT NULL,
    event_types     text[]      NOT NULL,  -- patterns
    description     text        NOT NULL DEFAULT '',
    payload_format  text        NOT NULL DEFAULT 'standard' CHECK (payload_format IN ('standard', 'raw', 'cloudevents')),
    metadata        json        NOT NULL DEFAULT '{}',
    status          text        NOT NULL DEFAULT 'enabled' CHECK (status IN ('enabled', 'paused', 'disabled')),
    disabled_reason text,
    version         integer     NOT NULL,  -- counts this endpoint's changes, from 1
    revision        bigint      NOT NULL,  -- the subscriptions' revision of its last change
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    deleted_at      timestamptz            -- deleted ones stay for the record
);
CREATE INDEX endpoints_by_revision ON posthorn.endpoints (revision);
CREATE INDEX endpoints_by_tenant ON posthorn.endpoints (tenant_id, id) WHERE deleted_at IS NULL;

-- What an endpoint was at each version: so "why was this not sent?" is answered from
-- what was in force, and a mismatch need not be stored per event.
CREATE TABLE posthorn.endpoint_versions (
    endpoint_id    uuid        NOT NULL REFERENCES posthorn.endpoints (id),
    version        integer     NOT NULL,
    revision       bigint      NOT NULL,
    tenant_id      text        NOT NULL,
    url            text        NOT NULL,
    event_types    text[]      NOT NULL,
    payload_format text        NOT NULL,
    status         text        NOT NULL,
    deleted        boolean     NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (endpoint_id, version)
);
CREATE INDEX endpoint_versions_by_tenant ON posthorn.endpoint_versions (tenant_id, revision);

CREATE TABLE posthorn.endpoint_secrets (
    id          uuid        PRIMARY KEY,
    endpoint_id uuid        NOT NULL REFERENCES posthorn.endpoints (id),
    ciphertext  bytea       NOT NULL,  -- Tink AEAD, the endpoint's id as associated data
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz            -- NULL: until it is replaced
);
CREATE INDEX endpoint_secrets_by_endpoint ON posthorn.endpoint_secrets (endpoint_id, created_at);

-- The keyset made by the service where none is configured. Whoever reads this
-- database reads the secrets then; the service warns of it at every start.
CREATE TABLE posthorn.keysets (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    keyset     text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- +goose Down
DROP TABLE posthorn.keysets, posthorn.endpoint_secrets, posthorn.endpoint_versions,
    posthorn.endpoints, posthorn.subscriptions_revision;
