//! What an attempt's outcome means for the request: keep it, or try something else.

use crate::config::Retry;

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection came about; the upstream has seen nothing.
    Connect,
    /// The upstream was silent for too long.
    Timeout,
    /// The connection broke, or what came over it was not HTTP.
    Broken,
    /// The upstream answered with this status, or with an error of this status as its first event.
    Status(u16),
    /// The upstream refused our key, or says that it is used up.
    Key,
}

/// What may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it is the client's answer.
    Keep,
    /// This key was refused, or is used up.
    AnotherKey,
    /// This replica is in trouble.
    AnotherReplica,
}

/// Judges a failure. `our_key`: the credential was ours, not the caller's own.
pub fn judge(failure: Failure, retry: &Retry, our_key: bool) -> Next {
    let retried = match failure {
        // A connection that breaks before an answer is a failed connection that was noticed late.
        Failure::Connect | Failure::Broken => retry.on.connect,
        Failure::Timeout => retry.on.timeout,
        Failure::Key | Failure::Status(401 | 403) => {
            return if our_key { Next::AnotherKey } else { Next::Keep };
        }
        Failure::Status(status) => retry.on.statuses.contains(&status),
    };
    match failure {
        _ if !retried => Next::Keep,
        Failure::Status(429) => Next::AnotherKey,
        _ => Next::AnotherReplica,
    }
}

impl Failure {
    /// Whether the replica is to blame. Limits and refusals are about the key, not the machine.
    pub fn blames_replica(self) -> bool {
        match self {
            Self::Connect | Self::Timeout | Self::Broken => true,
            Self::Status(status) => status >= 500,
            Self::Key => false,
        }
    }

    /// The outcome as a metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::Status(429) => "limited",
            Self::Key | Self::Status(401 | 403) => "refused",
            Self::Status(status) if status >= 500 => "server_error",
            Self::Status(_) => "client_error",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_remedy() {
        let retry = Retry::default();
        let judged = |failure| judge(failure, &retry, true);
        assert_eq!(judged(Failure::Connect), Next::AnotherReplica);
        assert_eq!(judged(Failure::Timeout), Next::AnotherReplica);
        assert_eq!(judged(Failure::Status(503)), Next::AnotherReplica);
        assert_eq!(judged(Failure::Status(429)), Next::AnotherKey);
        assert_eq!(judged(Failure::Status(401)), Next::AnotherKey);
        assert_eq!(judged(Failure::Key), Next::AnotherKey);
        assert_eq!(judged(Failure::Status(400)), Next::Keep);
        assert_eq!(judged(Failure::Status(404)), Next::Keep);
    }

    #[test]
    fn the_callers_own_key_refused_is_the_callers_to_know() {
        assert_eq!(judge(Failure::Status(401), &Retry::default(), false), Next::Keep);
    }

    #[test]
    fn only_what_the_configuration_lists_is_retried() {
        let mut retry = Retry::default();
        retry.on.statuses = vec![502];
        retry.on.timeout = false;
        assert_eq!(judge(Failure::Status(500), &retry, true), Next::Keep);
        assert_eq!(judge(Failure::Timeout, &retry, true), Next::Keep);
        assert_eq!(judge(Failure::Status(502), &retry, true), Next::AnotherReplica);
    }
}
