//! The headers around a multipart body: the boundary before it, the names of its parts within.

use super::MultipartError;

/// What a part is, by its headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Model,
    Field,
    /// It has a file name, and is never the model, whatever its name.
    File,
}

/// The boundary that a `content-type` names: 1 to 70 characters of those RFC 2046 allows.
pub fn boundary(content_type: &str) -> Result<String, MultipartError> {
    let (kind, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return Err(MultipartError::NotMultipart);
    }
    let parameters = Parameters::read(parameters).ok_or(MultipartError::NoBoundary)?;
    let mut boundaries = parameters.named("boundary");
    let (Some(boundary), None) = (boundaries.next(), boundaries.next()) else {
        return Err(MultipartError::NoBoundary);
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
    let sound = (1..=70).contains(&boundary.len())
        && boundary.bytes().all(allowed)
        && !boundary.ends_with(' ');
    if sound { Ok(boundary.to_owned()) } else { Err(MultipartError::NoBoundary) }
}

impl Role {
    /// Reads the headers of a part, the blank line behind them included.
    pub fn read(head: &[u8]) -> Result<Self, MultipartError> {
        let head = std::str::from_utf8(head).map_err(|_| MultipartError::NotUtf8)?;
        Self::parse(head).ok_or(MultipartError::Malformed)
    }

    fn parse(head: &str) -> Option<Self> {
        let mut disposition = None;
        let mut encoding = "binary";
        for line in head.strip_suffix("\r\n\r\n")?.split("\r\n") {
            // A tab may stand in a value, nothing else below space.
            if line.contains(|char: char| char.is_ascii_control() && char != '\t') {
                return None;
            }
            let (name, value) = line.split_once(':')?;
            if name.is_empty() || !name.bytes().all(is_token) {
                return None;
            }
            if name.eq_ignore_ascii_case("content-disposition") {
                if disposition.replace(value.trim()).is_some() {
                    return None;
                }
            } else if name.eq_ignore_ascii_case("content-transfer-encoding") {
                encoding = value.trim();
            }
        }
        let (kind, parameters) = disposition?.split_once(';')?;
        if !kind.trim().eq_ignore_ascii_case("form-data") {
            return None;
        }
        let role = Self::named(&Parameters::read(parameters)?)?;
        // An encoded name would read differently to a server that decodes it.
        let plain =
            ["binary", "8bit", "7bit"].iter().any(|name| name.eq_ignore_ascii_case(encoding));
        (plain || role != Self::Model).then_some(role)
    }

    fn named(parameters: &Parameters) -> Option<Self> {
        let mut names = parameters.named("name");
        let (Some(name), None) = (names.next(), names.next()) else { return None };
        // Some servers read `name*`, some do not.
        if parameters.named("name*").next().is_some() {
            return None;
        }
        let files = ["filename", "filename*"];
        Some(match name {
            _ if files.iter().any(|file| parameters.named(file).next().is_some()) => Self::File,
            "model" => Self::Model,
            _ => Self::Field,
        })
    }
}

/// `; name=value` pairs of a header.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads what stands behind the first semicolon; `None` when it is malformed.
    fn read(text: &str) -> Option<Self> {
        let mut parameters = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let (name, after) = rest.split_once('=')?;
            if name.is_empty() || !name.bytes().all(is_token) {
                return None;
            }
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted_string(quoted)?,
                None => bare_value(after)?,
            };
            parameters.push((name.to_ascii_lowercase(), value));
            let after = after.trim_start();
            rest = match after.strip_prefix(';') {
                // A semicolon at the very end is common and harmless.
                Some(after) => after.trim_start(),
                None if after.is_empty() => after,
                None => return None,
            };
        }
        Some(Self(parameters))
    }

    fn named(&self, wanted: &str) -> impl Iterator<Item = &str> {
        let pairs = self.0.iter().filter(move |(name, _)| name == wanted);
        pairs.map(|(_, value)| value.as_str())
    }
}

fn bare_value(text: &str) -> Option<(String, &str)> {
    let end = text.find([';', ' ', '\t']).unwrap_or(text.len());
    let (value, rest) = text.split_at_checked(end)?;
    (!value.is_empty() && !value.contains('"')).then(|| (value.to_owned(), rest))
}

/// Reads to the closing quote; a backslash takes the next quote or backslash as it is.
///
/// Before anything else it stands for itself: browsers sent Windows paths that way.
fn quoted_string(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => {
                let escaped = chars.next_if(|(_, next)| matches!(next, '"' | '\\'));
                value.push(escaped.map_or('\\', |(_, next)| next));
            }
            _ => value.push(char),
        }
    }
    None
}

/// RFC 9110, 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
