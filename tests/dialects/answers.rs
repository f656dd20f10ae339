//! Every answer, as every client gets it.

use forebay::protocol::translate::StreamTranslator;

use crate::cases::{Answer, Case, cases};
use crate::golden::Golden;
use crate::{DIALECTS, crossing, readable};
use forebay::config::Dialect;

#[test]
fn every_answer_reaches_every_client_as_its_file_says() {
    let mut golden = Golden::default();
    for case in cases() {
        for (client, name) in DIALECTS {
            golden.hold(&case.name, name, &cell(&case, client));
        }
    }
    golden.done(|folder| !folder.starts_with("ask-"));
}

fn cell(case: &Case, client: Dialect) -> String {
    match &case.answer {
        Answer::Failure { status, kind, body } => {
            let (failure, body) = crossing::failure(client, *status, kind.as_deref(), body);
            let wait = failure.retry_after.map(|wait| format!(", try again in {wait:?}"));
            let body = readable::json(std::str::from_utf8(&body).unwrap());
            format!("{:?}{}\n{body}", failure.kind, wait.unwrap_or_default())
        }
        _ if client == case.provider => passing(case),
        Answer::Stream(stream) => {
            let back = crossing::back(client, case.provider, case.asks(), true);
            readable::stream(client, &crossing::stream(back, [&stream[..]]))
        }
        Answer::Whole(body) => {
            let back = crossing::back(client, case.provider, case.asks(), false);
            match crossing::whole(back, body) {
                Ok(body) => readable::json(std::str::from_utf8(&body).unwrap()),
                Err(unreadable) => format!("unsupported: {unreadable}\n"),
            }
        }
    }
}

/// A client of the provider's own dialect gets the provider's own bytes; they are only followed.
fn passing(case: &Case) -> String {
    let (end, usage) = match &case.answer {
        Answer::Stream(stream) => {
            let mut follower = StreamTranslator::follower(case.provider);
            let told = crossing::through(&mut follower, [&stream[..]]);
            assert_eq!(told, b"", "who only follows says nothing");
            let end = match (follower.done(), follower.first_failure()) {
                (true, _) => "whole".to_owned(),
                (false, Some(failure)) => format!("failed before anything: {:?}", failure.kind),
                (false, None) => "failed".to_owned(),
            };
            (end, follower.usage())
        }
        Answer::Whole(body) => {
            let usage = forebay::protocol::translate::last_usage_of(case.provider, body);
            ("whole".to_owned(), usage)
        }
        Answer::Failure { .. } => unreachable!("failures are told anew"),
    };
    let usage = usage.map_or("none told".to_owned(), |usage| format!("{usage:?}"));
    format!("passes as it came\n{end}\nusage: {usage}\n")
}
