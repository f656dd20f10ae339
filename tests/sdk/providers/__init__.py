"""The five provider dialects, each with the same verbs.

`whole(scene, model)`      the answer as an object
`stream(scene, model)`     the answer as the bytes of a stream, of the kind `STREAM`
`refusal(status, message)` a failure before the answer: body and headers
"""

from providers import anthropic, bedrock, gemini, openai_chat, openai_responses

PROVIDERS = {
    "openai_chat": openai_chat,
    "openai_responses": openai_responses,
    "anthropic": anthropic,
    "gemini": gemini,
    "bedrock": bedrock,
}
