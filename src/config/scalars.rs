//! The kit's other half: what a single text can mean.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde_json::{Map, Number, Value as Json};

use super::read::Value;
use super::tree::{Content, Scalar};
use super::units::{self, Percent};
use super::{Secret, Url};

const MAX_NAME: usize = 256;
// Databases count to it, and nobody gets there.
const MAX_COUNT: u64 = i64::MAX as u64;

// === impl Value ===

impl Value<'_> {
    /// Reads any text.
    pub fn text(self) -> Option<String> {
        Some(self.scalar("a text")?.text.clone())
    }

    /// Reads a text that says something.
    pub fn some_text(self) -> Option<String> {
        match self.text()? {
            text if text.is_empty() => self.error(format!("`{}` is empty", self.name)),
            text => Some(text),
        }
    }

    /// Reads a name: it goes into headers, logs and metrics, so it is plain ASCII in one line.
    pub fn name(self) -> Option<String> {
        let name = self.some_text()?;
        let plain = name.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if !plain || name.trim() != name || name.len() > MAX_NAME {
            return self.must_be("printable ASCII in one line, without spaces around it");
        }
        Some(name)
    }

    /// Reads a text that is never shown.
    pub fn secret(self) -> Option<Secret> {
        let text = &self.scalar("a text")?.text;
        if text.chars().any(char::is_control) {
            // It goes into a header, and a line break there would begin another one.
            return self.error(format!("`{}` holds a line break or control character", self.name));
        }
        Some(Secret::new(text.clone()))
    }

    /// Reads a path.
    pub fn path(self) -> Option<PathBuf> {
        self.some_text().map(PathBuf::from)
    }

    /// Reads `true` or `false`.
    pub fn boolean(self) -> Option<bool> {
        match self.scalar("true or false")?.text.as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => self.must_be("true or false"),
        }
    }

    /// Reads a whole number within bounds.
    pub fn number<T: FromStr + PartialOrd + Display + Copy>(self, least: T, most: T) -> Option<T> {
        let wanted = format!("a whole number from {least} to {most}");
        let text = &self.scalar(&wanted)?.text;
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|n| digits && (least..=most).contains(n));
        number.or_else(|| self.must_be(&wanted))
    }

    /// Reads a number of requests or tokens.
    pub fn count(self) -> Option<u64> {
        self.number(0, MAX_COUNT)
    }

    /// Reads a number of requests or addresses.
    pub fn small_count(self) -> Option<u32> {
        self.number(0, u32::MAX)
    }

    /// Reads a name in which `*` stands for anything.
    pub fn glob(self) -> Option<String> {
        let glob = self.name()?;
        if let Some(odd) = glob.chars().find(|c| "?[]{}^$|".contains(*c)) {
            self.warn(format!(
                "`{odd}` is a letter like others in `{}`: only `*` is not",
                self.name
            ));
        }
        Some(glob)
    }

    /// Reads a moment, in Unix milliseconds; a date alone is its midnight in UTC.
    pub fn moment(self) -> Option<i64> {
        let wanted = "a date such as 2030-01-31, or a moment such as 2030-01-31T18:00:00Z";
        let text = &self.scalar(wanted)?.text;
        let moment = text.parse::<jiff::Timestamp>().ok();
        let midnight = || {
            let date = text.parse::<jiff::civil::Date>().ok()?;
            Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
        };
        let moment = moment.or_else(midnight).map(jiff::Timestamp::as_millisecond);
        moment.or_else(|| self.must_be(wanted))
    }

    /// Reads a duration, which may be none at all.
    pub fn duration(self) -> Option<Duration> {
        let wanted = "a duration such as 250ms, 5s, 10m or 1h";
        units::duration(&self.scalar(wanted)?.text).or_else(|| self.must_be(wanted))
    }

    /// Reads a duration after which something is given up; at once would be always.
    pub fn timeout(self) -> Option<Duration> {
        match self.duration()? {
            Duration::ZERO => self.error(format!("`{}` must be longer than 0", self.name)),
            timeout => Some(timeout),
        }
    }

    /// Reads a number of bytes.
    pub fn size(self) -> Option<u64> {
        let wanted = "a size such as 64KiB, 32MiB or 1GiB";
        let text = &self.scalar(wanted)?.text;
        match units::size(text) {
            Some(0) => self.error(format!("`{}` must be larger than 0", self.name)),
            Some(size) => Some(size),
            None if units::is_decimal_size(text) => {
                self.must_be_hint(wanted, "sizes are counted in KiB, MiB and GiB")
            }
            None => self.must_be(wanted),
        }
    }

    /// Reads a share.
    pub fn percent(self) -> Option<Percent> {
        let wanted = "a percentage from 0% to 100%";
        units::percent(&self.scalar(wanted)?.text).or_else(|| self.must_be(wanted))
    }

    /// Reads the address of a listener.
    pub fn address(self) -> Option<SocketAddr> {
        let wanted = "an IP address and a port";
        let address = self.scalar(wanted)?.text.parse().ok();
        address.or_else(|| self.must_be_hint(wanted, "such as 127.0.0.1:8080 or [::]:8080"))
    }

    /// Reads the address of an upstream. What was written is not repeated: it may hold a key.
    pub fn url(self) -> Option<Url> {
        match self.scalar("a URL")?.text.parse() {
            Ok(url) => Some(url),
            Err(error) => self.error(format!("`{}` {error}", self.name)),
        }
    }

    /// Reads a map as JSON.
    pub fn json_object(self) -> Option<Map<String, Json>> {
        let members = self.map(|entry, value| Some((entry.name.text.clone(), value.json()?)))?;
        Some(members.into_iter().collect())
    }

    fn json(self) -> Option<Json> {
        match &self.node.content {
            Content::Unknown => None,
            Content::Scalar(scalar) => json_scalar(scalar)
                .or_else(|| self.must_be_hint("a number as JSON has them", "or quote it as text")),
            Content::List(items) => {
                let item = |node| Value { node, ..self }.json();
                Some(Json::Array(items.iter().filter_map(item).collect()))
            }
            Content::Map(_) => self.json_object().map(Json::Object),
        }
    }
}

/// Plain scalars mean what they mean in YAML; quoted ones are text.
fn json_scalar(scalar: &Scalar) -> Option<Json> {
    let text = scalar.text.as_str();
    if !scalar.plain {
        return Some(Json::from(text));
    }
    match text {
        "true" => return Some(Json::Bool(true)),
        "false" => return Some(Json::Bool(false)),
        _ if scalar.is_null() => return Some(Json::Null),
        _ => {}
    }
    if let Ok(number) = text.parse::<Number>() {
        return Some(Json::Number(number));
    }
    // `.5`, `+1` and `0x1F` are numbers in YAML: as text they would not be what was meant.
    let digits = text.trim_start_matches(['+', '-']);
    let based = digits.starts_with("0x") || digits.starts_with("0o");
    let number = text.parse::<f64>().is_ok() && text.bytes().any(|byte| byte.is_ascii_digit());
    (!based && !number).then(|| Json::from(text))
}
