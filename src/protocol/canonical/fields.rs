//! Everything of a request that may or may not cross, by name.

use crate::config::Dialect;

/// What becomes of a part of a request in a provider's dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It has a counterpart there.
    Carried,
    /// It becomes something else; what.
    Converted(&'static str),
    /// Left out and named in `x-forebay-dropped`; refused where `translation: strict`, unless it is a
    /// hint.
    Dropped,
    /// Refused whatever the setting: without it the call would mean something else. Why.
    Refused(&'static str),
}

macro_rules! fields {
    ($( $(#[$doc:meta])* $field:ident: $chat:literal $responses:literal $anthropic:literal $gemini:literal $bedrock:literal; )*) => {
        /// A part of a request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Field { $( $(#[$doc])* $field, )* }

        impl Field {
            /// All of them, in the order of the documentation.
            pub const ALL: &'static [Self] = &[ $( Self::$field, )* ];

            /// What a dialect calls it; where it has no such thing, what it is.
            pub fn name(self, dialect: Dialect) -> &'static str {
                let [chat, responses, anthropic, gemini, bedrock] = match self {
                    $( Self::$field => [$chat, $responses, $anthropic, $gemini, $bedrock], )*
                };
                match dialect {
                    Dialect::OpenaiChat => chat,
                    Dialect::OpenaiResponses => responses,
                    Dialect::Anthropic => anthropic,
                    Dialect::Gemini => gemini,
                    Dialect::Bedrock => bedrock,
                }
            }
        }
    };
}

impl Field {
    /// Whether it only says how the same answer may come cheaper: no call is refused for want of it.
    pub fn is_hint(self) -> bool {
        matches!(self, Self::CacheKey | Self::CacheMark)
    }
}

fields! {
    MaxOutput: "max_completion_tokens" "max_output_tokens" "max_tokens" "generationConfig.maxOutputTokens" "inferenceConfig.maxTokens";
    Temperature: "temperature" "temperature" "temperature" "generationConfig.temperature" "inferenceConfig.temperature";
    TopP: "top_p" "top_p" "top_p" "generationConfig.topP" "inferenceConfig.topP";
    TopK: "top_k" "top_k" "top_k" "generationConfig.topK" "additionalModelRequestFields.top_k";
    MinP: "min_p" "min_p" "min_p" "min_p" "min_p";
    Stop: "stop" "stop" "stop_sequences" "generationConfig.stopSequences" "inferenceConfig.stopSequences";
    Seed: "seed" "seed" "seed" "generationConfig.seed" "seed";
    /// More than one answer.
    Candidates: "n" "n" "n" "generationConfig.candidateCount" "n";
    PresencePenalty: "presence_penalty" "presence_penalty" "presence_penalty" "generationConfig.presencePenalty" "presence_penalty";
    FrequencyPenalty: "frequency_penalty" "frequency_penalty" "frequency_penalty" "generationConfig.frequencyPenalty" "frequency_penalty";
    Logprobs: "logprobs" "top_logprobs" "logprobs" "generationConfig.responseLogprobs" "logprobs";
    LogitBias: "logit_bias" "logit_bias" "logit_bias" "logit_bias" "logit_bias";
    JsonObject: "response_format" "text.format" "output_config.format" "generationConfig.responseMimeType" "outputConfig.textFormat";
    JsonSchema: "response_format" "text.format" "output_config.format" "generationConfig.responseJsonSchema" "outputConfig.textFormat";
    Effort: "reasoning_effort" "reasoning.effort" "output_config.effort" "generationConfig.thinkingConfig.thinkingLevel" "additionalModelRequestFields.output_config";
    /// A number of tokens for reasoning.
    ThinkingBudget: "thinking" "reasoning" "thinking.budget_tokens" "generationConfig.thinkingConfig.thinkingBudget" "additionalModelRequestFields.thinking";
    Verbosity: "verbosity" "text.verbosity" "verbosity" "verbosity" "verbosity";
    ServiceTier: "service_tier" "service_tier" "service_tier" "serviceTier" "serviceTier";
    User: "user" "user" "metadata.user_id" "user" "user";
    Metadata: "metadata" "metadata" "metadata" "labels" "requestMetadata";
    CacheKey: "prompt_cache_key" "prompt_cache_key" "prompt_cache_key" "prompt_cache_key" "prompt_cache_key";
    /// Marks of what shall be cached.
    CacheMark: "prompt_cache_breakpoint" "prompt_cache_breakpoint" "cache_control" "cachedContent" "cachePoint";
    /// Instructions after the conversation's beginning.
    SystemInside: "messages.role" "input.role" "messages.role" "contents.role" "messages.role";
    ImageData: "image_url" "input_image" "image" "inlineData" "image";
    ImageUrl: "image_url" "input_image" "image.source.url" "fileData" "image.source.s3Location";
    ImageDetail: "image_url.detail" "input_image.detail" "image.detail" "mediaResolution" "image.detail";
    Audio: "input_audio" "input_audio" "audio" "inlineData" "audio";
    Video: "video_url" "input_video" "video" "inlineData" "video";
    Document: "file" "input_file" "document" "inlineData" "document";
    DocumentUrl: "file.file_url" "input_file.file_url" "document.source.url" "fileData" "document.source.s3Location";
    /// An object that lies at another provider.
    FileId: "file_id" "file_id" "source.file_id" "fileData.fileUri" "s3Location";
    /// Reasoning of earlier turns.
    ThinkingHistory: "reasoning_content" "reasoning" "thinking" "thought" "reasoningContent";
    /// What lets a provider read its own reasoning again.
    Signature: "reasoning_details" "reasoning.encrypted_content" "thinking.signature" "thoughtSignature" "reasoningContent.signature";
    Tools: "tools" "tools" "tools" "tools.functionDeclarations" "toolConfig.tools";
    /// Tools that take free text.
    CustomTools: "tools.custom" "tools.custom" "tools.custom" "tools.custom" "tools.custom";
    /// What a custom tool's text must look like.
    Grammar: "tools.custom.format" "tools.format" "tools.format" "tools.format" "tools.format";
    StrictTools: "tools.function.strict" "tools.strict" "tools.strict" "tools.strict" "toolSpec.strict";
    ToolChoiceNone: "tool_choice" "tool_choice" "tool_choice" "toolConfig.functionCallingConfig.mode" "toolConfig.toolChoice";
    ToolChoiceRequired: "tool_choice" "tool_choice" "tool_choice" "toolConfig.functionCallingConfig.mode" "toolConfig.toolChoice.any";
    ToolChoiceNamed: "tool_choice" "tool_choice" "tool_choice" "toolConfig.functionCallingConfig.allowedFunctionNames" "toolConfig.toolChoice.tool";
    OneToolAtATime: "parallel_tool_calls" "parallel_tool_calls" "tool_choice.disable_parallel_tool_use" "parallel_tool_calls" "parallel_tool_calls";
    /// Images within what a tool gave.
    ToolResultImage: "messages.content.image_url" "function_call_output.output" "tool_result.content.image" "functionResponse.parts" "toolResult.content.image";
    ToolResultError: "messages.is_error" "function_call_output.status" "tool_result.is_error" "functionResponse.response.error" "toolResult.status";
}
