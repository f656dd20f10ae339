//! Who serves a model: the word before the slash in `litellm_params.model`, as data.

/// What stands for one word before the slash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vendor {
    pub word: &'static str,
    pub kind: &'static str,
    /// Where it is when `api_base` says nothing; empty: the kind knows, or it must be said.
    pub base_url: &'static str,
    /// The variable `LiteLLM` reads when there is no `api_key`; empty: none.
    pub key: &'static str,
}

const fn vendor(
    word: &'static str,
    kind: &'static str,
    base_url: &'static str,
    key: &'static str,
) -> Vendor {
    Vendor { word, kind, base_url, key }
}

const COMPATIBLE: &str = "openai_compatible";

const VENDORS: &[Vendor] = &[
    vendor("openai", "openai", "", "OPENAI_API_KEY"),
    vendor("text-completion-openai", "openai", "", "OPENAI_API_KEY"),
    vendor("azure", "azure", "", "AZURE_API_KEY"),
    vendor("azure_text", "azure", "", "AZURE_API_KEY"),
    vendor("azure_ai", COMPATIBLE, "", "AZURE_AI_API_KEY"),
    vendor("anthropic", "anthropic", "https://api.anthropic.com", "ANTHROPIC_API_KEY"),
    vendor("gemini", "gemini", "https://generativelanguage.googleapis.com", "GEMINI_API_KEY"),
    vendor("bedrock", "bedrock", "", ""),
    vendor("bedrock_converse", "bedrock", "", ""),
    vendor("vertex_ai", "vertex", "", ""),
    vendor("vertex_ai_beta", "vertex", "", ""),
    vendor("hosted_vllm", "vllm", "", ""),
    vendor("openai_like", COMPATIBLE, "", ""),
    vendor("custom_openai", COMPATIBLE, "", ""),
    vendor("litellm_proxy", COMPATIBLE, "", ""),
    vendor("lm_studio", COMPATIBLE, "", ""),
    vendor("llamafile", COMPATIBLE, "", ""),
    vendor("xinference", COMPATIBLE, "", ""),
    vendor("infinity", COMPATIBLE, "", ""),
    vendor("ollama", COMPATIBLE, "http://localhost:11434/v1", ""),
    vendor("ollama_chat", COMPATIBLE, "http://localhost:11434/v1", ""),
    vendor("cerebras", COMPATIBLE, "https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
    vendor(
        "dashscope",
        COMPATIBLE,
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        "DASHSCOPE_API_KEY",
    ),
    vendor("deepinfra", COMPATIBLE, "https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY"),
    vendor("deepseek", COMPATIBLE, "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    vendor(
        "fireworks_ai",
        COMPATIBLE,
        "https://api.fireworks.ai/inference/v1",
        "FIREWORKS_API_KEY",
    ),
    vendor("groq", COMPATIBLE, "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    vendor("mistral", COMPATIBLE, "https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    vendor("moonshot", COMPATIBLE, "https://api.moonshot.ai/v1", "MOONSHOT_API_KEY"),
    vendor("nvidia_nim", COMPATIBLE, "https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY"),
    vendor("openrouter", COMPATIBLE, "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    vendor("sambanova", COMPATIBLE, "https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY"),
    vendor("together_ai", COMPATIBLE, "https://api.together.xyz/v1", "TOGETHERAI_API_KEY"),
    vendor(
        "volcengine",
        COMPATIBLE,
        "https://ark.cn-beijing.volces.com/api/v3",
        "VOLCENGINE_API_KEY",
    ),
    vendor("xai", COMPATIBLE, "https://api.x.ai/v1", "XAI_API_KEY"),
];

/// Names that `LiteLLM` knows without a word before the slash.
const BARE: &[(&str, &str)] = &[
    ("gpt-", "openai"),
    ("chatgpt-", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("text-embedding-", "openai"),
    ("text-moderation-", "openai"),
    ("omni-moderation-", "openai"),
    ("dall-e", "openai"),
    ("whisper", "openai"),
    ("tts-", "openai"),
    ("claude-", "anthropic"),
];

/// Who serves `model`, and what it is called there; `provider` is `custom_llm_provider`. The error
/// is the word that nobody stands for.
pub fn resolve<'a>(model: &'a str, provider: Option<&str>) -> Result<(Vendor, &'a str), String> {
    let split = model.split_once('/');
    if let Some(word) = provider {
        let name = split.filter(|(before, _)| *before == word).map_or(model, |(_, name)| name);
        return find(word)
            .map(|vendor| (vendor, called(vendor, name)))
            .ok_or_else(|| word.to_owned());
    }
    if let Some((vendor, name)) = split.and_then(|(word, name)| Some((find(word)?, name))) {
        return Ok((vendor, called(vendor, name)));
    }
    let bare = BARE.iter().find(|(start, _)| split.is_none() && model.starts_with(start));
    match bare.and_then(|(_, word)| find(word)) {
        Some(vendor) => Ok((vendor, model)),
        None => Err(split.map_or(model, |(word, _)| word).to_owned()),
    }
}

/// What the vendor itself calls the model: `LiteLLM` has Bedrock's ways to call it stand before it.
fn called(vendor: Vendor, name: &str) -> &str {
    let ways = ["converse/", "converse_like/", "invoke/"].into_iter();
    let way = ways.filter(|_| vendor.kind == "bedrock").find_map(|way| name.strip_prefix(way));
    way.unwrap_or(name)
}

fn find(word: &str) -> Option<Vendor> {
    VENDORS.iter().find(|vendor| vendor.word == word).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vendor_is_the_word_before_the_first_slash() {
        let found =
            |model, provider| resolve(model, provider).map(|(vendor, name)| (vendor.word, name));
        assert_eq!(found("openai/facebook/opt-125m", None), Ok(("openai", "facebook/opt-125m")));
        assert_eq!(found("openrouter/openai/gpt-4o", None), Ok(("openrouter", "openai/gpt-4o")));
        assert_eq!(found("gpt-4o", None), Ok(("openai", "gpt-4o")));
        assert_eq!(found("my-model", Some("hosted_vllm")), Ok(("hosted_vllm", "my-model")));
        assert_eq!(found("groq/llama", Some("groq")), Ok(("groq", "llama")));
        assert_eq!(found("bedrock/converse/us.a-v1:0", None), Ok(("bedrock", "us.a-v1:0")));
        assert_eq!(found("vertex_ai/gemini-3-pro", None), Ok(("vertex_ai", "gemini-3-pro")));
        assert_eq!(found("sagemaker/x", None), Err("sagemaker".to_owned()));
        assert_eq!(found("mine", None), Err("mine".to_owned()));
    }
}
