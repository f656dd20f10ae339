//! Texts as vectors: what is asked, and what is answered.

use super::Usage;

/// A call for the vectors of texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EmbedRequest {
    /// The model's name as the client wrote it.
    pub model: String,
    /// At least one.
    pub inputs: Vec<String>,
    /// How long the vectors shall be.
    pub dimensions: Option<u64>,
    pub purpose: Option<EmbedPurpose>,
    /// Who the caller's own user is.
    pub user: Option<String>,
    /// Vectors are answered as 32-bit floats, little endian, in base64.
    pub base64: bool,
    pub form: EmbedForm,
}

/// What the vectors are for: some models make different ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmbedPurpose {
    /// To be found.
    Document,
    /// To find documents by.
    Query,
    Classification,
    Clustering,
    Similarity,
}

/// How an answer lays its vectors out, in dialects that have several ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EmbedForm {
    /// A list, one for each text.
    #[default]
    Many,
    /// The only one (Gemini's `embedContent`, Titan).
    One,
    /// Lists by the type of their numbers (Cohere's `embedding_types`).
    ByType,
    /// Vertex's `predictions`.
    Predictions,
}

/// The vectors of texts, in the order of the texts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EmbedResponse {
    pub vectors: Vec<Vec<f32>>,
    /// Input alone; nothing where the provider does not count.
    pub usage: Option<Usage>,
}
