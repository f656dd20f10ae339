//! How much a caller may use: rates, limits, and money per period.
//!
//! The same types are read from the file and kept with the records of the store, as JSON.

use std::fmt;
use std::str::FromStr;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use serde::de::{Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::read::Value;
use super::{Bounds, Problem};

/// What one US dollar is in nanodollars.
pub const NANOS_PER_USD: u64 = 1_000_000_000;

/// How quickly requests may follow each other; nothing per second and no burst block the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "RateLimitForm")]
pub struct RateLimit {
    /// Requests per second, in the long run.
    pub requests_per_second: u32,
    /// Requests that may come at once.
    pub burst_size: u32,
}

/// What a caller may use; 0 and absent are unlimited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Allowance {
    /// Requests in a minute of the clock.
    pub requests_per_minute: u64,
    /// Tokens in a minute of the clock, prompt and completion together.
    pub tokens_per_minute: u64,
    /// Requests under way at once.
    pub max_concurrent: u32,
    /// Addresses it is called from.
    pub max_ips: u32,
    /// Tokens that one request may ask for, of all its answers together.
    #[serde(skip_serializing_if = "is_unlimited")]
    pub max_output_tokens: u64,
    /// Tokens of one request's prompt, as estimated.
    #[serde(skip_serializing_if = "is_unlimited")]
    pub max_prompt_tokens: u64,
    /// Images in one request.
    #[serde(skip_serializing_if = "is_unlimited")]
    pub max_images: u32,
    /// Money in a period.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "some_money")]
    pub budget: Option<Budget>,
}

/// So much money in each period: `{ usd: 25.50, per: month }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Nanodollars.
    #[serde(rename = "usd", with = "dollars")]
    pub nanos: u64,
    /// In each of these.
    #[serde(rename = "per")]
    pub period: Period,
}

/// How long a count lasts. Periods begin by the clock, in UTC.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Period {
    /// From hour to hour.
    Hour,
    /// From midnight to midnight.
    Day,
    /// From Monday to Monday.
    Week,
    /// From the first of a month to the next.
    Month,
    /// Forever.
    Total,
    /// From one moment of this cron expression of five fields to the next.
    Cron(String),
}

/// Why a text is no period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be hour, day, week, month, total or a cron expression of five fields")]
pub struct PeriodError;

/// What an older process would not know is written only where it says something.
fn is_unlimited<T: Default + PartialEq>(limit: &T) -> bool {
    *limit == T::default()
}

/// Reads dollars exactly: `25`, `25.50`, at most nine decimals.
pub fn parse_usd(text: &str) -> Option<u64> {
    parse_decimal(text, 9)
}

/// Nanodollars as a text of dollars, without needless zeros.
pub fn format_usd(nanos: u64) -> String {
    let (whole, rest) = (nanos / NANOS_PER_USD, nanos % NANOS_PER_USD);
    if rest == 0 {
        return whole.to_string();
    }
    format!("{whole}.{rest:09}").trim_end_matches('0').to_owned()
}

/// Reads a decimal number as a whole number of its `places`th decimals.
pub(super) fn parse_decimal(text: &str, places: u32) -> Option<u64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // Zeros at the end say nothing, so any number of them is exact.
    let significant = decimals.trim_end_matches('0');
    let missing = places.checked_sub(u32::try_from(significant.len()).ok()?)?;
    if !digits(whole) || !digits(decimals) {
        return None;
    }
    let part = match significant {
        "" => 0,
        text => text.parse::<u64>().ok()?.checked_mul(10_u64.checked_pow(missing)?)?,
    };
    whole.parse::<u64>().ok()?.checked_mul(10_u64.checked_pow(places)?)?.checked_add(part)
}

// === impl RateLimit ===

/// As it is written: without a burst it is what one second allows.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RateLimitForm {
    requests_per_second: u32,
    burst_size: Option<u32>,
}

impl From<RateLimitForm> for RateLimit {
    fn from(form: RateLimitForm) -> Self {
        let burst_size = form.burst_size.unwrap_or(form.requests_per_second);
        Self { requests_per_second: form.requests_per_second, burst_size }
    }
}

impl RateLimit {
    pub(super) fn read(value: Value) -> Option<Self> {
        value.section(|s| {
            let requests_per_second = s.require("requests_per_second", Value::small_count);
            let burst_size = s.read("burst_size", Value::small_count);
            let requests_per_second = requests_per_second?;
            let burst_size = burst_size.unwrap_or(requests_per_second);
            let rate = Self { requests_per_second, burst_size };
            if !rate.is_sound() {
                let problem = Problem::error(s.location(), "only one of the two is 0");
                return value.report(problem.hint("0 and 0 block; otherwise both are at least 1"));
            }
            Some(rate)
        })?
    }

    /// Whether both are 0 or neither: else one request would be let in for ever, or none but the first.
    pub fn is_sound(self) -> bool {
        (self.requests_per_second == 0) == (self.burst_size == 0)
    }

    /// Whether nothing is let through.
    pub fn blocks(self) -> bool {
        self.requests_per_second == 0 && self.burst_size == 0
    }
}

// === impl Allowance ===

impl Allowance {
    pub(super) fn read(value: Value) -> Option<Self> {
        value.section(|s| Self {
            requests_per_minute: s.read("requests_per_minute", Value::count).unwrap_or_default(),
            tokens_per_minute: s.read("tokens_per_minute", Value::count).unwrap_or_default(),
            max_concurrent: s.read("max_concurrent", Value::small_count).unwrap_or_default(),
            max_ips: s.read("max_ips", Value::small_count).unwrap_or_default(),
            max_output_tokens: s.read("max_output_tokens", Value::count).unwrap_or_default(),
            max_prompt_tokens: s.read("max_prompt_tokens", Value::count).unwrap_or_default(),
            max_images: s.read("max_images", Value::small_count).unwrap_or_default(),
            budget: s.read("budget", Budget::read).filter(|budget| budget.nanos > 0),
        })
    }

    /// Whether it limits nothing.
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }

    /// What one request may ask for.
    pub fn bounds(&self) -> Bounds {
        Bounds {
            max_output_tokens: self.max_output_tokens,
            max_prompt_tokens: self.max_prompt_tokens,
            max_images: self.max_images,
        }
    }
}

/// A budget of nothing is none, as 0 is with every other limit.
fn some_money<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Budget>, D::Error> {
    Ok(Option::<Budget>::deserialize(deserializer)?.filter(|budget| budget.nanos > 0))
}

// === impl Budget ===

impl Budget {
    fn read(value: Value) -> Option<Self> {
        value.section(|s| {
            let nanos = s.require("usd", usd);
            let period = s.read("per", period).unwrap_or(Period::Month);
            Some(Self { nanos: nanos?, period })
        })?
    }
}

fn usd(value: Value) -> Option<u64> {
    let wanted = "US dollars such as 25 or 25.50, with at most nine decimals";
    parse_usd(&value.scalar(wanted)?.text).or_else(|| value.must_be(wanted))
}

/// Dollars in JSON and YAML: read from a number or a text, written as a text, which stays exact.
mod dollars {
    use super::{Deserializer, Dollars, Serializer, format_usd};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    pub(super) fn serialize<S: Serializer>(nanos: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_usd(*nanos))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_any(Dollars)
    }
}

struct Dollars;

impl Visitor<'_> for Dollars {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("US dollars such as 25 or \"25.50\", with at most nine decimals")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<u64, E> {
        parse_usd(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }

    fn visit_u64<E: serde::de::Error>(self, dollars: u64) -> Result<u64, E> {
        let nanos = dollars.checked_mul(NANOS_PER_USD);
        nanos.ok_or_else(|| E::invalid_value(Unexpected::Unsigned(dollars), &self))
    }

    fn visit_i64<E: serde::de::Error>(self, dollars: i64) -> Result<u64, E> {
        match u64::try_from(dollars) {
            Ok(dollars) => self.visit_u64(dollars),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(dollars), &self)),
        }
    }

    fn visit_f64<E: serde::de::Error>(self, dollars: f64) -> Result<u64, E> {
        // The shortest text that means this number is the one that was written.
        let nanos = parse_usd(&dollars.to_string());
        nanos.ok_or_else(|| E::invalid_value(Unexpected::Float(dollars), &self))
    }
}

// === impl Period ===

/// Reads a period.
pub(super) fn period(value: Value) -> Option<Period> {
    let wanted = "hour, day, week, month, total or a cron expression of five fields";
    let period = value.scalar(wanted)?.text.parse().ok();
    period.or_else(|| value.must_be_hint(wanted, "such as \"0 6 * * 1\", in UTC"))
}

impl Period {
    /// The parsed expression of a cron period; `None` for the others.
    pub fn schedule(&self) -> Option<Cron> {
        match self {
            Self::Cron(text) => cron(text),
            _ => None,
        }
    }
}

/// Parses a cron expression of five fields that comes round at least once.
fn cron(text: &str) -> Option<Cron> {
    if text.split_whitespace().count() != 5 {
        return None;
    }
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let cron = parser.parse(text).ok()?;
    let any_day = jiff::civil::date(2024, 1, 1).to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    cron.find_next_occurrence(&any_day, true).ok()?;
    Some(cron)
}

impl FromStr for Period {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, PeriodError> {
        match text {
            "hour" | "hourly" => Ok(Self::Hour),
            "day" | "daily" => Ok(Self::Day),
            "week" | "weekly" => Ok(Self::Week),
            "month" | "monthly" => Ok(Self::Month),
            "total" => Ok(Self::Total),
            _ if cron(text).is_some() => Ok(Self::Cron(text.trim().to_owned())),
            _ => Err(PeriodError),
        }
    }
}

impl TryFrom<String> for Period {
    type Error = PeriodError;

    fn try_from(text: String) -> Result<Self, PeriodError> {
        text.parse()
    }
}

impl From<Period> for String {
    fn from(period: Period) -> Self {
        period.to_string()
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Total => "total",
            Self::Cron(text) => text,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read<T: serde::de::DeserializeOwned>(json: &serde_json::Value) -> Option<T> {
        serde_json::from_value(json.clone()).ok()
    }

    #[test]
    fn a_record_reads_as_the_file_does() {
        let limits: Allowance = read(&json!({
            "requests_per_minute": 60, "budget": { "usd": 25.50, "per": "month" },
        }))
        .unwrap();
        let budget = Budget { nanos: 25_500_000_000, period: Period::Month };
        assert_eq!((limits.requests_per_minute, limits.budget.as_ref()), (60, Some(&budget)));
        assert_eq!(json!(budget), json!({ "usd": "25.5", "per": "month" }));
        assert_eq!(read(&json!(limits)), Some(limits));

        let unlimited: Allowance = read(&json!({ "budget": { "usd": 0, "per": "day" } })).unwrap();
        assert!(unlimited.is_unlimited());
        assert_eq!(read::<Allowance>(&json!({ "budget": null })), Some(Allowance::default()));
        assert_eq!(json!(unlimited).get("budget"), None);
        for wrong in [json!({ "max_ip": 1 }), json!({ "max_ips": -1 }), json!({ "max_ips": 1.5 })] {
            assert_eq!(read::<Allowance>(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_burst_is_a_second_when_nothing_is_said() {
        let rate = |burst_size| Some(RateLimit { requests_per_second: 5, burst_size });
        assert_eq!(read(&json!({ "requests_per_second": 5 })), rate(5));
        assert_eq!(read(&json!({ "requests_per_second": 5, "burst_size": 9 })), rate(9));
        assert_eq!(read::<RateLimit>(&json!({ "burst_size": 9 })), None);
        assert_eq!(json!(rate(9)), json!({ "requests_per_second": 5, "burst_size": 9 }));
    }

    #[test]
    fn dollars_are_exact() {
        let cases = [
            (json!(0.1), 100_000_000),
            (json!(0.3), 300_000_000),
            (json!("0.000000001"), 1),
            (json!("25.500"), 25_500_000_000),
            (json!(18_000_000_000_u64), 18_000_000_000_000_000_000),
        ];
        for (usd, nanos) in cases {
            let budget: Budget = read(&json!({ "usd": usd, "per": "total" })).unwrap();
            assert_eq!(budget.nanos, nanos, "{usd}");
        }
        let wrong = ["", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", "0.0000000001", " 1", "1_0"];
        for usd in wrong.map(|text| json!(text)).into_iter().chain([
            json!(-1),
            json!(1e300),
            json!(20_000_000_000_u64),
            json!(1e-10),
            json!(true),
            json!(null),
        ]) {
            assert_eq!(read::<Budget>(&json!({ "usd": usd, "per": "day" })), None, "{usd}");
        }
        // In YAML a number is read by the same visitor.
        let budget: Budget = serde_yaml::from_str("{ usd: 25.50, per: '0 6 * * 1' }").unwrap();
        assert_eq!(budget.nanos, 25_500_000_000);
    }

    #[test]
    fn a_period_is_a_word_or_a_cron_expression() {
        for (text, period) in [
            ("hour", Period::Hour),
            ("daily", Period::Day),
            ("week", Period::Week),
            ("month", Period::Month),
            ("total", Period::Total),
            ("0 6 * * 1", Period::Cron("0 6 * * 1".to_owned())),
            ("*/15 9-17 * * MON-FRI", Period::Cron("*/15 9-17 * * MON-FRI".to_owned())),
        ] {
            assert_eq!(text.parse(), Ok(period.clone()), "{text}");
            assert_eq!(read(&json!(period)), Some(period.clone()));
            assert_eq!(period.schedule().is_some(), matches!(period, Period::Cron(_)));
        }
        for wrong in [
            "",
            "Day",
            "fortnight",
            "@daily",
            "* * * *",
            "0 0 6 * * 1",
            "61 * * * *",
            "0 0 30 2 *",
            "x x x x x",
        ] {
            assert_eq!(wrong.parse::<Period>(), Err(PeriodError), "{wrong}");
            assert_eq!(read::<Period>(&json!(wrong)), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(nanos in any::<u64>()) {
            prop_assert_eq!(parse_usd(&format_usd(nanos)), Some(nanos));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9.eE+-]{0,24}") {
            if let Some(nanos) = parse_usd(&text) {
                let exact = text.trim_start_matches('0').trim_end_matches(['0', '.']);
                prop_assert!(exact.is_empty() || nanos > 0);
            }
        }
    }
}
