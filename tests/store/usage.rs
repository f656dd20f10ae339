//! Usage, rolled up by the hour.

use forebay::store::{Batch, Group, Store, UsageDelta, UsageQuery, UsageRow};

use super::home::Home;

fn delta(hour: i64, key: &str, model: &str, requests: u64) -> UsageDelta {
    UsageDelta {
        hour,
        key: key.to_owned(),
        user: format!("user of {key}"),
        model: model.to_owned(),
        provider: "p".to_owned(),
        requests,
        prompt: requests * 10,
        completion: requests * 5,
        cached: requests * 2,
        reasoning: requests,
        cost_nanos: requests * 1_000,
    }
}

fn asked(from: i64, to: i64, group_by: &[Group]) -> UsageQuery {
    UsageQuery { from, to, group_by: group_by.to_vec(), limit: 100, ..UsageQuery::default() }
}

async fn filled(home: &Home) -> Store {
    let store = home.open().await;
    let usage = vec![
        delta(24, "a", "m", 1),
        delta(25, "a", "m", 2),
        delta(24, "b", "n", 4),
        delta(48, "a", "n", 8),
    ];
    store.flush("n", 1, &Batch { usage, ..Batch::default() }).await.unwrap();
    store
}

pub async fn usage_is_rolled_up(home: Home) {
    let store = home.open().await;
    for sequence in 1..=3 {
        let usage = vec![delta(7, "a", "m", 1), delta(7, "a", "m", 1)];
        store.flush("n", sequence, &Batch { usage, ..Batch::default() }).await.unwrap();
    }
    assert_eq!(home.count("SELECT COUNT(*) FROM forebay_usage").await, 1);
    let rows = store.usage(&asked(0, 100, &[])).await.unwrap();
    let expected = UsageRow {
        requests: 6,
        prompt: 60,
        completion: 30,
        cached: 12,
        reasoning: 6,
        cost_nanos: 6_000,
        ..UsageRow::default()
    };
    assert_eq!(rows, [expected]);
    let none = store.usage(&asked(8, 100, &[])).await.unwrap();
    assert_eq!(none, [UsageRow::default()]);
}

pub async fn usage_is_grouped_and_filtered(home: Home) {
    let store = filled(&home).await;
    let rows = store.usage(&asked(0, 48, &[Group::Key])).await.unwrap();
    let told: Vec<_> = rows.iter().map(|it| (it.key.as_deref().unwrap(), it.requests)).collect();
    assert_eq!(told, [("a", 3), ("b", 4)]);
    let rows = store.usage(&asked(0, 100, &[Group::Day, Group::Model])).await.unwrap();
    let told: Vec<_> = rows
        .iter()
        .map(|it| (it.day.unwrap(), it.model.as_deref().unwrap(), it.requests))
        .collect();
    assert_eq!(told, [(1, "m", 3), (1, "n", 4), (2, "n", 8)]);
    let all = Group::ALL;
    let rows = store.usage(&asked(0, 100, &all)).await.unwrap();
    assert_eq!(rows.len(), 4);
    assert_eq!((rows[0].hour, rows[0].user.as_deref()), (Some(24), Some("user of a")));
    assert_eq!(rows[0].provider.as_deref(), Some("p"));
    let twice = store.usage(&asked(0, 100, &[Group::Hour, Group::Hour])).await.unwrap();
    assert_eq!(twice.len(), 3);
    let query = UsageQuery {
        key: Some("a".to_owned()),
        model: Some("n".to_owned()),
        user: Some("user of a".to_owned()),
        provider: Some("p".to_owned()),
        ..asked(0, 100, &[Group::Hour])
    };
    let rows = store.usage(&query).await.unwrap();
    assert_eq!(rows.iter().map(|it| (it.hour, it.requests)).collect::<Vec<_>>(), [(Some(48), 8)]);
    let rows = store.usage(&asked(0, 100, &all)).await.unwrap();
    let limited = UsageQuery { limit: 3, ..asked(0, 100, &all) };
    assert_eq!(store.usage(&limited).await.unwrap(), rows[..3]);
    let behind = UsageQuery { limit: 3, offset: 3, ..asked(0, 100, &all) };
    assert_eq!(store.usage(&behind).await.unwrap(), rows[3..]);
}

pub async fn months_begin_on_their_first_day(home: Home) {
    let store = home.open().await;
    // The last hour of a month and the first of the next: ordinary, leap, and at a year's end.
    let days = [("2026-03-01", 674), ("2028-02-29", 697), ("2028-03-01", 698), ("2031-01-01", 732)];
    let mut usage = Vec::new();
    for (day, _) in days {
        let day: jiff::civil::Date = day.parse().unwrap();
        let first = day.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp().as_second() / 3600;
        usage.extend([delta(first - 1, "before", "m", 1), delta(first, "on", "m", 1)]);
    }
    store.flush("n", 1, &Batch { usage, ..Batch::default() }).await.unwrap();
    let rows = store.usage(&asked(0, i64::MAX, &[Group::Key, Group::Month])).await.unwrap();
    let months = |key: &str| -> Vec<i64> {
        let of_key = rows.iter().filter(|row| row.key.as_deref() == Some(key));
        of_key.map(|row| row.month.unwrap()).collect()
    };
    assert_eq!(months("on"), days.map(|(_, month)| month));
    assert_eq!(months("before"), [673, 697, 731]);
}

pub async fn questions_are_bound(home: Home) {
    let store = filled(&home).await;
    let query = UsageQuery { key: Some("a' OR '1'='1".to_owned()), ..asked(0, 100, &[Group::Key]) };
    assert!(store.usage(&query).await.unwrap().is_empty());
    let query = UsageQuery { key: Some("a".to_owned()), ..asked(i64::MIN, i64::MAX, &[]) };
    assert_eq!(store.usage(&query).await.unwrap()[0].requests, 11);
}
