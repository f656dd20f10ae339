//! Files: what they are, whose they are, and how closely they are looked at.

/// What a file is, by its name's end.
const TYPES: &[(&str, &str)] = &[
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("webp", "image/webp"),
    ("gif", "image/gif"),
    ("heic", "image/heic"),
    ("heif", "image/heif"),
    ("pdf", "application/pdf"),
    ("txt", "text/plain"),
    ("md", "text/markdown"),
    ("html", "text/html"),
    ("csv", "text/csv"),
    ("json", "application/json"),
    ("mp3", "audio/mp3"),
    ("wav", "audio/wav"),
    ("ogg", "audio/ogg"),
    ("flac", "audio/flac"),
    ("mp4", "video/mp4"),
    ("mov", "video/mov"),
    ("webm", "video/webm"),
];

/// The media type of what lies at a URL, if its path tells.
pub fn type_of(url: &str) -> Option<&'static str> {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let hosts = ["https://www.youtube.com/", "https://youtube.com/", "https://youtu.be/"];
    if hosts.iter().any(|host| url.starts_with(host)) {
        return Some("video/mp4");
    }
    let (_, end) = path.rsplit_once('/')?.1.rsplit_once('.')?;
    let found = TYPES.iter().find(|(known, _)| end.eq_ignore_ascii_case(known));
    found.map(|(_, media_type)| *media_type)
}

/// Whether a file lies at Google, where only its owner's requests reach it.
pub fn is_googles(uri: &str) -> bool {
    uri.starts_with("gs://") || uri.starts_with("https://generativelanguage.googleapis.com/")
}

/// How closely a picture is looked at, in the words of others.
pub fn detail(resolution: &str) -> Option<&'static str> {
    Some(match resolution {
        "MEDIA_RESOLUTION_LOW" => "low",
        "MEDIA_RESOLUTION_HIGH" => "high",
        _ => return None,
    })
}

/// The same, the other way.
pub fn resolution(detail: &str) -> Option<&'static str> {
    Some(match detail {
        "low" => "MEDIA_RESOLUTION_LOW",
        "high" => "MEDIA_RESOLUTION_HIGH",
        _ => return None,
    })
}

/// Base64 in the alphabet everybody reads: Google's Python client sends the one for URLs.
pub fn standard(data: String) -> String {
    if !data.contains(['-', '_']) && data.len().is_multiple_of(4) {
        return data;
    }
    let mut data = data.replace('-', "+").replace('_', "/");
    while !data.len().is_multiple_of(4) {
        data.push('=');
    }
    data
}
