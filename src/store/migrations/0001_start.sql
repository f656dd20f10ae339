-- Texts that are compared and sorted are so by their bytes, whatever the database's language:
-- {bytes} is COLLATE "C" in PostgreSQL and nothing in SQLite, where it is the rule.

CREATE TABLE forebay_schema (
    version BIGINT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    -- Unix milliseconds, like every moment here.
    at BIGINT NOT NULL
);

-- One row. Whoever changes records takes it first, so that revisions are committed in their order.
CREATE TABLE forebay_revision (
    one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    value BIGINT NOT NULL
);
INSERT INTO forebay_revision (one, value) VALUES (1, 0);

CREATE TABLE forebay_records (
    kind TEXT {bytes} NOT NULL,
    id TEXT {bytes} NOT NULL,
    -- The revision that wrote it.
    version BIGINT NOT NULL,
    handle TEXT {bytes},
    body TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE UNIQUE INDEX forebay_records_handle ON forebay_records (kind, handle);

CREATE TABLE forebay_changes (
    revision BIGINT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    changed_by TEXT NOT NULL,
    kind TEXT {bytes} NOT NULL,
    id TEXT {bytes} NOT NULL,
    action TEXT NOT NULL,
    body_before TEXT,
    body_after TEXT
);

CREATE TABLE forebay_counters (
    counter TEXT {bytes} NOT NULL PRIMARY KEY,
    spent BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX forebay_counters_expiry ON forebay_counters (expires_at);

CREATE TABLE forebay_nodes (
    node TEXT {bytes} NOT NULL PRIMARY KEY,
    seen_at BIGINT NOT NULL
);

-- What a node may still spend of a counter.
CREATE TABLE forebay_reservations (
    counter TEXT {bytes} NOT NULL,
    node TEXT {bytes} NOT NULL,
    amount BIGINT NOT NULL,
    PRIMARY KEY (counter, node)
);
CREATE INDEX forebay_reservations_node ON forebay_reservations (node);

-- The last batch of each node that was counted; outlives the node, whose last batch may come late.
CREATE TABLE forebay_flushes (
    node TEXT {bytes} NOT NULL PRIMARY KEY,
    sequence BIGINT NOT NULL,
    at BIGINT NOT NULL
);

CREATE TABLE forebay_usage (
    -- Hours since 1970.
    hour BIGINT NOT NULL,
    key_id TEXT {bytes} NOT NULL,
    user_id TEXT {bytes} NOT NULL,
    model TEXT {bytes} NOT NULL,
    provider TEXT {bytes} NOT NULL,
    requests BIGINT NOT NULL,
    prompt BIGINT NOT NULL,
    completion BIGINT NOT NULL,
    cached BIGINT NOT NULL,
    reasoning BIGINT NOT NULL,
    cost_nanos BIGINT NOT NULL,
    PRIMARY KEY (hour, key_id, user_id, model, provider)
);

CREATE TABLE forebay_meta (
    name TEXT {bytes} NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);
