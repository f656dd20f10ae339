//! Where records and counts are kept: SQLite or PostgreSQL, and Redis for what several nodes share.
