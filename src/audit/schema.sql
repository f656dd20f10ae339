CREATE TABLE forebay_audit_schema (
    version BIGINT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    at BIGINT NOT NULL
);
-- One row for each answered request. Its id begins with when it ended, so that ids are in order of time.
CREATE TABLE forebay_audit (
    id TEXT {bytes} NOT NULL PRIMARY KEY,
    -- When its head had arrived, in Unix milliseconds.
    at BIGINT NOT NULL,
    request_id TEXT NOT NULL,
    method TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    principal TEXT,
    key_name TEXT,
    user_id TEXT,
    client_dialect TEXT NOT NULL,
    provider_dialect TEXT,
    asked_model TEXT,
    model TEXT,
    served_model TEXT,
    provider TEXT,
    replica TEXT,
    attempts BIGINT NOT NULL,
    status BIGINT NOT NULL,
    client_gone BIGINT NOT NULL,
    error TEXT,
    failure TEXT,
    stop TEXT,
    prompt_tokens BIGINT,
    completion_tokens BIGINT,
    cached_tokens BIGINT,
    reasoning_tokens BIGINT,
    -- 1: the upstream has not told all of it.
    estimated BIGINT,
    cost_nanos BIGINT,
    -- Microseconds since the head.
    queued_us BIGINT,
    first_token_us BIGINT,
    duration_us BIGINT NOT NULL,
    bytes_in BIGINT NOT NULL,
    bytes_out BIGINT NOT NULL,
    client TEXT,
    user_agent TEXT,
    stream BIGINT NOT NULL,
    tools BIGINT NOT NULL,
    images BIGINT NOT NULL,
    -- JSON: what the request asked for, without its content.
    metadata TEXT,
    request TEXT,
    response TEXT
);
CREATE INDEX forebay_audit_user ON forebay_audit (user_id, id);
-- Whose rows are to go, archived ones included.
CREATE TABLE forebay_audit_erasures (
    id TEXT {bytes} NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL,
    at BIGINT NOT NULL
);
