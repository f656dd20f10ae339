//! How much a caller may: rates, concurrency, tokens, money; in memory, without a clock of its own.
