//! Where an answer has its facts from: `groundingMetadata` and `citationMetadata`.

use serde::{Deserialize, Serialize};

use super::answer::{Candidate, Part};
use crate::protocol::canonical::Annotation;

/// The most sources of one answer; a real one has dozens.
const MOST: usize = 4096;

/// A source, and the stretch of the answer's text that rests on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Support {
    pub url: String,
    pub title: Option<String>,
    /// Bytes of the answer's text, thoughts left out.
    pub start: u64,
    pub end: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Grounding {
    grounding_chunks: Option<Vec<Chunk>>,
    grounding_supports: Option<Vec<GroundingSupport>>,
}

/// Where the source was found; each kind has a `uri`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chunk {
    web: Option<Place>,
    retrieved_context: Option<Place>,
    maps: Option<Place>,
}

#[derive(Deserialize)]
struct Place {
    uri: Option<String>,
    title: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroundingSupport {
    segment: Option<Segment>,
    grounding_chunk_indices: Option<Vec<usize>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names are Google's")]
struct Segment {
    part_index: Option<usize>,
    start_index: Option<u64>,
    end_index: Option<u64>,
}

/// AI Studio says `citationSources`, Vertex AI `citations`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Citations {
    #[serde(alias = "citations")]
    citation_sources: Option<Vec<Citation>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Citation {
    start_index: Option<u64>,
    end_index: Option<u64>,
    uri: Option<String>,
    title: Option<String>,
}

/// The sources that a candidate names. `told`: how many bytes of text came before this piece of it.
/// What cannot be read is no source.
pub fn supports(candidate: &Candidate, told: u64) -> Vec<Support> {
    let mut supports = Vec::new();
    let grounding = candidate.grounding_metadata.map(|raw| serde_json::from_str(raw.get()));
    if let Some(Ok(grounding)) = grounding {
        ground(grounding, &starts(candidate, told), &mut supports);
    }
    let citations = candidate.citation_metadata.map(|raw| serde_json::from_str(raw.get()));
    if let Some(Ok(Citations { citation_sources: Some(sources) })) = citations {
        for Citation { start_index, end_index, uri, title } in sources {
            let Some(url) = uri else { continue };
            let (start, end) = (start_index.unwrap_or_default(), end_index.unwrap_or_default());
            supports.push(Support { url, title, start, end });
        }
    }
    supports.truncate(MOST);
    supports
}

fn ground(grounding: Grounding, starts: &[u64], supports: &mut Vec<Support>) {
    let chunks = grounding.grounding_chunks.unwrap_or_default();
    for support in grounding.grounding_supports.unwrap_or_default() {
        let Some(Segment { part_index, start_index, end_index }) = support.segment else {
            continue;
        };
        // Without an index the stretch is one of the whole text.
        let part = part_index.filter(|part| *part > 0);
        let base = part.and_then(|part| starts.get(part)).copied().unwrap_or_default();
        for index in support.grounding_chunk_indices.unwrap_or_default() {
            let Some(chunk) = chunks.get(index) else { continue };
            let place =
                chunk.web.as_ref().or(chunk.retrieved_context.as_ref()).or(chunk.maps.as_ref());
            let Some(Place { uri: Some(url), title }) = place else { continue };
            if supports.len() == MOST {
                return;
            }
            supports.push(Support {
                url: url.clone(),
                title: title.clone(),
                start: base.saturating_add(start_index.unwrap_or_default()),
                end: base.saturating_add(end_index.unwrap_or_default()),
            });
        }
    }
}

/// Where in the answer's text each part of this piece begins.
fn starts(candidate: &Candidate, told: u64) -> Vec<u64> {
    let parts = candidate.content.as_ref().and_then(|content| content.parts.as_deref());
    let mut at = told;
    let start = |part: &Part| {
        let start = at;
        if !part.is_thought() {
            at += part.text.as_ref().map_or(0, String::len) as u64;
        }
        start
    };
    parts.unwrap_or_default().iter().map(start).collect()
}

/// `groundingMetadata` as it is written.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroundingMetadata<'a> {
    grounding_chunks: Vec<WrittenChunk<'a>>,
    grounding_supports: Vec<WrittenSupport>,
}

#[derive(Debug, Serialize)]
struct WrittenChunk<'a> {
    web: WrittenPlace<'a>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct WrittenPlace<'a> {
    uri: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenSupport {
    segment: WrittenSegment,
    grounding_chunk_indices: [usize; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenSegment {
    start_index: u64,
    end_index: u64,
}

impl<'a> GroundingMetadata<'a> {
    /// Nothing where there are no sources.
    pub fn of(supports: &'a [Support]) -> Option<Self> {
        let mut chunks: Vec<WrittenChunk> = Vec::new();
        let mut written = Vec::with_capacity(supports.len());
        for Support { url, title, start, end } in supports.iter().take(MOST) {
            let web = WrittenPlace { uri: url, title: title.as_deref() };
            let known = chunks.iter().position(|chunk| chunk.web == web);
            let index = known.unwrap_or_else(|| {
                chunks.push(WrittenChunk { web });
                chunks.len() - 1
            });
            written.push(WrittenSupport {
                segment: WrittenSegment { start_index: *start, end_index: *end },
                grounding_chunk_indices: [index],
            });
        }
        (!written.is_empty())
            .then_some(Self { grounding_chunks: chunks, grounding_supports: written })
    }
}

/// Where `annotation` stands in the answer's text, of which its block has `offsets` and begins at `base`.
pub fn support(annotation: &Annotation, base: u64, offsets: &super::offsets::Offsets) -> Support {
    Support {
        url: annotation.url.clone(),
        title: annotation.title.clone(),
        start: base + offsets.bytes_before(annotation.start),
        end: base + offsets.bytes_before(annotation.end),
    }
}
