//! The form in the middle: what a call, an answer, a stream and a failure mean, whatever dialect they
//! came in.
//!
//! Only what crosses from one dialect to another takes this form; between two of the same dialect the
//! bytes pass ([`mod@super::edit`]). A conversation is turns of ordered, typed blocks, because every
//! dialect's messages map into blocks without loss, and blocks map down to each with a loss that can
//! be named ([`Losses`]).
//!
//! Each dialect has one folder with the same verbs:
//!
//! | file | what it has |
//! |---|---|
//! | `read_request.rs` | `read_request(body, asked, losses) -> Result<Request, Invalid>` |
//! | `write_request.rs` | `write_request(request, to, losses) -> Result<Vec<u8>, Invalid>`, `fate(field)` |
//! | `read_response.rs` | `read_response(body) -> Result<Response, Unreadable>` |
//! | `write_response.rs` | `write_response(response, told) -> Vec<u8>` |
//! | `read_stream.rs` | `StreamReader`: `push(bytes, events)`, `finish(events)` |
//! | `write_stream.rs` | `StreamWriter`: `write(event, bytes)` |
//! | `refusal.rs` | `write_refusal(refusal)`, `write_stream_refusal(refusal)` |

mod arguments;
mod arrange;
mod carried;
mod collect;
pub mod count;
mod embeddings;
mod emulate;
mod event;
mod failure;
mod fields;
mod free_text;
mod losses;
mod names;
mod reasoning;
mod request;
mod response;
mod rules;
mod scrub;
mod sequence;
mod usage;

pub use arguments::{Arguments, object_or_wrapped};
pub use arrange::{Arrange, IdLimits, Merge, SystemInside, arrange};
pub use carried::{Carried, MARK, MARK_IN_BASE64};
pub use collect::{Collector, replay};
pub use embeddings::{EmbedForm, EmbedPurpose, EmbedRequest, EmbedResponse};
pub use emulate::Emulation;
pub use event::{Delta, End, Event, Opening, Start};
pub use failure::{Failure, FailureKind, Refusal, Unreadable, brief};
pub use fields::{Fate, Field};
pub use losses::{Invalid, Losses};
pub use names::{NameLimits, Names};
pub use reasoning::{Effort, Reasoning};
pub use request::{
    Asked, Block, CacheMark, Document, Format, Image, Json, Media, Request, Role, Schema,
    Signature, Source, Target, Tool, ToolChoice, ToolKind, ToolResult, ToolUse, Turn,
};
pub use response::{Annotation, Response, Stop, Told};
pub use rules::{ReasoningField, Rules, ThinkingRule};
pub use scrub::{scrub, scrubbed};
pub use sequence::Sequence;
pub use usage::{Usage, estimated_tokens};
