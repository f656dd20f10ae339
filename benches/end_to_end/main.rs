//! What the gateway costs, beside a bare pingora proxy.

fn main() {}
