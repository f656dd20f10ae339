//! The `audit` section: what is written down of each answered request, and for how long.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::read::Value;
use super::{Config, Percent, Secret, Store, Url, store};

/// What the spool's folder, the database and what it archives are called.
const FILE: &str = "audit.db";
const SPOOL: &str = "audit-spool";
/// Whoever signs with less signs nothing.
const SHORT_SECRET: usize = 16;

/// What is written down of each answered request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// What of a call's content, where neither its key nor its model says it.
    pub content: AuditContent,
    /// Of how many calls content is kept at all.
    pub sample: Percent,
    /// Bytes that are kept of a request, and of an answer.
    pub content_limit: u64,
    /// Where rows are kept.
    pub store: AuditStore,
    /// What becomes of requests whose rows have no place any more.
    pub when_full: WhenFull,
    /// Where rows wait while the database is away.
    pub spool: AuditSpool,
    /// How often a new file is begun.
    pub rotate: Rotation,
    /// How often it is seen to that rows are where they belong.
    pub check_interval: Duration,
    /// How long rows are kept.
    pub retention: Retention,
    /// A file of JSON lines; `-` is the standard output.
    pub file: Option<PathBuf>,
    /// Who is told of each row.
    pub webhook: Option<Webhook>,
}

/// What of a call's content is written down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum AuditContent {
    /// None of it.
    #[default]
    None,
    /// The numbers and switches of the request.
    Metadata,
    /// The request and the answer.
    Full,
}

/// Where rows are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AuditStore {
    /// In a file beside the other database.
    #[default]
    Default,
    /// In no database.
    Off,
    /// The address of a database, which may hold a password.
    At(Secret),
}

/// What becomes of requests when neither database nor spool takes their rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// They go on; their rows are counted and gone.
    #[default]
    Continue,
    /// They are refused before they reach a provider.
    Strict,
}

/// Where rows wait while the database is away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditSpool {
    /// Absent: a folder beside the database's file.
    pub folder: Option<PathBuf>,
    /// The most it may hold, in bytes.
    pub size: u64,
}

/// How often a new file is begun.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Rotation {
    Off,
    Daily,
    #[default]
    Monthly,
}

/// How long rows are kept. What is absent is no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Months or days before the one under way, by `rotate`.
    pub count: Option<u32>,
    pub days: Option<u32>,
    /// Bytes of all archives.
    pub size: Option<u64>,
}

/// Who is told of each row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    pub url: Url,
    /// What deliveries are signed with.
    pub secret: Option<Secret>,
    /// How long a delivery may take.
    pub timeout: Duration,
}

// === impl Audit ===

impl Audit {
    /// Reads the section; `None` when it is switched off.
    pub(super) fn read(value: Value) -> Option<Self> {
        let interval = value.findings.overrides.rotation_check;
        let (enabled, audit) = value.section(|s| {
            let default = Self::default();
            let enabled = s.read("enabled", Value::boolean).unwrap_or(true);
            let written = s.read("check_interval", Value::timeout);
            let audit = Self {
                content: s.read("content", AuditContent::read).unwrap_or_default(),
                sample: s.read("sample", Value::percent).unwrap_or(default.sample),
                content_limit: s
                    .read("content_limit", content_limit)
                    .unwrap_or(default.content_limit),
                store: s.read("store", AuditStore::read).unwrap_or_default(),
                when_full: s.read("when_full", WhenFull::read).unwrap_or_default(),
                spool: s.read("spool", AuditSpool::read).unwrap_or(default.spool),
                rotate: s.read("rotate", Rotation::read).unwrap_or_default(),
                check_interval: interval.or(written).unwrap_or(default.check_interval),
                retention: s.read("retention", Retention::read).unwrap_or(default.retention),
                file: s.read("file", Value::path),
                webhook: s.read("webhook", Webhook::read),
            };
            (enabled, audit)
        })?;
        enabled.then_some(audit)
    }

    /// Makes paths absolute.
    pub(super) fn anchor(&mut self, folder: &Path) {
        let paths = [self.spool.folder.as_mut(), self.file.as_mut()].into_iter().flatten();
        for path in paths.filter(|path| path.as_os_str() != "-") {
            *path = folder.join(&*path);
        }
    }
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            content: AuditContent::default(),
            sample: Percent(100),
            content_limit: 64 << 10,
            store: AuditStore::default(),
            when_full: WhenFull::default(),
            spool: AuditSpool { folder: None, size: 1 << 30 },
            rotate: Rotation::default(),
            check_interval: Duration::from_mins(1),
            retention: Retention { count: Some(12), days: None, size: None },
            file: None,
            webhook: None,
        }
    }
}

// === impl Config ===

impl Config {
    /// The database of the audit; `folder` is where the configuration stands.
    ///
    /// The file is `audit.db` where the store's own would be.
    pub fn audit_url(&self, folder: &Path) -> Option<Secret> {
        match &self.audit.as_ref()?.store {
            AuditStore::Off => None,
            AuditStore::At(url) => Some(url.clone()),
            AuditStore::Default => {
                let file = store::state_folder(self.state_directory.as_deref(), folder).join(FILE);
                Some(Secret::new(format!("sqlite:{}", file.display())))
            }
        }
    }

    /// Where rows wait while the database of the audit is away.
    pub fn audit_spool(&self, folder: &Path) -> Option<PathBuf> {
        let given = self.audit.as_ref()?.spool.folder.clone();
        let state = || store::state_folder(self.state_directory.as_deref(), folder).join(SPOOL);
        let beside = || {
            let url = self.audit_url(folder)?;
            let file = url.expose().strip_prefix("sqlite:")?.trim_start_matches("//").to_owned();
            let file = std::path::absolute(file.split('?').next().unwrap_or_default()).ok()?;
            let name = format!("{}-spool", file.file_stem()?.to_str()?);
            Some(file.parent()?.join(name))
        };
        Some(given.or_else(beside).unwrap_or_else(state))
    }
}

// === the parts ===

impl AuditContent {
    pub(super) fn read(value: Value) -> Option<Self> {
        value.one_of(&[("none", Self::None), ("metadata", Self::Metadata), ("full", Self::Full)])
    }
}

impl AuditStore {
    fn read(value: Value) -> Option<Self> {
        if value.node.as_text() == Some("off") {
            return Some(Self::Off);
        }
        let url = value.secret()?;
        if !Store::is_database(url.expose()) {
            // It is not repeated: it may hold a password.
            return value.error(format!("`{}` must be the address of a database", value.name));
        }
        Some(Self::At(url))
    }
}

impl WhenFull {
    fn read(value: Value) -> Option<Self> {
        value.one_of(&[("continue", Self::Continue), ("strict", Self::Strict)])
    }
}

impl AuditSpool {
    fn read(value: Value) -> Option<Self> {
        let default = Audit::default().spool;
        value.section(|s| Self {
            folder: s.read("folder", Value::path),
            size: s.read("size", Value::size).unwrap_or(default.size),
        })
    }
}

impl Rotation {
    fn read(value: Value) -> Option<Self> {
        value.one_of(&[
            ("monthly", Self::Monthly),
            ("daily", Self::Daily),
            ("off", Self::Off),
            ("never", Self::Off),
        ])
    }
}

impl Retention {
    fn read(value: Value) -> Option<Self> {
        if value.node.as_text().is_some() {
            let count = value.number(0, 10_000)?;
            return Some(Self { count: Some(count), days: None, size: None });
        }
        value.section(|s| Self {
            count: s.read("count", |v| v.number(0, 10_000)),
            days: s.read("days", |v| v.number(1, 36_500)),
            size: s.read("size", Value::size),
        })
    }
}

impl Webhook {
    fn read(value: Value) -> Option<Self> {
        value.section(|s| {
            let url = s.require("url", Value::url);
            let secret = s.read("secret", secret);
            let timeout = s.read("timeout", Value::timeout).unwrap_or(Duration::from_secs(10));
            Some(Self { url: url?, secret, timeout })
        })?
    }
}

fn secret(value: Value) -> Option<Secret> {
    let secret = value.secret()?;
    if secret.expose().len() < SHORT_SECRET {
        let least = format!("`{}` must have at least {SHORT_SECRET} characters", value.name);
        return value.error(least);
    }
    Some(secret)
}

/// Reads how much is kept of a body: a row has to fit into a batch.
fn content_limit(value: Value) -> Option<u64> {
    let size = value.size()?;
    if size > 4 << 20 {
        return value.error(format!("`{}` must be at most 4MiB", value.name));
    }
    Some(size)
}
