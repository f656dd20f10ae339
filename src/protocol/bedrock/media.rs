//! What Converse calls the formats of media, and what it lets documents be called.

use std::collections::{HashMap, HashSet};

type Formats = &'static [(&'static str, &'static str)];

/// Converse's word and the media type; of several words for one type the first is written.
pub const IMAGES: Formats = &[
    ("png", "image/png"),
    ("jpeg", "image/jpeg"),
    ("jpeg", "image/jpg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
];

pub const DOCUMENTS: Formats = &[
    ("pdf", "application/pdf"),
    ("csv", "text/csv"),
    ("doc", "application/msword"),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("xls", "application/vnd.ms-excel"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("html", "text/html"),
    ("txt", "text/plain"),
    ("md", "text/markdown"),
];

pub const AUDIO: Formats = &[
    ("mp3", "audio/mpeg"),
    ("mp3", "audio/mp3"),
    ("wav", "audio/wav"),
    ("wav", "audio/x-wav"),
    ("opus", "audio/opus"),
    ("aac", "audio/aac"),
    ("x-aac", "audio/x-aac"),
    ("flac", "audio/flac"),
    ("ogg", "audio/ogg"),
    ("mp4", "audio/mp4"),
    ("m4a", "audio/x-m4a"),
    ("m4a", "audio/m4a"),
    ("webm", "audio/webm"),
    ("pcm", "audio/pcm"),
    ("mka", "audio/x-matroska"),
    ("mkv", "audio/mkv"),
    ("mpeg", "audio/mpeg"),
    ("mpga", "audio/mpga"),
];

pub const VIDEO: Formats = &[
    ("mp4", "video/mp4"),
    ("mov", "video/quicktime"),
    ("mkv", "video/x-matroska"),
    ("webm", "video/webm"),
    ("flv", "video/x-flv"),
    ("mpeg", "video/mpeg"),
    ("mpg", "video/mpg"),
    ("wmv", "video/x-ms-wmv"),
    ("three_gp", "video/3gpp"),
];

/// Converse's word for a media type, whose parameters (`; charset=…`) do not count.
pub fn format(formats: Formats, media_type: &str) -> Option<&'static str> {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    let mut known = formats.iter();
    known.find(|(_, known)| known.eq_ignore_ascii_case(essence)).map(|(format, _)| *format)
}

/// The media type that a word of Converse's stands for.
pub fn media_type(formats: Formats, format: &str) -> Option<&'static str> {
    formats.iter().find(|(known, _)| *known == format).map(|(_, media_type)| *media_type)
}

/// The media type of an image by its first bytes, in base64.
pub fn sniff(base64: &str) -> Option<&'static str> {
    let kinds = [
        ("iVBORw0KGgo", "image/png"),
        ("/9j/", "image/jpeg"),
        ("R0lGOD", "image/gif"),
        ("UklGR", "image/webp"),
    ];
    kinds.iter().find(|(magic, _)| base64.starts_with(magic)).map(|(_, media_type)| *media_type)
}

/// The longest name of a document, in characters.
const LONGEST_NAME: usize = 200;

/// Names of one request's documents: letters, digits, single spaces, `-()[]`, and each its own.
#[derive(Debug, Default)]
pub struct DocumentNames {
    taken: HashSet<String>,
    /// How often a name has come that was taken: where to go on with it.
    repeats: HashMap<String, u32>,
}

impl DocumentNames {
    /// A name that is allowed, as near to the one it has as can be.
    pub fn fit(&mut self, name: Option<&str>, format: &str) -> String {
        let name = name.unwrap_or_default();
        let stem = name.rsplit_once('.').filter(|(_, end)| end.eq_ignore_ascii_case(format));
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-()[]".contains(c);
        let kept = stem.map_or(name, |(stem, _)| stem).chars().take(LONGEST_NAME - 8);
        let kept: String = kept
            .map(|c| match c {
                c if c.is_whitespace() => ' ',
                c if allowed(c) => c,
                _ => '-',
            })
            .collect();
        let words: Vec<&str> = kept.split(' ').filter(|word| !word.is_empty()).collect();
        let fit = if words.is_empty() { "document".to_owned() } else { words.join(" ") };
        if self.taken.insert(fit.clone()) {
            return fit;
        }
        let count = self.repeats.entry(fit.clone()).or_insert(1);
        loop {
            *count += 1;
            let own = format!("{fit} ({count})");
            if self.taken.insert(own.clone()) {
                return own;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_is_found_again_by_its_media_type() {
        for formats in [IMAGES, DOCUMENTS, AUDIO, VIDEO] {
            for (word, kind) in formats {
                let written = format(formats, kind).unwrap();
                assert_eq!(media_type(formats, written), media_type(formats, word), "{kind}");
            }
        }
        assert_eq!(format(DOCUMENTS, "Text/Plain; charset=utf-8"), Some("txt"));
        assert_eq!(format(IMAGES, "image/tiff"), None);
    }

    #[test]
    fn documents_are_called_what_is_allowed_and_each_its_own() {
        let mut names = DocumentNames::default();
        for (name, fit) in [
            (Some("report.pdf"), "report"),
            (Some("report.PDF"), "report (2)"),
            (Some("a_b  c/ä.v2"), "a-b c---v2"),
            (Some(" .pdf"), "document"),
            (None, "document (2)"),
            (Some("Q3 (final) [x]-1"), "Q3 (final) [x]-1"),
        ] {
            assert_eq!(names.fit(name, "pdf"), fit);
        }
        assert!(names.fit(Some(&"x".repeat(500)), "pdf").len() <= LONGEST_NAME);
    }
}
