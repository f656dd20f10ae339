"""The five official SDKs, each with the same verbs.

`connect(url, key)`          a client of the server at `url`, which never tries again
`arguments(ask)`             an `Ask` in this SDK's words
`read(client, ask, stream)`  asks, and says what the answer means
`resume(said, turn, results)` the arguments of the next call: what was said before, the answer as the
                             SDK gave it, and what its calls resulted in

`strict` holds a translated answer to the rules of the client's own dialect, which the SDK may not
insist on; what breaks them is in `Meaning.breaches`.
"""

from clients import anthropic, bedrock, gemini, openai_chat, openai_responses

CLIENTS = {
    "openai_chat": openai_chat,
    "openai_responses": openai_responses,
    "anthropic": anthropic,
    "gemini": gemini,
    "bedrock": bedrock,
}
