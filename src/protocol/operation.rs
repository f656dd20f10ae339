//! What a call asks for, in whose dialect.

use crate::config::Dialect;

/// Which JSON endpoint a body belongs to: what its members mean, and what an edit touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `/v1/chat/completions`
    ChatCompletions,
    /// `/v1/completions`
    Completions,
    /// `/v1/embeddings`
    Embeddings,
    /// `/v1/responses`
    Responses,
    /// `/v1/responses/input_tokens`
    InputTokens,
    /// `/v1/messages`
    Messages,
    /// `/v1/messages/count_tokens`
    MessagesCount,
    /// `…:generateContent` and `…:streamGenerateContent`
    GenerateContent,
    /// `…:countTokens`
    GeminiCount,
    /// `…:embedContent`
    EmbedContent,
    /// `…:batchEmbedContents`
    EmbedContents,
    /// `…:predict`, Vertex's.
    Predict,
    /// `/model/{m}/converse` and `/converse-stream`
    Converse,
    /// `/model/{m}/count-tokens`
    BedrockCount,
    /// `/model/{m}/invoke` and `/invoke-with-response-stream`: the model's own body.
    Invoke,
    /// The same for a model that embeds.
    InvokeEmbed,
    /// Any other endpoint that names a model.
    Other,
}

/// What kind of thing is asked for, whatever the dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// An answer in words.
    Generate,
    /// Vectors.
    Embed,
    /// How many tokens a prompt has.
    Count,
}

impl Operation {
    /// Whose words the body is written in; `None` where nobody else has such a call.
    pub fn dialect(self) -> Option<Dialect> {
        Some(match self {
            Self::ChatCompletions | Self::Embeddings => Dialect::OpenaiChat,
            Self::Responses | Self::InputTokens => Dialect::OpenaiResponses,
            // What is invoked by callers of ours is Claude: its body is that of messages.
            Self::Messages | Self::MessagesCount | Self::Invoke => Dialect::Anthropic,
            Self::GenerateContent
            | Self::GeminiCount
            | Self::EmbedContent
            | Self::EmbedContents
            | Self::Predict => Dialect::Gemini,
            Self::Converse | Self::BedrockCount | Self::InvokeEmbed => Dialect::Bedrock,
            Self::Completions | Self::Other => return None,
        })
    }

    pub fn task(self) -> Option<Task> {
        Some(match self {
            Self::ChatCompletions
            | Self::Completions
            | Self::Responses
            | Self::Messages
            | Self::GenerateContent
            | Self::Converse
            | Self::Invoke => Task::Generate,
            Self::Embeddings
            | Self::EmbedContent
            | Self::EmbedContents
            | Self::Predict
            | Self::InvokeEmbed => Task::Embed,
            Self::InputTokens | Self::MessagesCount | Self::GeminiCount | Self::BedrockCount => {
                Task::Count
            }
            Self::Other => return None,
        })
    }

    /// Whether `stream: true` in the body asks for server-sent events.
    pub fn has_event_stream(self) -> bool {
        matches!(self, Self::ChatCompletions | Self::Completions | Self::Responses | Self::Messages)
    }
}
