//! What a store's URL names. Nothing here repeats a URL in what it says.

use std::path::PathBuf;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::config::Secret;

use super::StoreError;

/// Where a store is.
pub(super) enum Address {
    File(PathBuf),
    Memory,
    /// A URL in the form that everybody reads alike.
    Postgres(Secret),
}

/// What stays as it is in the path of a file.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.');

/// What a PostgreSQL URL may ask for. Other drivers' words are left out.
const PARAMETERS: &[&str] = &[
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "user",
];

// === impl Address ===

impl Address {
    /// Reads a URL.
    pub(super) fn read(url: &Secret) -> Result<Self, StoreError> {
        let url = url.expose().trim();
        if let Some(file) = url.strip_prefix("sqlite:") {
            return file_of(file);
        }
        let postgres = ["postgres://", "postgresql://"];
        match postgres.iter().find_map(|scheme| url.strip_prefix(scheme)) {
            Some(rest) => Ok(Self::Postgres(Secret::new(tidy(rest)))),
            None => Err(StoreError::Url("begins with none of sqlite:, postgres://, postgresql://")),
        }
    }
}

/// The URL of an SQLite file; `path` is absolute.
pub(super) fn of_file(path: &str) -> String {
    format!("sqlite://{}?mode=rw", utf8_percent_encode(path, PATH))
}

fn file_of(text: &str) -> Result<Address, StoreError> {
    let text = text.strip_prefix("//").unwrap_or(text);
    let text = text.split_once('?').map_or(text, |(path, _)| path);
    if text == ":memory:" {
        return Ok(Address::Memory);
    }
    match percent_decode_str(text).decode_utf8() {
        Ok(path) if path.is_empty() => Err(StoreError::Url("names no file")),
        Ok(path) if path.contains('\0') => Err(StoreError::Url("names no file")),
        Ok(path) => Ok(Address::File(PathBuf::from(path.into_owned()))),
        Err(_) => Err(StoreError::Url("is not UTF-8")),
    }
}

/// Passwords are pasted as they are, with `@`, `#` and `/` in them, which a URL reads otherwise: what
/// stands before the last `@` is who calls, unless that one is in the parameters.
fn tidy(rest: &str) -> String {
    let query = rest.match_indices('?').map(|(at, _)| at).find(|at| {
        let (before, after) = rest.split_at(*at);
        before.contains('@') == rest.contains('@') && is_query(after)
    });
    let (head, query) = rest.split_at(query.unwrap_or(rest.len()));
    let (who, place) = match head.rsplit_once('@') {
        Some((who, place)) => (Some(who), place),
        None => (None, head),
    };
    let mut url = "postgres://".to_owned();
    if let Some(who) = who {
        url.push_str(&tidy_who(who));
        url.push('@');
    }
    url.push_str(place);
    let known = |part: &&str| {
        let name = part.split_once('=').map_or(*part, |(name, _)| name);
        PARAMETERS.contains(&name) || name.starts_with("options[")
    };
    let parts: Vec<&str> = query.trim_start_matches('?').split('&').filter(known).collect();
    if !parts.is_empty() {
        url.push('?');
        url.push_str(&parts.join("&"));
    }
    url
}

/// `?name=`: a question mark in a password is seldom followed by that.
fn is_query(text: &str) -> bool {
    let name = text.trim_start_matches('?').split_once('=').map(|(name, _)| name);
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '[' | ']');
    name.is_some_and(|name| !name.is_empty() && name.chars().all(letter))
}

/// A user and a password, percent-encoded when they are not yet.
fn tidy_who(who: &str) -> String {
    let sound = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:%".contains(c);
    if who.chars().all(sound) && escapes_are_sound(who) {
        return who.to_owned();
    }
    let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    match who.split_once(':') {
        Some((user, password)) => format!("{}:{}", encoded(user), encoded(password)),
        None => encoded(who),
    }
}

/// Does every `%` begin an escape?
fn escapes_are_sound(text: &str) -> bool {
    text.split('%').skip(1).all(|rest| {
        rest.get(..2).is_some_and(|code| code.bytes().all(|byte| byte.is_ascii_hexdigit()))
    })
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use sqlx::ConnectOptions;
    use sqlx::postgres::PgConnectOptions;

    use super::*;

    fn file(url: &str) -> String {
        match Address::read(&Secret::new(url)) {
            Ok(Address::File(path)) => path.display().to_string(),
            Ok(Address::Memory) => "memory".to_owned(),
            _ => panic!("{url}"),
        }
    }

    /// Host, user, password and database, as the driver reads them.
    fn postgres(url: &str) -> [String; 4] {
        let Ok(Address::Postgres(url)) = Address::read(&Secret::new(url)) else {
            panic!("{url}");
        };
        let options = PgConnectOptions::from_str(url.expose()).unwrap();
        let shown = options.to_url_lossy();
        let password = shown.password().map(|it| percent_decode_str(it).decode_utf8_lossy());
        [
            options.get_host().to_owned(),
            options.get_username().to_owned(),
            password.unwrap_or_default().into_owned(),
            options.get_database().unwrap_or_default().to_owned(),
        ]
    }

    #[test]
    fn files_are_named_in_four_ways() {
        assert_eq!(file("sqlite:/var/lib/a.db"), "/var/lib/a.db");
        assert_eq!(file("sqlite:///var/lib/a.db?mode=rwc"), "/var/lib/a.db");
        assert_eq!(file("sqlite:data/a.db"), "data/a.db");
        assert_eq!(file("sqlite://a%20b.db"), "a b.db");
        assert_eq!(file("sqlite::memory:"), "memory");
        assert_eq!(file("sqlite://:memory:"), "memory");
    }

    #[test]
    fn what_is_no_store_is_refused_without_repeating_it() {
        for url in ["mysql://u:fake-secret@h/db", "fake-secret", "", "sqlite:", "sqlite:%ff"] {
            let error = Address::read(&Secret::new(url)).err().unwrap();
            assert!(matches!(error, StoreError::Url(_)), "{url}");
            assert!(!error.to_string().contains("fake-secret"), "{error}");
        }
    }

    #[test]
    fn passwords_may_be_pasted_as_they_are() {
        let cases = [
            ("u:secret@host/db", "secret"),
            ("u:p%40ss@host/db", "p@ss"),
            ("u:p@ss@host/db", "p@ss"),
            ("u:p#ss@host/db", "p#ss"),
            ("u:p/ss@host/db", "p/ss"),
            ("u:p@s/s@host/db", "p@s/s"),
            ("u:p?ss@host/db", "p?ss"),
            ("u:12#34@host/db", "12#34"),
            ("u:12/34@host/db", "12/34"),
            ("u:100%@host/db", "100%"),
            ("u:a:b@host/db", "a:b"),
            ("u:a b[c]@host/db", "a b[c]"),
            ("u:p#ß@host/db?sslmode=disable&connection_limit=5", "p#ß"),
            ("u:pass@host/db?application_name=a@b", "pass"),
            ("u:p?a=1@host/db", "p?a=1"),
        ];
        for (rest, password) in cases {
            for scheme in ["postgres", "postgresql"] {
                let read = postgres(&format!("{scheme}://{rest}"));
                assert_eq!(read, ["host", "u", password, "db"].map(str::to_owned), "{rest}");
            }
        }
    }

    #[test]
    fn a_url_without_a_user_stays_as_it_is() {
        assert_eq!(postgres("postgres://host:7000/db?user=u")[..2], ["host", "u"]);
        assert_eq!(postgres("postgres://u@host/db")[1], "u");
    }
}
