//! What a provider in a cloud is called with in place of API keys: a token, or keys to sign with, lent
//! for a while by whoever knows this gateway.
//!
//! Nothing here opens a file or a connection. [`Step::first`] says what to ask, the answer says what
//! to ask next or brings the [`Token`]; `server` does the asking.

mod aws;
mod azure;
mod google;
mod login;
mod oauth;
mod request;
mod sigv4;
mod token;

use std::io;
use std::path::Path;
use std::time::SystemTime;

pub use self::login::{Login, Skew};
pub use self::request::{TokenRequest, Unobtained};
pub use self::sigv4::{Signer, Unsignable};
pub use self::token::{Grant, Token};
use crate::config;

/// How far a login has come.
#[derive(Debug)]
pub enum Step {
    Ask(Asking),
    Done(Token),
}

/// A request, and what its answer is awaited for.
#[derive(Debug)]
pub struct Asking {
    pub request: TokenRequest,
    awaited: Awaited,
}

#[derive(Debug)]
enum Awaited {
    Google,
    Azure,
    Aws(aws::Awaited),
}

impl Step {
    /// What to do first. `read` reads a file of credentials.
    pub fn first(
        login: &config::Login,
        read: impl Fn(&Path) -> io::Result<String>,
        now: SystemTime,
    ) -> Result<Self, Unobtained> {
        let text = |path: &Path| read(path).map_err(|error| Unobtained::file(path, &error));
        match login {
            config::Login::Google(given) => google::first(given, text, now),
            config::Login::Azure(given) => azure::first(given, text),
            config::Login::Aws(given) => aws::first(given, text),
        }
    }
}

impl Asking {
    /// What to do after this answer.
    pub fn next(self, status: u16, body: &[u8], now: SystemTime) -> Result<Step, Unobtained> {
        let Self { request, awaited } = self;
        match awaited {
            Awaited::Google => oauth::read(&request, status, body, google::AHEAD).map(Step::Done),
            Awaited::Azure => oauth::read(&request, status, body, azure::AHEAD).map(Step::Done),
            Awaited::Aws(awaited) => awaited.read(&request, status, body, now),
        }
    }
}

/// Whether what a login names is there, as far as that can be said without asking anybody.
pub fn check(login: &config::Login) -> Result<(), Unobtained> {
    match login {
        config::Login::Google(given) => match &given.file {
            Some(file) => {
                let text =
                    config::read_text(file).map_err(|error| Unobtained::file(file, &error))?;
                google::Account::read(&text)
                    .map(drop)
                    .map_err(|why| Unobtained::File { path: file.clone(), reason: why })
            }
            None => Ok(()),
        },
        // These files are written by the cloud, and may come later.
        config::Login::Azure(_) | config::Login::Aws(_) => Ok(()),
    }
}

#[cfg(test)]
mod sigv4_tests;
#[cfg(test)]
mod tests;
