//! `EndpointSlice`s of Kubernetes, as the API server writes them: which pods of a service take
//! requests (<https://kubernetes.io/docs/reference/kubernetes-api/service-resources/endpoint-slice-v1/>).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use crate::config::Port;

/// Slices kept of one service; each has up to a thousand pods.
const MOST: usize = 256;

/// The slices of one service, by their names.
#[derive(Debug, Default)]
pub struct Slices {
    known: BTreeMap<String, Vec<SocketAddr>>,
    /// What was read last; the next watch goes on from there.
    version: String,
}

/// One page of a list.
#[derive(Deserialize)]
pub struct List {
    #[serde(default)]
    metadata: ListMetadata,
    #[serde(default)]
    items: Option<Vec<Slice>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ListMetadata {
    resource_version: String,
    r#continue: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Slice {
    metadata: Metadata,
    #[serde(default)]
    endpoints: Option<Vec<Endpoint>>,
    #[serde(default)]
    ports: Option<Vec<SlicePort>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: String,
    resource_version: String,
}

#[derive(Deserialize)]
struct Endpoint {
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    conditions: Conditions,
}

/// What is not said of readiness counts as ready; what is not said of an end as none.
#[derive(Deserialize, Default)]
struct Conditions {
    ready: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Deserialize)]
struct SlicePort {
    name: Option<String>,
    port: Option<u16>,
    protocol: Option<String>,
}

/// One line of a watch.
#[derive(Deserialize)]
struct Event<'e> {
    r#type: String,
    #[serde(borrow)]
    object: &'e serde_json::value::RawValue,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    code: u16,
    message: String,
}

/// What a line of a watch came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// Pods may be others now.
    Changed,
    Nothing,
    /// What it would go on from is forgotten there: all has to be listed anew.
    Gone,
    /// It failed, in these words.
    Failed(String),
}

impl Slices {
    /// Takes a page of a list in; what continues it, when there is more.
    pub fn take(&mut self, page: List, port: Option<&Port>) -> Option<String> {
        for slice in page.items.into_iter().flatten() {
            self.put(slice, port);
        }
        self.version = page.metadata.resource_version;
        Some(page.metadata.r#continue).filter(|more| !more.is_empty())
    }

    /// Takes a line of a watch in.
    pub fn hear(&mut self, line: &[u8], port: Option<&Port>) -> Told {
        let Ok(event) = serde_json::from_slice::<Event>(line) else {
            return Told::Failed("a watch that is none".to_owned());
        };
        if event.r#type == "ERROR" {
            let status: Status = serde_json::from_str(event.object.get()).unwrap_or_default();
            return match status.code {
                410 => Told::Gone,
                code => Told::Failed(format!("{code} {}", status.message)),
            };
        }
        let Ok(slice) = serde_json::from_str::<Slice>(event.object.get()) else {
            return Told::Failed("a slice that is none".to_owned());
        };
        self.version.clone_from(&slice.metadata.resource_version);
        match event.r#type.as_str() {
            "ADDED" | "MODIFIED" => self.put(slice, port),
            "DELETED" => {
                self.known.remove(&slice.metadata.name);
            }
            // A bookmark has a version and nothing else; what is not known yet changes nothing.
            _ => return Told::Nothing,
        }
        Told::Changed
    }

    /// What the next watch goes on from.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Every pod's address, once: IPv4 where there is any.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let mut all: Vec<SocketAddr> = self.known.values().flatten().copied().collect();
        all.sort_unstable();
        all.dedup();
        if all.iter().any(SocketAddr::is_ipv4) {
            all.retain(SocketAddr::is_ipv4);
        }
        all
    }

    fn put(&mut self, slice: Slice, port: Option<&Port>) {
        let number = slice.ports.iter().flatten().find_map(|one| one.number(port));
        let ready = |pod: &Endpoint| {
            let conditions = &pod.conditions;
            conditions.ready.unwrap_or(true) && !conditions.terminating.unwrap_or(false)
        };
        let pods = slice.endpoints.into_iter().flatten().filter(ready);
        // The addresses of one pod are all the same pod's.
        let ip = |pod: Endpoint| pod.addresses.first()?.parse::<IpAddr>().ok();
        let addresses = number.map_or_else(Vec::new, |number| {
            pods.filter_map(ip).map(|ip| SocketAddr::new(ip, number)).collect()
        });
        if self.known.len() < MOST || self.known.contains_key(&slice.metadata.name) {
            self.known.insert(slice.metadata.name, addresses);
        }
    }
}

impl SlicePort {
    /// Its number, when it is the one that is asked for.
    fn number(&self, wanted: Option<&Port>) -> Option<u16> {
        if self.protocol.as_deref().is_some_and(|protocol| protocol != "TCP") {
            return None;
        }
        match wanted {
            None => self.port,
            Some(Port::Name(name)) => self.port.filter(|_| self.name.as_ref() == Some(name)),
            // Without a number a slice means every port.
            Some(Port::Number(number)) => {
                Some(*number).filter(|it| self.port.unwrap_or(*it) == *it)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn slice(name: &str, version: u32, pods: &Value) -> Value {
        json!({
            "metadata": {"name": name, "resourceVersion": version.to_string()},
            "addressType": "IPv4",
            "endpoints": pods,
            "ports": [
                {"name": "metrics", "port": 9000, "protocol": "TCP"},
                {"name": "http", "port": 8000, "protocol": "TCP"},
            ],
        })
    }

    fn listed(port: Option<&Port>) -> Slices {
        let pods = json!([
            {"addresses": ["10.0.0.1"], "conditions": {"ready": true}},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
            {"addresses": ["10.0.0.3"], "conditions": {"ready": true, "terminating": true}},
            {"addresses": ["10.0.0.4"]},
            {"addresses": ["a.name"]},
        ]);
        let page = json!({"metadata": {"resourceVersion": "7"}, "items": [slice("a", 5, &pods)]});
        let mut slices = Slices::default();
        assert_eq!(slices.take(serde_json::from_value(page).unwrap(), port), None);
        slices
    }

    fn shown(slices: &Slices) -> Vec<String> {
        slices.addresses().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn pods_that_are_ready_and_do_not_end_are_replicas() {
        let http = Port::Name("http".to_owned());
        assert_eq!(shown(&listed(Some(&http))), ["10.0.0.1:8000", "10.0.0.4:8000"]);
        assert_eq!(shown(&listed(Some(&Port::Number(8000)))), ["10.0.0.1:8000", "10.0.0.4:8000"]);
        assert_eq!(shown(&listed(None)), ["10.0.0.1:9000", "10.0.0.4:9000"]);
        assert!(listed(Some(&Port::Number(1))).addresses().is_empty());
    }

    #[test]
    fn a_watch_goes_on_from_a_list() {
        let mut slices = listed(None);
        assert_eq!(slices.version(), "7");
        let mut hear = |kind: &str, object: &Value| {
            let line = json!({"type": kind, "object": object}).to_string();
            let told = slices.hear(line.as_bytes(), None);
            (told, shown(&slices), slices.version().to_owned())
        };
        let pods = json!([{"addresses": ["10.0.0.9"]}]);
        let (told, now, version) = hear("ADDED", &slice("b", 8, &pods));
        assert_eq!((told, version.as_str()), (Told::Changed, "8"));
        assert_eq!(now, ["10.0.0.1:9000", "10.0.0.4:9000", "10.0.0.9:9000"]);
        let (told, now, _) = hear("MODIFIED", &slice("a", 9, &json!([])));
        assert_eq!((told, now.as_slice()), (Told::Changed, &["10.0.0.9:9000".to_owned()][..]));
        let (told, _, version) = hear("BOOKMARK", &slice("", 12, &json!(null)));
        assert_eq!((told, version.as_str()), (Told::Nothing, "12"));
        let (told, now, _) = hear("DELETED", &slice("b", 13, &pods));
        assert_eq!((told, now.len()), (Told::Changed, 0));
        let (told, _, _) = hear("ERROR", &json!({"code": 410, "message": "too old"}));
        assert_eq!(told, Told::Gone);
        let (told, _, _) = hear("ERROR", &json!({"code": 500, "message": "oh"}));
        assert_eq!(told, Told::Failed("500 oh".to_owned()));
    }

    #[test]
    fn what_is_no_event_is_a_failure() {
        let mut slices = Slices::default();
        for line in ["", "{}", "[]", r#"{"type":"ADDED","object":3}"#] {
            assert!(matches!(slices.hear(line.as_bytes(), None), Told::Failed(_)), "{line}");
        }
    }
}
