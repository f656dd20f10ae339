//! Where a stretch of an answer comes from, as Converse tells it.

use serde::Deserialize;

use crate::protocol::canonical::Annotation;

/// A citation of a block's whole text. Only those of the web have an address; others point into
/// documents of the request.
#[derive(Debug, Deserialize)]
pub struct Citation {
    title: Option<String>,
    location: Option<Location>,
}

#[derive(Debug, Deserialize)]
struct Location {
    web: Option<Web>,
}

#[derive(Debug, Deserialize)]
struct Web {
    url: Option<String>,
}

impl Citation {
    /// `length`: that of the block's text, in characters.
    pub fn read(self, length: u64) -> Option<Annotation> {
        let url = self.location?.web?.url?;
        Some(Annotation { url, title: self.title, start: 0, end: length })
    }
}
