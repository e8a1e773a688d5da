-- +goose Up
CREATE TABLE posthorn.api_keys (
    id           uuid        PRIMARY KEY,
    role         text        NOT NULL CHECK (role IN ('operator', 'subscriber')),
    tenant_id    text        CHECK ((role = 'operator') = (tenant_id IS NULL)),
    name         text        NOT NULL DEFAULT '',
    hash         bytea       NOT NULL UNIQUE,  -- SHA-256 of the key
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz,
    revoked_at   timestamptz
);

-- +goose Down
DROP TABLE posthorn.api_keys;
