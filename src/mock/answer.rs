//! What the mock says: the one decision behind chat, messages, responses and completions.

use serde_json::{Value, json};

use super::schema;

const INTRODUCTION: &str = "This is Forebay's mock model. You said:";
const CONTINUATION: &str =
    "I know nothing, but I answer at once. I always say the same, and cost nothing.";
/// More words of the caller's than this are not repeated.
const QUOTE: usize = 48;
/// Characters in one piece of JSON: small, so that arguments come in several deltas.
const JSON_PIECE: usize = 8;

/// What is asked, whatever the dialect.
#[derive(Debug, Default)]
pub struct Question {
    /// The last thing the user said.
    pub prompt: String,
    /// The function to call, if one is to be called.
    pub tool: Option<Tool>,
    /// The shape the answer must have: a JSON schema, `{}` for any object.
    pub format: Option<Value>,
    /// The most tokens the caller takes.
    pub limit: Option<usize>,
    /// Texts the answer ends before.
    pub stop: Vec<String>,
}

/// A function the caller offers.
#[derive(Debug, Clone)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// The schema of its arguments.
    pub parameters: Value,
}

/// What is answered, whatever the dialect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The function called; then `pieces` are its arguments.
    pub tool: Option<String>,
    /// The text, one piece per token; together they are the whole of it.
    pub pieces: Vec<String>,
    /// Why it ended.
    pub finish: Finish,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// It was complete.
    Stop,
    /// The caller's limit was reached.
    Length,
    /// A function is to be called.
    Tool,
}

impl Answer {
    /// The whole text, or the whole arguments.
    pub fn text(&self) -> String {
        self.pieces.concat()
    }

    /// How many tokens it counts for.
    pub fn tokens(&self) -> usize {
        self.pieces.len()
    }
}

/// Answers a question in so many words.
pub fn answer(question: &Question, words: usize) -> Answer {
    if let Some(tool) = &question.tool {
        let arguments = schema::example(&tool.parameters, &question.prompt).to_string();
        let pieces = json_pieces(&arguments);
        return Answer { tool: Some(tool.name.clone()), pieces, finish: Finish::Tool };
    }
    let mut pieces = match &question.format {
        Some(schema) => json_pieces(&document(schema, &question.prompt)),
        None => word_pieces(&sentence(&question.prompt, words)),
    };
    if let Some(text) = stopped(&pieces.concat(), &question.stop) {
        pieces = word_pieces(&text);
    }
    let limit = question.limit.unwrap_or(usize::MAX);
    let finish = if pieces.len() > limit { Finish::Length } else { Finish::Stop };
    pieces.truncate(limit);
    Answer { tool: None, pieces, finish }
}

/// The tool to call of those a request offers, each a JSON object with `name` and, under `schema`,
/// its arguments;
/// the one that is wanted by name, or else the first.
pub fn choose(tools: &[&Value], schema: &str, wanted: Option<&str>) -> Option<Tool> {
    let read = |tool: &&Value| {
        let name = tool.get("name")?.as_str()?.to_owned();
        Some(Tool { name, parameters: tool.get(schema).cloned().unwrap_or_default() })
    };
    tools.iter().filter_map(read).find(|tool| wanted.is_none_or(|name| name == tool.name))
}

/// The mock's sentence, of exactly so many words; an ellipsis says where it was cut.
fn sentence(prompt: &str, words: usize) -> String {
    let mut quote: Vec<&str> = prompt.split_whitespace().take(QUOTE).collect();
    if quote.is_empty() {
        quote.push("nothing");
    }
    let quote = quote.join(" ");
    let stop = if ends_well(&quote) { "" } else { "." };
    let opening = format!("{INTRODUCTION} {quote}{stop}");
    let continuation = CONTINUATION.split_whitespace().cycle();
    let all: Vec<&str> = opening.split_whitespace().chain(continuation).take(words).collect();
    let mut text = all.join(" ");
    if !ends_well(&text) && !text.is_empty() {
        text.push('…');
    }
    text
}

fn ends_well(text: &str) -> bool {
    text.ends_with(['.', '!', '?', '…'])
}

/// A JSON document of the schema's shape; where any object will do, one that says who speaks.
fn document(schema: &Value, prompt: &str) -> String {
    let free = schema.as_object().is_none_or(serde_json::Map::is_empty);
    let value = if free {
        json!({"mock": true, "you_said": prompt})
    } else {
        schema::example(schema, prompt)
    };
    value.to_string()
}

/// The text up to the first stop text, if there is one in it.
fn stopped(text: &str, stops: &[String]) -> Option<String> {
    let found = stops.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| text.find(stop));
    found.min().and_then(|end| text.get(..end)).map(str::to_owned)
}

/// One piece per word, each but the first with the space before it.
fn word_pieces(text: &str) -> Vec<String> {
    let word = |(index, word): (usize, &str)| {
        if index == 0 { word.to_owned() } else { format!(" {word}") }
    };
    text.split(' ').enumerate().map(word).filter(|piece| !piece.is_empty()).collect()
}

fn json_pieces(json: &str) -> Vec<String> {
    let characters: Vec<char> = json.chars().collect();
    characters.chunks(JSON_PIECE).map(|piece| piece.iter().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(prompt: &str, words: usize) -> String {
        answer(&Question { prompt: prompt.to_owned(), ..Question::default() }, words).text()
    }

    #[test]
    fn it_says_who_it_is_and_repeats_the_question() {
        let text =
            "This is Forebay's mock model. You said: hello. I know nothing, but I answer at once.";
        assert_eq!(say("hello", 16), text);
        assert_eq!(say("hello", 8), "This is Forebay's mock model. You said: hello.");
        assert_eq!(say("Say hello, please", 8), "This is Forebay's mock model. You said: Say…");
        assert_eq!(say("", 8), "This is Forebay's mock model. You said: nothing.");
    }

    #[test]
    fn it_has_exactly_as_many_tokens_as_asked_for() {
        for words in [1, 8, 16, 100] {
            let answer = answer(&Question::default(), words);
            assert_eq!((answer.tokens(), answer.finish), (words, Finish::Stop));
        }
    }

    #[test]
    fn the_callers_limit_cuts_it() {
        let question = Question { limit: Some(3), ..Question::default() };
        let answer = answer(&question, 8);
        assert_eq!((answer.text().as_str(), answer.finish), ("This is Forebay's", Finish::Length));
    }

    #[test]
    fn it_ends_before_a_stop_text() {
        let question = Question { stop: vec!["mock".to_owned()], ..Question::default() };
        assert_eq!(answer(&question, 8).text(), "This is Forebay's ");
    }

    #[test]
    fn a_tool_is_called_with_arguments_in_pieces() {
        let parameters = json!({"properties": {"city": {"type": "string"}}});
        let tool = Some(Tool { name: "weather".to_owned(), parameters });
        let answer =
            answer(&Question { prompt: "Rome".to_owned(), tool, ..Question::default() }, 8);
        assert_eq!((answer.text().as_str(), answer.finish), (r#"{"city":"Rome"}"#, Finish::Tool));
        assert!(answer.tokens() > 1);
    }

    #[test]
    fn json_is_json() {
        let question = Question { format: Some(json!({})), ..Question::default() };
        let text = answer(&question, 8).text();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["mock"], json!(true));
    }
}
