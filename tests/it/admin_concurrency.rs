//! Many who change the same thing: nobody's change is lost without word.

use futures::future::join_all;
use serde_json::{Value, json};

use crate::admin_api::{operator, send, send_if, stored};

#[tokio::test]
async fn a_change_of_what_has_changed_meanwhile_is_refused() {
    let (_upstream, gateway) = stored().await;
    let admin = operator(&gateway);
    send(&admin, "POST", "/keys", &json!({"id": "a"})).await;
    let seen = send(&admin, "GET", "/keys/a", &Value::Null).await.ok();
    let tag = seen.header("etag").unwrap().to_owned();
    let first = send_if(&admin, "PATCH", "/keys/a", &json!({"name": "one"}), Some(&tag)).await.ok();
    assert_ne!(first.header("etag"), Some(tag.as_str()));
    for (method, body) in [
        ("PATCH", json!({"name": "two"})),
        ("PUT", json!({"name": "two"})),
        ("DELETE", Value::Null),
    ] {
        let late = send_if(&admin, method, "/keys/a", &body, Some(&tag)).await;
        late.refused(412, "version_mismatch");
    }
    for wrong in ["W/\"1\"", "nonsense", "\"999999\""] {
        let body = json!({"name": "two"});
        let late = send_if(&admin, "PATCH", "/keys/a", &body, Some(wrong)).await;
        late.refused(412, "version_mismatch");
    }
    let name = send(&admin, "GET", "/keys/a", &Value::Null).await.ok().json()["name"].clone();
    assert_eq!(name, "one");
    send_if(&admin, "DELETE", "/keys/a", &Value::Null, first.header("etag")).await.ok();
}

#[tokio::test]
async fn of_many_with_the_same_version_one_wins() {
    let (_upstream, gateway) = stored().await;
    let admin = operator(&gateway);
    send(&admin, "POST", "/keys", &json!({"id": "a"})).await;
    let seen = send(&admin, "GET", "/keys/a", &Value::Null).await.ok();
    let tag = seen.header("etag").unwrap();
    let change = |number: usize| {
        let admin = &admin;
        async move {
            let body = json!({"name": format!("n{number}")});
            send_if(admin, "PATCH", "/keys/a", &body, Some(tag)).await.status
        }
    };
    let statuses = join_all((0..12).map(change)).await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 412].contains(status)), "{statuses:?}");
}

#[tokio::test]
async fn changes_of_different_members_all_stay() {
    let (_upstream, gateway) = stored().await;
    let admin = operator(&gateway);
    send(&admin, "POST", "/users", &json!({"id": "u"})).await;
    let change = |number: usize| {
        let admin = &admin;
        async move {
            let body = json!({"quotas": {format!("group-{number}"): number + 1}});
            send(admin, "PATCH", "/users/u", &body).await
        }
    };
    let replies = join_all((0..6).map(change)).await;
    let done = replies.iter().filter(|reply| reply.status == 200).count();
    let refused = replies.iter().filter(|reply| reply.status == 409).count();
    assert_eq!(done + refused, 6, "{replies:?}");
    let user = send(&admin, "GET", "/users/u", &Value::Null).await.ok().json();
    assert_eq!(user["quotas"].as_object().unwrap().len(), done, "{user}");
}

#[tokio::test]
async fn one_of_many_makes_it() {
    let (_upstream, gateway) = stored().await;
    let admin = operator(&gateway);
    let make = |_| {
        let admin = &admin;
        async move { send(admin, "POST", "/keys", &json!({"id": "a"})).await.status }
    };
    let statuses = join_all((0..8).map(make)).await;
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [201, 409].contains(status)), "{statuses:?}");
}
