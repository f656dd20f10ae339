"""What providers do beside what their documentation says: each is seen in the wild, or in another server
of the same dialect. What an answer means is said here, as not every SDK reads all of them."""

from quirks import anthropic, bedrock, gemini, openai_chat, openai_responses
from quirks.listing import QUIRKS

__all__ = ["QUIRKS", "anthropic", "bedrock", "gemini", "openai_chat", "openai_responses"]
