//! A caller's own key, on its way to a provider of another dialect.

use crate::support::dialects::{ALL, Dialect};
use crate::support::gateway::{self, Gateway};
use crate::support::matrix::speak;
use crate::support::upstream::{self, Call, Upstream};
use Dialect::{Bedrock, Chat, Gemini, Messages, Responses};

const PLACES: [&str; 4] = ["authorization", "x-api-key", "x-goog-api-key", "api-key"];

/// A gateway whose callers may, or must, bring their keys.
async fn own(provider: Dialect, auth: &str, more: &str) -> (Upstream, Gateway) {
    let upstream = upstream::with(move |call| speak(provider, call)).await;
    let given = provider.provider("p", &upstream.address.to_string());
    let given =
        given.replace("ejection: off", &format!("ejection: off, client_auth: {auth}{more}"));
    let target = "{ name: m, targets: [{ provider: p, model: up }] }";
    let yaml = format!("anonymous: true\nproviders:\n{given}models:\n  - {target}\n");
    (upstream, gateway::with(&yaml).start().await)
}

/// Where the client's own dialect puts a key.
fn put(client: Dialect, key: &str) -> (&'static str, String) {
    match client {
        Messages => ("x-api-key", key.to_owned()),
        Gemini => ("x-goog-api-key", key.to_owned()),
        Chat | Responses | Bedrock => ("authorization", format!("Bearer {key}")),
    }
}

/// The key stands here, and no other anywhere.
fn has_only(call: &Call, place: &str, value: &str, about: &str) {
    for name in PLACES {
        let expected = (name == place).then_some(value);
        assert_eq!(call.header(name), expected, "{about}: {name} in {call:?}");
    }
    let head = format!("{:?}", call.head);
    assert!(!head.contains("key-of-p"), "{about}: {call:?}");
}

#[tokio::test]
async fn it_stands_where_that_provider_wants_it_and_ours_stands_nowhere() {
    for auth in ["forward", "prefer_client"] {
        for provider in ALL {
            let (upstream, gateway) = own(provider, auth, "").await;
            for client in ALL {
                let (name, value) = put(client, "key-of-the-caller");
                let request = client.ask(&gateway.client(), "m", false);
                request.header(name, &value).send().await.ok();
                let (place, value) = put(provider, "key-of-the-caller");
                let about = format!("{client:?} to {provider:?}, {auth}");
                has_only(&upstream.call(), place, &value, &about);
                upstream.forget();
            }
        }
    }
}

#[tokio::test]
async fn a_token_of_a_login_goes_where_tokens_go() {
    for (provider, token) in [
        (Messages, "sk-ant-oat01-fake"),
        (Gemini, "ya29.fake-access-token"),
        (Gemini, "eyJfake.fake.fake"),
    ] {
        let (upstream, gateway) = own(provider, "forward", "").await;
        for client in ALL {
            let (name, value) = put(client, token);
            let request = client.ask(&gateway.client(), "m", false).header(name, &value);
            request.send().await.ok();
            let about = format!("{client:?} to {provider:?}: {token}");
            has_only(&upstream.call(), "authorization", &format!("Bearer {token}"), &about);
            upstream.forget();
        }
    }
}

#[tokio::test]
async fn headers_that_say_who_we_are_do_not_stand_beside_it() {
    let headers = ", headers: { authorization: \"Basic a2V5LW9mLXA=\", x-api-key: key-of-p-2, \
        openai-organization: ours, x-team: a }";
    for (auth, brings) in [("forward", true), ("forward", false), ("prefer_client", true)] {
        let (upstream, gateway) = own(Messages, auth, headers).await;
        let mut request = Chat.ask(&gateway.client(), "m", false);
        if brings {
            request = request.header("authorization", "Bearer key-of-the-caller");
        }
        request.send().await.ok();
        let call = upstream.call();
        let place = if brings { "x-api-key" } else { "nowhere" };
        has_only(&call, place, "key-of-the-caller", auth);
        assert_eq!(call.header("openai-organization"), None, "{auth}: {call:?}");
        assert_eq!(call.header("x-team"), Some("a"), "{auth}: {call:?}");
    }
    let (upstream, gateway) = own(Messages, "prefer_client", headers).await;
    Chat.ask(&gateway.client(), "m", false).send().await.ok();
    assert_eq!(
        upstream.call().header("openai-organization"),
        Some("ours"),
        "{:?}",
        upstream.call()
    );
}
