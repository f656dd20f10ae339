"""What an upstream was asked, and what it would refuse in how it was asked.

Each dialect has `hear(request)`: a `Heard`, whose `wrong` lists the rules of the provider the request
breaks. The rules are those the provider itself answers 400 for.
"""

from validators import anthropic, bedrock, gemini, openai_chat, openai_responses

VALIDATORS = {
    "openai_chat": openai_chat,
    "openai_responses": openai_responses,
    "anthropic": anthropic,
    "gemini": gemini,
    "bedrock": bedrock,
}
