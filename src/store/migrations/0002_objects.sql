-- Who made which object at a provider: a file, a batch, a response.
CREATE TABLE forebay_objects (
    id TEXT {bytes} NOT NULL PRIMARY KEY,
    owner TEXT {bytes} NOT NULL,
    provider TEXT {bytes} NOT NULL,
    -- Which of the provider's keys made it: the beginning of a digest. None: it was made without one.
    credential TEXT {bytes},
    -- When its maker last asked for it.
    seen_at BIGINT NOT NULL
);
CREATE INDEX forebay_objects_seen ON forebay_objects (seen_at);
